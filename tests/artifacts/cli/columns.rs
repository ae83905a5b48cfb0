//! What a person reads fits a terminal of 80 columns.

use super::*;

const COLUMNS: usize = 80;

const COMMANDS: [&str; 8] = [
    "demo",
    "settings",
    "invalidate",
    "tail",
    "status",
    "why",
    "relay",
    "doctor",
];

fn fits(ran: &Ran, what: &[&str]) {
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        assert!(line.chars().count() <= COLUMNS, "{what:?}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_help_fits_80_columns() {
    let all = run(&["--help"], &[]);
    fits(&all, &["--help"]);
    for command in COMMANDS {
        let row = format!("\n  {command} ");
        assert!(all.stdout.contains(&row), "{command}: {all:?}");
        for help in ["--help", "-h"] {
            let ran = run(&[command, help], &[]);
            assert_eq!(ran.status, Some(0), "{ran:?}");
            fits(&ran, &[command, help]);
        }
        // What is wrong with the usage, too.
        fits(&run(&[command, "--no-such-option"], &[]), &[command]);
    }
    let commands = all.stdout.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // And `help`, which clap adds.
    assert_eq!(
        commands.count(),
        COMMANDS.len() + 1,
        "a command is not in the list here"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commands_print_of_a_fleet_fits_80_columns() {
    let server = RedisServer::start();
    let url = server.url();
    let node = node(&url, 2, &source()).await;
    until_known(&url, "rows", 1).await;
    node.cache.invalidate(&1).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let metrics = folder.path().join("metrics");
    std::fs::write(&metrics, node.instance.metrics_text()).unwrap();
    let metrics = metrics.to_str().unwrap();
    let lanes = [&on(&url)[..], &[("UNSTALE_LANES", "2")]].concat();
    for args in [
        &["settings"][..],
        &["status"],
        &["status", "--metrics", metrics],
        &["doctor"],
        &["invalidate", "rows", "1", "2", "--format", "9"],
        &["why", "rows", "1"],
        &["demo", "--seconds", "3"],
    ] {
        let ran = run(args, &lanes);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        fits(&ran, args);
    }
    // The address behind an id.
    let status = run(&["status", "--metrics", metrics], &lanes);
    let id = node.instance.id().to_string();
    let member = status.stdout.lines().find(|line| line.contains(&id));
    assert!(member.unwrap().ends_with(metrics), "{status:?}");
    // A check that fails has a long remedy.
    let away = format!("redis://127.0.0.1:{}", free_port());
    let ran = run_on(&away, &["doctor"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.stdout.ends_with("1 check: 1 FAILED, 0 warnings\n"),
        "{ran:?}"
    );
    fits(&ran, &["doctor"]);
}
