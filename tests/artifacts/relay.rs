//! The five minutes of docs/relay.md, as its reader types them.

use testkit::postgres::PostgresServer;
use testkit::redis::RedisServer;
use testkit::shell::Shell;
use tokio::task::block_in_place;

use crate::documents::read;
use crate::support::over_redis::until;

/// The blocks of a language, without their fences.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let begun = text.split(&*fence).skip(1);
    begun
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_minutes_show_a_row_changed_by_sql_on_every_instance() {
    let redis = block_in_place(RedisServer::start);
    let postgres = PostgresServer::start().await;
    let text = read("docs/relay.md");
    let (_, text) = text.split_once("\n## Five minutes\n").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    let scripts = blocks(text, "sh");
    let [start, relay, change] = scripts[..] else {
        unreachable!("three blocks: {scripts:?}");
    };
    let [rules] = blocks(text, "toml")[..] else {
        unreachable!("the rules");
    };
    let ports = [("6379", redis.port()), ("5432", postgres.port())];
    let mut shell = block_in_place(|| Shell::start(&ports));
    let (folder, port) = (postgres.folder().display(), postgres.port());
    let mut run = |line: &str| block_in_place(|| shell.succeed(line));
    run(&format!(
        "export PGHOST={folder} PGPORT={port} PGUSER=postgres"
    ));
    run(&format!("cat >rules.toml <<'END'\n{rules}END"));
    for line in start.lines().chain(relay.lines()) {
        run(line);
    }
    let [insert, first, update, second] = change.lines().collect::<Vec<_>>()[..] else {
        unreachable!("a row, the look, another value, the look: {change}");
    };
    run(insert);
    let shows = async |run: &mut dyn FnMut(&str) -> String, line: &str| {
        let (command, comment) = line.split_once('#').unwrap();
        let balance = comment.trim().strip_prefix("balance ").unwrap();
        let shown = format!("\"balance\":{balance}");
        until(&format!("both show {balance}"), async || {
            run(command).matches(&shown).count() == 2
        })
        .await;
    };
    shows(&mut run, first).await;
    // Only a mark of the relay lets an entry be served for longer than the bound, which is 2 s.
    let ages = first.replace("curl -s", "curl -si");
    until("both have had the row for long", async || {
        let shown = run(&ages);
        let ages = shown.lines().filter_map(|line| line.strip_prefix("age: "));
        ages.filter(|age| age.trim().parse::<u64>().unwrap() > 4)
            .count()
            == 2
    })
    .await;
    run(update);
    shows(&mut run, second).await;
}
