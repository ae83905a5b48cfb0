//! The processes that other tests stand on keep their own promises.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::service::Service;

use super::until;

/// Longer than any answer takes, shorter than a test is patient.
const QUIET: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_service_answers_stands_still_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("accounts.db"), &[]).await;
    assert_eq!(service.get(1).await.unwrap().status, 404);
    let made = service.put(1, "Ada", 100).await.unwrap();
    assert_eq!((made.status, made.version()), (200, Some(1)), "{made:?}");
    let read = service.get(1).await.unwrap();
    assert_eq!(
        (read.status, read.cache.as_deref()),
        (200, Some("miss")),
        "{read:?}"
    );
    let account = service.get(1).await.unwrap();
    assert_eq!(account.cache.as_deref(), Some("hit"), "{account:?}");
    assert_eq!(
        (&account.json()["name"], &account.json()["balance"]),
        (&"Ada".into(), &100.into())
    );
    assert_eq!(service.put(1, "Ada", 50).await.unwrap().version(), Some(2));
    assert_eq!(service.get(1).await.unwrap().version(), Some(2));
    assert!(service.metrics().await.unwrap().contains("hit"));
    let said = service.explain(1).await.unwrap();
    assert_eq!((said.status, &said.json()["outcome"]), (200, &"hit".into()));
    assert_eq!(said.json()["held"]["exists"], true, "{said:?}");
    assert_eq!(said.json()["cause"], serde_json::Value::Null, "{said:?}");
    let what = &said.json()["last_invalidation"]["what"];
    assert!(
        what.as_str().is_some_and(|it| it.contains("accounts")),
        "{said:?}"
    );
    let unknown = service.explain(2).await.unwrap().json();
    assert_eq!(
        (&unknown["outcome"], &unknown["cause"]),
        (&"miss".into(), &"cold".into())
    );
    assert!(!said.body.contains("Ada"), "it has no value: {said:?}");

    service.stop();
    {
        let mut read = std::pin::pin!(service.get(1));
        assert!(tokio::time::timeout(QUIET, &mut read).await.is_err());
        service.cont();
        assert_eq!(read.await.unwrap().status, 200);
    }

    service.delete(1).await.unwrap();
    assert_eq!(service.get(1).await.unwrap().status, 404);
    let status = service.terminate().await;
    assert!(status.success(), "{status}: {}", service.output());
    assert!(service.get(1).await.is_err());
}

/// The cache counts entries, so a row has a largest size.
#[tokio::test]
async fn a_row_of_the_service_has_a_largest_size() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("accounts.db"), &[]).await;
    for (letters, status) in [(200, 200), (201, 422), (900_000, 422)] {
        let put = service.put(1, &"é".repeat(letters), 1).await.unwrap();
        assert_eq!(put.status, status, "{letters} letters");
    }
}

/// A client that never finishes its request delays the end, and a second signal does not wait for it.
#[tokio::test]
async fn a_second_signal_ends_a_service_that_waits_for_requests() {
    until("the second signal counts", async || {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::start(&dir.path().join("accounts.db"), &[]).await;
        let mut half = TcpStream::connect(service.address()).unwrap();
        half.write_all(b"GET /accounts/1 HTTP/1.1\r\nHost: half")
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(service.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        until("the first is heard", async || {
            service.output().contains("asked to terminate")
        })
        .await;
        let status = service.terminate().await;
        assert!(status.success(), "{status}: {}", service.output());
        // On a machine that stands still for long the wait is over by itself.
        service.output().contains("asked again")
    })
    .await;
}

#[tokio::test]
async fn a_service_that_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("UNSTALE_TTL", "soon")];
    let failed = Service::try_start(&dir.path().join("accounts.db"), &settings)
        .await
        .unwrap_err();
    assert!(!failed.status.success());
    assert!(failed.output.contains("UNSTALE_TTL"), "{}", failed.output);
}
