//! `unstale doctor`: what is wrong, and what to do about it.

use super::*;

/// What `doctor --json` found of one check.
fn finding(ran: &Ran, check: &str) -> (String, String) {
    let found = ran.json();
    let findings = found["findings"].as_array().unwrap().clone();
    let finding = findings.iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {check}: {ran:?}"));
    let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    (text("level"), text("remedy"))
}

/// Runs the doctor, which must find exactly this wrong.
fn ill(vars: &[(&str, &str)], check: &str, remedy: &str) {
    let ran = run(&["doctor", "--json"], vars);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    let (level, advice) = finding(&ran, check);
    assert_eq!(level, "fail", "{ran:?}");
    assert!(advice.contains(remedy), "{remedy}: {ran:?}");
    let others = ran.stdout.matches("\"level\":\"fail\"").count();
    assert_eq!(others, 1, "{ran:?}");
    assert!(!ran.stdout.contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_a_good_server_well_and_changes_nothing() {
    let server = RedisServer::start();
    let ran = run_on(&server.url(), &["doctor", "--json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for check in [
        "connection",
        "rights",
        "rehearsal",
        "server",
        "eviction",
        "output buffer",
        "replicas",
        "lanes",
        "clock",
        "pub/sub delay",
        "members",
        "fleets",
    ] {
        assert_eq!(
            finding(&ran, check),
            ("ok".into(), String::new()),
            "{check}"
        );
    }
    let keys = tokio::task::block_in_place(|| Client::connect(server.port()).cmd(&["DBSIZE"]));
    assert_eq!(keys.int(), Some(0));

    let plain = run_on(&server.url(), &["doctor"]);
    assert_eq!(plain.status, Some(0));
    let mut lines: Vec<_> = plain.stdout.lines().collect();
    let checks = lines.len() - 1;
    let verdict = format!("{checks} checks: nothing is wrong");
    assert_eq!(lines.pop(), Some(&*verdict), "{plain:?}");
    assert!(lines.iter().all(|line| line.starts_with("ok ")));
    assert!(!plain.stdout.contains('\x1b'), "colours in a pipe");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_fails_with_the_remedy_for_what_is_wrong_with_redis() {
    let args = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let evicting = RedisServer::start_with(&args);
    ill(
        &on(&evicting.url()),
        "eviction",
        "maxmemory-policy noeviction",
    );

    let strict = RedisServer::start_with(&["--requirepass", "right"]);
    for login in [&format!(":{PASSWORD}@"), ""] {
        let url = format!("redis://{login}127.0.0.1:{}", strict.port());
        ill(&on(&url), "login", "UNSTALE_REDIS_URL");
    }
    let absent = format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port());
    ill(&on(&absent), "connection", "UNSTALE_REDIS_URL");

    let small = RedisServer::start_with(&["--client-output-buffer-limit", "pubsub 64kb 0 0"]);
    let ran = run_on(&small.url(), &["doctor", "--json"]);
    assert_eq!(ran.status, Some(0), "a warning is no failure: {ran:?}");
    assert_eq!(finding(&ran, "output buffer").0, "warn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_the_right_that_is_missing_and_the_command_that_gives_it() {
    let server = RedisServer::start();
    let mut admin = Client::connect(server.port());
    let secret = format!(">{PASSWORD}");
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}", server.port());
    let rows = [
        ("-zadd", "+zadd"),
        ("-hincrby", "+hincrby"),
        ("-publish", "+publish"),
        ("-subscribe", "+subscribe"),
        ("-evalsha", "+evalsha"),
        ("-script", "+script|load"),
        ("-info", "+info"),
        ("resetchannels", "&us:{shop:*"),
        ("resetkeys", "~us:{shop:*"),
    ];
    for (rule, remedy) in rows {
        let base = [
            "ACL", "SETUSER", "app", "reset", "on", &secret, "~us:*", "&us:*", "+@all",
        ];
        admin.cmd(&[&base[..], &[rule]].concat());
        let remedy = format!("ACL SETUSER app {remedy}");
        ill(&on(&url), "rights", &remedy);
        // The remedy is one.
        let words: Vec<&str> = remedy.split(' ').collect();
        admin.cmd(&words);
        let ran = run_on(&url, &["doctor", "--json"]);
        assert_eq!(ran.status, Some(0), "{rule}: {ran:?}");
    }
}

/// A rehearsal meets what no look at the settings shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_does_what_an_instance_does_and_meets_a_full_server() {
    let server = RedisServer::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let ran = run_on(&server.url(), &["doctor", "--json"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(finding(&ran, "rehearsal").0, "fail", "{ran:?}");
    assert!(ran.stdout.contains("its memory is full"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_a_command_that_the_host_has_taken_away() {
    for command in ["XADD", "INFO", "SUBSCRIBE", "ZMSCORE"] {
        let server = RedisServer::start_with(&["--rename-command", command, ""]);
        ill(&on(&server.url()), "rights", &format!("allow {command}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_fails_where_the_fleet_has_other_lanes() {
    let server = RedisServer::start();
    let _fleet = node(&server.url(), 2, &Source::default()).await;
    let url = server.url();
    ill(&on(&url), "lanes", "UNSTALE_LANES=2");
    let vars = [&on(&url)[..], &[("UNSTALE_LANES", "2")]].concat();
    assert_eq!(run(&["doctor"], &vars).status, Some(0));
}

/// Everything that a second service could have set otherwise, as Redis and the metrics of both show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_what_two_services_have_set_differently() {
    let server = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let saved = |node: &Node, name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, node.instance.metrics_text()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let start = async |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        settings.redis_url = Some(server.url());
        settings.namespace = "shop".to_owned();
        change(&mut settings);
        Node::of(Instance::start(settings).await.unwrap(), &source())
    };
    let first = start(|_| {}).await;
    first.cache.invalidate(&1).await.unwrap();
    let second = start(|_| {}).await;
    let (a, b) = (saved(&first, "a"), saved(&second, "b"));
    let url = server.url();
    let good = ["doctor", "--json", "--metrics", &a, "--metrics", &b];
    let ran = run_on(&url, &good);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    for check in [
        "members",
        "fleets",
        "signing key",
        "instance",
        "versions",
        "journals",
    ] {
        assert_eq!(finding(&ran, check).0, "ok", "{check}: {ran:?}");
    }
    let id = first.instance.id().to_string();
    assert!(ran.stdout.contains(&id), "{id}: {ran:?}");

    type Change = fn(&mut Settings);
    let others: [(&str, Change, &str); 4] = [
        (
            "namespace",
            |s| s.namespace = "shopp".to_owned(),
            "UNSTALE_NAMESPACE",
        ),
        ("url", |s| s.redis_url = None, "UNSTALE_REDIS_URL"),
        (
            "database",
            |s| s.redis_url.as_mut().unwrap().push_str("/3"),
            "same database",
        ),
        (
            "server",
            |s| s.redis_url = Some("redis://127.0.0.1:1".to_owned()),
            "same server",
        ),
    ];
    for (name, change, remedy) in others {
        let other = start(change).await;
        let c = saved(&other, "c");
        let ran = run_on(&url, &["doctor", "--json", "--metrics", &c]);
        assert_eq!(ran.status, Some(1), "{name}: {ran:?}");
        let (level, advice) = finding(&ran, "instance");
        assert_eq!(level, "fail", "{name}: {ran:?}");
        assert!(advice.contains(remedy), "{name}: {ran:?}");
        if name == "database" {
            assert_eq!(finding(&ran, "fleets").0, "warn", "{ran:?}");
        }
        other.instance.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_another_signing_key_and_metrics_that_are_not_there() {
    let server = RedisServer::start();
    let url = server.url();
    let first = node(&url, 1, &source()).await;
    first.cache.invalidate(&1).await.unwrap();
    let key = [("UNSTALE_SIGNING_KEY", "another secret of 16 bytes")];
    ill(
        &[&on(&url)[..], &key].concat(),
        "signing key",
        "UNSTALE_SIGNING_KEY",
    );
    let ran = run_on(&url, &["doctor", "--json", "--metrics", "/no/such/file"]);
    assert_eq!(
        (ran.status, finding(&ran, "metrics").0),
        (Some(1), "fail".to_owned()),
        "{ran:?}"
    );
}
