//! What statements are in the log.

use super::*;
use crate::relay::change::{Cell, Change, Old, Row};
use crate::relay::pgoutput::decode;

fn row(cells: &Row<'_>) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| match cell {
            Cell::Null => "-".to_owned(),
            Cell::Unchanged => "unchanged".to_owned(),
            Cell::Text(text) if text.len() > 30 => format!("{} bytes", text.len()),
            Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
        })
        .collect();
    cells.join(",")
}

fn old(old: &Old<'_>) -> String {
    match old {
        Old::Key(cells) => format!("key {}", row(cells)),
        Old::Full(cells) => format!("full {}", row(cells)),
    }
}

fn shown(change: &Change<'_>) -> Option<String> {
    Some(match change {
        Change::Begin { .. } | Change::Commit { .. } | Change::Other => return None,
        Change::Relation(relation) => {
            let columns: Vec<String> = relation
                .columns
                .iter()
                .map(|column| {
                    format!(
                        "{}{}:{}",
                        if column.identity { "*" } else { "" },
                        column.name,
                        column.type_id
                    )
                })
                .collect();
            format!(
                "{}.{} {:?} {}",
                relation.schema,
                relation.table,
                relation.identity,
                columns.join(",")
            )
        }
        Change::Insert { new, .. } => format!("insert {}", row(new)),
        Change::Update { old: None, new, .. } => format!("update {}", row(new)),
        Change::Update {
            old: Some(before),
            new,
            ..
        } => {
            format!("update {} to {}", old(before), row(new))
        }
        Change::Delete { old: before, .. } => format!("delete {}", old(before)),
        Change::Truncate { relations } => format!("truncate {}", relations.len()),
        Change::Message {
            transactional,
            prefix,
            content,
        } => {
            format!(
                "message {transactional} {prefix} {}",
                String::from_utf8_lossy(content)
            )
        }
        Change::TooLarge { .. } => "too large".to_owned(),
    })
}

/// Runs a statement, and returns what the log says of it.
async fn said(db: &mut Db, stream: &mut Stream, sql: &str) -> Vec<String> {
    db.run(sql).await;
    let lsn = db.insert_lsn().await;
    let events = until(stream, lsn).await;
    let messages = events.iter().filter_map(|event| match event {
        Event::Message { bytes, .. } => Some(decode(bytes).unwrap()),
        _ => None,
    });
    messages.filter_map(|change| shown(&change)).collect()
}

#[tokio::test]
async fn rows_are_read_with_their_keys() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, name text, at timestamptz, b bytea, f float8)")
        .await;
    let mut stream = db.stream().await;
    let insert = "INSERT INTO t VALUES (1, 'é', '2024-05-06 07:08:09+02', '\\xff', 0.1), (2, NULL, NULL, NULL, NULL)";
    assert_eq!(
        said(&mut db, &mut stream, insert).await,
        [
            "public.t Default *id:23,name:25,at:1184,b:17,f:701",
            "insert 1,é,2024-05-06 05:08:09+00,\\xff,0.1",
            "insert 2,-,-,-,-",
        ]
    );
    let update = "UPDATE t SET name = 'x' WHERE id = 2";
    assert_eq!(
        said(&mut db, &mut stream, update).await,
        ["update 2,x,-,-,-"]
    );
    let moved = "UPDATE t SET id = 3 WHERE id = 2";
    assert_eq!(
        said(&mut db, &mut stream, moved).await,
        ["update key 2,-,-,-,- to 3,x,-,-,-"]
    );
    let delete = "DELETE FROM t WHERE id = 3";
    assert_eq!(
        said(&mut db, &mut stream, delete).await,
        ["delete key 3,-,-,-,-"]
    );
    let rolled_back = "BEGIN; DELETE FROM t; ROLLBACK";
    assert_eq!(said(&mut db, &mut stream, rolled_back).await, [""; 0]);
    let truncate = "CREATE TABLE u (id int PRIMARY KEY REFERENCES t); TRUNCATE t CASCADE";
    let said_last = said(&mut db, &mut stream, truncate).await;
    assert_eq!(said_last.last().unwrap(), "truncate 2");
    stream.end(LONG).await;
}

#[tokio::test]
async fn rows_of_other_identities_and_altered_tables_are_read() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int, name text); ALTER TABLE t REPLICA IDENTITY FULL")
        .await;
    let mut stream = db.stream().await;
    let first = said(&mut db, &mut stream, "INSERT INTO t VALUES (1, 'a')").await;
    assert_eq!(first, ["public.t Full *id:23,*name:25", "insert 1,a"]);
    let update = said(&mut db, &mut stream, "UPDATE t SET name = 'b'").await;
    assert_eq!(update, ["update full 1,a to 1,b"]);
    let delete = said(&mut db, &mut stream, "DELETE FROM t").await;
    assert_eq!(delete, ["delete full 1,b"]);
    let altered = "ALTER TABLE t ADD COLUMN more int DEFAULT 7, REPLICA IDENTITY NOTHING; \
                   INSERT INTO t VALUES (2)";
    assert_eq!(
        said(&mut db, &mut stream, altered).await,
        ["public.t Nothing id:23,name:25,more:23", "insert 2,-,7"]
    );
    let indexed = "ALTER TABLE t ALTER id SET NOT NULL; CREATE UNIQUE INDEX i ON t (id); \
                   ALTER TABLE t REPLICA IDENTITY USING INDEX i; UPDATE t SET id = 3";
    assert_eq!(
        said(&mut db, &mut stream, indexed).await,
        [
            "public.t Index *id:23,name:25,more:23",
            "update key 2,-,- to 3,-,7"
        ]
    );
    stream.end(LONG).await;
}

#[tokio::test]
async fn large_values_that_did_not_change_are_not_there() {
    let mut db = Db::new().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, large text); \
         ALTER TABLE t ALTER large SET STORAGE EXTERNAL; \
         INSERT INTO t VALUES (1, 1, repeat('x', 10000))",
    )
    .await;
    let mut stream = db.stream().await;
    let update = said(&mut db, &mut stream, "UPDATE t SET n = 2").await;
    assert_eq!(update[1..], ["update 1,2,unchanged"]);
    let update = said(
        &mut db,
        &mut stream,
        "UPDATE t SET large = repeat('y', 9000)",
    )
    .await;
    assert_eq!(update, ["update 1,2,9000 bytes"]);
    db.run("ALTER TABLE t REPLICA IDENTITY FULL").await;
    let update = said(&mut db, &mut stream, "UPDATE t SET n = 3").await;
    assert_eq!(update[1..], ["update full 1,2,9000 bytes to 1,3,unchanged"]);
    stream.end(LONG).await;
}

#[tokio::test]
async fn messages_of_applications_are_read() {
    let mut db = Db::new().await;
    let mut stream = db.stream().await;
    let emit = "SELECT pg_logical_emit_message(false, 'a', 'now'); \
                SELECT pg_logical_emit_message(true, 'a', 'with the commit')";
    assert_eq!(
        said(&mut db, &mut stream, emit).await,
        ["message false a now", "message true a with the commit"]
    );
    let rolled_back = "BEGIN; SELECT pg_logical_emit_message(true, 'a', ''); ROLLBACK";
    assert_eq!(said(&mut db, &mut stream, rolled_back).await, [""; 0]);
    stream.end(LONG).await;
}

#[tokio::test]
async fn a_row_that_is_too_large_is_named_and_what_follows_is_read() {
    let mut db = Db::new().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, large text)")
        .await;
    let mut stream = db.stream().await;
    let id = db.one("SELECT 't'::regclass::oid").await.parse().unwrap();
    db.run("INSERT INTO t VALUES (1, repeat('x', 17000000)); INSERT INTO t VALUES (2, 'y')")
        .await;
    let lsn = db.insert_lsn().await;
    let events = until(&mut stream, lsn).await;
    let too_large = Event::TooLarge { relation: Some(id) };
    let at = events.iter().position(|event| *event == too_large).unwrap();
    let after = events[at..].iter().filter_map(|event| match event {
        Event::Message { bytes, .. } => shown(&decode(bytes).unwrap()),
        _ => None,
    });
    assert_eq!(after.collect::<Vec<_>>(), ["insert 2,y"]);
    stream.end(LONG).await;
}
