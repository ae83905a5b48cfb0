//! The server keeps its own promises.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::task::{JoinHandle, spawn};
use tokio::time::sleep;

use super::{PostgresServer, processes, query};
use crate::tls::Certificates;

/// Longer than any answer takes, shorter than a test is patient.
const QUIET: Duration = Duration::from_millis(150);

/// A role with a password that a URL has to encode, and a database of its own.
async fn with_role(server: &PostgresServer) -> String {
    let made = "CREATE ROLE app LOGIN PASSWORD 'p@ss/w:rd'; CREATE DATABASE shop OWNER app";
    server.sql(made).await;
    server.url("app", "p@ss/w:rd", "shop")
}

/// The postmaster and its children.
fn processes_of(server: &PostgresServer) -> Vec<Pid> {
    let postmaster = Pid::from_raw(server.pid().cast_signed()).unwrap();
    let mut all = processes::children(postmaster);
    assert!(!all.is_empty(), "a postmaster has children");
    all.push(postmaster);
    all
}

/// Returns whether this process is there and has not ended.
fn runs(pid: Pid) -> bool {
    processes::status(pid).is_some_and(|(state, _)| state != 'Z')
}

#[tokio::test]
async fn a_role_needs_its_password_and_an_error_says_what_is_wrong() {
    let server = PostgresServer::start().await;
    let url = with_role(&server).await;
    let rows = "CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'a'), (2, NULL);
                SELECT * FROM t ORDER BY id";
    assert_eq!(query(&url, rows).await.unwrap(), "1|a\n2|");
    assert_eq!(server.sql_in("shop", "SELECT count(*) FROM t").await, "2");
    let wrong = server.url("app", "secret", "shop");
    let refused = query(&wrong, "SELECT 1").await.unwrap_err();
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );
    let error = server.try_sql("SELECT 1; SELECT none").await.unwrap_err();
    assert!(error.contains("column \"none\" does not exist"), "{error}");
}

#[tokio::test]
async fn rows_that_are_written_can_be_decoded_from_the_log() {
    let server = PostgresServer::start_with(&[("wal_sender_timeout", "1s")]).await;
    assert_eq!(server.sql("SHOW wal_sender_timeout").await, "1s");
    server
        .sql("CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t")
        .await;
    let slot = "SELECT slot_name FROM pg_create_logical_replication_slot('s', 'pgoutput')";
    assert_eq!(server.sql(slot).await, "s");
    server.sql("INSERT INTO t VALUES (1)").await;
    let changes = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,
                   'proto_version', '1', 'publication_names', 'p')";
    // Begin, the relation, the row, commit.
    assert_eq!(server.sql(changes).await, "4");
}

#[tokio::test]
async fn a_crashed_server_comes_back_on_its_port_with_what_was_committed() {
    let server = PostgresServer::start().await;
    let url = with_role(&server).await;
    server.sql("CREATE TABLE t (id int)").await;
    server.sql("INSERT INTO t VALUES (1)").await;
    let before = processes_of(&server);

    server.kill();
    assert!(!before.iter().any(|&pid| runs(pid)));
    assert!(query(&url, "SELECT 1").await.is_err());
    server.kill();
    server.restart().await;

    assert!(server.log().contains("was not properly shut down"));
    assert_eq!(query(&url, "SELECT 1").await.unwrap(), "1");
    assert_eq!(server.sql("SELECT * FROM t").await, "1");
    server.restart().await;
    assert!(!server.log().contains("was not properly shut down"));
    assert_eq!(server.sql("SELECT * FROM t").await, "1");
}

#[tokio::test]
async fn a_stopped_server_has_ended_its_clients() {
    let server = PostgresServer::start().await;
    let url = with_role(&server).await;
    let client = sleeper(&server, &url).await;
    let before = processes_of(&server);
    server.stop().await;
    assert!(!before.iter().any(|&pid| runs(pid)));
    assert!(client.await.unwrap().is_err());
}

#[tokio::test]
async fn a_paused_server_answers_only_when_resumed() {
    let server = PostgresServer::start().await;
    let url = with_role(&server).await;
    let sleeper = sleeper(&server, &url).await;
    server.pause();
    // A second time changes nothing.
    server.pause();
    for pid in processes_of(&server) {
        let (state, _) = processes::status(pid).unwrap();
        // One that had just ended is buried later.
        assert!(matches!(state, 'T' | 'Z'), "{state}");
    }
    // The kernel accepts.
    let client = spawn(async move { query(&url, "SELECT 2").await });
    sleep(QUIET).await;
    assert!(!client.is_finished());
    server.resume();
    assert_eq!(client.await.unwrap().unwrap(), "2");
    assert!(!sleeper.is_finished());
}

#[tokio::test]
async fn a_server_whose_port_is_taken_for_a_moment_comes_back_on_it() {
    let server = PostgresServer::start().await;
    server.stop().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    let refused = async {
        while !server.log().contains("Address already in use") {
            sleep(Duration::from_millis(1)).await;
        }
        drop(listener);
    };
    tokio::join!(server.restart(), refused);
    let url = with_role(&server).await;
    assert_eq!(query(&url, "SELECT 1").await.unwrap(), "1");
}

#[tokio::test]
async fn two_servers_at_once_are_two_systems() {
    let (one, other) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    assert_ne!(one.port(), other.port());
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    assert_ne!(one.sql(identifier).await, other.sql(identifier).await);
    one.sql("CREATE TABLE t ()").await;
    assert!(other.try_sql("SELECT FROM t").await.is_err());
}

#[tokio::test]
async fn a_panic_leaves_no_process_and_no_folder() {
    for state in ["running", "paused", "killed"] {
        let (started, server) = tokio::sync::oneshot::channel();
        let test = spawn(async move {
            let server = PostgresServer::start().await;
            let seen = (processes_of(&server), server.folder().to_owned());
            match state {
                "paused" => server.pause(),
                "killed" => server.kill(),
                _ => {}
            }
            started.send(seen).unwrap();
            unreachable!("the test fails here, as it should");
        });
        let (processes, folder) = server.await.unwrap();
        assert!(test.await.unwrap_err().is_panic());
        assert!(!processes.iter().any(|&pid| runs(pid)), "{state}");
        assert!(!folder.exists(), "{state}");
    }
}

#[tokio::test]
async fn a_server_with_certificates_refuses_clients_without_tls() {
    let certificates = Certificates::make("IP:127.0.0.1,DNS:localhost");
    let server = PostgresServer::start_over(Some(&certificates), &[]).await;
    let url = with_role(&server).await;
    let plain = query(&format!("{url}?sslmode=disable"), "SELECT 1").await;
    let plain = plain.unwrap_err();
    assert!(plain.contains("no encryption"), "{plain}");
    for (ca, accepted) in [("ca.crt", true), ("other.crt", false)] {
        let ca = certificates.file(ca);
        let verified = format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display());
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let answer = query(&verified, ssl).await;
        assert_eq!(
            answer.as_deref().ok(),
            accepted.then_some("t"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_replica_follows_and_can_be_promoted() {
    let server = PostgresServer::start().await;
    server.sql("CREATE TABLE t (id int)").await;
    let replica = server.replica().await;
    server.sql("INSERT INTO t VALUES (1)").await;
    until(&replica, "SELECT count(*) FROM t", "1").await;
    server.restart().await;
    server.sql("INSERT INTO t VALUES (2)").await;
    until(&replica, "SELECT count(*) FROM t", "2").await;
    assert!(replica.try_sql("INSERT INTO t VALUES (3)").await.is_err());
    server.kill();
    assert_eq!(replica.sql("SELECT pg_promote()").await, "t");
    replica.sql("INSERT INTO t VALUES (3)").await;
}

/// A client in the middle of a statement.
async fn sleeper(server: &PostgresServer, url: &str) -> JoinHandle<Result<String, String>> {
    let url = url.to_owned();
    let client = spawn(async move { query(&url, "SELECT pg_sleep(3600)").await });
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until(server, sleeps, "1").await;
    client
}

/// Waits until a query has this answer.
async fn until(server: &PostgresServer, query: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.sql(query).await != answer {
        assert!(Instant::now() < deadline, "{query} is never {answer}");
        sleep(Duration::from_millis(20)).await;
    }
}
