//! The servers keep their own promises.

use std::time::Duration;

use super::redis::RedisServer;
use super::resp::{Client, Value};

/// Longer than any answer takes, shorter than a test is patient.
const QUIET: Duration = Duration::from_millis(150);

#[test]
fn a_server_comes_back_empty_on_its_port() {
    let server = RedisServer::start();
    let mut client = Client::connect(server.port());
    client.cmd(&["SET", "k", "v"]);
    let (port, pid) = (server.port(), server.pid());

    server.kill();
    assert!(client.try_cmd(&["PING"]).is_err());
    server.restart();

    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    let mut client = Client::connect(port);
    assert_eq!(client.cmd(&["GET", "k"]), Value::Nil);
    assert_eq!(client.info("process_id"), server.pid().to_string());
}

#[test]
fn arguments_override_and_survive_a_restart() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    server.restart();
    let mut client = Client::connect(server.port());
    assert!(matches!(client.try_cmd(&["PING"]), Ok(Value::Error(_))));
    client.cmd(&["AUTH", "secret"]);
    assert_eq!(client.cmd(&["PING"]).text(), "PONG");
}

#[test]
fn a_stopped_server_answers_only_when_continued() {
    let server = RedisServer::start();
    let mut client = Client::connect(server.port());
    server.stop();
    // The kernel accepts; nothing answers until the server goes on.
    let mut second = Client::connect(server.port());
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer.send(second.cmd(&["PING"]).text()));
    assert!(answered.recv_timeout(QUIET).is_err());
    server.cont();
    assert_eq!(answered.recv().unwrap(), "PONG");
    assert_eq!(client.cmd(&["PING"]).text(), "PONG");
}

#[test]
fn a_dropped_server_is_gone_even_when_stopped() {
    let server = RedisServer::start();
    let pid = server.pid();
    server.stop();
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn replies_of_both_protocols_are_read() {
    let server = RedisServer::start();
    let mut client = Client::connect(server.port());
    client.cmd(&["HSET", "h", "a", "1"]);
    let pair = vec![Value::Text(b"a".to_vec()), Value::Text(b"1".to_vec())];
    assert_eq!(client.cmd(&["HGETALL", "h"]), Value::Array(pair.clone()));
    client.cmd(&["HELLO", "3"]);
    assert_eq!(client.cmd(&["HGETALL", "h"]), Value::Array(pair));
    assert_eq!(client.cmd(&["GET", "none"]), Value::Nil);
    client.cmd(&["SUBSCRIBE", "c"]);
    assert_eq!(
        Client::connect(server.port()).cmd(&["PUBLISH", "c", "x"]),
        Value::Int(1)
    );
    assert_eq!(client.read().unwrap().array()[2].text(), "x");
    assert_eq!(Client::connect(server.port()).kill_subscribers(), 1);
    assert!(client.read().is_err());
}

#[test]
fn a_server_that_is_too_old_is_there_to_be_refused() {
    let server = RedisServer::start_too_old();
    server.restart();
    let version = Client::connect(server.port()).info("redis_version");
    assert_eq!(version, "6.2.5");
}
