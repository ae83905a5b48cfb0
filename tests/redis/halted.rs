//! A process of the service that halts as a whole after a commit and before its event: the others
//! finish the write.
//!
//! What the writer sends is held back on its way. So its intent has arrived when it commits, the
//! event has not, and the test looks into the database to know the moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::sleep;

use crate::support::nodes::ms;
use testkit::fleet::Fleet;
use testkit::proxy::{Cut, Direction, Mode};
use testkit::service::{Reply, Service};

/// The defaults of the settings, which the fleet runs with.
const MAX_STALENESS: Duration = Duration::from_secs(2);
const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);

/// What one verification's round trip adds to the bound.
const ALLOWANCE: Duration = ms(250);

/// How long what the writer sends is held back, until it no longer arrives at all.
const HELD_BACK: Duration = ms(600);

/// How long anything may take that is only a matter of the machine, however slow it is.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = ms(5);

const ACCOUNT: u64 = 1;

/// The writer is the first of them.
const INSTANCES: usize = 3;

/// The version in the database, asked as no instance would.
fn committed(fleet: &Fleet) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(fleet.database(), flags).unwrap();
    let query = "SELECT version FROM accounts WHERE id = ?1";
    let version: i64 = database
        .query_row(query, [ACCOUNT], |row| row.get(0))
        .unwrap();
    version.cast_unsigned()
}

async fn read(service: &Service) -> Reply {
    let reply = service.get(ACCOUNT).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

/// A fleet of which each has version 1 in memory.
async fn warm() -> Fleet {
    let fleet = Fleet::start(INSTANCES).await;
    let made = fleet.services[0].put(ACCOUNT, "Ada", 100).await.unwrap();
    assert_eq!((made.status, made.version()), (200, Some(1)));
    for service in &fleet.services {
        let deadline = Instant::now() + PATIENCE;
        while read(service).await.cache.as_deref() != Some("hit") {
            assert!(Instant::now() < deadline, "never a hit");
        }
    }
    fleet
}

/// What becomes of a write whose process is halted.
type Write = JoinHandle<reqwest::Result<Reply>>;

/// Events of the lane that have been published.
fn published(fleet: &Fleet) -> String {
    fleet.admin(&["XLEN", "us:{default:0}j"]).text()
}

/// Halts the writer of a new fleet between its commit and its event. On a machine that was too slow
/// to do so in time, the event was published: then another fleet is halted.
async fn halted(halt: impl Fn(&Service)) -> (Fleet, Write) {
    for _ in 0..20 {
        let fleet = warm().await;
        let before = published(&fleet);
        let (writer, way) = (Arc::clone(&fleet.services[0]), &fleet.proxies[0]);
        way.set(Direction::ToServer, Mode::Delay(HELD_BACK));
        let write = tokio::spawn(async move { writer.put(ACCOUNT, "Ada", 250).await });
        let deadline = Instant::now() + PATIENCE;
        while block_in_place(|| committed(&fleet)) == 1 && !write.is_finished() {
            assert!(Instant::now() < deadline, "never committed");
            sleep(POLL).await;
        }
        block_in_place(|| halt(&fleet.services[0]));
        way.cut(Cut::Rst);
        way.set_both(Mode::Pass);
        if published(&fleet) == before && block_in_place(|| committed(&fleet)) == 2 {
            return (fleet, write);
        }
    }
    unreachable!("the event always came before the halt");
}

/// Halts a writer between its commit and its event and measures how long its peers are stale.
/// Returns what became of the request.
async fn finished_by_peers(halt: impl Fn(&Service)) -> (Fleet, Write) {
    let (fleet, write) = halted(halt).await;
    let since = Instant::now();
    let peers = &fleet.services[1..];
    let mut new = [false; INSTANCES - 1];
    while new.contains(&false) {
        for (peer, new) in peers.iter().zip(&mut new) {
            let began = since.elapsed();
            let version = read(peer).await.version();
            assert!(version == Some(2) || !*new, "back to {version:?}");
            *new = version == Some(2);
            let bound = MEMBER_TIMEOUT + MAX_STALENESS + ALLOWANCE;
            assert!(*new || began <= bound, "stale after {began:?}");
        }
        sleep(POLL).await;
    }
    let took = since.elapsed();
    let deadline = Instant::now() + PATIENCE;
    while recovered(peers).await == 0 {
        assert!(Instant::now() < deadline, "no peer recovered it");
        sleep(POLL).await;
    }
    eprintln!("finished by a peer after {took:.2?}");
    (fleet, write)
}

/// Writes that these have finished for others.
async fn recovered(services: &[Arc<Service>]) -> u64 {
    let mut sum = 0;
    for service in services {
        let text = service.metrics().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("unstale_recovered_writes_total "));
        sum += line.and_then(|value| value.parse().ok()).unwrap_or(0);
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_finish_the_write_of_a_process_that_is_stopped() {
    let (fleet, write) = finished_by_peers(Service::stop).await;
    // It goes on where it was: the client learns that its write was committed, and nothing else.
    fleet.services[0].cont();
    let reply = write.await.unwrap().unwrap();
    assert!([200, 202].contains(&reply.status), "{reply:?}");
    assert_eq!(reply.version(), Some(2));
    fleet.services[0].until_healthy(PATIENCE).await;
    for service in &fleet.services {
        assert_eq!(read(service).await.version(), Some(2));
    }
    assert_eq!(committed(&fleet), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_finish_the_write_of_a_process_that_is_killed() {
    let (fleet, write) = finished_by_peers(Service::kill).await;
    assert!(write.await.unwrap().is_err(), "no process could answer");
    assert_eq!(committed(&fleet), 2);
}
