//! What an instance costs that is not used.

use std::time::Duration;

use unstale::Instance;
use unstale_benches::{Report, Server, own_cpu, record_metrics, settings};

/// Measured for so long; four verifications of `member_timeout / 2`, and as long again.
const WATCHED: Duration = Duration::from_secs(20);

/// Before that an instance that has just started verifies at the full rate, for some 5 s.
const SETTLES: Duration = Duration::from_secs(9);

/// What clients send. Everything else in `INFO commandstats` was called by the scripts.
const SENT_BY_CLIENTS: [&str; 7] = [
    "evalsha",
    "eval",
    "ping",
    "publish",
    "subscribe",
    "client|id",
    "script|load",
];

fn sent(server: &Server) -> u64 {
    let calls = server.calls();
    let sent = calls
        .iter()
        .filter(|(name, _)| SENT_BY_CLIENTS.contains(&name.as_str()));
    sent.map(|(_, calls)| calls).sum()
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    record_metrics();
    let server = Server::start();
    let start = async {
        let instance = Instance::start(settings(&server.url()))
            .await
            .expect("starts");
        let cache = instance
            .cache::<u64, u64>("rows")
            .build()
            .expect("a valid cache");
        (instance, cache)
    };
    let _idle = runtime.block_on(start);
    std::thread::sleep(SETTLES);
    let (calls, cpu, before) = (sent(&server), own_cpu(), server.stats());
    std::thread::sleep(WATCHED);
    let cpu = own_cpu() - cpu;
    let (calls, after) = (sent(&server) - calls, server.stats());
    let seconds = WATCHED.as_secs_f64();
    let (per_beat, share) = (
        calls as f64 * 2.5 / seconds,
        cpu.as_secs_f64() / seconds * 100.0,
    );
    let redis = (after.cpu - before.cpu).as_secs_f64() / seconds * 100.0;
    let mut report = Report::new("An idle instance, for 20 s");
    report.table(
        "",
        &[
            "commands in 20 s",
            "commands in 2.5 s",
            "CPU of the instance",
            "CPU of Redis",
        ],
        vec![vec![
            calls.to_string(),
            format!("{per_beat:.2}"),
            format!("{share:.3} % of a core"),
            format!("{redis:.3} %, of which most is its own timer"),
        ]],
    );
    report.goal(
        "an idle instance",
        "one script per 2.5 s and a PING per 10 s, 0.1 % of a core",
        format!("{per_beat:.2} commands, {share:.3} %"),
        per_beat <= 1.25 && share < 0.1,
    );
    report.print();
}
