//! Which users may connect, to what, and how: passwords, ACL users, databases, TLS.

use super::*;
use crate::{Error, ErrorKind};

async fn refused(url: &str) -> Error {
    let (bus, _events) = RedisBus::start(bus_config(1), &redis_config(url)).unwrap();
    let began = tokio::time::Instant::now();
    let error = bus.ready(PATIENCE).await.unwrap_err();
    assert!(
        began.elapsed() < PATIENCE / 2,
        "at once, not after the wait"
    );
    error
}

#[tokio::test]
async fn a_wrong_login_is_an_error_at_once() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    for login in ["", ":wrong@", "stranger:right@"] {
        let error = refused(&format!("redis://{login}127.0.0.1:{}", server.port())).await;
        assert_eq!(error.kind(), ErrorKind::Auth, "{login}: {error}");
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains("wrong@") && !text.contains("right"),
            "{text}"
        );
    }
    join(
        &format!("redis://:right@127.0.0.1:{}", server.port()),
        bus_config(1),
    )
    .await;
}

/// Its refusal may come while fred has no command that waits for an answer, and is dropped then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_subscription_is_never_taken_for_one() {
    let server = RedisServer::start();
    let mut admin = admin(&server);
    let rules = ["~us:*", "&us:*", "+@all", "-subscribe"];
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    admin.cmd(&[&user[..], &rules].concat());
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
    for _ in 0..500 {
        assert_eq!(refused(&url).await.kind(), ErrorKind::Auth);
    }
}

#[tokio::test]
async fn a_user_who_is_removed_and_let_in_again_is_connected_again() {
    let server = RedisServer::start();
    let mut admin = admin(&server);
    let set = [
        "ACL", "SETUSER", "app", "on", ">secret", "~us:*", "&us:*", "+@all",
    ];
    admin.cmd(&set);
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
    let (bus, mut events) = join(&url, bus_config(1)).await;
    admin.cmd(&["ACL", "DELUSER", "app"]);
    until(async || {
        bus.verify(0)
            .await
            .is_err_and(|error| error.kind() == ErrorKind::Auth)
    })
    .await;
    admin.cmd(&set);
    subscribed(&mut events).await;
    publish_until_acknowledged(&bus).await;
}

#[tokio::test]
async fn databases_do_not_mix() {
    let server = RedisServer::start();
    let (zero, mut at_zero) = join(&server.url(), bus_config(1)).await;
    let (five, mut at_five) = join(&format!("{}/5", server.url()), bus_config(2)).await;
    zero.publish(0, Bytes::from_static(b"zero"), vec![])
        .await
        .unwrap();
    five.publish(0, Bytes::from_static(b"five"), vec![])
        .await
        .unwrap();
    assert_eq!(message(&mut at_zero).await.1, "zero");
    assert_eq!(message(&mut at_five).await.1, "five");
    let mut admin = admin(&server);
    let channels = admin.cmd(&["PUBSUB", "CHANNELS"]);
    let mut channels: Vec<String> = channels
        .array()
        .iter()
        .map(testkit::resp::Value::text)
        .collect();
    channels.sort();
    assert_eq!(channels, ["us:{shop:0}e0", "us:{shop:0}e5"]);
    admin.cmd(&["SELECT", "5"]);
    assert_eq!(admin.cmd(&["EXISTS", "us:{shop:0}s"]).int(), Some(1));
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_an_error_at_once() {
    let server = RedisServer::start();
    let error = refused(&format!("{}/99", server.url())).await;
    assert_eq!(error.kind(), ErrorKind::Settings, "{error}");
}

#[tokio::test]
async fn printed_texts_hide_the_password() {
    let server = RedisServer::start();
    let url = format!("redis://default:hunter2@127.0.0.1:{}", server.port());
    let config = redis_config(&url);
    let (bus, _events) = RedisBus::start(bus_config(1), &config).unwrap();
    bus.ready(PATIENCE).await.unwrap();
    let text = format!("{config:?} {bus:?} {:?}", bus.caller);
    assert!(!text.contains("hunter2"), "{text}");
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use testkit::redis::free_port;
    use testkit::tls::Certificates;

    struct Server {
        redis: RedisServer,
        port: u16,
        files: Certificates,
    }

    fn start(clients: &str) -> Option<Server> {
        let (files, port) = (Certificates::for_server()?, free_port());
        let arguments = files.arguments(port, clients);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let redis = RedisServer::start_with(&arguments);
        Some(Server { redis, port, files })
    }

    fn config(server: &Server, ca: Option<&str>, client: bool) -> RedisConfig {
        let file = |name: &str| server.files.file(name);
        RedisConfig {
            tls_ca: ca.map(file),
            tls_cert: client.then(|| file("tls.crt")),
            tls_key: client.then(|| file("tls.key")),
            ..redis_config(&format!("rediss://127.0.0.1:{}", server.port))
        }
    }

    async fn ready(config: &RedisConfig, wait: Duration) -> Result<(), Error> {
        let (bus, _events) = RedisBus::start(bus_config(1), config)?;
        bus.ready(wait).await?;
        bus.verify(0).await.map(|_| ())
    }

    #[tokio::test]
    async fn a_server_of_the_right_ca_is_trusted_and_no_other() {
        let Some(server) = start("no") else {
            return;
        };
        assert!(server.redis.port() != server.port);
        ready(&config(&server, Some("ca.crt"), false), PATIENCE)
            .await
            .unwrap();
        for ca in [Some("other.crt"), None] {
            let error = ready(&config(&server, ca, false), Duration::from_secs(3))
                .await
                .unwrap_err();
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_client_certificate_is_shown_where_one_is_asked_for() {
        let Some(server) = start("yes") else {
            return;
        };
        ready(&config(&server, Some("ca.crt"), true), PATIENCE)
            .await
            .unwrap();
        ready(
            &config(&server, Some("ca.crt"), false),
            Duration::from_secs(3),
        )
        .await
        .unwrap_err();
    }

    /// One server behind a tunnel: what its certificate says is not where it is reached.
    #[tokio::test]
    async fn a_server_of_another_name_is_trusted_once_the_name_is_set() {
        let Some(files) = Certificates::of("DNS:redis.example,DNS:cache.example") else {
            return;
        };
        let port = free_port();
        let arguments = files.arguments(port, "no");
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let redis = RedisServer::start_with(&arguments);
        let server = Server { redis, port, files };
        let mut config = config(&server, Some("ca.crt"), false);
        let error = ready(&config, Duration::from_secs(3)).await.unwrap_err();
        let text = error.to_string();
        for part in [
            "certificate",
            "redis.example",
            "UNSTALE_TLS_SERVER_NAME",
            "not for 127.0.0.1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        config.tls_server_name = Some("elsewhere.example".to_owned());
        ready(&config, Duration::from_secs(3)).await.unwrap_err();
        config.tls_server_name = Some("cache.example".to_owned());
        ready(&config, PATIENCE).await.unwrap();
    }

    /// Nodes name each other by address; their certificates are for names.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cluster_of_addresses_is_trusted_by_the_names_that_it_announces() {
        let Some(files) = Certificates::of("DNS:localhost") else {
            return;
        };
        let named = ["--cluster-announce-hostname", "localhost"];
        for (arguments, name, fits) in [
            (&named[..], None, true),
            (&[], Some("localhost"), true),
            (&[], None, false),
        ] {
            let cluster =
                testkit::cluster::ClusterFleet::start_with("us:{shop:0}s", Some(&files), arguments);
            let url = cluster.url().replace("127.0.0.1", "localhost");
            let config = RedisConfig {
                tls_ca: Some(files.file("ca.crt")),
                tls_server_name: name.map(str::to_owned),
                ..redis_config(&url)
            };
            if fits {
                ready(&config, PATIENCE).await.unwrap();
                continue;
            }
            let error = ready(&config, Duration::from_secs(5))
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("is refused: it is for localhost"), "{error}");
            assert!(!error.contains("could not be reached"), "{error}");
        }
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_are_named() {
        let Some(server) = start("no") else {
            return;
        };
        let start = |config: RedisConfig| {
            RedisBus::start(bus_config(1), &config)
                .map(|_| ())
                .unwrap_err()
        };
        let error = start(config(&server, Some("missing.crt"), false));
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(error.to_string().contains("missing.crt"), "{error}");
        let error = start(config(&server, Some("names"), false));
        assert!(error.to_string().contains("no certificate"), "{error}");
        let only_key = RedisConfig {
            tls_cert: None,
            ..config(&server, None, true)
        };
        assert!(start(only_key).to_string().contains("certificate"));
    }
}
