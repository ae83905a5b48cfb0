//! Which places of the log the stream passes, and what makes it pass.

use tokio::time::{sleep, timeout};

use super::*;

#[tokio::test]
async fn a_round_ends_by_itself_where_transactions_end() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
        .await;
    let mut stream = db.stream().await;
    let mut other = db.other().await;
    let update = "UPDATE t SET n = n + 1";
    let lazy = format!("SET synchronous_commit = off; {update}");
    for written in ["", update, &*lazy] {
        for _ in 0..5 {
            other.query(written).await.unwrap();
            let end = end_of_log(&mut db.sql).await.unwrap();
            until(&mut stream, end).await;
        }
    }
    stream.end(LONG).await;
}

/// What is written last ends with its page, which is where the next record cannot begin.
async fn fill_page(db: &mut Db) {
    for _ in 0..20 {
        let before = db.insert_lsn().await;
        let emit = "SELECT pg_logical_emit_message(true, 'a', repeat('x', 800))";
        db.run(emit).await;
        let at = db.insert_lsn().await;
        let (around, left) = (at - before - 800, 8192 - at % 8192);
        if left > around {
            db.run(&emit.replace("800", &(left - around).to_string()))
                .await;
            if db.insert_lsn().await % 8192 == 24 {
                return;
            }
        }
    }
    unreachable!("no record ends with its page");
}

#[tokio::test]
async fn a_full_page_is_passed_although_nothing_follows() {
    let mut db = Db::new().await;
    let mut stream = db.stream().await;
    // The server itself may write in between.
    for _ in 0..20 {
        fill_page(&mut db).await;
        let insert = db.insert_lsn().await;
        let end = end_of_log(&mut db.sql).await.unwrap();
        if insert % 8192 == 24 && end == insert - 24 {
            until(&mut stream, end).await;
            stream.end(LONG).await;
            return;
        }
    }
    unreachable!("the log does not rest");
}

#[tokio::test]
async fn a_stream_with_nothing_confirmed_is_quiet() {
    let mut db = Db::new().await;
    let mut stream = db.stream().await;
    let mut events = 0;
    let writing = async {
        for _ in 0..10 {
            db.run("SELECT pg_logical_emit_message(true, 'a', 'b')")
                .await;
            sleep(Duration::from_millis(50)).await;
        }
        sleep(Duration::from_secs(1)).await;
        end_of_log(&mut db.sql).await.unwrap()
    };
    tokio::pin!(writing);
    let (mut passed, mut end) = (0, u64::MAX);
    // The server says without a question how far it is.
    let listening = async {
        while passed < end {
            tokio::select! {
                event = stream.next() => {
                    events += 1;
                    if let Event::Passed { lsn } = event.unwrap() {
                        passed = lsn;
                    }
                }
                lsn = &mut writing, if end == u64::MAX => end = lsn,
            }
        }
    };
    timeout(LONG, listening).await.expect("it is never named");
    // A few for each transaction: a server that believes us to be behind would ask without a pause.
    assert!(events < 300, "{events} events");
    stream.end(LONG).await;
}

#[tokio::test]
async fn the_log_of_an_open_transaction_is_passed_after_a_flush() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut stream = db.stream().await;
    let mut other = db.other().await;
    let open = "BEGIN; INSERT INTO t VALUES (1)";
    other.query(open).await.unwrap();
    let end = end_of_log(&mut db.sql).await.unwrap();
    flush_log(&mut db.sql).await.unwrap();
    let flushed = db.one("SELECT pg_current_wal_flush_lsn()").await;
    assert!(parse_lsn(&flushed).unwrap() >= end);
    until(&mut stream, end).await;
    let left = db.one("SHOW synchronous_commit").await;
    assert_eq!(left, "on");
    stream.end(LONG).await;
}

#[tokio::test]
async fn a_slot_waits_for_transactions_that_write_but_not_forever() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut connection = Connection::connect(&db.config, true).await.unwrap();
    db.run("BEGIN; INSERT INTO t VALUES (1)").await;
    let second = Duration::from_secs(1);
    let late = connection
        .create_slot("waiting", true, second)
        .await
        .unwrap_err();
    assert_eq!(late.code(), Some("55P03"), "{late}");
    db.run("COMMIT").await;
    connection.create_slot("waiting", true, LONG).await.unwrap();
}
