//! Redis is killed.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant as Moment, sleep};

use super::third_party::Client;
use super::tokens::{Credentials, Shares, Tokens};
use super::{application, instance, metric, recorded, third_party, until};
use testkit::redis::RedisServer;

/// Shortest time between two log lines.
const QUIET: Duration = Duration::from_secs(10);

/// What the clock that lines are limited by may lag, and how late a line may be written.
const LATE: Duration = Duration::from_secs(3);

/// Each line, and when it was written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Moment, String)>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).into_owned();
        self.0.lock().unwrap().push((Moment::now(), line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const APPLICATIONS: usize = 100;

/// What the reads of an outage came to.
struct Reads {
    took: Vec<Duration>,
    /// Reads that were not answered at once.
    waited: usize,
    rejected: Vec<JoinHandle<Result<(), unstale::Error>>>,
}

/// Reads from memory, again and again; now and then what is not there, and what was rejected.
async fn read_for(
    away: Duration,
    killed: Moment,
    tokens: &Tokens,
    applications: &[Credentials],
) -> Reads {
    let (mut took, mut waited) = (Vec::new(), 0);
    let mut rejected = Vec::new();
    for turn in 0.. {
        if killed.elapsed() >= away && took.len() > 10_000 {
            break;
        }
        for credentials in &applications[..APPLICATIONS / 2] {
            let asked = Moment::now();
            let mut get = pin!(tokens.get(credentials));
            let token = match poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx))).await {
                Poll::Ready(token) => token,
                Poll::Pending => {
                    waited += 1;
                    get.await
                }
            };
            assert!(token.unwrap().is_some());
            took.push(asked.elapsed());
        }
        // Now and then one that is not in memory, and one that was rejected.
        if turn % 50 == 0 {
            let new = &applications[APPLICATIONS / 2 + (turn / 50) % (APPLICATIONS / 2)];
            assert!(tokens.get(new).await.unwrap().is_some());
            let tokens = tokens.clone();
            let one = applications[(turn / 50) % (APPLICATIONS / 2)].clone();
            rejected.push(tokio::spawn(async move { tokens.reject(&one).await }));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Reads {
        took,
        waited,
        rejected,
    }
}

/// Gets tokens for so long while Redis is dead, rejects one, asks for some that were not asked for before,
/// and counts log lines of all programs in the process, from `info` on. One instance, because a
/// process has one.
async fn without_redis(away: Duration) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("info")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (server, dir) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let third_party = third_party(dir.path()).await;
    let instance = instance(&server).await;
    let client = Arc::new(Client::new(third_party.url()).unwrap());
    let tokens = Tokens::build(&instance, client, Shares::Fleet).unwrap();
    recorded(&server).await;
    let applications: Vec<_> = (0..APPLICATIONS)
        .map(|n| application(&format!("corp-{n}"), "secret"))
        .collect();
    for credentials in &applications {
        third_party.register(credentials, "7200").unwrap();
    }
    for credentials in &applications[..APPLICATIONS / 2] {
        tokens.get(credentials).await.unwrap().unwrap();
    }

    server.kill();
    let killed = Moment::now();
    let Reads {
        mut took,
        waited,
        rejected,
    } = read_for(away, killed, &tokens, &applications).await;
    let log: Vec<_> = lines.0.lock().unwrap().clone();
    let log: Vec<_> = log.into_iter().filter(|(at, _)| *at >= killed).collect();
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    eprintln!(
        "{} gets, p50 {:?}, p99 {p99:?}, slowest {:?}; {} log lines in {away:?}",
        took.len(),
        took[took.len() / 2],
        took.last().unwrap(),
        log.len()
    );
    // From memory: but for what was rejected, no read waits.
    assert!(waited * 100 < took.len(), "{waited} of {}", took.len());
    assert!(!log.is_empty() && log[0].1.contains("WARN"), "{log:?}");
    // What fails, and that the instance is degraded for it: each has a limit of its own.
    let is_state = |line: &&(Moment, String)| line.1.contains("unstale::coherence::state");
    let (states, failures): (Vec<_>, Vec<_>) = log.iter().partition(is_state);
    for pair in failures.windows(2).chain(states.windows(2)) {
        assert!(pair[1].0 - pair[0].0 >= QUIET - LATE, "{pair:?}");
    }
    // Memory goes on, but for what was rejected.
    let failed = rejected.iter().filter(|it| it.is_finished()).count();
    assert!(failed > 0);

    server.restart();
    until("it is coherent again", async || {
        metric(&instance, "unstale_outbox_keys") == 0
            && instance.health().state == unstale::InstanceState::Coherent
    })
    .await;
    assert!(metric(&instance, "unstale_events_published_total") > 0);
}

#[tokio::test]
async fn scenario_tokens_are_served_while_redis_is_dead() {
    without_redis(Duration::from_secs(12)).await;
}

/// For `make soak`.
#[tokio::test]
#[ignore = "takes 45 s"]
async fn scenario_tokens_are_served_while_redis_is_dead_for_long() {
    without_redis(Duration::from_secs(45)).await;
}
