//! PostgreSQL over TLS: the relay checks which server answers.

use testkit::postgres::PostgresServer;
use testkit::tls::Certificates;

use super::rig::{Rig, Way};
use super::setup::BOUND;
use crate::support::over_redis::until;

/// Where the relay finds the database by this name, with a certificate that this CA has signed.
fn url(rig: &Rig, certificates: &Certificates, host: &str, ca: &str) -> String {
    let ca = certificates.file(ca);
    let url = rig.url(Way::Straight).replace("127.0.0.1", host);
    format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_reads_the_log_over_tls_and_from_no_other_server() {
    let certificates = Certificates::make("DNS:localhost");
    let postgres = PostgresServer::start_over(Some(&certificates), &[]).await;
    let rig = Rig::on(postgres).await.ready(BOUND).await;
    for (host, ca, why) in [
        ("127.0.0.1", "ca.crt", "not valid for name"),
        ("localhost", "other.crt", "UnknownIssuer"),
    ] {
        let ran = rig.run(&["--check"], &url(&rig, &certificates, host, ca));
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
    // The server itself refuses clients that do not encrypt.
    let plain = format!("{}?sslmode=disable", rig.url(Way::Straight));
    let ran = rig.run(&["--check"], &plain);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("no encryption"), "{ran:?}");

    let relay = rig.spawn_at(
        &url(&rig, &certificates, "localhost", "ca.crt"),
        Way::Straight,
    );
    relay.until_says("relaying shop").await;
    let encrypted =
        "SELECT count(*) = 2 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'unstale relay'";
    assert_eq!(rig.postgres.sql(encrypted).await, "t");
    rig.sql("INSERT INTO accounts VALUES (42, 1)").await;
    for node in &rig.nodes {
        until("it is a hit", async || {
            let read = node.account(42).await.unwrap();
            read.is_hit() && read.value == Some(1)
        })
        .await;
    }
    rig.sql("UPDATE accounts SET version = 2").await;
    let committed = tokio::time::Instant::now();
    for node in &rig.nodes {
        until("the change is there", async || {
            node.account(42).await.unwrap().value == Some(2)
        })
        .await;
    }
    assert!(committed.elapsed() < BOUND / 2, "the relay has dropped it");
}
