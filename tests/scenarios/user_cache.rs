//! A user cache (`examples/user_cache`): a stampede is one query, whichever caller is cancelled; memory is
//! freed; a changed role is seen everywhere.

#[path = "../../examples/user_cache/database.rs"]
mod database;
#[path = "../../examples/user_cache/routes.rs"]
mod routes;
#[path = "../../examples/user_cache/users.rs"]
mod users;

mod http;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep, timeout};
use unstale::{Error, ErrorKind, Instance, InstanceState, Settings};

use crate::support::fleet::{HEARD, by_events_alone};
use database::{Database, User};
use testkit::example::shows;
use testkit::redis::RedisServer;
use users::{Options, Users};

/// How long instances may take to be coherent; some milliseconds, the rest is for a slow machine.
const COHERENT: Duration = Duration::from_secs(120);

/// How far away the database is, in milliseconds, where a query has to take its time.
const AWAY: u64 = 2_000;

/// Instances on one Redis and one database file.
struct Fleet {
    users: Vec<Users>,
    instances: Vec<Instance>,
    /// One handle for all: it counts the queries of every instance.
    database: Database,
    _dir: TempDir,
    _redis: RedisServer,
}

impl Fleet {
    async fn start(instances: usize, options: Options) -> Self {
        Self::with(instances, options, Settings::default()).await
    }

    async fn with(instances: usize, options: Options, mut settings: Settings) -> Self {
        let dir = TempDir::with_prefix("user-cache-").unwrap();
        let redis = block_in_place(RedisServer::start);
        settings.redis_url = Some(redis.url());
        let mut fleet = Self {
            users: Vec::new(),
            instances: Vec::new(),
            database: Database::open(&dir.path().join("users.db")).unwrap(),
            _dir: dir,
            _redis: redis,
        };
        for _ in 0..instances {
            let instance = Instance::start(settings.clone()).await.unwrap();
            let users = Users::new(&instance, fleet.database.clone(), options.clone()).unwrap();
            fleet.users.push(users);
            fleet.instances.push(instance);
        }
        let deadline = Instant::now() + COHERENT;
        for instance in &fleet.instances {
            while instance.health().state != InstanceState::Coherent {
                assert!(Instant::now() < deadline, "{:?}", instance.health());
                sleep(Duration::from_millis(5)).await;
            }
        }
        fleet.users[0].set_role(7, "admin").await.unwrap();
        fleet
    }

    /// As [`start`](Self::start), one instance with a database that is far away.
    async fn slow() -> Self {
        let options = Options {
            query_timeout: Duration::from_secs(60),
            ..Options::default()
        };
        let fleet = Self::start(1, options).await;
        fleet.database.move_away(AWAY);
        fleet
    }

    /// A series of an instance's metrics; 0 where there is none.
    fn metric(&self, index: usize, series: &str) -> u64 {
        let text = self.instances[index].metrics_text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Misses, coalesced reads and hits of the first instance, as its metrics have them.
    fn reads(&self) -> (u64, u64, u64) {
        let misses = [
            "cold",
            "expired",
            "invalidated",
            "evicted",
            "fenced",
            "unverified",
            "negative",
        ];
        let misses = misses.map(|cause| {
            let series = format!(r#"unstale_misses_total{{cache="users",cause="{cause}"}}"#);
            self.metric(0, &series)
        });
        (
            misses.iter().sum(),
            self.metric(0, r#"unstale_coalesced_total{cache="users"}"#),
            self.metric(0, r#"unstale_hits_total{cache="users"}"#),
        )
    }
}

type Answer = Result<Option<Arc<User>>, Error>;

fn get(users: &Users, id: u32) -> JoinHandle<Answer> {
    let users = users.clone();
    tokio::spawn(async move { users.get(id).await })
}

fn role(answer: Answer) -> Option<String> {
    answer.unwrap().map(|user| user.role.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_twenty_callers_are_one_query_one_miss_and_nineteen_coalesced_reads() {
    let fleet = Fleet::slow().await;
    let callers: Vec<_> = (0..20).map(|_| get(&fleet.users[0], 7)).collect();
    for caller in callers {
        assert_eq!(role(caller.await.unwrap()).as_deref(), Some("admin"));
    }
    assert_eq!(fleet.database.queries(), 1);
    assert_eq!(fleet.reads(), (1, 19, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_the_leader_is_cancelled_and_nineteen_succeed_and_the_result_is_cached() {
    let fleet = Fleet::slow().await;
    let users = &fleet.users[0];
    let leader = get(users, 7);
    while fleet.reads().0 == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let others: Vec<_> = (0..19).map(|_| get(users, 7)).collect();
    while fleet.reads().1 < 19 {
        sleep(Duration::from_millis(1)).await;
    }
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    for caller in others {
        assert_eq!(role(caller.await.unwrap()).as_deref(), Some("admin"));
    }
    assert_eq!(role(users.get(7).await).as_deref(), Some("admin"));
    assert_eq!((fleet.database.queries(), fleet.reads()), (1, (1, 19, 1)));

    // A call that is cancelled before it began has started nothing.
    drop(users.get(8));
    tokio::select! {
        biased;
        () = std::future::ready(()) => {}
        _ = users.get(8) => unreachable!("it was cancelled before"),
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!((fleet.database.queries(), fleet.reads()), (1, (1, 19, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_the_query_has_a_deadline_that_no_callers_deadline_shortens() {
    let options = Options {
        query_timeout: Duration::from_millis(2 * AWAY),
        ..Options::default()
    };
    let fleet = Fleet::start(1, options).await;
    fleet.database.move_away(AWAY);
    let users = &fleet.users[0];
    let hasty = timeout(Duration::from_millis(50), users.get(7));
    let patient = get(users, 7);
    assert!(hasty.await.is_err());
    assert_eq!(role(patient.await.unwrap()).as_deref(), Some("admin"));
    assert_eq!(fleet.database.queries(), 1);

    // The deadline is the query's: a caller that comes late waits for what is left of it.
    fleet.database.move_away(60_000);
    users.delete(7).await.unwrap();
    let began = Instant::now();
    let first = get(users, 7);
    sleep(Duration::from_millis(AWAY)).await;
    let late = get(users, 7);
    for caller in [first, late] {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoadTimeout);
    }
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(2 * AWAY), "{elapsed:?}");
    // One query, and so one deadline, for both.
    assert_eq!(fleet.database.queries(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_deleted_while_a_query_is_under_way_the_next_get_asks_again() {
    let fleet = Fleet::slow().await;
    let users = &fleet.users[0];
    let before = get(users, 7);
    while fleet.database.queries() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // The query has read the row, and its answer is on its way.
    sleep(Duration::from_millis(AWAY / 4)).await;
    users.delete(7).await.unwrap();
    assert_eq!(role(users.get(7).await), None);
    // A caller that asked before may get what was true then, and on a slow machine does not; no other caller
    // ever does.
    let then = role(before.await.unwrap());
    assert!(then.is_none_or(|then| then == "admin"));
    assert_eq!(role(users.get(7).await), None);
    assert_eq!(fleet.database.queries(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_role_changed_on_one_of_five_is_seen_on_all_by_its_event() {
    let mut settings = Settings::default();
    by_events_alone(&mut settings);
    let fleet = Fleet::with(5, Options::default(), settings).await;
    let mut late = Vec::new();
    for round in 0..150 {
        for users in &fleet.users {
            users.get(7).await.unwrap();
        }
        let new = format!("role-{round}");
        let writer = round % fleet.users.len();
        let began = Instant::now();
        fleet.users[writer].set_role(7, &new).await.unwrap();
        for users in &fleet.users {
            while role(users.get(7).await).as_ref() != Some(&new) {
                assert!(began.elapsed() < HEARD, "it was not heard of");
                sleep(Duration::from_millis(1)).await;
            }
        }
        late.push(began.elapsed());
    }
    late.sort_unstable();
    let [half, p99] = [50, 99].map(|part| late[late.len() * part / 100]);
    eprintln!("changed on one of five, seen on all: p50 {half:?}, p99 {p99:?}");
}

#[tokio::test]
async fn scenario_the_program_user_cache_shows_it() {
    let lines = [
        "stampede:     20 callers, 1 query",
        "disconnected: the only caller hung up; 1 query",
        "              the next caller got {\"id\":7,\"role\":\"guest\"}; 0 more",
        "closed:       twice",
    ];
    shows("user_cache", &[], &[], &lines).await;
}
