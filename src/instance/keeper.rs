//! The task that watches the clocks, measures how busy the instance is and folds the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::Error;
use crate::coherence::member::{Member, Phase};
use crate::contain::contained;
use crate::log::LogLimit;
use crate::metrics::Fence;
use crate::settings::nearest;
use crate::time::watchdog::{self, WATCHDOG_TICK};
use crate::time::{Clock, Nanos};

/// Watchdog ticks between two folds of the metrics: a second.
const FOLD: u32 = 10;

/// Folds without a read after which an instance counts as idle.
const IDLE_FOLDS: u32 = 5;

/// Folds after which settings for caches that were never built are logged: a program builds its caches
/// right after its start, and an operator who has just changed a setting still watches the log.
const BUILD_TIME: u32 = 5;

/// Where caches have no bound but their TTL: what the bound is by default.
const WITHOUT_BOUND: Duration = Duration::from_secs(2);

pub(crate) async fn keep(member: Arc<Member>) {
    let mut phase = member.phase.subscribe();
    let mut ticks = interval(WATCHDOG_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clocks = Clocks::new();
    let (mut tick, mut folds, mut quiet, mut reads) = (0_u32, 0_u32, 0_u32, 0_u64);
    loop {
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
            _ = ticks.tick() => {}
        }
        // On tokio's clock, which tests pause, the real clocks are not compared.
        if matches!(member.clock, Clock::Kernel) {
            clocks.look(&member);
        }
        member.log_state();
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

/// What this instance has seen of the clocks.
struct Clocks {
    unseen: Nanos,
    /// A small difference has been logged.
    said: bool,
    jumps: LogLimit,
    lags: LogLimit,
}

impl Clocks {
    fn new() -> Self {
        Self {
            unseen: watchdog::look().unseen,
            said: false,
            jumps: LogLimit::default(),
            lags: LogLimit::default(),
        }
    }

    /// The clock has caught up with the time that was missed, so that nothing is served beyond its
    /// bound. If the missed time is as long as the bound itself, nothing that is held was proven
    /// lately, and it is dropped as well. While the coarse clock lags by more than hits allow for, ages
    /// are too small.
    fn look(&mut self, member: &Member) {
        let look = watchdog::look();
        let missed = Duration::from_nanos(look.unseen.saturating_sub(self.unseen));
        self.unseen = look.unseen;
        if !missed.is_zero() {
            self.on_missed(member, missed);
        }
        if look.lag > member.clock.lag() {
            self.on_lag(member, Duration::from_nanos(look.lag));
        }
    }

    fn on_missed(&mut self, member: &Member, missed: Duration) {
        member.metrics.clock_jumps.inc();
        let instance = member.name();
        let shown = humantime::format_duration(Duration::from_millis(missed.as_millis() as u64));
        if missed < member.settings.max_staleness.unwrap_or(WITHOUT_BOUND) {
            // What is older than the bound now is proven again before it is served.
            member.verify_all_now();
            if !std::mem::replace(&mut self.said, true) {
                tracing::warn!(
                    %instance, missed = %shown,
                    "the wall clock or the boot clock went ahead of the monotonic one (a machine that \
                     stood still, or a clock that was set): everything held counts as older by as \
                     much. This is logged once; unstale_clock_jumps_total counts further jumps"
                );
            }
            return;
        }
        member.fence_all(Fence::Clock);
        if let Some(suppressed) = self.jumps.allow(member.clock.now()) {
            tracing::warn!(
                %instance, missed = %shown, suppressed,
                "the wall clock or the boot clock went ahead of the monotonic one by more than the \
                 bound (a suspended machine, or a clock that was set): every lane was fenced"
            );
        }
    }

    fn on_lag(&self, member: &Member, lag: Duration) {
        member.metrics.clock_jumps.inc();
        member.fence_all(Fence::Clock);
        if let Some(suppressed) = self.lags.allow(member.clock.now()) {
            tracing::warn!(
                instance = %member.name(), lag = %humantime::format_duration(lag), suppressed,
                "the coarse clock of the kernel lags behind (a virtual machine that is kept from \
                 running): every lane was fenced"
            );
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
    for (source, age) in member.sources.ages(now) {
        metrics.source_verified_age.set(&source, age);
    }
    metrics.measure_relays(now);
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
    let built = member.caches.all();
    let names: Vec<String> = built.iter().map(|cache| cache.name().to_owned()).collect();
    // The last handle of one may be among these.
    let _ = contained(|| drop(built));
    let overrides = member.settings.caches.keys();
    for name in overrides.filter(|name| !names.contains(name)) {
        let variables = member.settings.variables_of(name).join(", ");
        let nearest = match nearest(name, &names) {
            Some(near) => format!("the nearest that is built is `{near}`"),
            None => "there is none".to_owned(),
        };
        tracing::warn!(
            instance = %member.name(),
            "{variables}: no cache `{name}` is built, so this has no effect; {nearest}"
        );
    }
}

/// How often the listener tries again if its address is taken.
#[cfg(feature = "prometheus")]
const LISTEN_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Starts the metrics listener, if there is an address for one.
pub(crate) fn listen(member: &Arc<Member>) -> Result<(), Error> {
    let Some(address) = member.settings.metrics_addr else {
        return Ok(());
    };
    #[cfg(feature = "prometheus")]
    {
        let (name, metrics) = (member.name(), member.metrics.clone());
        let first = crate::metrics::serve(address, metrics.clone());
        if let Err(error) = &first {
            // A service that serves its users matters more than its metrics.
            tracing::error!(
                instance = %name,
                %error,
                "metrics are not served; this is tried again every {LISTEN_AGAIN:?}"
            );
        }
        let mut phase = member.phase.subscribe();
        tokio::spawn(async move {
            let serving = async move {
                let mut served = first;
                loop {
                    if let Ok((bound, serving)) = served {
                        tracing::info!(instance = %name, %bound, "serving metrics");
                        return serving.await;
                    }
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    served = crate::metrics::serve(address, metrics.clone());
                }
            };
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
