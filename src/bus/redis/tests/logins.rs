//! Passwords that change while instances run: in files, from callbacks, on open connections.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::time::Instant;

use super::*;
use crate::credentials::{Credentials, CredentialsProvider};
use crate::{Error, ErrorKind};

/// What a changed secret may take to arrive.
const CHANGED: Duration = Duration::from_secs(2);

/// A user `app` with this password and all rights.
fn user(server: &RedisServer, password: &str) {
    let secret = format!(">{password}");
    admin(server).cmd(&[
        "ACL", "SETUSER", "app", "reset", "on", &secret, "~us:*", "&us:*", "+@all",
    ]);
}

fn url(server: &RedisServer) -> String {
    format!("redis://app@127.0.0.1:{}", server.port())
}

fn with(url: &str, login: LoginSource) -> RedisConfig {
    RedisConfig {
        login,
        ..redis_config(url)
    }
}

fn file(server: &RedisServer, name: &str, text: &str) -> std::path::PathBuf {
    let path = server.dir().join(name);
    fs::write(&path, text).unwrap();
    path
}

async fn start(config: &RedisConfig) -> (Arc<RedisBus>, Events) {
    let (bus, mut events) = RedisBus::start(bus_config(1), config).unwrap();
    bus.ready(PATIENCE).await.expect("Redis lets it in");
    assert!(matches!(next(&mut events).await, BusEvent::Subscribed));
    (bus, events)
}

async fn refused(config: &RedisConfig) -> Error {
    let (bus, _events) = RedisBus::start(bus_config(1), config).unwrap();
    bus.ready(PATIENCE).await.unwrap_err()
}

/// Connections of the user `app` at the moment.
fn connections(server: &RedisServer) -> usize {
    let list = admin(server).cmd(&["CLIENT", "LIST"]).text();
    list.lines()
        .filter(|line| line.contains("user=app "))
        .count()
}

/// Successful `AUTH`s of clients that were connected.
fn logged_in_again(server: &RedisServer) -> u64 {
    let text = admin(server).cmd(&["INFO", "commandstats"]).text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_auth:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// The server has another password and cuts every connection; the source has it a moment later.
async fn rotate(server: &RedisServer, config: &RedisConfig, change: impl FnOnce()) {
    let (bus, mut events) = start(config).await;
    user(server, "two");
    admin(server).cmd(&["CLIENT", "KILL", "USER", "app"]);
    until(async || {
        bus.verify(0)
            .await
            .is_err_and(|error| error.kind() == ErrorKind::Auth)
    })
    .await;
    let changed = Instant::now();
    change();
    until(async || bus.verify(0).await.is_ok()).await;
    subscribed(&mut events).await;
    // Generous: what is promised is CHANGED, and a machine may be slow.
    assert!(
        changed.elapsed() < CHANGED + BACK,
        "{:?}",
        changed.elapsed()
    );
}

#[tokio::test]
async fn a_password_file_that_changes_lets_the_instance_back_in() {
    let server = RedisServer::start();
    user(&server, "one");
    let path = file(&server, "password", "one\n");
    let config = with(&url(&server), LoginSource::PasswordFile(path.clone()));
    rotate(&server, &config, || fs::write(path, "two\n").unwrap()).await;
}

#[tokio::test]
async fn a_settings_file_that_changes_lets_the_instance_back_in() {
    let server = RedisServer::start();
    user(&server, "one");
    let text = |password: &str| {
        let port = server.port();
        format!("redis_url = \"redis://app:{password}@127.0.0.1:{port}\"\nlanes = 2\n")
    };
    let path = file(&server, "unstale.toml", &text("one"));
    let url = format!("redis://app:one@127.0.0.1:{}", server.port());
    let config = with(&url, LoginSource::SettingsFile(path.clone()));
    rotate(&server, &config, || fs::write(path, text("two")).unwrap()).await;
}

#[tokio::test]
async fn a_callback_with_another_password_lets_the_instance_back_in() {
    let server = RedisServer::start();
    user(&server, "one");
    let password = Arc::new(Mutex::new("one"));
    let now = Arc::clone(&password);
    let callback = CredentialsProvider::blocking(move || {
        let password = *now.lock().unwrap();
        Ok(Credentials::new(password)
            .user("app")
            .expires_in(Duration::from_secs(3_600)))
    });
    let config = with(&server.url(), LoginSource::Callback(callback));
    rotate(&server, &config, || *password.lock().unwrap() = "two").await;
}

/// Redis ends no connection when a password changes; services that issue tokens do, when one expires.
#[tokio::test]
async fn open_connections_log_in_with_a_password_that_changed() {
    let server = RedisServer::start();
    user(&server, "one");
    let path = file(&server, "password", "one");
    let config = with(&url(&server), LoginSource::PasswordFile(path.clone()));
    let (bus, _events) = start(&config).await;
    // The file is changed first, as a mounted secret may be.
    fs::write(&path, "two").unwrap();
    until(async || admin(&server).info("total_error_replies") != "0").await;
    user(&server, "two");
    until(async || logged_in_again(&server) >= 2 && connections(&server) == 2).await;
    assert!(bus.connected());
    bus.verify(0).await.unwrap();
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let server = RedisServer::start();
    user(&server, "one");
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let callback = CredentialsProvider::new(move || {
        let number = counted.fetch_add(1, Relaxed);
        async move {
            if number % 2 == 1 {
                return Err("the service is away for a moment".into());
            }
            Ok(Credentials::new("one")
                .user("app")
                .expires_in(Duration::from_secs(2)))
        }
    });
    let config = with(&server.url(), LoginSource::Callback(callback));
    let (bus, _events) = start(&config).await;
    until(async || logged_in_again(&server) >= 4).await;
    assert!(asked.load(Relaxed) >= 4, "with failures in between");
    assert_eq!(connections(&server), 2, "no connection was made again");
    bus.verify(0).await.unwrap();
}

/// The error says that the last password is refused, and also why there is no newer one.
#[tokio::test]
async fn a_callback_that_fails_later_is_named_when_its_last_password_is_refused() {
    let server = RedisServer::start();
    user(&server, "one");
    let asked = AtomicU32::new(0);
    let callback = CredentialsProvider::blocking(move || {
        if asked.fetch_add(1, Relaxed) > 0 {
            return Err("the vault is sealed".into());
        }
        Ok(Credentials::new("one").user("app"))
    });
    let config = with(&server.url(), LoginSource::Callback(callback));
    let (bus, _events) = start(&config).await;
    user(&server, "two");
    admin(&server).cmd(&["CLIENT", "KILL", "USER", "app"]);
    until(async || {
        let error = bus.verify(0).await.unwrap_err();
        error.kind() == ErrorKind::Auth && error.to_string().contains("the vault is sealed")
    })
    .await;
}

#[tokio::test]
async fn a_source_of_the_password_that_cannot_be_used_is_named_at_once() {
    let server = RedisServer::start();
    user(&server, "one");
    let empty = file(&server, "empty", "\n");
    let wrong = file(&server, "wrong", "hunter2");
    let toml = file(&server, "broken.toml", "redis_url = \"redis://:hunter2@h");
    for (login, kind, named) in [
        (
            LoginSource::PasswordFile(Path::new("/nowhere/password").into()),
            ErrorKind::Settings,
            "/nowhere/password",
        ),
        (
            LoginSource::PasswordFile(empty),
            ErrorKind::Settings,
            "is empty",
        ),
        (
            LoginSource::PasswordFile(Path::new("/dev/zero").into()),
            ErrorKind::Settings,
            "64 KiB",
        ),
        (LoginSource::PasswordFile(wrong), ErrorKind::Auth, "/wrong"),
        (
            LoginSource::SettingsFile(toml),
            ErrorKind::Settings,
            "broken.toml",
        ),
    ] {
        let error = refused(&with(&url(&server), login)).await;
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(named), "{named}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let error = RedisBus::start(bus_config(1), &redis_config(&url(&server))).unwrap_err();
    assert!(error.to_string().contains("no password"), "{error}");
}

#[tokio::test]
async fn a_password_of_a_file_is_in_no_text() {
    let server = RedisServer::start();
    user(&server, "hunter2");
    let path = file(&server, "password", "hunter2");
    let config = with(&url(&server), LoginSource::PasswordFile(path));
    let (bus, _events) = start(&config).await;
    let text = format!("{config:?} {bus:?} {:?}", bus.caller);
    assert!(!text.contains("hunter2"), "{text}");
}
