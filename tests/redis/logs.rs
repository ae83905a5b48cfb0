//! What the log of an instance says when Redis is killed, hangs or comes back: the same words, each once,
//! and nothing of the client library's.

use std::path::Path;

use tokio::task::block_in_place;
use unstale::{BusKind, Instance, InstanceState, Settings};

use super::{PATIENCE, node, settings, until};
use crate::support::logged::Logged;
use crate::support::nodes::{Node, Source};
use testkit::program;
use testkit::redis::RedisServer;
use testkit::service::Service;

/// What the README tells a service to set.
const FILTER: &str = "info,fred=off";

async fn state(node: &Node, state: InstanceState) {
    until("the state", async || node.instance.health().state == state).await;
}

/// The words that say what happened to a connection, and those that say what state the instance is in.
fn logged_words(logged: &Logged) -> (usize, usize, Vec<String>) {
    let count = |text: &str| logged.with(text).len();
    let words = [
        "lost the connection",
        "connected to Redis again",
        "degraded",
        "coherent",
    ];
    let lines = logged.lines().into_iter();
    let order = lines.filter_map(|line| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some((*word).to_owned())
    });
    let order = order.collect();
    (count(words[0]), count(words[1]), order)
}

#[tokio::test]
async fn a_redis_that_is_killed_and_one_that_hangs_are_logged_in_the_same_words() {
    for hangs in [false, true] {
        let server = RedisServer::start();
        let logged = Logged::at(FILTER);
        let node = node(settings(&server.url()), &Source::default()).await;
        if hangs {
            server.stop();
        } else {
            server.kill();
        }
        state(&node, InstanceState::Degraded).await;
        until("it is said", async || !logged.with("degraded").is_empty()).await;
        if hangs {
            server.cont();
        } else {
            server.restart();
        }
        state(&node, InstanceState::Coherent).await;
        until("it is said", async || {
            !logged
                .with("coherent: every lane is verified again")
                .is_empty()
        })
        .await;
        let (lost, again, order) = logged_words(&logged);
        let states: Vec<_> = order
            .iter()
            .filter(|word| !word.contains("onnect"))
            .collect();
        assert_eq!(
            states,
            ["coherent", "degraded", "coherent"],
            "{:#?}",
            logged.lines()
        );
        // None is found again that was not lost.
        assert!(again <= lost, "{again} of {lost}: {:#?}", logged.lines());
        let first = |word: &str| order.iter().position(|said| said.contains(word));
        if let Some(again) = first("connected to Redis again") {
            let lost = first("lost the connection");
            assert!(lost.is_some_and(|lost| lost < again), "{order:?}");
        }
        for line in logged.lines() {
            for leak in ["Some(", "suppressed=0", "Os {", "Custom {", "Error {"] {
                assert!(!line.contains(leak), "{leak}: {line}");
            }
        }
    }
}

#[tokio::test]
async fn a_host_that_no_name_server_knows_is_logged_in_plain_words() {
    let logged = Logged::at(FILTER);
    let url = "redis://no-such-host.invalid:6379";
    let node = node(settings(url), &Source::default()).await;
    assert_eq!(node.instance.health().state, InstanceState::Degraded);
    let line = logged.one("degraded: started without an answer of Redis");
    assert!(line.contains(&node.instance.id().to_string()), "{line}");
    assert!(line.contains(url), "{line}");
    let lines = logged.lines();
    assert!(
        lines.iter().all(|line| !line.contains("Custom {")),
        "{lines:#?}"
    );
    assert_eq!(logged.with("connected"), Vec::<String>::new());
}

/// `status`, the log, the metrics and `Health` give an instance the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_members_that_status_lists_are_those_of_the_log_and_of_health() {
    let server = RedisServer::start();
    let source = Source::default();
    let nodes = [
        node(settings(&server.url()), &source).await,
        node(settings(&server.url()), &source).await,
    ];
    let status = program::run_on(&server.url(), &["status", "--json"]).json();
    let members = status["members"].as_array().unwrap();
    let mut listed: Vec<_> = members
        .iter()
        .map(|member| member["id"].as_str().unwrap())
        .collect();
    listed.sort_unstable();
    let mut ids = nodes
        .each_ref()
        .map(|node| node.instance.health().id.to_string());
    ids.sort_unstable();
    assert_eq!(listed, ids);
    for node in &nodes {
        assert_eq!(node.instance.health().bus, BusKind::Redis);
        let id = format!(r#"unstale_settings_info{{id="{}""#, node.instance.id());
        assert!(node.instance.metrics_text().contains(&id));
    }
}

/// A service over the server, with this filter of its log; returns what it printed until it was
/// coherent again after Redis was killed and came back.
async fn printed(server: &RedisServer, dir: &Path, vars: &[(&str, &str)]) -> (String, Vec<String>) {
    let url = server.url();
    let vars = [vars, &[("UNSTALE_REDIS_URL", url.as_str())]].concat();
    let service = Service::start(&dir.join("accounts.db"), &vars).await;
    service.until_healthy(PATIENCE).await;
    let id = service.healthz().await.unwrap().json();
    block_in_place(|| server.restart());
    until("it is connected again", async || {
        service.output().contains("connected to Redis again")
    })
    .await;
    service.until_healthy(PATIENCE).await;
    assert!(service.terminate().await.success(), "{}", service.output());
    let output = service.output();
    assert_eq!(id["bus"], "redis");
    let id = id["instance"].as_str().unwrap().to_owned();
    (id, output.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_service_has_no_line_of_the_client_library() {
    let server = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let (id, lines) = printed(&server, dir.path(), &[]).await;
    let of_fred = |lines: &[String]| lines.iter().filter(|line| line.contains("fred")).count();
    assert_eq!(of_fred(&lines), 0, "{lines:#?}");
    for said in ["joined the fleet", "left the fleet"] {
        let line: Vec<_> = lines.iter().filter(|line| line.contains(said)).collect();
        assert!(
            line.len() == 1 && line[0].contains(&id),
            "{said}: {lines:#?}"
        );
    }
    // By the variable that the documentation names as well; without it there are such lines.
    let (_, lines) = printed(&server, dir.path(), &[("RUST_LOG", FILTER)]).await;
    assert_eq!(of_fred(&lines), 0, "{lines:#?}");
    let (_, lines) = printed(&server, dir.path(), &[("RUST_LOG", "info")]).await;
    assert!(of_fred(&lines) > 0, "{lines:#?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_secret_that_every_user_of_the_machine_may_read_is_logged() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    let server = RedisServer::start();
    let folder = tempfile::TempDir::new().unwrap();
    for (mode, lines) in [(0o400, 0), (0o444, 1)] {
        let path = folder.path().join(format!("{mode:o}"));
        fs::write(&path, "a signing key of many bytes").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let variables = [
            ("UNSTALE_REDIS_URL", server.url()),
            ("UNSTALE_SIGNING_KEY_FILE", path.display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let logged = Logged::at(FILTER);
        let settings = Settings::from_vars(variables).unwrap();
        let instance = Instance::start(settings).await.unwrap();
        instance.shutdown().await.unwrap();
        assert_eq!(logged.with("UNSTALE_SIGNING_KEY_FILE").len(), lines);
    }
}
