//! What makes two runs equal, and how often servers were asked.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;
use unstale::internals::Happened;

use crate::fleet::ms;
use crate::run::Ran;
use crate::schedule::*;

/// Verifications that one lane of an instance sends in a second at most while the server answers:
/// `latest` has one sent after 5 ms at the earliest, and there are timers and interruptions.
const ANSWERED: usize = 260;

/// While it answers with errors at once: a pause of some 50 ms follows each, half of that at least.
const REFUSED: usize = 30;

/// What starts and interruptions add at once, however long the run.
const INTERRUPTIONS: usize = 12;

/// Instances that have asked too often.
pub(super) fn too_often(ran: &Ran) -> Vec<String> {
    let mut asked: BTreeMap<usize, Vec<Instant>> = BTreeMap::new();
    for entry in ran.timeline.entries() {
        if let Happened::Asked(number) = entry.what {
            asked.entry(number).or_default().push(entry.at);
        }
    }
    let lanes = ran.schedule.nodes.iter().filter_map(|node| node.lanes);
    let lanes = lanes.fold(ran.schedule.lanes, u32::max) as usize;
    let mut wrong = Vec::new();
    for (number, times) in asked {
        let most = lanes * ANSWERED + INTERRUPTIONS;
        if times
            .windows(most + 1)
            .any(|few| few[most] - few[0] < Duration::from_secs(1))
        {
            wrong.push(format!(
                "too many verifications: instance number {number} sent {most} in a second"
            ));
        }
        let is_at = |place: usize| {
            let mut reads = ran.log.reads.iter();
            reads.any(|read| read.number == number && read.node == place)
        };
        for (place, from, to) in refused(ran) {
            let most = (to - from).as_secs_f64() * (lanes * REFUSED) as f64;
            let sent = times.iter().filter(|at| (from..to).contains(*at)).count();
            if sent > most as usize + INTERRUPTIONS && is_at(place) {
                wrong.push(format!(
                    "too many verifications: instance number {number} sent {sent} in {:?} to a server \
                     that refuses",
                    to - from
                ));
            }
        }
    }
    wrong
}

/// Which place's instances were refused at once, and when.
fn refused(ran: &Ran) -> Vec<(usize, Instant, Instant)> {
    let mut times = Vec::new();
    let steps = &ran.schedule.steps;
    for (index, step) in steps.iter().enumerate() {
        let What::Fault { node, fault } = step.what else {
            continue;
        };
        if !matches!(fault, LinkFault::Refuse | LinkFault::Cut) {
            continue;
        }
        let ends = steps[index..].iter().find(|later| {
            matches!(later.what, What::Fault { node: of, fault: LinkFault::EndAll | LinkFault::Heal } if of == node)
        });
        let ends = ends.or(steps.last()).map_or(step.at, |end| end.at);
        let at = |at: u64| ran.started + ms(at);
        times.push((node, at(step.at), at(ends.max(step.at))));
    }
    times
}

/// Order within one moment is left out: tokio wakes the tasks that wait for the same thing in any order.
pub(super) fn trace(ran: &Ran) -> u64 {
    let mut hasher = DefaultHasher::new();
    let since = |at: Instant| at.saturating_duration_since(ran.started);
    let mut reads: Vec<_> = ran
        .log
        .reads
        .iter()
        .map(|read| {
            (
                since(read.began),
                read.id,
                read.node,
                read.key,
                since(read.ended),
                read.facts.map(|facts| facts.version),
            )
        })
        .collect();
    reads.sort_unstable();
    reads.hash(&mut hasher);
    for version in &ran.versions {
        (version.key, version.version, since(version.at)).hash(&mut hasher);
    }
    for entry in ran.timeline.entries() {
        since(entry.at).hash(&mut hasher);
        match &entry.what {
            Happened::Seen(number) => number.hash(&mut hasher),
            Happened::Asked(number) => (*number, "asked").hash(&mut hasher),
            Happened::Published(event) => {
                (event.lane, event.epoch, event.sequence).hash(&mut hasher)
            }
        }
    }
    hasher.finish()
}
