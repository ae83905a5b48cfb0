//! The database's URL.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn good(url: &str) -> Config {
    Config::parse(url).expect(url)
}

fn bad(url: &str) -> String {
    Config::parse(url).expect_err(url).to_string()
}

#[test]
fn every_part_of_the_url_is_read() {
    let config = good(
        "postgres://re%40lay:p%3Ass%2F%C3%A9@db.example:6000/sh%6Fp?sslmode=verify-ca\
         &sslrootcert=/etc/ca.pem&application_name=it%20is&connect_timeout=3",
    );
    assert_eq!(config.host, Host::Tcp("db.example".to_owned()));
    assert_eq!(config.port, 6000);
    assert_eq!(config.user, "re@lay");
    assert_eq!(config.password, Some(Secret::new("p:ss/é")));
    assert_eq!(config.database, "shop");
    assert_eq!(config.tls, TlsMode::VerifyCa);
    assert_eq!(
        config.root_certificate.as_deref(),
        Some(Path::new("/etc/ca.pem"))
    );
    assert_eq!(config.application_name, "it is");
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.place(), "db.example:6000");
}

#[test]
fn parts_that_are_left_out_have_defaults() {
    let config = good(" postgresql://relay@db.example\n");
    assert_eq!((config.port, &*config.database), (5432, "relay"));
    assert_eq!(config.tls, TlsMode::VerifyFull);
    assert_eq!(config.password, None);
    assert_eq!(
        good("postgres://u:a@b@h/d").password,
        Some(Secret::new("a@b"))
    );
    let config = good("postgres://[::1]:7/d?user=u&password=p");
    assert_eq!(config.place(), "[::1]:7");
    assert_eq!(config.password, Some(Secret::new("p")));
}

#[test]
fn a_socket_is_named_by_its_folder() {
    for url in [
        "postgres://u@/d?host=/var/run/postgresql&port=5433",
        "postgres://u@%2Fvar%2Frun%2Fpostgresql:5433/d",
        "postgres:///d?user=u&host=/var/run/postgresql&port=5433&sslmode=disable",
    ] {
        let config = good(url);
        assert_eq!(config.place(), "/var/run/postgresql/.s.PGSQL.5433");
        assert_eq!(config.tls, TlsMode::Disable);
    }
    assert!(bad("postgres://u@/d?host=/run&sslmode=verify-full").contains("has no TLS"));
    let long = format!("postgres://u@/d?host=/{}", "x".repeat(100));
    assert!(bad(&long).contains("at most 88 bytes"));
}

#[test]
fn the_mode_of_tls_follows_the_host_and_never_goes_without_proof() {
    let mode = |url: &str| good(url).tls;
    assert_eq!(mode("postgres://u@10.0.0.1/d"), TlsMode::VerifyFull);
    assert_eq!(
        mode("postgres://u@10.0.0.1/d?sslmode=disable"),
        TlsMode::Disable
    );
    for local in ["localhost", "LocalHost", "127.0.0.9", "[::1]"] {
        assert_eq!(mode(&format!("postgres://u@{local}/d")), TlsMode::Disable);
        let with_ca = format!("postgres://u@{local}/d?sslrootcert=/ca");
        assert_eq!(mode(&with_ca), TlsMode::VerifyFull);
    }
    assert_eq!(
        mode("postgres://u@h/d?sslmode=require&sslrootcert=/ca"),
        TlsMode::VerifyCa
    );
    let system = good("postgres://u@h/d?sslrootcert=system");
    assert_eq!(
        (system.tls, system.root_certificate),
        (TlsMode::VerifyFull, None)
    );
    assert!(bad("postgres://u@h/d?sslmode=require").contains("verify-full"));
    for without in ["verify-ca", "verify-ca&sslrootcert=system"] {
        assert!(bad(&format!("postgres://u@h/d?sslmode={without}")).contains("CA of your own"));
    }
    assert!(bad("postgres://u@h/d?sslmode=require&sslrootcert=system").contains("verify-full"));
    assert!(bad("postgres://u@h/d?sslmode=prefer").contains("unencrypted"));
    assert!(bad("postgres://u@h/d?sslmode=on").contains("must be verify-full"));
}

#[test]
fn an_error_says_what_is_right_and_shows_nothing_of_the_url() {
    for (url, why) in [
        ("mysql://hunter2@h/d", "must begin with postgres://"),
        ("hunter2", "must begin with postgres://"),
        ("postgres://u:hunter2/h/d", "the port must be"),
        ("postgres://u:hun/ter2@h/d", "percent-encode"),
        ("postgres://u:hun ter2@h/d", "white space"),
        ("postgres://u:hunter2%@h/d", "%25"),
        ("postgres://u:hunter2%FF@h/d", "%25"),
        ("postgres://:hunter2@h/d", "the user is missing"),
        ("postgres://u:hunter2@/d", "the host is missing"),
        ("postgres://u:hunter2@a,b/d", "several hosts"),
        ("postgres://u:hunter2@[::1/d", "closing ]"),
        ("postgres://u:hunter2@h:0/d", "the port must be"),
        (
            "postgres://u:hunter2@h/d?hunter2=1",
            "it may have host, port",
        ),
        (
            "postgres://u:hunter2@h/d?password=hunter2",
            "password is given twice",
        ),
        ("postgres://u:hunter2@h/d?sslmode=", "sslmode has no value"),
        (
            "postgres://u:hunter2@h/d?connect_timeout=0",
            "from 1 to 300",
        ),
    ] {
        let error = bad(url);
        assert!(error.contains(why), "{url}: {error}");
        assert!(!error.contains("hun"), "{error}");
    }
    let config = good("postgres://u:hunter2@h/d");
    assert!(!format!("{config:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn arbitrary_text_causes_no_panic(text in ".{0,60}") {
        let _ = Config::parse(&text);
        let _ = Config::parse(&format!("postgres://{text}"));
    }
}
