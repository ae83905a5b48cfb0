//! Rows a second through one relay, and the time from a commit to the drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::Client;
use unstale_benches::{Report, Samples, cpu_of};

use super::ROWS;
use super::rig::{ACCOUNTS, Rig};

/// Sessions that change rows at once.
const SESSIONS: usize = 4;

/// Rows of one transaction, and how long all sessions go on.
const SIZES: [i64; 3] = [1, 100, 10_000];
const GOES_ON: Duration = Duration::from_secs(10);

/// The row whose change comes last.
const LAST: i64 = -1;

/// Commits whose way is measured, and the pause between two.
const COMMITS: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// One transaction of all rows of a range.
const TOGETHER: &str = "UPDATE accounts SET version = version + 1 WHERE id >= $1 AND id < $2";

/// One transaction for each row. The server runs them by itself: a client that waits for each answer commits a tenth.
const EACH: &str = "CALL one_by_one($1, $2)";
const EACH_ROWS: i64 = 500;
const ONE_BY_ONE: &str =
    "CREATE OR REPLACE PROCEDURE one_by_one(first bigint, beyond bigint) LANGUAGE plpgsql AS $$
    BEGIN
        FOR n IN first .. beyond - 1 LOOP
            UPDATE accounts SET version = version + 1 WHERE id = n;
            COMMIT;
        END LOOP;
    END $$";

/// Changes rows until it is time, and says how many.
async fn session(client: Client, next: Arc<AtomicI64>, size: i64, until: Instant) -> i64 {
    let (sql, rows) = if size == 1 {
        (EACH, EACH_ROWS)
    } else {
        (TOGETHER, size)
    };
    let change = client.prepare(sql).await.expect("a statement");
    let mut changed = 0;
    while Instant::now() < until {
        let from = next.fetch_add(rows, Relaxed) % ACCOUNTS;
        let committed = client.execute(&change, &[&from, &(from + rows)]).await;
        committed.expect("it commits");
        changed += rows;
    }
    changed
}

pub async fn throughput(rig: &Rig, report: &mut Report) {
    let mut lines = Vec::new();
    let made = rig.client().await.batch_execute(ONE_BY_ONE).await;
    made.expect("a procedure");
    for size in SIZES {
        for node in rig.nodes.iter() {
            node.load(LAST).await;
        }
        let _reading = rig.read();
        let (next, began) = (Arc::<AtomicI64>::default(), Instant::now());
        let (cpu, sender) = (cpu_of(rig.relay_pid()), rig.sender_cpu().await);
        let mut sessions = JoinSet::new();
        for _ in 0..SESSIONS {
            let client = rig.client().await;
            sessions.spawn(session(client, next.clone(), size, began + GOES_ON));
        }
        let rows: i64 = sessions.join_all().await.into_iter().sum();
        let committed = began.elapsed();
        let last = "UPDATE accounts SET version = version + 1 WHERE id = $1";
        let client = rig.client().await;
        client.execute(last, &[&LAST]).await.expect("it commits");
        let mut relayed = began;
        for node in rig.nodes.iter() {
            relayed = relayed.max(node.until_dropped(LAST).await);
        }
        let relayed = relayed - began;
        let cpu = cpu_of(rig.relay_pid()) - cpu;
        let sender = rig.sender_cpu().await - sender;
        let rate = |time: Duration| rows as f64 / time.as_secs_f64();
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / rows as f64;
        lines.push(vec![
            format!("{size}"),
            format!("{rows}"),
            format!("{:.0}", rate(committed)),
            format!("{:.0}", rate(relayed)),
            format!(
                "{:.0}",
                (relayed.saturating_sub(committed)).as_secs_f64() * 1e3
            ),
            format!("{:.1}", each(cpu)),
            format!("{:.1}", each(sender)),
            format!("{:.0}", 1e6 / each(cpu.max(sender))),
        ]);
        let met = rate(relayed) >= ROWS;
        let what = format!("rows through a relay, transactions of {size}");
        let measured = format!(
            "{:.0} rows/s; {:.0} where relay and sender have a core each",
            rate(relayed),
            1e6 / each(cpu.max(sender))
        );
        report.goal(&what, &format!("{ROWS:.0} rows/s"), measured, met);
    }
    report.table(
        "Four sessions change rows for 10 s, while everything shares the machine. What is relayed is dropped on all three instances.",
        &[
            "rows a transaction",
            "rows",
            "committed, rows/s",
            "relayed, rows/s",
            "the last one came after its commit, ms",
            "CPU of the relay a row, us",
            "of PostgreSQL's sender, us",
            "rows/s where both have a core each",
        ],
        lines,
    );
}

pub async fn propagation(rig: &Rig, report: &mut Report) {
    let client = rig.client().await;
    let update = "UPDATE accounts SET version = version + 1 WHERE id = $1";
    let update = client.prepare(update).await.expect("a statement");
    let mut samples = Samples::default();
    let _reading = rig.read();
    for id in 0..COMMITS as i64 {
        for node in rig.nodes.iter() {
            node.load(id).await;
        }
        tokio::time::sleep(PAUSE).await;
        client.execute(&update, &[&id]).await.expect("it commits");
        let committed = Instant::now();
        for node in rig.nodes.iter() {
            let dropped = node.until_dropped(id).await;
            samples.push(dropped.saturating_duration_since(committed).as_secs_f64() * 1e3);
        }
    }
    report.table(
        "From the answer to the commit until a value is dropped, 20 ms between two; ms.",
        &["p50", "p90", "p99", "longest"],
        vec![
            [0.5, 0.9, 0.99, 1.0]
                .map(|part| format!("{:.2}", samples.quantile(part)))
                .into(),
        ],
    );
}
