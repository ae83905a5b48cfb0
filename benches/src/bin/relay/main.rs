//! What a relay does and costs: rows a second, from the commit to the drop, at rest, and beside `write`.
//!
//! ```text
//! cargo run --release --features relay --bin relay [-- --json]      from benches/; needs PostgreSQL and redis-server
//! ```
//!
//! The relay is a process of its own, as `unstale relay` is; its servers are on this machine, too.

mod load;
mod rig;
mod writes;

use std::time::Duration;

use unstale_benches::{Report, cpu_of};

use rig::{Relay, Rig};

/// How long a relay at rest is watched.
const WATCHED: Duration = Duration::from_secs(60);

/// Before that, what has just been done settles: instances that are not read from verify seldom.
const SETTLES: Duration = Duration::from_secs(10);

/// The goals: rows a second, and per cent of a core at rest.
const ROWS: f64 = 20_000.0;
const AT_REST: f64 = 1.0;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(rig::AS_RELAY) {
        return rig::relay(&args.next().expect("a file of rules"));
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure()).print();
}

async fn measure() -> Report {
    let mut report = Report::new("A relay");
    let without = writes::loads(&Rig::start(Relay::None).await).await;
    let rig = Rig::start(Relay::Works).await;
    let with = writes::loads(&rig).await;
    load::throughput(&rig, &mut report).await;
    load::propagation(&rig, &mut report).await;
    writes::report(without, with, &mut report);
    at_rest(&rig, &mut report).await;
    report
}

/// The relay's part of a core while nothing is changed.
async fn at_rest(rig: &Rig, report: &mut Report) {
    let relay = rig.relay_pid();
    let mut rows = Vec::new();
    for (what, read_from) in [
        (
            "three that are read from: each verifies twice a second",
            true,
        ),
        ("three without readers", false),
    ] {
        let reading = read_from.then(|| rig.read());
        tokio::time::sleep(SETTLES).await;
        let (cpu, redis, postgres) = (cpu_of(relay), rig.redis.stats(), rig.sender_cpu().await);
        tokio::time::sleep(WATCHED).await;
        let share = |cpu: Duration| cpu.as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
        let own = share(cpu_of(relay) - cpu);
        let after = rig.redis.stats();
        rows.push(vec![
            what.into(),
            format!("{own:.2} %"),
            format!("{:.2} %", share(after.cpu - redis.cpu)),
            format!("{:.2} %", share(rig.sender_cpu().await - postgres)),
        ]);
        if read_from {
            let goal = format!("less than {AT_REST} % of a core");
            let measured = format!("{own:.2} %");
            report.goal("a relay at rest", &goal, measured, own < AT_REST);
        }
        drop(reading);
    }
    report.table(
        "At rest, for 60 s: parts of a core.",
        &[
            "instances",
            "the relay",
            "Redis",
            "PostgreSQL's sender of the log",
        ],
        rows,
    );
}
