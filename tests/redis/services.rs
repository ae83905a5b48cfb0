//! The processes that other tests stand on keep their own promises.

use std::time::Duration;

use testkit::service::Service;

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
