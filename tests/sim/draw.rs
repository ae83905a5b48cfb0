//! How the instances and caches of a schedule are set up.

use crate::generate::{Kind, Random, takes_place};
use crate::options::{Batch, CacheOptions};
use crate::schedule::*;

/// The id of clones.
const CLONES: u64 = 77;

pub(crate) fn node(random: &mut Random) -> NodeSettings {
    let verify_interval = random.of(&[50, 100, 100, 200]);
    NodeSettings {
        verify_interval,
        max_staleness: verify_interval * random.of(&[2, 3, 5]),
        ttl: random.of(&[60_000, 60_000, 60_000, 900]),
        journal: random.of(&[64, 64, 64, 3, 0]),
        available: random.one_in(8),
        member_timeout: random.of(&[
            MEMBER_TIMEOUT,
            MEMBER_TIMEOUT,
            MEMBER_TIMEOUT,
            LONGEST_MEMBER_TIMEOUT,
        ]),
        publish_timeout: random.of(&[500, 500, 500, 100]),
        lanes: None,
        id: None,
        late: false,
    }
}

/// The options of one cache: a third of the caches have none.
pub(crate) fn options(random: &mut Random) -> CacheOptions {
    let mut options = CacheOptions::default();
    let mut chosen = 0;
    if random.one_in(3) {
        return options;
    }
    for option in 0..13 {
        // All are drawn, so that one that is left out changes nothing else.
        let few = random.one_in(6);
        if few && chosen < 4 {
            chosen += 1;
            set(random, option, &mut options);
        }
    }
    options
}

fn set(random: &mut Random, option: u64, options: &mut CacheOptions) {
    match option {
        0 => options.capacity = random.of(&[2, 3, 5, 8]),
        1 => options.max_bytes = Some(1_000),
        2 => {
            options.stale_if_error = Some(random.of(&[200, 2_000]));
            options.stale_if_slow = random.of(&[None, Some(20), Some(250)]);
            options.ttl = options.ttl.or(Some(random.of(&[100, 250])));
        }
        3 => options.unknown_loads = Some(random.of(&[1, 3, 20])),
        4 => options.negative_ttl = Some(random.of(&[0, 50, 1_000])),
        5 => options.ttl = Some(random.of(&[100, 250, 600])),
        6 => options.own_ttl = Some(random.of(&[60, 400])),
        7 => options.load_timeout = random.of(&[100, 300, 1_000]),
        8 => options.max_loads = random.of(&[1, 2]),
        9 => options.reap = Some(random.of(&[20, 200])),
        10 => options.batch = random.of(&[Batch::Too, Batch::Only]),
        11 => options.audit = true,
        _ => {
            options.tier = true;
            options.claim = random.of(&[None, Some(50), Some(200)]);
        }
    }
}

/// Reloads ahead.
pub(crate) fn refresh(random: &mut Random, options: &mut CacheOptions) {
    match random.below(3) {
        0 => options.refresh_ahead = Some(random.of(&[1, 1, 10, 50, 80])),
        1 => options.refresh_before = Some(random.of(&[50, 500])),
        _ => options.refresh_before = Some(100),
    }
    // Without an end in sight nothing is due.
    options.ttl = options.ttl.or(Some(random.of(&[200, 1_000, 2_000])));
}

/// Old entries are served instead of loads that never begin.
pub(crate) fn stale_fallbacks(random: &mut Random, options: &mut CacheOptions) {
    options.stale_if_error = Some(2_000);
    options.stale_if_slow = random.of(&[None, None, Some(20)]);
    options.ttl = Some(random.of(&[100, 250]));
    options.max_loads = 1;
    options.load_timeout = 100;
}

/// Clones, and one with another number of lanes.
pub(crate) fn misfits(
    random: &mut Random,
    kinds: &[Kind],
    lanes: u32,
    nodes: &mut [NodeSettings],
    steps: &mut Vec<Step>,
) {
    let last = nodes.len() - 1;
    if kinds.contains(&Kind::Clones) && takes_place(Kind::Clones) {
        nodes[0].id = Some(CLONES);
        nodes[last].id = Some(CLONES);
    }
    let at = random.below(500);
    let lasts = random.of(&[60, 400]);
    if !kinds.contains(&Kind::OtherLanes) || !takes_place(Kind::OtherLanes) {
        return;
    }
    nodes[last].lanes = Some(lanes + 1);
    nodes[last].late = true;
    steps.push(Step {
        at,
        what: What::StartSilent { node: last, lasts },
    });
    // A server that forgets its number of lanes takes that of the instance that comes first.
    let forgets = |step: &Step| {
        matches!(
            step.what,
            What::Server(
                ServerFault::Flush
                    | ServerFault::RestartEmpty
                    | ServerFault::DropCounter
                    | ServerFault::Restore
            )
        )
    };
    steps.retain(|step| !forgets(step));
}
