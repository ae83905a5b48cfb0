//! A cache that is filled before the first request.

#[path = "../../examples/warm_up/progress.rs"]
mod progress;

use progress::Progress;
use testkit::example::shows;

#[tokio::test]
async fn scenario_warm_up_ends_with_every_row_and_draws_nothing_without_a_terminal() {
    let lines = [
        "10000 of 10000 rows are in memory, by 20 queries",
        "the first read: Some(\"product 4711\") (Hit)",
    ];
    let output = shows("warm_up", &[], &[], &lines).await;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    assert_eq!(stderr, "");
    assert_eq!(stdout.lines().count(), lines.len(), "{stdout}");
    assert!(!stdout.contains('\r'), "{stdout}");
}

#[test]
fn scenario_warm_up_draws_a_bar_over_itself_that_ends_full() {
    let mut drawn = Vec::new();
    let mut progress = Progress::new(Some(&mut drawn), 1_000).unwrap();
    for done in [500, 1_000] {
        progress.at(done).unwrap();
    }
    progress.end().unwrap();
    let drawn = String::from_utf8(drawn).unwrap();
    let (empty, half, full) = (
        ".".repeat(30),
        "#".repeat(15) + &".".repeat(15),
        "#".repeat(30),
    );
    let expected = format!("\r[{empty}] 0 of 1000\r[{half}] 500 of 1000\r[{full}] 1000 of 1000\n");
    assert_eq!(drawn, expected);
    // Nothing to do is not an error.
    let mut drawn = Vec::new();
    Progress::new(Some(&mut drawn), 0).unwrap().end().unwrap();
    assert_eq!(drawn, format!("\r[{empty}] 0 of 0\n").into_bytes());
}
