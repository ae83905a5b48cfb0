//! What a relay adds to a service's own writes: each is dropped by `write`, and again when the relay reads it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use unstale_benches::Report;

use super::rig::Rig;

/// Writes, and the pause between two.
const WRITES: i64 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Pause between two reads of the key by each instance.
const READS: Duration = Duration::from_millis(1);

/// Loads of a key that all instances read all the time, for each write of it.
pub async fn loads(rig: &Rig) -> f64 {
    const KEY: i64 = 7;
    let mut reading = tokio::task::JoinSet::new();
    for node in 0..rig.nodes.len() {
        let nodes = rig.nodes.clone();
        reading.spawn(async move {
            loop {
                drop(nodes[node].cache.get(&KEY).await.expect("reads"));
                tokio::time::sleep(READS).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = || -> u64 { rig.nodes.iter().map(|node| node.loads.load(Relaxed)).sum() };
    let client = rig.client().await;
    let update = "UPDATE accounts SET version = version + 1 WHERE id = $1";
    let update = client.prepare(update).await.expect("a statement");
    let before = all();
    for _ in 0..WRITES {
        let commit = async { client.execute(&update, &[&KEY]).await };
        let written = rig.nodes[0].cache.write(&KEY, commit).await;
        assert!(written.is_ok(), "it is written");
        tokio::time::sleep(PAUSE).await;
    }
    (all() - before) as f64 / WRITES as f64
}

pub fn report(without: f64, with: f64, report: &mut Report) {
    report.table(
        "Loads for each `write` of a key that three instances read all the time.",
        &["without a relay", "with a relay", "more for each instance"],
        vec![vec![
            format!("{without:.2}"),
            format!("{with:.2}"),
            format!("{:.2}", (with - without) / 3.0),
        ]],
    );
}
