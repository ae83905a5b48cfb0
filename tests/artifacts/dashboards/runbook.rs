//! What the runbook tells an operator to run.

use super::expression::Expression;
use super::{named, read};
use crate::support::nodes::Source;
use crate::support::over_redis::{node, settings, until};
use testkit::program;
use testkit::redis::{RedisServer, free_port};
use testkit::resp::Client;

/// Returns the spans in backquotes that begin with this, without that beginning.
fn spans(beginning: &str) -> Vec<String> {
    let runbook = read("RUNBOOK.md");
    let spans = runbook.split('`').skip(1).step_by(2);
    let found: Vec<_> = spans
        .filter_map(|span| span.strip_prefix(beginning))
        .map(str::to_owned)
        .collect();
    assert!(!found.is_empty(), "nothing begins with {beginning}");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_runbook_runs() {
    let server = RedisServer::start();
    let address = format!("127.0.0.1:{}", free_port());
    let mut settings = settings(&server.url());
    settings.metrics_addr = Some(address.parse().unwrap());
    let node = node(settings, &Source::default()).await;
    let applied = || node.metric("unstale_events_applied_total");
    for command in spans("unstale ") {
        let before = applied();
        let filled = command
            .replace("CACHE", "rows")
            .replace("KEY", "1")
            .replace("one:9100", &address)
            .replace("two:9100", &address);
        let arguments: Vec<_> = filled.split(' ').collect();
        let ran = program::run_on(&server.url(), &arguments);
        assert_eq!(ran.status, Some(0), "{command}: {ran:?}");
        if command.starts_with("invalidate") {
            until("its effect", async || applied() > before).await;
        }
    }
}

#[test]
fn redis_knows_every_command_and_setting_of_the_runbook() {
    let server = RedisServer::start();
    let mut client = Client::connect(server.port());
    for command in spans("redis-cli ") {
        let words: Vec<_> = command.split(' ').collect();
        client.cmd(&words);
    }
    let runbook = read("RUNBOOK.md");
    let setting = |span: &&str| {
        let name = |c: char| c.is_ascii_lowercase() || c == '-';
        span.contains('-') && span.chars().all(name)
    };
    let spans = runbook.split('`').skip(1).step_by(2);
    let words = spans.filter_map(|span| span.split(' ').next());
    let settings: Vec<_> = words
        .filter(|word| !word.starts_with("redis-"))
        .filter(setting)
        .collect();
    assert!(settings.len() >= 3, "{settings:?}");
    for name in settings {
        let found = client.cmd(&["CONFIG", "GET", name]);
        assert_eq!(found.array().len(), 2, "{name} is no setting");
    }
}

#[test]
fn every_query_of_the_runbook_asks_for_what_exists() {
    for query in spans("count by ") {
        let query = format!("count by {query}");
        let expression = named(&query, Expression::parse(&query));
        assert!(!expression.selectors.is_empty(), "{query}");
    }
}
