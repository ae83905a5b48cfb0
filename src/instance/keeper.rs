//! The task that watches the clocks, measures how busy the instance is and folds the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::Error;
use crate::coherence::member::{Member, Phase};
use crate::contain::contained;
use crate::key::cache_id;
use crate::log::LogLimit;
use crate::metrics::Fence;
use crate::time::{Clock, Doubt, Reading, WATCHDOG_TICK, Watchdog};

/// Watchdog ticks between two folds of the metrics: a second.
const FOLD: u32 = 10;

/// Folds without a read after which an instance counts as idle.
const IDLE_FOLDS: u32 = 5;

/// Folds after which settings for caches that were never built are worth a line in the log.
const BUILD_TIME: u32 = 30;

pub(crate) async fn keep(member: Arc<Member>) {
    let mut phase = member.phase.subscribe();
    let mut ticks = interval(WATCHDOG_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watchdog = Watchdog::new(Reading::take(), member.clock.step());
    let lags = LogLimit::default();
    let (mut tick, mut folds, mut quiet, mut reads) = (0_u32, 0_u32, 0_u32, 0_u64);
    loop {
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
            _ = ticks.tick() => {}
        }
        // On tokio's clock, which tests pause, real clocks mean nothing.
        if matches!(member.clock, Clock::Kernel)
            && let Some(doubt) = watchdog.look(Reading::take())
        {
            on_doubt(&member, doubt, &lags);
        }
        tick = (tick + 1) % FOLD;
        if tick != 0 {
            continue;
        }
        let now = measure(&member);
        quiet = if now == reads {
            quiet.saturating_add(1)
        } else {
            0
        };
        reads = now;
        let busy = quiet < IDLE_FOLDS;
        let was_busy = member.set_busy(busy);
        if busy && !was_busy {
            // The next idle beat may be seconds away.
            member.verify_all_now();
        }
        member.metrics.fold();
        folds = folds.saturating_add(1);
        if folds == BUILD_TIME {
            note_unused_overrides(&member);
        }
    }
}

/// While a machine is suspended its monotonic clock stands still, and so does every age; while its
/// coarse clock lags, every age is too small.
fn on_doubt(member: &Member, doubt: Doubt, lags: &LogLimit) {
    member.metrics.clock_jumps.inc();
    for lane in 0..member.lane_count() {
        member.fence(lane, Fence::Clock);
    }
    match doubt {
        Doubt::Apart(jump) => tracing::warn!(
            ?jump,
            "the clocks have come apart (a suspended machine, or a clock that was set): every lane \
             was fenced"
        ),
        Doubt::Lags(lag) => {
            if let Some(suppressed) = lags.allow(member.clock.now()) {
                tracing::warn!(
                    ?lag,
                    suppressed,
                    "the coarse clock of the kernel lags behind (a virtual machine that is kept from \
                     running): every lane was fenced"
                );
            }
        }
    }
}

/// Brings the gauges up to date; returns the reads of all caches so far.
pub(crate) fn measure(member: &Member) -> u64 {
    let metrics = &member.metrics;
    let now = member.clock.now();
    for (index, lane) in (0..).zip(member.stamps.lanes()) {
        // Never verified: since the start.
        let since = lane.verified_at().max(member.started_at);
        let age = Duration::from_nanos(now.saturating_sub(since));
        metrics.verified_age[index].set(age);
    }
    metrics.connected.set(u64::from(member.bus.connected()));
    let queued = member
        .lanes
        .iter()
        .map(|lane| lane.outbox().depth())
        .sum::<usize>();
    metrics.outbox_keys.set(queued as u64);
    #[cfg(feature = "shared")]
    metrics.shared_broken.set(u64::from(member.tier.broken()));
    metrics.open_writes.set(member.writes.len() as u64);
    let caches = member.caches.all();
    let reads = caches.iter().map(|cache| cache.measure()).sum();
    // The last handle of one may be among these.
    let _ = contained(|| drop(caches));
    reads
}

fn note_unused_overrides(member: &Member) {
    let built = member.caches.ids();
    let overrides = member.settings.caches.keys();
    for name in overrides.filter(|name| !built.contains(&cache_id(name))) {
        tracing::warn!(
            cache = %name,
            "settings exist for a cache that is not built; check the spelling of its name"
        );
    }
}

/// Starts the metrics listener, if there is an address for one.
pub(crate) fn listen(member: &Arc<Member>) -> Result<(), Error> {
    let Some(address) = member.settings.metrics_addr else {
        return Ok(());
    };
    #[cfg(feature = "prometheus")]
    {
        let (bound, serving) = crate::metrics::serve(address, member.metrics.clone())?;
        tracing::info!(%bound, "serving metrics");
        let mut phase = member.phase.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = phase.wait_for(|phase| *phase == Phase::Closed) => {}
                () = serving => {}
            }
        });
        Ok(())
    }
    #[cfg(not(feature = "prometheus"))]
    Err(Error::new(
        crate::ErrorKind::Settings,
        format!(
            "UNSTALE_METRICS_ADDR={address}: this program was built without the feature `prometheus`"
        ),
    ))
}
