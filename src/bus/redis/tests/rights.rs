//! Every command that an instance needs, taken away in each way that a host has: the start says what is
//! missing and how to give it, and `doctor` says the same.

use super::*;
use crate::bus::redis::inspect::Server;
use crate::bus::redis::rights;
use crate::{Error, ErrorKind};

/// What a connection sends besides scripts.
const DIRECT: [&str; 5] = ["PING", "SELECT", "SUBSCRIBE", "SCRIPT|LOAD", "EVALSHA"];

/// Every command that an instance needs.
fn needed() -> Vec<String> {
    let scripts = rights::tests::run();
    let direct = DIRECT.iter().map(|name| (*name).to_owned());
    scripts
        .into_iter()
        .chain(["PUBLISH".to_owned()])
        .chain(direct)
        .collect()
}

/// Why an instance does not start there: long before its wait is over.
async fn refused(url: &str) -> Error {
    let (bus, _events) = RedisBus::start(bus_config(1), &redis_config(url)).unwrap();
    bus.ready(PATIENCE).await.expect_err("it is refused")
}

/// What `doctor` says of the same; it may meet the refusal before it can look.
async fn doctored(url: &str) -> Error {
    let examined = async {
        let server = Server::open(&redis_config(url), "shop").await?;
        server.ping().await?;
        let lacks = server.lacks(1).await?;
        if let Some(unfit) = lacks.unfit {
            return Err(unfit);
        }
        let lack = lacks.rights.expect("something is missing");
        Ok::<_, Error>(Error::new(
            lack.kind,
            format!("{}; {}", lack.found, lack.remedy),
        ))
    };
    examined.await.unwrap_or_else(|error| error)
}

/// Both say it, as an error of this kind with these words.
async fn both_say(url: &str, kind: ErrorKind, words: &[&str]) {
    for error in [refused(url).await, doctored(url).await] {
        assert_eq!(error.kind(), kind, "{words:?}: {error}");
        let text = error.to_string();
        for word in words {
            assert!(
                text.to_lowercase().contains(&word.to_lowercase()),
                "{word}: {text}"
            );
        }
        assert!(
            !text.contains("secret") && !text.contains("Check Redis"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn every_command_that_the_acl_refuses_is_named_with_what_gives_it() {
    let server = RedisServer::start();
    let mut admin = admin(&server);
    // A database of its own number needs SELECT.
    let url = format!("redis://app:secret@127.0.0.1:{}/1", server.port());
    let base = [
        "ACL", "SETUSER", "app", "reset", "on", ">secret", "~us:*", "&us:*", "+@all",
    ];
    for command in needed() {
        let name = command.to_lowercase();
        let rule = format!("-{name}");
        admin.cmd(&[&base[..], &[rule.as_str()]].concat());
        let remedy = format!("+{name}");
        both_say(&url, ErrorKind::Auth, &[&name, "ACL SETUSER", &remedy]).await;
    }
    for (rules, right) in [
        (["~us:*", "resetchannels"], "channels us:{shop:*"),
        (["~other:*", "&us:*"], "keys us:{shop:*"),
    ] {
        let base = ["ACL", "SETUSER", "app", "reset", "on", ">secret", "+@all"];
        admin.cmd(&[&base[..], &rules].concat());
        both_say(&url, ErrorKind::Auth, &[right, "ACL SETUSER app"]).await;
    }
    // Several at once are named at once.
    admin.cmd(&[&base[..], &["-xadd", "-zmscore"]].concat());
    both_say(
        &url,
        ErrorKind::Auth,
        &["xadd, zmscore", "ACL SETUSER app +xadd +zmscore"],
    )
    .await;
}

#[tokio::test]
async fn every_command_that_a_host_has_taken_away_is_named() {
    for command in needed() {
        let name = command.split('|').next().unwrap_or(&command);
        let server = RedisServer::start_with(&["--rename-command", name, ""]);
        let url = format!("{}/1", server.url());
        both_say(
            &url,
            ErrorKind::Settings,
            &[name, "does not know", "its host"],
        )
        .await;
    }
}

/// The client library asks for it, and does without.
#[tokio::test]
async fn a_host_that_has_taken_client_away_is_accepted() {
    let server = RedisServer::start_with(&["--rename-command", "CLIENT", ""]);
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    publish_until_acknowledged(&bus).await;
    message(&mut events).await;
}

/// A copy of the server whose `INFO` names no run id, as some look-alikes' does.
#[tokio::test]
async fn a_server_whose_info_names_no_run_id_is_refused_by_name() {
    let program = std::fs::read(testkit::redis::binary()).unwrap();
    let at = program.windows(8).position(|bytes| bytes == b"\nrun_id:");
    let mut program = program;
    program[at.expect("the text of INFO") + 7] = b'x';
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("redis-server");
    std::fs::write(&path, program).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).unwrap();
    let server = RedisServer::start_program(path, &[]);
    both_say(&server.url(), ErrorKind::Settings, &["run_id", "restart"]).await;
}

#[tokio::test]
async fn a_node_of_a_cluster_behind_the_url_of_a_single_server_is_refused_by_name() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    Client::connect(server.port()).cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until(async || {
        let info = Client::connect(server.port())
            .cmd(&["CLUSTER", "INFO"])
            .text();
        info.contains("cluster_state:ok")
    })
    .await;
    both_say(
        &server.url(),
        ErrorKind::Settings,
        &["cluster", "redis-cluster://"],
    )
    .await;
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_refused_with_the_same_words_by_start_and_doctor() {
    let server = RedisServer::start_too_old();
    let words = ["Redis 6.2", "too old", "Redis 7.0 or later"];
    both_say(&server.url(), ErrorKind::Settings, &words).await;
    let (started, doctored) = (refused(&server.url()).await, doctored(&server.url()).await);
    assert_eq!(started.to_string(), doctored.to_string());
}
