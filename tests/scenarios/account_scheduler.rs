//! Account scheduler: four gateways, a thousand accounts of 20 KB, and a link that is worth saving.

#[path = "../../examples/account_scheduler/account.rs"]
mod account;
#[path = "../../examples/account_scheduler/database.rs"]
mod database;
#[path = "../../examples/account_scheduler/pool.rs"]
mod pool;
#[path = "../../examples/account_scheduler/sample.rs"]
mod sample;

mod traffic;

use std::collections::BTreeSet;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use unstale::Instance;

use crate::support::fleet::{Admin, Bytes, NAMESPACE, counted_by_all, instance, metric, until};
use database::Database;
use pool::Pool;
use sample::{MODEL, PLATFORM};
use testkit::example::shows;
use testkit::redis::RedisServer;

const GATEWAYS: usize = 4;
const ACCOUNTS: u64 = 1_000;

/// Most bytes of one account on the wire, however large it is in the database.
const ON_THE_WIRE: u64 = 8 << 10;

/// Most bytes of the events of a thousand invalidations, to all four and in both directions. The scenario asks
/// for ten times as much.
const INVALIDATIONS: u64 = 100_000;

/// On a busy machine a question may go unanswered for too long; then the account is loaded.
const ANSWERED: u64 = ACCOUNTS * 8 / 10;

/// Longer than the tier is left alone after some such questions.
const BREATHER: Duration = Duration::from_millis(1_200);

/// Some time of 2025.
const NOW: u64 = 1_750_000_000;

struct Gateway {
    instance: Instance,
    pool: Pool,
}

impl Gateway {
    /// Reads all accounts, twenty at a time, so that one slow moment of the machine costs twenty at
    /// most.
    async fn read_all(&self) {
        let unanswered = || ["skipped", "busy", "failed"].map(|outcome| self.reads(outcome));
        for twenty in ids().chunks(20) {
            let before = unanswered();
            let found = self.pool.warm_up(twenty).await.unwrap();
            assert_eq!(found, twenty.len());
            if unanswered() != before {
                sleep(BREATHER).await;
            }
        }
    }

    fn reads(&self, outcome: &str) -> u64 {
        self.shared("reads", outcome)
    }

    fn stores(&self, outcome: &str) -> u64 {
        self.shared("stores", outcome)
    }

    fn shared(&self, what: &str, outcome: &str) -> u64 {
        let cache = "cache=\"accounts\"";
        let series = format!("unstale_shared_{what}_total{{{cache},outcome=\"{outcome}\"}}");
        metric(&self.instance, &series)
    }
}

/// Four gateways, each with a connection of its own to the one database, which has the accounts.
/// Fields are dropped in this order.
struct Fleet {
    gateways: Vec<Gateway>,
    admin: Admin,
    server: RedisServer,
    _folder: TempDir,
}

impl Fleet {
    async fn start() -> Self {
        Self::with(ACCOUNTS).await
    }

    async fn with(accounts: u64) -> Self {
        let folder = TempDir::with_prefix("accounts-").unwrap();
        let path = folder.path().join("accounts.db");
        let database = Database::open(path.clone()).await.unwrap();
        database.put(sample::accounts(accounts)).await.unwrap();
        let server = RedisServer::start();
        let mut gateways = Vec::new();
        for _ in 0..GATEWAYS {
            let instance = instance(&server).await;
            let database = Database::open(path.clone()).await.unwrap();
            let pool = Pool::new(&instance, &database).unwrap();
            gateways.push(Gateway { instance, pool });
        }
        let mut admin = Admin::connect(&server);
        let record = format!("us:{{{NAMESPACE}:0}}r");
        until("the record", async || {
            admin.cmd(&["EXISTS", &record]).text() == "1"
        })
        .await;
        Self {
            admin: Admin::connect(&server),
            gateways,
            server,
            _folder: folder,
        }
    }

    /// As [`start`](Self::start); then the first gateway loads all accounts, and has stored them.
    async fn warm() -> Self {
        let fleet = Self::start().await;
        let first = &fleet.gateways[0];
        first.read_all().await;
        until("all are stored", async || {
            first.stores("stored") >= ANSWERED
        })
        .await;
        fleet
    }

    /// As [`warm`](Self::warm); then the others read all of them.
    async fn hot() -> Self {
        let fleet = Self::warm().await;
        for gateway in &fleet.gateways[1..] {
            gateway.read_all().await;
        }
        fleet
    }

    fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.gateways.iter().map(|gateway| &gateway.instance)
    }

    fn counted(&self, kinds: &[&str]) -> Bytes {
        counted_by_all(self.instances(), kinds)
    }

    fn sum(&self, series: &str) -> u64 {
        self.instances().map(|one| metric(one, series)).sum()
    }

    /// Waits until all have received what all have published.
    async fn delivered(&self) {
        until("everything is delivered", async || {
            let published = self.sum("unstale_events_published_total");
            let received = |one| metric(one, "unstale_events_received_total");
            self.instances().all(|one| received(one) == published)
        })
        .await;
    }
}

fn ids() -> Vec<u64> {
    (0..ACCOUNTS).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_accounts_cross_the_wire_with_all_that_choosing_needs_and_nothing_else() {
    let mut fleet = Fleet::start().await;
    let [a, b, ..] = &fleet.gateways[..] else {
        unreachable!("four")
    };
    let json = serde_json::to_vec(&sample::account(1)).unwrap().len() as u64;
    assert!((18_000..22_000).contains(&json), "{json}");

    let before = fleet.admin.traffic();
    a.read_all().await;
    until("all are stored", async || a.stores("stored") >= ANSWERED).await;
    let stored = fleet.admin.traffic();
    b.read_all().await;
    let found = fleet.admin.traffic();
    assert!(b.reads("found") >= ANSWERED, "{}", b.reads("found"));
    let store = stored.since(before).both() / a.stores("stored");
    let find = found.since(stored).both() / b.reads("found");
    println!("{json} bytes of JSON: {store} on the wire to store, {find} to find");
    assert!(store <= ON_THE_WIRE && find <= ON_THE_WIRE);

    // As Redis holds them, one by one; and no token among them.
    let names = fleet
        .admin
        .cmd(&["KEYS", &format!("us:{{{NAMESPACE}:0}}v*")]);
    let names: Vec<String> = names.array().iter().map(|name| name.text()).collect();
    assert!(names.len() as u64 >= ANSWERED, "{}", names.len());
    let mut largest = 0;
    for name in &names {
        let length = fleet.admin.cmd(&["STRLEN", name]).text();
        largest = largest.max(length.parse::<u64>().unwrap());
    }
    println!("the largest value in Redis: {largest} bytes");
    assert!(largest <= ON_THE_WIRE, "{largest}");

    // Uncompressed, an account is below the bound as well, and has all its fields.
    let plain = plain_bytes(1);
    assert!((4_000..ON_THE_WIRE).contains(&plain), "{plain}");
    let mut without = 0;
    for account in sample::accounts(ACCOUNTS) {
        let id = account.scheduling.id;
        // The caller's own object: as the database has it, tokens included.
        let mine = a.pool.account(id).await.unwrap().unwrap();
        assert_eq!(*mine, account);
        let theirs = b.pool.account(id).await.unwrap().unwrap();
        assert_eq!(theirs.scheduling, account.scheduling);
        without += u64::from(theirs.tokens.is_none());
        let whole = b.pool.with_tokens(theirs).await.unwrap().unwrap();
        assert_eq!(*whole, account);
    }
    assert!(without >= ANSWERED, "{without}");
    // And any of them can be chosen on either.
    for pool in [&a.pool, &b.pool] {
        let chosen = pool.choose(PLATFORM, MODEL, NOW).await.unwrap().unwrap();
        assert_eq!(chosen.scheduling.priority, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_thousand_invalidations_reach_four_gateways_in_a_hundred_kilobytes() {
    let mut fleet = Fleet::hot().await;
    fleet.delivered().await;
    let before = (fleet.admin.traffic(), fleet.counted(&["verify"]));
    let began = Instant::now();
    fleet.gateways[0].pool.forget(&ids()).await.unwrap();
    fleet.delivered().await;
    let took = began.elapsed();
    let all = fleet.admin.traffic().since(before.0);
    let beats = fleet.counted(&["verify"]).since(before.1).both();
    println!(
        "1,000 invalidated on 4 in {took:?}: {all:?}, {} bytes in all",
        all.both()
    );
    // The first as well: with the shared tier it applies its own event again, a moment after its write returns.
    let series = "unstale_invalidations_total{cache=\"accounts\",kind=\"key\",from=\"remote\"}";
    until("all are invalidated on all", async || {
        fleet.sum(series) >= 4 * ACCOUNTS
    })
    .await;
    // Each peer once. The writer's acknowledgement and echo may both find that the other is not done yet.
    let applied: Vec<u64> = fleet.instances().map(|one| metric(one, series)).collect();
    assert_eq!(applied[1..], [ACCOUNTS; GATEWAYS - 1]);
    assert!(
        [ACCOUNTS, 2 * ACCOUNTS].contains(&applied[0]),
        "{applied:?}"
    );
    assert!(all.both() <= INVALIDATIONS + beats, "{all:?}");
    // Nothing is left out to save bytes: every gateway reads what is true now.
    let mut tired = sample::account(10);
    tired.scheduling.schedulable = false;
    fleet.gateways[1].pool.put(vec![tired]).await.unwrap();
    fleet.delivered().await;
    for gateway in &fleet.gateways {
        for _ in 0..100 {
            let chosen = gateway
                .pool
                .choose(PLATFORM, MODEL, NOW)
                .await
                .unwrap()
                .unwrap();
            assert_ne!(chosen.scheduling.id, 10);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_what_has_not_changed_causes_no_traffic() {
    let mut fleet = Fleet::hot().await;
    fleet.delivered().await;
    let own = ["publish", "deliver", "repair", "intent", "shared"];
    // An idle connection is asked now and then whether it is alive, which counts as "connect".
    let idle = ["verify", "connect"];
    let begun = (
        fleet.counted(&own),
        fleet.counted(&idle),
        fleet.admin.traffic(),
    );
    let first = &fleet.gateways[0];
    // A rebuild of everything, and a second of "last used".
    assert_eq!(first.pool.put(sample::accounts(ACCOUNTS)).await.unwrap(), 0);
    for id in 0..603 {
        first
            .pool
            .used(BTreeSet::from([id]), NOW + id)
            .await
            .unwrap();
    }
    for gateway in &fleet.gateways {
        gateway
            .pool
            .choose(PLATFORM, MODEL, NOW)
            .await
            .unwrap()
            .unwrap();
    }
    let ended = (
        fleet.counted(&own),
        fleet.counted(&idle),
        fleet.admin.traffic(),
    );
    assert_eq!(ended.0, begun.0, "nothing but what idle instances send");
    let theirs = ended.2.since(begun.2).both();
    let beats = ended.1.since(begun.1).both();
    // One may be on its way at either end.
    assert!(
        theirs <= beats + 4 * 1_000,
        "Redis {theirs}, of them {beats} of idle instances"
    );

    // The same bytes once more, this time because all of them were invalidated: they are renewed
    // where they are, and a value that has not changed is not sent.
    let (stored, value) = (first.stores("stored"), plain_bytes(1));
    first.pool.forget(&ids()).await.unwrap();
    fleet.delivered().await;
    let begun = counted_by_all([&first.instance], &["shared"]);
    first.read_all().await;
    until("all are renewed", async || {
        first.stores("unchanged") >= ANSWERED
    })
    .await;
    let each = counted_by_all([&first.instance], &["shared"]).since(begun);
    let each = each.both() / first.stores("unchanged");
    println!("the same bytes again: {each} bytes of traffic for a value of {value}");
    assert!(each <= 800, "{each}");
    assert!(first.stores("stored") - stored <= ACCOUNTS - ANSWERED);
}

/// What an account takes before it is compressed.
fn plain_bytes(id: u64) -> u64 {
    let scheduling = sample::account(id).scheduling;
    rmp_serde::to_vec_named(&scheduling).unwrap().len() as u64
}

#[tokio::test]
async fn scenario_the_account_scheduler_shows_what_it_says() {
    let lines = [
        "less than a fifth of its size on the wire: true",
        "chosen: account-0000, with priority 0",
        "its tokens came through Redis: false",
        "they are in the database: true",
        "used 603 times: 0 events",
        "rebuilt: 0 changed, 0 events",
        "one is tired: 1 changed, 1 event",
        "the others know: true",
        "all are invalidated on 4 gateways, in less than 100 KB: true",
    ];
    shows("account_scheduler", &[], &[], &lines).await;
    let server = RedisServer::start();
    let url = server.url();
    shows(
        "account_scheduler",
        &[],
        &[("UNSTALE_REDIS_URL", &url)],
        &lines,
    )
    .await;
}
