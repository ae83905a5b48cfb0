//! A login that the database refuses: a mistake at the start, and something that passes later.

use super::rig::{PASSWORD, ROLE, Rig, Way};
use crate::support::over_redis::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_login_at_the_start_is_reported_and_ends_the_program() {
    let rig = Rig::start().await;
    let wrong = "wr0ng-p4ssw0rd";
    let right = rig.url(Way::Straight);
    for (url, why) in [
        (
            right.replace(PASSWORD, wrong),
            "password authentication failed",
        ),
        (
            right.replace(ROLE, "stranger"),
            "password authentication failed",
        ),
        (format!("{right}s"), "does not exist"),
    ] {
        for args in [&["--check"][..], &[]] {
            let ran = rig.run(args, &url);
            assert_eq!(ran.status, Some(2), "{ran:?}");
            let role = if url.contains(ROLE) { ROLE } else { "stranger" };
            let refusal =
                format!("the database of UNSTALE_RELAY_DATABASE_URL refuses role \"{role}\": ");
            for part in [&*refusal, why] {
                assert!(ran.stderr.contains(part), "{part}: {ran:?}");
            }
            let text = format!("{}{}", ran.stdout, ran.stderr);
            assert!(!text.contains(wrong) && !text.contains(PASSWORD), "{text}");
        }
    }
    let right = rig.relay(Way::Straight).await;
    assert_eq!(right.says(PASSWORD), 0);
    assert_eq!(
        rig.as_relay(&["--check"]).stdout.matches(PASSWORD).count(),
        0
    );
}

/// A password that is being changed: the relay goes on, and logs it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_later_is_tried_again() {
    let rig = Rig::start().await;
    let relay = rig.relay(Way::Straight).await;
    let password = async |password: &str| {
        let sql = format!("ALTER ROLE {ROLE} PASSWORD '{password}'");
        rig.postgres.sql(&sql).await;
    };
    password("another").await;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'");
    rig.postgres.sql(&end).await;
    let refused = "password authentication failed";
    relay.until_says(refused).await;
    let tries = || rig.postgres.log().matches(refused).count();
    until("it tries again", async || tries() > 3).await;
    assert_eq!(relay.says(refused), 1, "{:?}", relay.lines());
    password(PASSWORD).await;
    until("it relays again", async || relay.says("relaying shop") == 2).await;
    assert_eq!(relay.terminate().await.code(), Some(0));
}
