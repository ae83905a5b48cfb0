//! What docs/cli.md and README.md show of the program: the demo, and a session.

use std::collections::BTreeSet;
use std::time::Instant;

use testkit::redis::RedisServer;
use testkit::shell::Shell;
use unstale::{Cache, Settings, operate};

use super::kinds::kinds;
use super::{POLL, RECOVERY};
use crate::documents::read;

pub(super) fn demo([commands, summary]: [Vec<&str>; 2]) {
    let mut shell = Shell::start(&[]);
    assert_eq!(commands.len(), 1);
    let printed = shell.succeed(commands[0]);
    let begin = printed.find(summary[0]).expect("the summary");
    assert_eq!(kinds(printed[begin..].lines()), kinds(summary));
}

pub(super) fn session([install, session, heard]: [Vec<&str>; 3]) {
    let redis = RedisServer::start();
    let mut shell = Shell::start(&[("6397", redis.port())]);
    for line in &install {
        shell.succeed(line);
    }
    let page = read("docs/cli.md");
    let meanwhile = page.split_once("Meanwhile `").unwrap().1;
    let tail = meanwhile.split_once('`').unwrap().0;
    let mut listening = None;
    let mut typed = BTreeSet::from([tail]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut service = None;
    let mut lines = session.into_iter().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").expect("a prompt");
        if command.contains("invalidate") && listening.is_none() {
            service = Some(runtime.block_on(accounts(&redis.url())));
            shell.succeed(&format!("{tail} &"));
            listening = Some(shell.last());
            shell.until(shell.last(), |text| text.contains("listening"));
        }
        let printed = shell.succeed(command);
        typed.insert(command);
        let shown = std::iter::from_fn(|| lines.next_if(|line| !line.starts_with("$ ")));
        assert_eq!(kinds(printed.lines()), kinds(shown), "{command}");
    }
    assert!(service.is_some());
    let number = listening.expect("something is invalidated");
    let printed = shell.until(number, |text| text.lines().count() >= heard.len());
    assert_eq!(kinds(printed.lines()), kinds(heard), "{tail}");

    // The table has the commands too, and some that the session lacks.
    let table = page.split_once("| command | what it does | example |\n");
    let rows = table.unwrap().1.lines().skip(1);
    let rows = rows.take_while(|row| row.starts_with('|'));
    let examples: Vec<_> = rows.map(|row| row.rsplit('`').nth(1).unwrap()).collect();
    assert!(examples.len() >= 6, "{examples:?}");
    for example in examples {
        if typed.insert(example) {
            shell.succeed(example);
        }
    }
}

/// The service of the session, whose cache Redis knows of.
async fn accounts(url: &str) -> (unstale::Instance, Cache<u64, u64>) {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    let instance = unstale::Instance::start(settings.clone()).await.unwrap();
    let cache = instance.cache("accounts").build().unwrap();
    let deadline = Instant::now() + RECOVERY;
    loop {
        let audience = operate::audience(&settings, "accounts").await.unwrap();
        if audience.formats.len() == 1 {
            return (instance, cache);
        }
        assert!(Instant::now() < deadline, "{audience:?}");
        tokio::time::sleep(POLL).await;
    }
}
