//! The stream: places that are confirmed, its beginning, and futures that are dropped.

use tokio::time::{sleep, timeout};

use super::*;
use crate::relay::change::{Cell, Change};
use crate::relay::pgoutput::decode;

#[tokio::test]
async fn a_confirmation_moves_the_slot() {
    let mut db = Db::new().await;
    let mut stream = db.stream().await;
    let before = db.confirmed().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await;
    let lsn = db.insert_lsn().await;
    until(&mut stream, lsn).await;
    assert_eq!(
        db.confirmed().await,
        before,
        "reading alone confirms nothing"
    );
    stream.confirm(lsn, false).await.unwrap();
    let moving = async {
        while db.confirmed().await != lsn {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, moving).await.expect("the slot does not move");
    stream.end(LONG).await;
}

#[tokio::test]
async fn a_durable_slot_is_read_again_from_what_was_confirmed() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t")
        .await;
    let config = db.config.clone();
    let mut first = Connection::connect(&config, true).await.unwrap();
    first.create_slot("durable", false, LONG).await.unwrap();
    let again = first.create_slot("durable", false, LONG).await.unwrap_err();
    assert_eq!(again.code(), Some("42710"));
    let mut stream = first
        .start_replication("durable", 0, &["p"], true)
        .await
        .unwrap();
    let inserts = |events: &[Event]| {
        let insert = |event: &&Event| {
            matches!(event, Event::Message { bytes, .. }
                if matches!(decode(bytes), Ok(Change::Insert { .. })))
        };
        events.iter().filter(insert).count()
    };
    db.run("INSERT INTO t VALUES (1)").await;
    let read = db.insert_lsn().await;
    assert_eq!(inserts(&until(&mut stream, read).await), 1);
    stream.confirm(read, false).await.unwrap();
    db.run("INSERT INTO t VALUES (2)").await;
    let lsn = db.insert_lsn().await;
    assert_eq!(inserts(&until(&mut stream, lsn).await), 1);
    stream.end(LONG).await;
    let second = Connection::connect(&config, true).await.unwrap();
    let mut stream = second
        .start_replication("durable", 0, &["p"], true)
        .await
        .unwrap();
    assert_eq!(
        inserts(&until(&mut stream, lsn).await),
        1,
        "the second row alone"
    );
    stream.confirm(lsn, false).await.unwrap();
    stream.end(LONG).await;
    assert_eq!(db.confirmed().await, lsn);
    db.run("SELECT pg_drop_replication_slot('durable')").await;
}

#[tokio::test]
async fn a_start_names_what_is_missing() {
    let db = Db::new().await;
    let config = db.config.clone();
    let start = async |slot: &str, publication: &str| {
        let mut connection = Connection::connect(&config, true).await.unwrap();
        connection.create_slot("there", true, LONG).await.unwrap();
        connection
            .start_replication(slot, 0, &[publication], true)
            .await
    };
    let error = start("nowhere", "p").await.unwrap_err();
    assert_eq!(error.code(), Some("42704"), "{error}");
    // The publication is looked for when the first change is decoded.
    let mut sql = db.sql;
    let mut stream = start("there", "no's").await.unwrap();
    sql.query("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let error = loop {
        match timeout(LONG, stream.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    let missing = "publication \"no's\" does not exist";
    assert!(error.contains(missing), "{error}");
}

#[tokio::test]
async fn a_future_that_is_dropped_loses_nothing() {
    let certificates = Certificates::make("DNS:localhost");
    let mut db = Db::over(Some(&certificates)).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, text text)")
        .await;
    let mut stream = db.stream().await;
    let writing = async {
        for _ in 0..20 {
            db.run(
                "INSERT INTO t SELECT (SELECT count(*) FROM t) + i, repeat('x', i * 7 % 9000) \
                    FROM generate_series(1, 500) i",
            )
            .await;
            sleep(Duration::from_millis(20)).await;
        }
        db.insert_lsn().await
    };
    let (mut next, mut dropped) = (1_u64, 0);
    let mut end = None;
    let mut passed = 0;
    tokio::pin!(writing);
    while end.is_none_or(|end| passed < end) {
        tokio::select! {
            biased;
            event = stream.next() => match event.unwrap() {
                Event::Passed { lsn } => passed = lsn,
                Event::Message { bytes, .. } => {
                    if let Change::Insert { new, .. } = decode(&bytes).unwrap() {
                        let Cell::Text(id) = new[0] else { unreachable!() };
                        assert_eq!(id, next.to_string().as_bytes());
                        next += 1;
                    }
                }
                Event::TooLarge { .. } => unreachable!(),
            },
            lsn = &mut writing, if end.is_none() => {
                end = Some(lsn);
                stream.confirm(0, true).await.unwrap();
            }
            () = sleep(Duration::from_micros(50)) => {
                dropped += 1;
                stream.confirm(0, dropped % 7 == 0).await.unwrap();
            }
        }
    }
    assert_eq!(next, 10_001);
    assert!(dropped > 0);
    stream.end(LONG).await;
}
