//! How a stream ends: politely, by silence, by the server, or because it is not read.

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use super::*;

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";
const WALSENDER: &str = "SELECT active_pid FROM pg_replication_slots";

/// Half of it is what an answer may take.
const SILENCE: Duration = Duration::from_secs(6);

/// Reads until there is no more.
async fn end_of(stream: &mut Stream) -> PgError {
    let reading = async {
        loop {
            if let Err(error) = stream.next().await {
                return error;
            }
        }
    };
    timeout(LONG, reading).await.expect("the stream goes on")
}

#[tokio::test]
async fn a_server_that_falls_silent_is_an_error() {
    let mut db = Db::new().await;
    let mut config = db.config.clone();
    config.silence = SILENCE;
    let mut connection = Connection::connect(&config, true).await.unwrap();
    // It says nothing by itself, and never gives us up.
    connection
        .query("SET wal_sender_timeout = 0")
        .await
        .unwrap();
    let mut stream = stream(connection).await;
    // Longer than it may be silent: it answers when it is asked.
    let began = Instant::now();
    while began.elapsed() <= SILENCE {
        let event = timeout(LONG, stream.next()).await.unwrap();
        assert!(matches!(event, Ok(Event::Passed { .. })), "{event:?}");
    }
    // A caller that was away for a while finds the stream as it was.
    sleep(SILENCE).await;
    timeout(LONG, stream.next()).await.unwrap().unwrap();
    let walsender = db.one(WALSENDER).await.parse().unwrap();
    let walsender = Pid::from_raw(walsender).unwrap();
    kill_process(walsender, Signal::STOP).unwrap();
    let error = end_of(&mut stream).await;
    kill_process(walsender, Signal::CONT).unwrap();
    assert_eq!(error.kind(), PgErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_stream_that_is_held_lives_on_while_it_is_not_read() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, text text)")
        .await;
    // The server gives up a client that is silent for as long.
    let mut config = db.config.clone();
    config.silence = SILENCE;
    let connection = Connection::connect(&config, true).await.unwrap();
    let mut stream = stream(connection).await;
    // More than the buffers of sockets hold: the server waits for us.
    db.run("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
        .await;
    let lsn = db.insert_lsn().await;
    let held = timeout(SILENCE + Duration::from_secs(2), stream.hold()).await;
    assert!(held.is_err(), "{held:?}");
    assert!(until(&mut stream, lsn).await.len() > 20_000);
    // Slow reading is enough, although the server's question is behind what is not read yet.
    let more = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(20001, 40000) i";
    db.run(more).await;
    let slow = async {
        loop {
            stream.next().await.unwrap();
            sleep(Duration::from_millis(300)).await;
        }
    };
    let read = timeout(SILENCE + Duration::from_secs(2), slow).await;
    assert!(read.is_err());
    assert_eq!(db.one(SLOTS).await, "1");
    // Without either the server gives us up.
    db.until(SLOTS, "0").await;
}

#[tokio::test]
async fn an_end_and_a_drop_free_the_slot() {
    const LOST: &str = "unexpected EOF on standby connection";
    let mut db = Db::new().await;
    let stream = db.stream().await;
    assert_eq!(db.one(SLOTS).await, "1");
    stream.end(LONG).await;
    db.until(SLOTS, "0").await;
    let log = db.server.log();
    assert!(!log.contains(LOST), "the end was polite:\n{log}");
    db.run("DROP PUBLICATION \"every, one's\"").await;
    drop(db.stream().await);
    db.until(SLOTS, "0").await;
}

#[tokio::test]
async fn a_walsender_that_is_terminated_ends_the_stream_with_its_code() {
    let mut db = Db::new().await;
    let mut stream = db.stream().await;
    db.run(&format!("SELECT pg_terminate_backend(({WALSENDER}))"))
        .await;
    let error = end_of(&mut stream).await;
    assert_eq!(error.code(), Some("57P01"), "{error}");
}
