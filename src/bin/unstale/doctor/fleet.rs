//! Whether the instances are one fleet, as Redis and their metrics show it: the same namespace, database,
//! lanes, key, settings and version, and a clock that is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use unstale::operate::{self, Contents, Neighbour, Server};
use unstale::{Error, ErrorKind, Settings};

use super::checks::Finding;
use crate::common::{count, short, shown, time};
use crate::scrape::{self, Sample};

/// The longest pause between deliveries that needs no word; lane.lua pauses for 250 ms at most.
const LONG: Duration = Duration::from_millis(100);

/// What is known of the fleet that the settings name.
pub(super) struct Own {
    pub(super) namespace: String,
    pub(super) database: Option<u8>,
    pub(super) lanes: u32,
    pub(super) redis: String,
    /// The ids of its members.
    pub(super) members: BTreeSet<String>,
}

/// One instance, as its metrics show it.
pub(super) struct Instance {
    /// Where they came from.
    pub(super) from: String,
    pub(super) samples: Vec<Sample>,
}

/// Everything that is found of the fleet; an error only where Redis does not answer.
pub(super) async fn examine(
    settings: &Settings,
    server: &Server,
    metrics: &[String],
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let now = server.time().await?;
    let mut pause = Duration::ZERO;
    let mut members = BTreeMap::new();
    for number in 0..settings.lanes {
        let lane = server.lane(number).await?;
        pause = pause.max(lane.delivery_pause);
        if number == 0 {
            members = lane.members;
        }
    }
    let alive = members
        .iter()
        .filter(|(_, beat)| now.saturating_sub(**beat) <= settings.member_timeout);
    let own = Own {
        namespace: settings.namespace.clone(),
        database: server.database(),
        lanes: settings.lanes,
        redis: shown(settings, "UNSTALE_REDIS_URL"),
        members: alive.map(|(member, _)| short(*member)).collect(),
    };
    findings.push(members_of(&own));
    findings.push(deliveries(pause));
    let others = operate::of_other_keys(settings, server).await?;
    if others > 0 {
        findings.push(of_other_keys(others));
    }
    if let Some(heard) = server.neighbours().await? {
        findings.push(neighbours(&own, &heard));
    }
    match operate::last_event(settings, server).await {
        // It was said already.
        Ok(_) if others > 0 => {}
        Ok(event) => findings.extend(event.map(|event| readable(&event))),
        // What cannot be seen for lack of a right was reported as that.
        Err(error) if error.kind() == ErrorKind::Auth => {}
        Err(error) => return Err(error),
    }
    let mut instances = Vec::new();
    for from in metrics {
        match scrape::metrics(from).await {
            Ok(samples) => instances.push(Instance {
                from: from.clone(),
                samples,
            }),
            Err(error) => findings.push(Finding::fail(
                "metrics",
                error.to_string(),
                "check that the instance runs, and that UNSTALE_METRICS_ADDR or a route of its own serves metrics",
            )),
        }
    }
    findings.extend(instances.iter().map(|instance| member(&own, instance)));
    findings.extend(together(&own, &instances));
    Ok(findings)
}

fn members_of(own: &Own) -> Finding {
    let found = match own.members.len() {
        0 => "no instance is there now".to_owned(),
        _ => {
            let ids: Vec<_> = own.members.iter().map(String::as_str).collect();
            format!("{}: {}", count(ids.len(), "instance"), ids.join(" "))
        }
    };
    Finding::ok("members", found)
}

/// Below a hundred subscribers there is no pause.
fn deliveries(pause: Duration) -> Finding {
    let check = "deliveries";
    if pause.is_zero() {
        return Finding::ok(check, "without a pause");
    }
    let found = format!(
        "a pause of {} after each message, because there are many subscribers",
        time(pause)
    );
    if pause < LONG {
        return Finding::ok(check, found);
    }
    Finding::warn(
        check,
        found,
        "invalidations arrive that much later: use a Redis Cluster and more lanes, so that several servers \
         deliver",
    )
}

/// Events that are signed as these settings say are not believed.
fn of_other_keys(others: usize) -> Finding {
    let have = if others == 1 { "has" } else { "have" };
    Finding::fail(
        "signing key",
        format!(
            "{} {have} another signing key than these settings, or none",
            count(others, "instance")
        ),
        "give all instances, writers and operators the same UNSTALE_SIGNING_KEY",
    )
}

/// Other namespaces, and this one in other databases: a name that is misspelt looks like this.
fn neighbours(own: &Own, heard: &BTreeSet<Neighbour>) -> Finding {
    let others = heard
        .iter()
        .filter(|heard| heard.namespace != own.namespace || heard.database != own.database);
    let (mut same, mut names) = (Vec::new(), Vec::new());
    for heard in others {
        let database = heard
            .database
            .map(|number| format!(" in database {number}"));
        let name = format!("{}{}", heard.namespace, database.unwrap_or_default());
        if heard.namespace == own.namespace {
            same.push(name);
        } else {
            names.push(name);
        }
    }
    if !same.is_empty() {
        return Finding::warn(
            "fleets",
            format!("there are also instances in {}", same.join(", ")),
            "set UNSTALE_REDIS_URL of all instances of a fleet to the same database; give two fleets \
             two namespaces",
        );
    }
    let found = match names.len() {
        0 => "no other namespace has instances on this server".to_owned(),
        // Only a person can tell whether they are meant to be others.
        _ => format!("other namespaces on this server: {}", names.join(", ")),
    };
    Finding::ok("fleets", found)
}

/// Whether the latest event can be read with this key.
fn readable(event: &Contents) -> Finding {
    match event {
        Contents::Drops { .. } => Finding::ok("signing key", "the latest event can be read"),
        Contents::Unreadable { why } => Finding::fail(
            "signing key",
            format!("the latest event cannot be read: {why}"),
            "set UNSTALE_SIGNING_KEY to that of the fleet, or leave it unset as the fleet does; or find \
             with `unstale tail` what else publishes in this namespace",
        ),
    }
}

/// The labels of a series that has one sample.
fn labels<'a>(instance: &'a Instance, series: &str) -> Option<&'a Sample> {
    instance.samples.iter().find(|sample| sample.name == series)
}

/// The number of the database that a URL names.
fn database(url: &str) -> Option<u8> {
    let path = url.split_once("://")?.1.split_once('/');
    path.map_or(Some(0), |(_, number)| {
        if number.is_empty() {
            Some(0)
        } else {
            number.parse().ok()
        }
    })
}

/// Whether one instance is in the fleet that the settings name.
fn member(own: &Own, instance: &Instance) -> Finding {
    let from = &instance.from;
    let Some(info) = labels(instance, "unstale_settings_info") else {
        return Finding::fail(
            "instance",
            format!("{from} has no unstale_settings_info"),
            "check its version: it may be another one of this crate",
        );
    };
    let (id, fleet, redis) = (info.label("id"), info.label("fleet"), info.label("redis"));
    let wrong = |what: String, remedy: &str| {
        Finding::fail("instance", format!("{id} at {from} {what}"), remedy)
    };
    if info.label("bus") == "local" {
        let what = format!("has no Redis: its URL is {redis}");
        return wrong(what, "set UNSTALE_REDIS_URL there");
    }
    if fleet != own.namespace {
        let what = format!("is in namespace {fleet}, and this is {}", own.namespace);
        return wrong(what, "set the same UNSTALE_NAMESPACE");
    }
    if info.label("lanes") != own.lanes.to_string() {
        let what = format!(
            "has {} lanes, and UNSTALE_LANES says {} here",
            info.label("lanes"),
            own.lanes
        );
        return wrong(what, "set the same UNSTALE_LANES");
    }
    if let (Some(ours), Some(theirs)) = (own.database, database(redis))
        && ours != theirs
    {
        let what = format!("is in database {theirs}, and this is {ours}");
        return wrong(what, "name the same database in UNSTALE_REDIS_URL");
    }
    if !own.members.contains(id) {
        let what = format!(
            "is no member here: it names Redis as {redis}, and this is {}",
            own.redis
        );
        return wrong(
            what,
            "check that both URLs lead to the same server. An instance that is cut off is no member \
             either: look at its log and its metric `unstale_connected`",
        );
    }
    trouble(id, instance)
        .unwrap_or_else(|| Finding::ok("instance", format!("{id} at {from} is a member")))
}

/// What an instance that is a member has met: events that it cannot read, or a clock that is not left alone.
fn trouble(id: &str, instance: &Instance) -> Option<Finding> {
    let from = &instance.from;
    let count = |name: &str, label: (&str, &str)| {
        let of_it = |sample: &&Sample| {
            sample.name == name && (label.0.is_empty() || sample.label(label.0) == label.1)
        };
        instance
            .samples
            .iter()
            .filter(of_it)
            .map(|sample| sample.value)
            .sum::<f64>()
    };
    if count("unstale_events_dropped_total", ("reason", "undecodable")) > 0.0 {
        return Some(Finding::warn(
            "instance",
            format!("{id} at {from} has received events that it cannot read"),
            "give it the fleet's UNSTALE_SIGNING_KEY and the same version of this crate",
        ));
    }
    let jumps = count("unstale_clock_jumps_total", ("", ""));
    if jumps > 0.0 {
        return Some(Finding::warn(
            "instance",
            format!("the clock at {id}, {from}, was set or stood still {jumps} times"),
            "let NTP slew the clock instead of setting it; check whether its host is suspended",
        ));
    }
    None
}

/// Whether all instances have the same version and settings.
fn together(own: &Own, instances: &[Instance]) -> Vec<Finding> {
    if instances.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let alike = |series: &str, label: &str| {
        let mut values: BTreeMap<String, usize> = BTreeMap::new();
        for instance in instances {
            let value = labels(instance, series).map_or("unknown", |sample| sample.label(label));
            *values.entry(value.to_owned()).or_default() += 1;
        }
        let shown: Vec<_> = values
            .iter()
            .map(|(value, n)| format!("{value} ({n})"))
            .collect();
        (values.len(), shown.join(", "))
    };
    for (check, series, label, remedy) in [
        (
            "versions",
            "unstale_build_info",
            "version",
            "finish the rollout",
        ),
        (
            "journals",
            "unstale_settings_info",
            "journal",
            "set the same UNSTALE_JOURNAL",
        ),
        (
            "intervals",
            "unstale_settings_info",
            "verify_interval",
            "set the same UNSTALE_VERIFY_INTERVAL",
        ),
        (
            "timeouts",
            "unstale_settings_info",
            "member_timeout",
            "set the same UNSTALE_MEMBER_TIMEOUT",
        ),
    ] {
        let (values, shown) = alike(series, label);
        findings.push(match values {
            1 => Finding::ok(check, format!("all the same: {shown}")),
            _ => Finding::warn(check, format!("instances differ: {shown}"), remedy),
        });
    }
    let seen: BTreeSet<_> = instances
        .iter()
        .filter_map(|instance| Some(labels(instance, "unstale_settings_info")?.label("id")))
        .collect();
    let unseen: Vec<_> = own
        .members
        .iter()
        .filter(|id| !seen.contains(id.as_str()))
        .collect();
    if !unseen.is_empty() {
        let ids: Vec<_> = unseen.iter().map(|id| id.as_str()).collect();
        findings.push(Finding::ok(
            "not checked",
            format!(
                "{} without --metrics: {}",
                count(ids.len(), "member"),
                ids.join(" ")
            ),
        ));
    }
    findings
}

#[cfg(test)]
#[path = "fleet/tests.rs"]
mod tests;
