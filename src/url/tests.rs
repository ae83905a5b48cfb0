use super::*;

fn place(host: &str, port: u16) -> Place {
    let host = host.to_owned();
    Place { host, port }
}

fn login(username: Option<&str>, password: Option<&str>) -> Login {
    let (username, password) = (username.map(Into::into), password.map(Into::into));
    Login { username, password }
}

#[test]
fn every_part_of_a_url_is_read() {
    let address = Address::parse("rediss://app:p%40s%3As@cache.example:7000/3").unwrap();
    assert!(address.tls);
    assert_eq!(address.places, [place("cache.example", 7000)]);
    assert_eq!(address.login, login(Some("app"), Some("p@s:s")));
    assert_eq!(address.deployment, Deployment::Single);
    assert_eq!(address.database, Some(3));
}

#[test]
fn a_url_of_only_a_host_has_the_default_port() {
    let address = Address::parse("redis://localhost").unwrap();
    assert_eq!(address.places, [place("localhost", 6379)]);
    assert_eq!((address.login, address.database), (Login::default(), None));
}

#[test]
fn a_password_without_a_user_and_an_ipv6_host_are_read() {
    let address = Address::parse("redis://:secret@[::1]:6380").unwrap();
    assert_eq!(address.places, [place("::1", 6380)]);
    assert_eq!(address.login, login(None, Some("secret")));
    assert_eq!(address.places[0].to_string(), "[::1]:6380");
}

#[test]
fn a_user_without_a_password_is_read() {
    let address = Address::parse("redis://app@h").unwrap();
    assert_eq!(address.login, login(Some("app"), None));
}

#[test]
fn sentinels_and_their_service_are_read() {
    let url = "rediss-sentinel://app:pw@s1,s2:7,[::1]/3?service=my%26master&sentinel_user=w&sentinel_password=x%40";
    let address = Address::parse(url).unwrap();
    assert!(address.tls);
    let places = [place("s1", 26379), place("s2", 7), place("::1", 26379)];
    assert_eq!(address.places, places);
    assert_eq!(address.login, login(Some("app"), Some("pw")));
    assert_eq!(address.database, Some(3));
    let service = "my&master".to_owned();
    let login = login(Some("w"), Some("x@"));
    let deployment = Deployment::Sentinel { service, login };
    assert_eq!(address.deployment, deployment);
}

#[test]
fn valkey_is_another_name_of_redis() {
    for (valkey, redis) in [
        ("valkey://:p@h:1/2", "redis://:p@h:1/2"),
        ("valkeys://h", "rediss://h"),
        ("valkey-cluster://a,b", "redis-cluster://a,b"),
        (
            "Valkeys-Sentinel://a?service=m",
            "rediss-sentinel://a?service=m",
        ),
        (" redis://h\n", "redis://h"),
    ] {
        assert_eq!(Address::parse(valkey), Address::parse(redis), "{valkey}");
        assert!(Address::parse(valkey).is_ok(), "{valkey}");
    }
}

#[test]
fn a_socket_is_read_as_other_clients_write_it() {
    let socket = |text: &str| Address::parse(text).unwrap();
    let plain = socket("unix:///run/redis/redis.sock");
    assert_eq!(plain.places, [place("/run/redis/redis.sock", 0)]);
    assert_eq!(plain.places[0].to_string(), "/run/redis/redis.sock");
    assert_eq!((plain.database, &plain.login), (None, &Login::default()));
    assert_eq!(plain.deployment, Deployment::Single);
    assert!(!plain.tls);
    for whole in [
        "unix://app:p%40ss@/run/a%20b.sock?db=3",
        "redis+unix:///run/a%20b.sock?db=3&user=app&pass=p%40ss",
        "valkey+unix://app@/run/a%20b.sock?password=p%40ss&db=3",
        "UNIX:///run/a%20b.sock?username=app&password=p%40ss&db=3\n",
    ] {
        let address = socket(whole);
        assert_eq!(address.places, [place("/run/a b.sock", 0)], "{whole}");
        assert_eq!(address.login, login(Some("app"), Some("p@ss")), "{whole}");
        assert_eq!(address.database, Some(3), "{whole}");
    }
}

#[test]
fn nodes_of_a_cluster_are_read() {
    let address = Address::parse("Redis-Cluster://h1:7001,h2/0").unwrap();
    assert_eq!(address.places, [place("h1", 7001), place("h2", 6379)]);
    assert_eq!(address.deployment, Deployment::Cluster);
}

#[test]
fn errors_name_the_part_and_never_the_password() {
    for (url, part) in [
        ("localhost:6379", "redis://"),
        ("http://hunter2@localhost", "http://"),
        ("redis://app:hunter2@", "host"),
        ("redis://app:hunter2", "port"),
        ("redis://app:hunter2@localhost:port", "port"),
        ("redis://app:hunter2@localhost/cache", "database"),
        ("redis://app:hunter2@localhost/999", "database"),
        ("redis://app:hun/ter2@localhost", "%2F"),
        ("redis://app:hunter2%zz@localhost", "hex"),
        ("redis://app:hunter2?@localhost", "%3F"),
        ("redis://:hunter2@a,b", "several hosts"),
        ("redis://:hunter2@a?service=m", "%3F"),
        ("redis-cluster://:hunter2@a,a:6379", "twice"),
        ("redis-cluster://:hunter2@a/1", "database 0"),
        ("redis-cluster://:hunter2@a,", "host"),
        ("redis-other://:hunter2@a", "redis-other://"),
        ("redis-sentinel://:hunter2@a", "service=mymaster"),
        (
            "redis-sentinel://a?service=m&sentinel_user=hunter2",
            "no sentinel_password",
        ),
        (
            "redis-sentinel://a?service=m&pass=hunter2",
            "may have service",
        ),
        ("redis-sentinel://a?service=m&service=hunter2", "twice"),
        ("redis-sentinel://:hunter2?@a?service=m", "%3F"),
        ("unix://hunter2", "whole path"),
        ("unix://hunter2/run/redis.sock", "whole path"),
        ("unix://:hunter2@", "path of a socket"),
        ("unix:///s?password=hunter2&pass=hunter2", "twice"),
        ("unix:///s?db=hunter2", "database"),
        ("unix:///s?secret=hunter2", "nothing else"),
    ] {
        let error = Address::parse(url).expect_err(url).to_string();
        assert!(error.contains(part), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn debug_hides_the_password() {
    for url in [
        "redis://app:hunter2@localhost",
        "redis-sentinel://h?service=m&sentinel_password=hunter2",
    ] {
        let address = Address::parse(url).unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
