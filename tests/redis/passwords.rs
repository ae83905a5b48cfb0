//! A password for Redis that is changed while an instance runs, through the settings that users have.

use std::fs;
use std::path::Path;

use unstale::{Credentials, CredentialsProvider, Instance, InstanceState, Settings};

use super::{settings, until};
use crate::support::nodes::{Node, Source};
use testkit::redis::RedisServer;
use testkit::resp::Client;

/// Gives the user `app` this password, and no other.
fn set_password(server: &RedisServer, password: &str) {
    let secret = format!(">{password}");
    Client::connect(server.port()).cmd(&[
        "ACL",
        "SETUSER",
        "app",
        "on",
        "resetpass",
        &secret,
        "~us:*",
        "&us:*",
        "+@all",
    ]);
}

/// The server gets another password and cuts every connection, and the source of the settings follows.
async fn rotated(server: &RedisServer, settings: Settings, follow: impl FnOnce()) {
    let source = Source::default();
    let node = Node::of(Instance::start(settings).await.unwrap(), &source);
    let state = || node.instance.health().state;
    until("it is coherent", async || {
        state() == InstanceState::Coherent
    })
    .await;
    set_password(server, "two");
    Client::connect(server.port()).cmd(&["CLIENT", "KILL", "USER", "app"]);
    until("it is locked out", async || {
        state() == InstanceState::Degraded
    })
    .await;
    follow();
    until("it is let in again", async || {
        state() == InstanceState::Coherent
    })
    .await;
    node.cache.invalidate(&1).await.unwrap();
}

fn url(server: &RedisServer, login: &str) -> String {
    format!("redis://{login}@127.0.0.1:{}", server.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_in_its_file_needs_no_restart() {
    let server = RedisServer::start();
    set_password(&server, "one");
    let path = server.dir().join("password");
    fs::write(&path, "one\n").unwrap();
    let mut settings = settings(&url(&server, "app"));
    settings.redis_password_file = Some(path.clone());
    rotated(&server, settings, || fs::write(&path, "two\n").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_in_the_settings_file_needs_no_restart() {
    let server = RedisServer::start();
    set_password(&server, "one");
    let path = server.dir().join("unstale.toml");
    let write = |path: &Path, password: &str| {
        let url = url(&server, &format!("app:{password}"));
        fs::write(
            path,
            format!("redis_url = \"{url}\"\nnamespace = \"shop\"\n"),
        )
        .unwrap();
    };
    write(&path, "one");
    let vars = [("UNSTALE_FILE".to_owned(), path.display().to_string())];
    let settings = Settings::from_vars(vars).unwrap();
    rotated(&server, settings, || write(&path, "two")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_for_credentials_needs_no_restart() {
    let server = RedisServer::start();
    set_password(&server, "one");
    let path = server.dir().join("token");
    fs::write(&path, "one").unwrap();
    let read = path.clone();
    let mut settings = settings(&format!("redis://127.0.0.1:{}", server.port()));
    settings.credentials = Some(CredentialsProvider::blocking(move || {
        Ok(Credentials::new(fs::read_to_string(&read)?).user("app"))
    }));
    rotated(&server, settings, || fs::write(&path, "two").unwrap()).await;
}
