//! The reference service over PostgreSQL: what clients see is what they see of it over SQLite.

use std::time::Duration;

use testkit::postgres::PostgresServer;
use testkit::service::Service;

use super::database::Database;
use crate::support::over_redis::until;

const PASSWORD: &str = "app-p4ssw0rd";

/// A server with an empty database, and its URL for the service.
async fn database() -> (PostgresServer, String) {
    let postgres = PostgresServer::start().await;
    let made =
        format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; CREATE DATABASE shop OWNER app");
    postgres.sql(&made).await;
    let url = postgres.url("app", PASSWORD, "shop");
    (postgres, url)
}

#[tokio::test]
async fn accounts_are_made_changed_and_deleted() {
    let (_postgres, url) = database().await;
    let service = Service::start(&url, &[]).await;
    let absent = service.get(1).await.unwrap();
    assert_eq!((absent.status, absent.age), (404, Some(Duration::ZERO)));
    let made = service.put(1, "Ada", 100).await.unwrap();
    assert_eq!((made.status, made.version()), (200, Some(1)), "{made:?}");
    for how in ["miss", "hit"] {
        let read = service.get(1).await.unwrap();
        assert_eq!((read.status, read.cache.as_deref()), (200, Some(how)));
        assert_eq!(read.json()["name"], "Ada");
        assert_eq!(read.json()["balance"], 100);
    }
    assert_eq!(service.put(1, "Ada", -50).await.unwrap().version(), Some(2));
    assert_eq!(service.get(1).await.unwrap().json()["balance"], -50);
    assert_eq!(service.delete(1).await.unwrap().status, 204);
    assert_eq!(service.delete(1).await.unwrap().status, 404);
    assert_eq!(service.get(1).await.unwrap().status, 404);
    // The deletion was a version, too.
    assert_eq!(service.put(1, "Ada", 7).await.unwrap().version(), Some(4));
    let status = service.terminate().await;
    assert!(status.success(), "{status}: {}", service.output());
    assert!(!service.output().contains(PASSWORD), "{}", service.output());
}

#[tokio::test]
async fn services_that_start_at_once_make_one_table() {
    let (postgres, url) = database().await;
    let start = || Service::start(&url, &[]);
    let services = tokio::join!(start(), start(), start(), start());
    let (first, .., last) = &services;
    assert_eq!(first.put(1, "Ada", 100).await.unwrap().status, 200);
    assert_eq!(last.get(1).await.unwrap().version(), Some(1));
    // A user who may not make tables may use this one.
    let less = format!(
        "REVOKE CREATE ON SCHEMA public FROM app, public;
         CREATE ROLE less LOGIN PASSWORD '{PASSWORD}';
         GRANT SELECT, INSERT, UPDATE ON accounts TO less"
    );
    postgres.sql_in("shop", &less).await;
    let less = Service::start(postgres.url("less", PASSWORD, "shop"), &[]).await;
    assert_eq!(less.put(1, "Ada", 200).await.unwrap().version(), Some(2));
}

#[tokio::test]
async fn a_service_goes_on_when_its_database_comes_back() {
    let (postgres, url) = database().await;
    let service = Service::start(&url, &[("UNSTALE_ERROR_TTL", "0s")]).await;
    assert_eq!(service.put(1, "Ada", 100).await.unwrap().status, 200);
    postgres.kill();
    // What is not in memory only the database has.
    let refused = service.get(2).await.unwrap();
    assert_eq!(refused.status, 500, "{refused:?}");
    assert!(refused.body.contains("database: "), "{refused:?}");
    postgres.restart().await;
    until("it reads again", async || {
        service.get(2).await.unwrap().status == 404
    })
    .await;
    assert_eq!(service.put(1, "Ada", 200).await.unwrap().version(), Some(2));
    assert!(!service.output().contains(PASSWORD), "{}", service.output());
}

/// As over SQLite, where another process may hold the lock.
#[tokio::test]
async fn a_write_that_waits_for_another_transaction_ends_without_a_trace() {
    let (_postgres, url) = database().await;
    let service = Service::start(&url, &[]).await;
    assert_eq!(service.put(1, "Ada", 100).await.unwrap().status, 200);
    let other = Database::new(url);
    other
        .run("BEGIN; SELECT * FROM accounts WHERE id = 1 FOR UPDATE")
        .await;
    let waited = service.put(1, "Ada", 200).await.unwrap();
    assert_eq!(waited.status, 500, "{waited:?}");
    assert!(waited.body.contains("statement timeout"), "{waited:?}");
    // Other rows are written meanwhile.
    assert_eq!(service.put(2, "Bob", 100).await.unwrap().status, 200);
    other.run("ROLLBACK").await;
    let read = service.get(1).await.unwrap();
    assert_eq!(
        (read.version(), &read.json()["balance"]),
        (Some(1), &100.into())
    );
}

#[tokio::test]
async fn a_service_that_finds_no_database_says_why() {
    let (_postgres, url) = database().await;
    let wrong = url.replace(PASSWORD, "wr0ng-p4ssw0rd");
    let nowhere = "postgres://app:wr0ng-p4ssw0rd@127.0.0.1:1/shop";
    let no_url = "postgres://app:wr0ng-p4ssw0rd@127.0.0.1:none/shop";
    for (place, status, why) in [
        (&*wrong, 1, "password authentication failed"),
        (nowhere, 1, "error connecting to server"),
        // Starting again would not help.
        (
            no_url,
            2,
            "write postgres://user:password@host:5432/database",
        ),
    ] {
        let failed = Service::try_start(place, &[]).await.unwrap_err();
        assert_eq!(failed.status.code(), Some(status), "{}", failed.output);
        assert!(failed.output.contains(why), "{}", failed.output);
        assert!(!failed.output.contains("p4ssw0rd"), "{}", failed.output);
    }
}
