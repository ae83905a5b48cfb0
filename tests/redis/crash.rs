//! A writer that is killed on its way from the intent to the event: a peer finishes for it.
//!
//! The writer is this test binary once more, as a process of its own. It writes one row, waits for a
//! word at every step, and is killed with SIGKILL at the one that a test is about. The rows are the
//! test's, so the test decides when a commit takes effect.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::block_in_place;
use tokio::time::Instant;
use unstale::{Instance, Outcome};

use super::{
    INTENTS, MAX_STALENESS, MEMBER_TIMEOUT, MEMBERS, OPEN, WRITE_TIMEOUT, misses, node, settings,
    stale_for, until,
};
use crate::support::nodes::{Node, Source, ms};
use testkit::redis::{RedisServer, end, freeze, signal};
use testkit::resp::Client;

const ROW: u64 = 1;

/// Names the Redis to write through; set in a writer's process only.
const WRITER: &str = "TEST_WRITER_REDIS";

/// Its `write_timeout`, in milliseconds.
const TIMEOUT: &str = "TEST_WRITER_TIMEOUT";

/// What one verification's round trip adds to a bound.
const ALLOWANCE: Duration = ms(250);

/// Says where it is, and waits for a word of the test.
fn step(name: &str) {
    let mut out = io::stdout();
    writeln!(out, "\nstep {name}").unwrap();
    out.flush().unwrap();
    let mut word = String::new();
    if io::stdin().read_line(&mut word).unwrap() == 0 {
        // The test is gone.
        std::process::abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the other tests of this module kill"]
async fn writer() {
    let Ok(url) = std::env::var(WRITER) else {
        return;
    };
    let mut settings = settings(&url);
    let timeout = std::env::var(TIMEOUT).unwrap().parse().unwrap();
    settings.write_timeout = Duration::from_millis(timeout);
    let node = Node::of(Instance::start(settings).await.unwrap(), &Source::default());
    block_in_place(|| step("joined"));
    let commit = async {
        block_in_place(|| step("committing"));
        Ok::<_, io::Error>(())
    };
    node.cache.write(&ROW, commit).await.unwrap();
    step("published");
}

struct Writer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn start(url: &str, write_timeout: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::writer", "--exact", "--ignored", "--nocapture"])
            .env(WRITER, url)
            .env(TIMEOUT, write_timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    /// Waits until the writer has come to this step, which it does not leave.
    fn at(&mut self, step: &str) {
        block_in_place(|| {
            let mut line = String::new();
            while line.trim() != format!("step {step}") {
                line.clear();
                let read = self.output.read_line(&mut line).unwrap();
                assert!(read > 0, "the writer ended before {step}");
            }
        });
    }

    fn go_on(&mut self) {
        self.input.write_all(b"go on\n").unwrap();
    }

    fn kill(&mut self) {
        end(&mut self.child);
    }

    /// The whole process, until [`wake`](Self::wake).
    fn freeze(&mut self) {
        block_in_place(|| freeze(&mut self.child));
    }

    fn wake(&mut self) {
        signal(&mut self.child, Signal::CONT);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A peer that has the old value in memory, and a writer that has joined.
struct Scene {
    server: RedisServer,
    source: Source,
    peer: Node,
    writer: Writer,
}

impl Scene {
    async fn start() -> Self {
        Self::with(WRITE_TIMEOUT).await
    }

    async fn with(write_timeout: Duration) -> Self {
        let server = RedisServer::start();
        let source = Source::default();
        let peer = node(settings(&server.url()), &source).await;
        let mut writer = Writer::start(&server.url(), write_timeout);
        writer.at("joined");
        source.set(ROW, 1);
        until("the peer hits", async || {
            peer.get(ROW).await == Some(1) && peer.outcome(ROW).await == Outcome::Hit
        })
        .await;
        Self {
            server,
            source,
            peer,
            writer,
        }
    }

    /// Lets the writer record its intent and begin its commit.
    fn commit(&mut self) {
        self.writer.go_on();
        self.writer.at("committing");
    }

    /// The peer reads without a pause until it has the new value. A read that began after the bound
    /// and was answered with the old value fails.
    async fn follows(&self, since: Instant, bound: Duration) {
        let stale = stale_for(since, async || self.peer.get(ROW).await == Some(2)).await;
        assert!(stale <= bound + ALLOWANCE, "stale after {stale:?}");
    }

    fn recovered(&self) -> u64 {
        self.peer.metric("unstale_recovered_writes_total")
    }

    /// Open intents, and members, beside the placeholders.
    fn left(&self) -> [i64; 2] {
        block_in_place(|| {
            let mut admin = Client::connect(self.server.port());
            let open = admin.cmd(&["EVAL", OPEN, "1", INTENTS]);
            let members = admin.cmd(&["ZCARD", MEMBERS]).int().unwrap() - 1;
            [open.int().unwrap(), members]
        })
    }

    /// Waits until nothing of the dead writer is left.
    async fn buried(&self) {
        until("the writer is forgotten", async || {
            self.peer.get(ROW).await;
            self.left() == [0, 1]
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_killed_before_its_intent_leaves_nothing() {
    let mut scene = Scene::start().await;
    scene.writer.kill();
    scene.buried().await;
    assert_eq!(scene.recovered(), 0);
    assert_eq!(misses(&scene.peer, "invalidated"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_killed_before_its_commit_takes_effect_costs_a_load_or_two() {
    let mut scene = Scene::start().await;
    scene.commit();
    scene.writer.kill();
    scene.buried().await;
    // Once when it was found dead and once at the deadline, when the commit must have ended.
    until("two recoveries", async || {
        scene.peer.get(ROW).await == Some(1) && scene.recovered() == 2
    })
    .await;
    let loads = misses(&scene.peer, "invalidated");
    assert!((1..=2).contains(&loads), "{loads} loads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_killed_between_commit_and_event_is_finished_by_its_peers() {
    let mut scene = Scene::start().await;
    scene.commit();
    assert_eq!(scene.left()[0], 1);
    scene.source.set(ROW, 2);
    scene.writer.kill();
    scene
        .follows(Instant::now(), MEMBER_TIMEOUT + MAX_STALENESS)
        .await;
    // The event may overtake the reply that counts it.
    assert!(scene.recovered() <= 1);
    scene.buried().await;
    until("two recoveries", async || scene.recovered() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_stopped_between_commit_and_event_is_finished_by_its_peers() {
    let mut scene = Scene::start().await;
    scene.commit();
    scene.source.set(ROW, 2);
    scene.writer.freeze();
    scene
        .follows(Instant::now(), MEMBER_TIMEOUT + MAX_STALENESS)
        .await;
    until("it is counted", async || scene.recovered() >= 1).await;
    // The writer finds itself removed, and finishes once more.
    scene.writer.wake();
    scene.writer.go_on();
    scene.writer.at("published");
    scene.writer.kill();
    assert_eq!(scene.peer.get(ROW).await, Some(2));
    scene.buried().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_takes_effect_after_its_writer_was_found_dead_is_seen_at_the_deadline() {
    let mut write_timeout = WRITE_TIMEOUT;
    loop {
        let mut scene = Scene::with(write_timeout).await;
        scene.commit();
        let announced = Instant::now();
        scene.writer.kill();
        until("the first recovery", async || {
            scene.peer.get(ROW).await;
            scene.recovered() == 1
        })
        .await;
        until("the old value is back", async || {
            scene.peer.outcome(ROW).await == Outcome::Hit
        })
        .await;
        scene.source.set(ROW, 2);
        let in_time = announced.elapsed() < write_timeout;
        scene
            .follows(announced, write_timeout + MAX_STALENESS)
            .await;
        scene.buried().await;
        if in_time {
            break;
        }
        // The deadline had passed before the commit took effect, which shows nothing.
        write_timeout *= 2;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_killed_after_its_event_leaves_nothing_to_do() {
    let mut scene = Scene::start().await;
    scene.commit();
    scene.source.set(ROW, 2);
    scene.writer.go_on();
    scene.writer.at("published");
    let published = Instant::now();
    scene.writer.kill();
    scene.follows(published, MAX_STALENESS).await;
    scene.buried().await;
    assert_eq!(scene.recovered(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_announces_its_open_write_again_after_redis_forgot_it() {
    for lost in [&["DEL", MEMBERS][..], &["DEL", INTENTS], &["FLUSHALL"]] {
        let mut scene = Scene::start().await;
        scene.commit();
        let mut admin = Client::connect(scene.server.port());
        block_in_place(|| admin.cmd(lost));
        until("the intent is back", async || {
            scene.peer.get(ROW).await;
            // Both are members, and no peer waits for the deadline any longer.
            let members = block_in_place(|| admin.cmd(&["EVAL", ONLY_MEMBERS, "1", MEMBERS]));
            members.int() == Some(2) && scene.left() == [1, 2]
        })
        .await;
        scene.source.set(ROW, 2);
        scene.writer.kill();
        scene
            .follows(Instant::now(), MEMBER_TIMEOUT + MAX_STALENESS)
            .await;
    }
}

/// How many instances are members; an instance's id has 8 bytes, an intent's 16.
const ONLY_MEMBERS: &str = "local n = 0; for _, member in \
    ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do if #member == 8 then n = n + 1 end end return n";
