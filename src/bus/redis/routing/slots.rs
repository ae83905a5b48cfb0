//! Where the slots are, as most of the nodes say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fred::bytes_utils::Str;
use fred::types::Value;

use crate::Error;
use crate::bus::redis::error;
use crate::foreign::is_host;
use crate::url::Place;

/// Nodes that a cluster may have: Redis recommends no more than 1,000.
const MOST_NODES: usize = 1_024;

/// Where the lanes live.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// By lane.
    pub(super) owners: Vec<Option<Place>>,
    /// Every primary that serves slots.
    pub(super) primaries: Vec<Place>,
    /// Those and their replicas.
    pub(super) nodes: BTreeSet<Place>,
    pub(super) spellings: Spellings,
}

/// By any place that a node is called by, the one by which it is known here.
///
/// One node names the others by their addresses, another by their host names, as each is configured
/// (`cluster-preferred-endpoint-type`); the id says which are one. An address counts rather than a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Spellings(BTreeMap<Place, Place>);

impl Spellings {
    pub(super) fn known(&self, place: Place) -> Place {
        self.0.get(&place).cloned().unwrap_or(place)
    }
}

/// The names that nodes announce beside their addresses, which their certificates have.
pub(super) type HostNames = BTreeMap<Place, String>;

/// What one node says of some slots.
#[derive(Debug)]
struct Range {
    slots: std::ops::RangeInclusive<u16>,
    primary: Node,
    replicas: Vec<Node>,
}

impl Range {
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }
}

/// One node as another one names it.
#[derive(Debug)]
struct Node {
    place: Place,
    id: Option<Str>,
    name: Option<String>,
}

/// What some nodes say.
#[derive(Debug, Default)]
pub(super) struct Survey {
    answers: Vec<Vec<Range>>,
    error: Option<Error>,
}

impl Survey {
    /// The node at `asked` answered `CLUSTER SLOTS`.
    pub(super) fn count(&mut self, asked: &Place, answer: &Value) {
        match ranges(asked, answer) {
            Some(ranges) => self.answers.push(ranges),
            None => self.fail(error::unexpected("CLUSTER SLOTS")),
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        if !self.error.as_ref().is_some_and(error::is_permanent) {
            self.error = Some(error);
        }
    }

    fn named(&self) -> impl Iterator<Item = &Node> {
        let ranges = self.answers.iter().flatten();
        ranges.flat_map(Range::nodes)
    }

    /// Returns every node that any of them knows.
    pub(super) fn nodes(&self) -> BTreeSet<Place> {
        let spellings = self.spellings();
        let places = self.named().map(|node| spellings.known(node.place.clone()));
        let places: BTreeSet<Place> = places.collect();
        places.into_iter().take(MOST_NODES).collect()
    }

    /// Returns the names of those nodes that announce one.
    pub(super) fn names(&self) -> HostNames {
        let names = self.named();
        let names = names.filter_map(|node| Some((node.place.clone(), node.name.clone()?)));
        let names: HostNames = names.collect();
        names.into_iter().take(MOST_NODES).collect()
    }

    fn spellings(&self) -> Spellings {
        let mut by_id: BTreeMap<&Str, BTreeSet<&Place>> = BTreeMap::new();
        for node in self.named() {
            if let Some(id) = &node.id {
                by_id.entry(id).or_default().insert(&node.place);
            }
        }
        let is_name = |place: &&&Place| place.host.parse::<IpAddr>().is_err();
        let united = by_id.into_values().filter(|places| places.len() > 1);
        let pairs = united.flat_map(|places| {
            let known = places.iter().min_by_key(|place| (is_name(place), **place));
            let known = known.copied().cloned();
            places.into_iter().cloned().zip(std::iter::repeat(known))
        });
        let pairs = pairs.filter_map(|(place, known)| Some((place, known?)));
        Spellings(pairs.collect())
    }

    /// Returns what most of them say.
    pub(super) fn result(self, slots: &[u16]) -> Result<View, Error> {
        if self.answers.is_empty() {
            let none = || {
                error::unknown_place("no node of the cluster has said in time where the slots are")
            };
            return Err(self.error.unwrap_or_else(none));
        }
        let spellings = self.spellings();
        let known_primary = |range: &Range| spellings.known(range.primary.place.clone());
        let owner = |slot: &u16| {
            let owner_by = |ranges: &Vec<Range>| {
                let mut ranges = ranges.iter();
                let range = ranges.find(|range| range.slots.contains(slot));
                range.map(known_primary)
            };
            let mut votes: BTreeMap<Place, usize> = BTreeMap::new();
            for place in self.answers.iter().filter_map(owner_by) {
                *votes.entry(place).or_default() += 1;
            }
            let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
            most.map(|(place, _)| place)
        };
        let owners: Vec<Option<Place>> = slots.iter().map(owner).collect();
        let mut known: BTreeMap<Place, usize> = BTreeMap::new();
        for ranges in &self.answers {
            let primaries: BTreeSet<Place> = ranges.iter().map(known_primary).collect();
            for place in primaries {
                *known.entry(place).or_default() += 1;
            }
        }
        let most = |votes: usize| votes * 2 > self.answers.len();
        let mut primaries: BTreeSet<Place> = known
            .into_iter()
            .filter(|(_, votes)| most(*votes))
            .map(|(place, _)| place)
            .collect();
        primaries.extend(owners.iter().flatten().cloned());
        Ok(View {
            owners,
            primaries: primaries.into_iter().collect(),
            nodes: self.nodes(),
            spellings,
        })
    }
}

/// `[[start, end, [host, port, ..], [replica's host, port, ..], ..], ..]`.
fn ranges(asked: &Place, answer: &Value) -> Option<Vec<Range>> {
    let Value::Array(entries) = answer else {
        return None;
    };
    let entry = |entry: &Value| {
        let Value::Array(parts) = entry else {
            return None;
        };
        let [start, end, primary, replicas @ ..] = parts.as_slice() else {
            return None;
        };
        let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
        Some(Range {
            slots: number(start)?..=number(end)?,
            primary: node(asked, primary)?,
            replicas: replicas.iter().filter_map(|r| node(asked, r)).collect(),
        })
    };
    entries.iter().map(entry).collect()
}

/// A node that does not know its own address leaves it out.
fn node(asked: &Place, value: &Value) -> Option<Node> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [host, port, rest @ ..] = parts.as_slice() else {
        return None;
    };
    let host = host.as_string().filter(|host| !matches!(&**host, "" | "?"));
    if !host.as_deref().is_none_or(is_host) {
        return None;
    }
    let place = Place {
        host: host.unwrap_or_else(|| asked.host.clone()),
        port: port.as_u64()?.try_into().ok()?,
    };
    Some(Node {
        place,
        id: rest.first().and_then(Value::as_bytes_str),
        name: host_name(value),
    })
}

/// Returns the name among the metadata, which follow the node's id: pairs in an array, or a map.
fn host_name(value: &Value) -> Option<String> {
    let Value::Array(parts) = value else {
        return None;
    };
    let name = match parts.get(3)? {
        Value::Array(pairs) => {
            let pair = pairs
                .chunks_exact(2)
                .find(|pair| pair[0].as_bytes() == Some(b"hostname"))?;
            pair[1].as_string()
        }
        Value::Map(map) => map.get(&"hostname".into())?.as_string(),
        _ => None,
    };
    name.filter(|name| !name.is_empty() && is_host(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        let host = "h".to_owned();
        Place { host, port }
    }

    /// Half of the slots each, and a replica of the first.
    fn answer(first: i64, second: i64) -> Value {
        let node =
            |port: i64| Value::Array(vec!["".into(), port.into(), format!("id{port}").into()]);
        let entry = |from: i64, to: i64, nodes: &[i64]| {
            let nodes = nodes.iter().map(|port| node(*port));
            Value::Array([from.into(), to.into()].into_iter().chain(nodes).collect())
        };
        Value::Array(vec![
            entry(0, 8_000, &[first, 9]),
            entry(8_001, 16_383, &[second]),
        ])
    }

    #[test]
    fn slots_are_where_most_of_the_nodes_say() {
        let mut survey = Survey::default();
        for (first, second) in [(1, 2), (3, 2), (3, 2)] {
            survey.count(&place(1), &answer(first, second));
        }
        survey.count(&place(1), &Value::Null);
        let view = survey.result(&[5, 9_000]).unwrap();
        assert_eq!(view.owners, [Some(place(3)), Some(place(2))]);
        assert_eq!(view.primaries, [place(2), place(3)]);
        assert!(view.nodes.contains(&place(9)) && view.nodes.contains(&place(1)));
    }

    #[test]
    fn names_and_addresses_of_one_node_are_one_place() {
        let answer = |host: &str| {
            let node = Value::Array(vec![host.into(), 7.into(), "id".into()]);
            Value::Array(vec![Value::Array(vec![0.into(), 16_383.into(), node])])
        };
        let mut survey = Survey::default();
        for host in ["b.example", "a.example", "10.0.0.1", "a.example"] {
            survey.count(&place(1), &answer(host));
        }
        let view = survey.result(&[5]).unwrap();
        let at = |host: &str| Place {
            host: host.to_owned(),
            port: 7,
        };
        let address = at("10.0.0.1");
        assert_eq!(view.owners, [Some(address.clone())]);
        assert_eq!(view.primaries, std::slice::from_ref(&address));
        assert_eq!(view.nodes, BTreeSet::from([address.clone()]));
        assert_eq!(view.spellings.known(at("b.example")), address);
        assert_eq!(view.spellings.known(at("c.example")), at("c.example"));
    }

    #[test]
    fn the_names_that_nodes_announce_are_found() {
        let metadata = Value::Array(vec!["hostname".into(), "redis-1.example".into()]);
        let node = Value::Array(vec!["10.0.0.1".into(), 7.into(), "id".into(), metadata]);
        let ranges = Value::Array(vec![Value::Array(vec![0.into(), 16_383.into(), node])]);
        let mut survey = Survey::default();
        survey.count(&place(1), &ranges);
        let address = Place {
            host: "10.0.0.1".to_owned(),
            port: 7,
        };
        let names = HostNames::from([(address, "redis-1.example".to_owned())]);
        assert_eq!(survey.names(), names);
    }

    #[test]
    fn a_slot_without_a_server_has_no_owner() {
        let mut survey = Survey::default();
        survey.count(&place(1), &Value::Array(Vec::new()));
        assert_eq!(survey.result(&[5]).unwrap().owners, [None]);
        assert!(Survey::default().result(&[5]).is_err());
    }
}
