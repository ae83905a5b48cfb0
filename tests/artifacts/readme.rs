//! Whoever types what README.md prints gets what README.md says.
//!
//! Every block of code has one test, which runs it in a folder of its own; [`Shell`] says what is
//! typed otherwise than printed (ports, for the most part). A block that nobody runs fails
//! `every_block_has_a_test`.

pub(crate) mod kinds;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kinds::kinds;
use testkit::redis::RedisServer;
use testkit::resp::Client;
use testkit::service::Service;
use testkit::shell::Shell;
use unstale::{Cache, Settings, operate};

/// How soon after Redis is back all is as before. README.md says about a second; the rest is for a
/// busy machine.
const RECOVERY: Duration = Duration::from_secs(120);

/// Between two looks at something that will be true soon.
const POLL: Duration = Duration::from_millis(50);

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A block of code, as README.md has it.
#[derive(Debug)]
struct Block {
    /// What stands behind the backquotes.
    language: String,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let readme = read("README.md");
    let mut lines = readme.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        blocks.push(Block {
            language: language.to_owned(),
            lines: block.map(str::to_owned).collect(),
        });
    }
    blocks
}

/// Declares tests, each with the blocks it is about, in README.md's order: their language and how
/// they begin.
macro_rules! tests {
    ($($(#[$attribute:meta])* fn $name:ident([$(($language:literal, $begins:literal)),+]) $body:path;)+) => {
        /// Language and beginning of every block that a test is about.
        const TESTED: &[(&str, &str)] = &[$($(($language, $begins)),+),+];

        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                let blocks = blocks();
                let of = |language: &str, begins: &str| {
                    let is = |block: &&Block| {
                        block.language == language && block.lines[0].starts_with(begins)
                    };
                    let mut found = blocks.iter().filter(is);
                    let block = found.next().expect("README.md has the block");
                    assert!(found.next().is_none(), "two blocks begin with {begins}");
                    block.lines.iter().map(String::as_str).collect::<Vec<_>>()
                };
                $body([$(of($language, $begins)),+]);
            }
        )+
    };
}

tests! {
    fn rust_in_the_readme_is_a_doctest([("rust", "use unstale::{BoxError, Instance")]) doctest;
    fn rust_of_the_write_is_a_doctest([("rust", "use unstale::{Cache, WriteError")]) doctest;
    fn rust_of_the_shared_tier_is_a_doctest([("rust", "use serde::")]) doctest;
    fn rust_of_the_api_keys_is_a_doctest([("rust", "// In full: examples/api_keys")]) doctest;
    fn rust_of_the_user_cache_is_a_doctest([("rust", "// In full: examples/user_cache")]) doctest;
    fn rust_of_the_account_scheduler_is_a_doctest([
        ("rust", "// In full: examples/account_scheduler")
    ]) doctest;
    fn rust_of_the_oidc_sessions_is_a_doctest([
        ("rust", "// In full: examples/oidc_sessions")
    ]) doctest;
    fn rust_of_the_third_party_tokens_is_a_doctest([
        ("rust", "// In full: examples/third_party_tokens")
    ]) doctest;
    fn one_variable_makes_the_quick_start_a_member_of_a_fleet([
        ("sh", "export UNSTALE_REDIS_URL=")
    ]) one_variable;
    fn one_command_shows_the_demo([
        ("sh", "cargo run --release --features cli -- demo"), ("text", "What happened")
    ]) demo;
    fn the_program_prints_what_the_readme_shows([
        ("sh", "cargo install"), ("console", "$ export"), ("text", "listening to")
    ]) program;
    fn three_commands_make_a_coherent_pair([
        ("sh", "cargo build --release --example accounts"),
        ("sh", "curl -i 127.0.0.1:8082/accounts/1     # x-cache: hit"),
        ("sh", "kill -9 %1")
    ]) pair;
    fn a_python_program_invalidates([("sh", "pip install")]) python;
    fn the_log_says_what_the_readme_shows([("text", " INFO coherent")]) log;
}

#[test]
fn every_block_has_a_test() {
    let tested = |block: &Block| {
        TESTED.iter().any(|(language, begins)| {
            block.language == *language && block.lines[0].starts_with(begins)
        })
    };
    let blocks = blocks();
    assert!(blocks.len() >= TESTED.len());
    for block in &blocks {
        assert!(tested(block), "nobody runs this block: {block:?}");
    }
}

#[test]
fn every_example_is_listed_and_run() {
    let readme = read("README.md");
    let manifest = read("Cargo.toml");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // A file, or a folder that is a program; the reference service has a section of its own.
        let (link, tests) = if path.extension().is_some_and(|end| end == "rs") {
            (
                format!("{name}.rs"),
                "tests/artifacts/examples.rs".to_owned(),
            )
        } else if path.join("main.rs").is_file() && name != "accounts" {
            (
                format!("{name}/main.rs"),
                format!("tests/scenarios/{name}.rs"),
            )
        } else {
            continue;
        };
        let row = format!("\n| [`{name}`](examples/{link}) | ");
        let row = readme.split_once(&row).map(|(_, row)| row);
        let row = row.and_then(|row| row.lines().next());
        assert!(row.is_some(), "README.md does not list {name}");
        assert!(
            read(&tests).contains(&format!("shows(\"{name}\", ")),
            "no test runs {name}"
        );
        // What `cargo run --example NAME` asks for, README.md says beforehand: features that are not
        // on by default.
        let needs = manifest.split_once(&format!("name = \"{name}\"\nrequired-features = ["));
        let needs = needs.and_then(|(_, rest)| rest.split_once(']'));
        let features = needs.map_or("", |(features, _)| features).split(", ");
        for feature in features.map(|feature| feature.trim_matches('"')) {
            let by_default = ["", "redis", "tls", "prometheus"].contains(&feature);
            let flag = format!("`--features {feature}`");
            assert!(
                by_default || row.unwrap().contains(&flag),
                "{name} needs {flag}"
            );
        }
        count += 1;
    }
    let listed = readme
        .lines()
        .filter(|line| line.starts_with("| [`") && line.contains("](examples/"));
    assert_eq!(listed.count(), count, "what is listed is there");
}

#[test]
fn what_the_readme_points_to_exists() {
    let readme = read("README.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = readme.split("](").skip(1);
    let links = links.map(|rest| rest.split_once(')').unwrap().0);
    let files: Vec<_> = links.filter(|link| !link.contains("://")).collect();
    assert!(files.len() > 8, "{files:?}");
    for link in files {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let file = if file.is_empty() { "README.md" } else { file };
        assert!(root.join(file).is_file(), "{file} does not exist");
        if heading.is_empty() {
            continue;
        }
        // As GitHub makes it of a heading.
        let headings = read(file);
        let mut headings = headings.lines().filter(|line| line.starts_with('#'));
        let named = |line: &str| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            text.replace(' ', "-") == heading
        };
        assert!(headings.any(named), "no heading {link}");
    }
    let makefile = read("Makefile");
    let targets = readme.split("`make ").skip(1);
    for target in targets.map(|rest| rest.split('`').next().unwrap()) {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}

fn doctest(_: [Vec<&str>; 1]) {
    assert!(read("src/lib.rs").contains("#[doc = include_str!(\"../README.md\")]"));
}

fn one_variable([export]: [Vec<&str>; 1]) {
    let redis = RedisServer::start();
    let mut shell = Shell::start(&[("6379", redis.port())]);
    for line in export {
        shell.succeed(line);
    }
    assert!(shell.succeed("$EXAMPLES/quick_start").contains("wrote"));
    assert_eq!(events(&redis), 1, "the write was not published");
}

/// Events in the journal, which begins with a placeholder.
fn events(redis: &RedisServer) -> i64 {
    let length = Client::connect(redis.port()).cmd(&["XLEN", "us:{default:0}j"]);
    length.int().unwrap() - 1
}

fn demo([commands, summary]: [Vec<&str>; 2]) {
    let mut shell = Shell::start(&[]);
    assert_eq!(commands.len(), 1);
    let printed = shell.succeed(commands[0]);
    let begin = printed.find(summary[0]).expect("the summary");
    assert_eq!(kinds(printed[begin..].lines()), kinds(summary));
}

fn program([install, session, heard]: [Vec<&str>; 3]) {
    let redis = RedisServer::start();
    let mut shell = Shell::start(&[("6397", redis.port())]);
    for line in &install {
        shell.succeed(line);
    }
    let readme = read("README.md");
    let meanwhile = readme.split_once("Meanwhile `").unwrap().1;
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

    // The table above has the commands too, and some that the session has not.
    let table = readme.split_once("| command | what it does | example |\n");
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

fn pair([start, session, outage]: [Vec<&str>; 3]) {
    assert_eq!(start.len(), 3, "README.md says: three commands");
    let mut shell = Shell::start(&[]);
    // One after the other without a pause, as from a clipboard.
    let printed: Vec<_> = start.iter().map(|line| shell.succeed(line)).collect();
    let last = &printed[2];
    assert!(
        last.contains("x-cache: miss") && last.contains("\"balance\":100"),
        "{last}"
    );

    for line in session {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let printed = shell.succeed(command);
        match comment.trim() {
            "x-cache: hit" => assert!(printed.contains("x-cache: hit"), "{printed}"),
            "x-cache: miss: it was invalidated; balance 250" => {
                assert!(printed.contains("x-cache: miss"), "{printed}");
                assert!(printed.contains("\"balance\":250"), "{printed}");
            }
            "coherent; verified age of each lane" => {
                assert!(printed.contains("\"state\":\"coherent\""), "{printed}");
                assert!(printed.contains("\"verified_age_ms\":["), "{printed}");
            }
            "" if command.contains("PUT") => assert!(printed.contains("250"), "{printed}"),
            "" if command.ends_with("/metrics") => {
                assert!(
                    printed.contains("unstale_hits_total{cache=\"accounts\"} 1"),
                    "{printed}"
                );
            }
            other => unreachable!("what does `{other}` promise?"),
        }
    }

    for line in outage {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let printed = shell.succeed(command);
        match comment.trim() {
            "the first job of this shell: Redis" => {}
            "503: degraded" => {
                assert!(printed.contains("503 Service"), "{printed}");
                assert!(printed.contains("\"state\":\"degraded\""), "{printed}");
            }
            "200, balance 250" => {
                assert!(printed.contains("200 OK"), "{printed}");
                assert!(printed.contains("\"balance\":250"), "{printed}");
            }
            "503" => assert!(printed.contains("nothing was committed"), "{printed}"),
            "" if command.starts_with("redis-server") => {}
            other => unreachable!("what does `{other}` promise?"),
        }
    }
    let health = "curl -sS 127.0.0.1:8082/healthz";
    let deadline = Instant::now() + RECOVERY;
    while !shell.succeed(health).contains("\"state\":\"coherent\"") {
        assert!(Instant::now() < deadline, "{}", shell.succeed(health));
        sleep(POLL);
    }
    let read = shell.succeed("curl -sS 127.0.0.1:8082/accounts/1");
    assert!(read.contains("\"balance\":250"), "it was committed: {read}");
}

fn python([lines]: [Vec<&str>; 1]) {
    let redis = RedisServer::start();
    let mut shell = Shell::start(&[("6379", redis.port())]);
    // In an environment, as whoever types `pip install`. It was moved to where it is kept, which
    // its own `pip` does not survive.
    let python = crate::python::python();
    let bin = python.parent().unwrap().display();
    shell.succeed(&format!("export PATH=\"{bin}:$PATH\""));
    shell.succeed("pip() { python3 -m pip \"$@\"; }");
    // Somebody must have said how many lanes there are.
    shell.succeed("UNSTALE_REDIS_URL=redis://127.0.0.1:6379 $EXAMPLES/quick_start");
    let before = events(&redis);
    for line in lines {
        shell.succeed(line);
    }
    assert_eq!(events(&redis), before + 1, "nothing was published");
}

/// Redis is killed under a service, comes back, and the service is told to stop.
fn log([shown]: [Vec<&str>; 1]) {
    let redis = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let printed = runtime.block_on(async {
        let url = redis.url();
        let vars = [("UNSTALE_REDIS_URL", &*url), ("UNSTALE_NAMESPACE", "shop")];
        let service = Service::start(&dir.path().join("accounts.db"), &vars).await;
        service.until_healthy(RECOVERY).await;
        redis.kill();
        let says = async |text: &str| {
            let deadline = Instant::now() + RECOVERY;
            while !service.output().contains(text) {
                assert!(Instant::now() < deadline, "{text}: {}", service.output());
                tokio::time::sleep(POLL).await;
            }
        };
        says("degraded").await;
        redis.restart();
        says("verified again").await;
        assert!(service.terminate().await.success());
        service.output()
    });
    assert!(shown.len() > 4);
    for line in shown {
        let (message, fields) = line.trim().split_once(" instance=").unwrap();
        // Between the two is what went wrong.
        let begins = message.split(": ").next().unwrap();
        let ends = message.rsplit("; ").next().unwrap();
        let (level, begins) = begins.split_once(' ').unwrap();
        let names = fields
            .split('=')
            .rev()
            .skip(1)
            .map(|part| part.rsplit(' ').next().unwrap());
        let names: Vec<_> = names.collect();
        let is_it = |line: &&str| {
            let said = line.contains(level) && line.contains(begins);
            let ended = ends == message || line.contains(ends);
            said && ended && names.iter().all(|name| line.contains(&format!(" {name}=")))
        };
        let found = printed.lines().find(is_it);
        assert!(found.is_some(), "{line}\n{names:?}\n{printed}");
    }
}
