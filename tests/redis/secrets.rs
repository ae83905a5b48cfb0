//! Secrets that are changed in their files while instances run, through the settings that users have.

use std::fs;
use std::path::Path;

use unstale::Settings;

use super::{settings, until};
use crate::support::nodes::{Node, Source};
use crate::support::over_redis::{POLL, node, quick};
use testkit::redis::RedisServer;

const OLD: &str = "the old secret, of sixteen";
const NEW: &str = "the new secret, of sixteen";
const NEITHER: &str = "a secret that nothing uses";

/// With a secret in a file of this folder, and a second one that is accepted.
fn in_files(server: &RedisServer, variable: &str, folder: &Path) -> Settings {
    let file = |name: &str| folder.join(name).display().to_string();
    let vars = [
        ("UNSTALE_REDIS_URL".to_owned(), server.url()),
        ("UNSTALE_NAMESPACE".to_owned(), "shop".to_owned()),
        (format!("{variable}_FILE"), file("first")),
        (format!("{variable}_ACCEPTED_FILE"), file("accepted")),
    ];
    quick(Settings::from_vars(vars).unwrap())
}

fn write(folder: &Path, first: &str, accepted: &str) {
    fs::write(folder.join("first"), first).unwrap();
    fs::write(folder.join("accepted"), accepted).unwrap();
}

fn refused(node: &Node) -> u64 {
    node.metric(r#"unstale_events_dropped_total{reason="refused"}"#)
}

/// Returns whether what one invalidates is dropped by the other because it believes it, and not because it
/// does not.
async fn believed(writer: &Node, reader: &Node) -> bool {
    reader.get(1).await;
    let before = refused(reader);
    until("it is acknowledged", async || {
        writer.cache.invalidate(&1).await.is_ok()
    })
    .await;
    until("it is dropped", async || reader.cache.peek(&1).is_none()).await;
    refused(reader) == before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signing_key_that_is_changed_in_its_file_needs_no_restart() {
    let (server, source) = (RedisServer::start(), Source::default());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    source.set(1, 10);
    write(folder, OLD, NEITHER);
    let changed = node(in_files(&server, "UNSTALE_SIGNING_KEY", folder), &source).await;
    let mut fixed = settings(&server.url());
    fixed.signing_key = Some(NEW.to_owned());
    let fixed = node(fixed, &source).await;
    until("they do not believe one another", async || {
        !believed(&fixed, &changed).await && !believed(&changed, &fixed).await
    })
    .await;
    write(folder, OLD, NEW);
    until("the new key is believed", async || {
        believed(&fixed, &changed).await
    })
    .await;
    write(folder, NEW, OLD);
    until("it signs with the new key", async || {
        believed(&changed, &fixed).await
    })
    .await;
    // What the start would refuse changes nothing.
    write(folder, "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "");
    // Longer than until the files are looked at.
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert!(believed(&changed, &fixed).await && believed(&fixed, &changed).await);
}

#[cfg(feature = "shared")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_secret_that_is_changed_in_its_file_needs_no_restart() {
    use crate::support::sharing::Node;
    use unstale::{Instance, SharedTier};

    let (server, source) = (RedisServer::start(), Source::default());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, OLD, NEITHER);
    let start = async |mut settings: Settings| {
        settings.tier_timeout = std::time::Duration::from_secs(2);
        let instance = Instance::start(settings).await.unwrap();
        Node::of(instance, &source, SharedTier::new())
    };
    let changed = start(in_files(&server, "UNSTALE_TIER_SECRET", folder)).await;
    let mut fixed = settings(&server.url());
    fixed.tier_secret = Some(NEW.to_owned());
    let fixed = start(fixed).await;
    let mut key = 0;
    // What one has loaded, the other finds.
    let mut finds = async || {
        until("it is stored", async || {
            key += 1;
            source.set(key, 10);
            let before = changed.stores("stored");
            assert_eq!(changed.get(key).await, Some(10));
            for _ in 0..100 {
                if changed.stores("stored") > before {
                    return true;
                }
                tokio::time::sleep(POLL).await;
            }
            false
        })
        .await;
        let before = fixed.reads("found");
        assert_eq!(fixed.get(key).await, Some(10));
        fixed.reads("found") > before
    };
    for _ in 0..3 {
        assert!(!finds().await, "under another secret");
    }
    write(folder, NEW, OLD);
    until("values are found under the new secret", finds).await;
}
