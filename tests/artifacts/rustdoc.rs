//! Every public item that can have an example has one, and says how it fails and what a dropped future does.
//!
//! Public are the names that `src/lib.rs` re-exports, those of its public modules, and their functions. Fields and
//! variants need no example: that of their type shows them.

mod items;

use std::collections::{BTreeMap, BTreeSet};

use self::items::{Item, examples, items};
use crate::documents::{read, sources};

/// Public to the compiler, but no API.
const INTERNAL: [&str; 4] = ["src/bin/", "src/internals", "src/operate", "src/relay"];

/// Faults for tests: a page of their own, whose examples call each of them.
const TESTING: &str = "src/testing.rs";

/// The names that `src/lib.rs` re-exports.
fn exported() -> BTreeSet<String> {
    let library = read("src/lib.rs");
    let mut names = BTreeSet::new();
    let mut hidden = false;
    let statements = library.split_inclusive(';');
    for statement in statements {
        hidden |= statement.contains("#[doc(hidden)]");
        let Some((_, list)) = statement.split_once("pub use ") else {
            hidden = false;
            continue;
        };
        let list = list.rsplit("::{").next().unwrap_or(list);
        let last = |path: &str| path.rsplit("::").next().map(str::to_owned);
        let each = list
            .split(',')
            .filter_map(|path| last(path.trim().trim_end_matches(['}', ';', '\n', ' '])));
        names.extend(each.filter(|name| !hidden && !name.is_empty()));
        hidden = false;
    }
    names
}

/// Every public item of the crate.
fn public() -> Vec<Item> {
    let exported = exported();
    assert!(
        exported.len() > 45,
        "only {} names are exported",
        exported.len()
    );
    let (mut types, mut functions) = (BTreeMap::new(), Vec::new());
    let modules = |file: &str| file.starts_with("src/metrics") || file == TESTING;
    for (file, text) in sources("src") {
        if INTERNAL.iter().any(|part| file.starts_with(part)) || file.contains("/tests") {
            continue;
        }
        for item in items(&file, &text) {
            if item.signature.is_some() {
                functions.push(item);
            } else if exported.contains(&item.name) || modules(&file) {
                // Of a type that a macro defines the documented mention is the one that counts.
                let known = types.entry(item.name.clone());
                let known: &mut Option<Item> = known.or_default();
                if known
                    .as_ref()
                    .is_none_or(|known| known.docs.len() < item.docs.len())
                {
                    *known = Some(item);
                }
            }
        }
    }
    let missing = exported.iter().filter(|name| !types.contains_key(*name));
    let missing: Vec<_> = missing.collect();
    assert!(
        missing.is_empty(),
        "no documentation of {missing:?} was found"
    );
    let is_public = |item: &Item| match &item.of {
        Some(of) => types.contains_key(of),
        None => modules(&item.file),
    };
    functions.retain(is_public);
    types.into_values().flatten().chain(functions).collect()
}

/// A function without arguments may share the example of its type, and a method that of its trait, if the example
/// calls or defines it by its name. So may every fault for tests, whose module has the examples.
fn shares(item: &Item, shared: &BTreeMap<&str, String>) -> bool {
    let of = item.of.as_deref().and_then(|of| shared.get(of));
    let (called, defined) = (format!(".{}(", item.name), format!("fn {}(", item.name));
    let is_called = of.is_some_and(|code| code.contains(&called));
    let is_defined = of.is_some_and(|code| code.contains(&defined));
    if item.file == TESTING {
        return is_called || shared[TESTING].contains(&called);
    }
    let plain = ["&self", "&mut self", "self", "mut self"].contains(&item.arguments());
    (plain && is_called) || (item.is_method() && is_defined)
}

#[test]
fn every_public_item_that_can_have_an_example_has_one() {
    let items = public();
    let types = items.iter().filter(|item| item.of.is_none());
    let mut shared: BTreeMap<_, _> = types
        .map(|item| (item.name.as_str(), examples(&item.docs)))
        .collect();
    let module = read(TESTING);
    let module = module.lines().filter_map(|line| line.strip_prefix("//!"));
    shared.insert(TESTING, examples(&module.collect::<Vec<_>>().join("\n")));
    let has = |item: &&Item| !examples(&item.docs).is_empty() || shares(item, &shared);
    let missing = items.iter().filter(|item| !has(item));
    let missing: Vec<_> = missing.map(Item::label).collect();
    assert!(items.len() > 200, "only {} items are public", items.len());
    assert!(
        missing.is_empty(),
        "{} items have no example, neither of their own nor, without arguments, in that of their type:\n{}",
        missing.len(),
        missing.join("\n")
    );
}

/// What is copied from an example must not end a service.
#[test]
fn no_example_ends_the_program_on_an_error() {
    for item in public() {
        let code = examples(&item.docs);
        let ends = code.contains(".unwrap()") || code.contains(".expect(");
        assert!(!ends, "{} panics on an error", item.label());
    }
}

#[test]
fn every_public_function_says_how_it_fails_and_what_a_dropped_future_does() {
    let mut asynchronous = 0;
    for item in public().iter().filter(|item| item.signature.is_some()) {
        let says = |heading: &str| item.docs.lines().any(|line| line == heading);
        if item.returns().contains("Result<") {
            assert!(says("# Errors"), "{} has no `# Errors`", item.label());
        }
        if item.is_async() {
            asynchronous += 1;
            let label = item.label();
            assert!(says("# Cancel safety"), "{label} has no `# Cancel safety`");
        }
    }
    assert!(asynchronous > 20, "only {asynchronous} functions are async");
}
