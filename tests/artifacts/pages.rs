//! README.md and the pages of `docs/`: what a reader types there does what the page says.
//!
//! Every block of code has a test. Rust is compiled and run as a doctest: README.md by `src/lib.rs`, the
//! pages by `src/guide.rs`. For the other blocks a test types the commands in a folder of its own;
//! [`testkit::shell::Shell`] says what is typed otherwise than printed (ports, for the most part).

pub(crate) mod kinds;
mod links;
mod log;
mod program;
mod started;

use std::fs;
use std::time::Duration;

use testkit::built::root;

use crate::documents::read;

/// How soon after Redis is back everything is as before. The page says about a second; the rest is for
/// a busy machine.
const RECOVERY: Duration = Duration::from_secs(120);

/// Between two looks at something that will be true soon.
const POLL: Duration = Duration::from_millis(50);

/// README.md, and every page of `docs/`.
pub(crate) fn pages() -> Vec<String> {
    let folder = fs::read_dir(root().join("docs")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages = names.filter(|name| name.ends_with(".md"));
    let mut pages: Vec<_> = pages.map(|name| format!("docs/{name}")).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// A block of code, as a page has it.
#[derive(Debug)]
struct Block {
    page: String,
    /// The word behind the backquotes.
    language: String,
    lines: Vec<String>,
}

impl Block {
    fn is(&self, (page, language, begins): (&str, &str, &str)) -> bool {
        self.page == page && self.language == language && self.lines[0].starts_with(begins)
    }
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let text = read(&page);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else {
                continue;
            };
            let block = lines.by_ref().take_while(|line| line.trim() != "```");
            blocks.push(Block {
                page: page.clone(),
                language: language.to_owned(),
                lines: block.map(str::to_owned).collect(),
            });
        }
    }
    blocks
}

/// Declares tests, each with its blocks: their page, their language, and how they begin.
macro_rules! tests {
    ($(fn $name:ident([$(($page:literal, $language:literal, $begins:literal)),+]) $body:path;)+) => {
        /// Page, language and beginning of every block that a test below types.
        const TYPED: &[(&str, &str, &str)] = &[$($(($page, $language, $begins)),+),+];

        $(
            #[test]
            fn $name() {
                let blocks = blocks();
                let of = |it: (&str, &str, &str)| {
                    let mut found = blocks.iter().filter(|block| block.is(it));
                    let block = found.next().expect("the page has the block");
                    assert!(found.next().is_none(), "two blocks begin like {it:?}");
                    block.lines.iter().map(String::as_str).collect::<Vec<_>>()
                };
                $body([$(of(($page, $language, $begins))),+]);
            }
        )+
    };
}

tests! {
    fn cargo_adds_what_the_readme_says([("README.md", "sh", "cargo add")]) started::install;
    fn cargo_makes_a_project_as_the_first_page_says([
        ("docs/getting-started.md", "sh", "cargo new")
    ]) started::install;
    fn one_variable_makes_the_quick_start_a_member_of_a_fleet([
        ("README.md", "sh", "export UNSTALE_REDIS_URL=")
    ]) started::one_variable;
    fn one_variable_of_the_first_page_makes_a_member_of_a_fleet([
        ("docs/getting-started.md", "sh", "export UNSTALE_REDIS_URL=")
    ]) started::one_variable;
    fn three_commands_make_a_coherent_pair([
        ("docs/getting-started.md", "sh", "cargo build --release --example accounts"),
        ("docs/getting-started.md", "sh", "curl -i 127.0.0.1:8082/accounts/1     # x-cache: hit"),
        ("docs/getting-started.md", "sh", "kill -9 %1")
    ]) started::pair;
    fn python_program_invalidates_as_the_first_page_says([
        ("docs/getting-started.md", "sh", "pip install")
    ]) started::python;
    fn features_for_tests_are_those_of_the_package([
        ("docs/testing-your-service.md", "toml", "[dev-dependencies]")
    ]) started::dependencies;
    fn one_command_shows_the_demo_and_ends_as_the_page_says([
        ("README.md", "sh", "cargo run --release --features cli -- demo"),
        ("docs/cli.md", "text", "What happened")
    ]) program::demo;
    fn program_prints_what_its_page_shows([
        ("docs/cli.md", "sh", "cargo install"),
        ("docs/cli.md", "console", "$ export"),
        ("docs/cli.md", "text", "listening to")
    ]) program::session;
    fn log_has_the_lines_that_the_page_shows([
        ("docs/production.md", "text", " INFO coherent")
    ]) log::log;
}

/// Blocks that tests in other files run, and these files.
const ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    (
        "docs/relay.md",
        "sh",
        "cargo build",
        "tests/artifacts/relay.rs",
    ),
    (
        "docs/relay.md",
        "sh",
        "export UNSTALE_RELAY",
        "tests/artifacts/relay.rs",
    ),
    (
        "docs/relay.md",
        "sh",
        "psql shop",
        "tests/artifacts/relay.rs",
    ),
    (
        "docs/relay.md",
        "toml",
        "source =",
        "tests/artifacts/relay.rs",
    ),
    ("docs/relay.md", "sql", "BEGIN;", "tests/relay/messages.rs"),
    (
        "docs/observability.md",
        "console",
        "$ unstale why",
        "tests/artifacts/cli/why.rs",
    ),
];

#[test]
fn every_block_of_code_on_a_page_has_a_test() {
    let blocks = blocks();
    let [readme, guide] = ["src/lib.rs", "src/guide.rs"].map(read);
    for (page, language, begins, test) in ELSEWHERE {
        let found = blocks
            .iter()
            .any(|block| block.is((page, language, begins)));
        assert!(found, "{page} has no such block: {begins}");
        assert!(read(test).contains(page), "{test} does not read {page}");
    }
    for block in &blocks {
        if block.language.starts_with("rust") {
            // `ignore` and `text` would keep it from the compiler.
            let flags: Vec<_> = block.language.split(',').skip(1).collect();
            assert!(
                flags
                    .iter()
                    .all(|flag| ["no_run", "compile_fail"].contains(flag)),
                "{block:?}"
            );
            let doctests = if block.page == "README.md" {
                &readme
            } else {
                &guide
            };
            let included = format!("include_str!(\"../{}\")", block.page);
            assert!(doctests.contains(&included), "{} is no doctest", block.page);
            continue;
        }
        let elsewhere = ELSEWHERE
            .iter()
            .map(|(page, language, begins, _)| (*page, *language, *begins));
        let tested = TYPED
            .iter()
            .copied()
            .chain(elsewhere)
            .any(|it| block.is(it));
        assert!(tested, "no test runs this block: {block:?}");
    }
}

/// A page of documentation that is longer is not read.
#[test]
fn readme_has_at_most_two_hundred_lines() {
    assert!(read("README.md").lines().count() <= 200);
}
