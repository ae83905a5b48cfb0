//! Where the slots are, as most of the nodes say.

use std::collections::{BTreeMap, BTreeSet};

use fred::types::Value;

use crate::Error;
use crate::bus::redis::error;
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
}

/// The names that nodes announce beside their addresses, which their certificates have.
pub(super) type HostNames = BTreeMap<Place, String>;

/// What one node says of some slots.
#[derive(Debug)]
struct Range {
    slots: std::ops::RangeInclusive<u16>,
    primary: Place,
    replicas: Vec<Place>,
    names: Vec<(Place, String)>,
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

    /// Every node that any of them knows.
    pub(super) fn nodes(&self) -> BTreeSet<Place> {
        let ranges = self.answers.iter().flatten();
        let places =
            ranges.flat_map(|range| std::iter::once(&range.primary).chain(&range.replicas));
        places.take(MOST_NODES).cloned().collect()
    }

    /// The names of those nodes that announce one.
    pub(super) fn names(&self) -> HostNames {
        let ranges = self.answers.iter().flatten();
        let names = ranges.flat_map(|range| range.names.iter().cloned());
        names.take(MOST_NODES).collect()
    }

    /// What most of them say.
    pub(super) fn result(self, slots: &[u16]) -> Result<View, Error> {
        if self.answers.is_empty() {
            let none = || {
                error::unknown_place("no node of the cluster has said in time where the slots are")
            };
            return Err(self.error.unwrap_or_else(none));
        }
        let owner = |slot: &u16| {
            let owner_by = |ranges: &Vec<Range>| {
                let mut ranges = ranges.iter();
                let range = ranges.find(|range| range.slots.contains(slot));
                range.map(|range| range.primary.clone())
            };
            let mut votes: BTreeMap<Place, usize> = BTreeMap::new();
            for place in self.answers.iter().filter_map(owner_by) {
                *votes.entry(place).or_default() += 1;
            }
            let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
            most.map(|(place, _)| place)
        };
        let owners: Vec<Option<Place>> = slots.iter().map(owner).collect();
        let mut known: BTreeMap<&Place, usize> = BTreeMap::new();
        for ranges in &self.answers {
            let primaries: BTreeSet<&Place> = ranges.iter().map(|range| &range.primary).collect();
            for place in primaries {
                *known.entry(place).or_default() += 1;
            }
        }
        let most = |votes: usize| votes * 2 > self.answers.len();
        let mut primaries: BTreeSet<Place> = known
            .into_iter()
            .filter(|(_, votes)| most(*votes))
            .map(|(place, _)| place.clone())
            .collect();
        primaries.extend(owners.iter().flatten().cloned());
        Ok(View {
            owners,
            primaries: primaries.into_iter().collect(),
            nodes: self.nodes(),
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
            names: std::iter::once(primary)
                .chain(replicas)
                .filter_map(|value| Some((node(asked, value)?, host_name(value)?)))
                .collect(),
        })
    };
    entries.iter().map(entry).collect()
}

/// A node that does not know its own address leaves it out.
fn node(asked: &Place, value: &Value) -> Option<Place> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [host, port, ..] = parts.as_slice() else {
        return None;
    };
    let host = host.as_string().filter(|host| !matches!(&**host, "" | "?"));
    Some(Place {
        host: host.unwrap_or_else(|| asked.host.clone()),
        port: port.as_u64()?.try_into().ok()?,
    })
}

/// The name among the metadata, which follow the node's id: pairs in an array, or a map.
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
    name.filter(|name| !name.is_empty())
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
        let node = |port: i64| Value::Array(vec!["".into(), port.into(), "id".into()]);
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
    fn most_nodes_are_believed() {
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
