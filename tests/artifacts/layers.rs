//! No module of the crate uses, directly or in a circle, a module that uses it.
//!
//! Every `crate::`, `super::` and `self::` path of `src` is an arrow from the module that has it to the
//! module that defines what it names, whatever is re-exported on the way. Tests are left aside. A module
//! that uses nothing has rank 0, every other one a rank above all that it uses; a module in a circle has
//! none, and the test prints the circle's arrows.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use parse::{defines, uses, without_comments, without_tests};

/// A module's path, `cache::read` say; the crate's root is empty.
type Name = String;

/// One module as it is written.
#[derive(Default)]
struct Module {
    code: String,
    children: BTreeSet<String>,
    /// What `use` brings into it, by the name that it has here.
    names: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

struct Tree(BTreeMap<Name, Module>);

fn join(module: &str, child: &str) -> Name {
    if module.is_empty() {
        child.to_owned()
    } else {
        format!("{module}::{child}")
    }
}

fn parent(module: &str) -> Name {
    module
        .rsplit_once("::")
        .map_or_else(String::new, |(parent, _)| parent.to_owned())
}

impl Tree {
    /// Reads a folder of sources, without programs and tests.
    fn read(folder: &Path) -> Self {
        let mut modules: BTreeMap<Name, Module> = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                if name == "bin" || name.ends_with("tests") || name.ends_with("tests.rs") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = name.strip_suffix(".rs") {
                    let name = name.trim_end_matches("lib").replace('/', "::");
                    let code =
                        without_tests(&without_comments(&fs::read_to_string(&path).unwrap()));
                    modules.entry(name).or_default().code = code;
                }
            }
        }
        Self::of(modules)
    }

    fn of(mut modules: BTreeMap<Name, Module>) -> Self {
        let names: Vec<_> = modules.keys().cloned().collect();
        for name in names.iter().filter(|name| !name.is_empty()) {
            let child = name.rsplit("::").next().unwrap().to_owned();
            if let Some(module) = modules.get_mut(&parent(name)) {
                module.children.insert(child);
            }
        }
        for module in modules.values_mut() {
            for path in uses(&module.code) {
                let (path, name) = path;
                match name.as_str() {
                    "*" => module.globs.push(path),
                    "_" => {}
                    _ => drop(module.names.insert(name, path)),
                }
            }
        }
        Self(modules)
    }

    /// The module that defines what a path names; none if it is outside of the crate.
    fn resolve(&self, from: &str, path: &[String], depth: usize) -> Option<Name> {
        assert!(depth < 32, "{path:?} of {from} leads nowhere");
        let mut at = from.to_owned();
        let mut rest = path;
        let (first, after) = path.split_first()?;
        match first.as_str() {
            "crate" => (at, rest) = (String::new(), after),
            "self" => rest = after,
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at = parent(&at);
                    rest = &rest[1..];
                }
            }
            child if self.0[from].children.contains(child) => {}
            name if path.len() > 1 && self.0[from].names.contains_key(name) => {}
            _ => return None,
        }
        while let Some((segment, after)) = rest.split_first() {
            let module = &self.0[&at];
            if module.children.contains(segment) {
                at = join(&at, segment);
                rest = after;
            } else if let Some(path) = module.names.get(segment) {
                // Only where it leads elsewhere: `use crate::x;` names itself in the root.
                let full: Vec<_> = path.iter().chain(after).cloned().collect();
                return self.resolve(&at, &full, depth + 1);
            } else {
                let through = module.globs.iter().find_map(|glob| {
                    let home = self.resolve(&at, glob, depth + 1)?;
                    defines(&self.0[&home].code, segment).then_some(home)
                });
                return Some(through.unwrap_or(at));
            }
        }
        Some(at)
    }

    /// Every arrow, with the paths that make it.
    fn arrows(&self) -> BTreeMap<Name, BTreeMap<Name, BTreeSet<String>>> {
        let mut arrows: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
        for (name, module) in &self.0 {
            let uses = uses(&module.code).into_iter().map(|(path, _)| path);
            for path in uses.chain(inline(module)) {
                let Some(to) = self.resolve(name, &path, 0) else {
                    continue;
                };
                if to != *name {
                    let of = arrows.entry(name.clone()).or_default();
                    of.entry(to).or_default().insert(path.join("::"));
                }
            }
        }
        arrows
    }
}

/// Paths outside of `use` that begin in the crate or in a child of the module.
fn inline(module: &Module) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let code = &module.code;
    let mut at = 0;
    while let Some(colons) = code[at..].find("::").map(|found| at + found) {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let before = code[..colons].trim_end_matches(word).len();
        let first = &code[before..colons];
        let begins = !code[..before].ends_with("::") && !code[..before].ends_with("in ");
        at = colons + 2;
        let mut path = vec![first.to_owned()];
        loop {
            let length = code[at..].find(|c| !word(c)).unwrap_or(code.len() - at);
            if length == 0 {
                break;
            }
            path.push(code[at..at + length].to_owned());
            at += length;
            if !code[at..].starts_with("::") {
                break;
            }
            at += 2;
        }
        let ours = matches!(first, "crate" | "super" | "self") || module.children.contains(first);
        if begins && ours && path.len() > 1 {
            found.push(path);
        }
    }
    found
}

/// The rank of every module that has one, and the others.
fn ranks<'a>(
    modules: impl Iterator<Item = &'a Name>,
    arrows: &BTreeMap<Name, BTreeMap<Name, BTreeSet<String>>>,
) -> (BTreeMap<Name, usize>, BTreeSet<Name>) {
    let mut ranks = BTreeMap::new();
    let mut rest: BTreeSet<Name> = modules.cloned().collect();
    loop {
        let next: Vec<_> = rest
            .iter()
            .filter_map(|name| {
                let targets = arrows.get(name).into_iter().flat_map(BTreeMap::keys);
                let below: Option<Vec<usize>> = targets.map(|to| ranks.get(to).copied()).collect();
                Some((
                    name.clone(),
                    below?.into_iter().max().map_or(0, |rank| rank + 1),
                ))
            })
            .collect();
        if next.is_empty() {
            return (ranks, rest);
        }
        for (name, rank) in next {
            rest.remove(&name);
            ranks.insert(name, rank);
        }
    }
}

/// The arrows among these modules that are part of a circle.
fn circles(
    rest: &BTreeSet<Name>,
    arrows: &BTreeMap<Name, BTreeMap<Name, BTreeSet<String>>>,
) -> Vec<String> {
    let reaches = |from: &Name, to: &Name| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            if at == to {
                return true;
            }
            if seen.insert(at) {
                next.extend(arrows.get(at).into_iter().flat_map(BTreeMap::keys));
            }
        }
        false
    };
    let mut found = Vec::new();
    for from in rest {
        for (to, paths) in &arrows[from] {
            if reaches(to, from) {
                let paths: Vec<_> = paths.iter().map(String::as_str).collect();
                found.push(format!("{from} -> {to}: {}", paths.join(", ")));
            }
        }
    }
    found
}

#[test]
fn every_arrow_between_modules_points_down() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(
        tree.0.len() > 50,
        "only {} modules were found",
        tree.0.len()
    );
    let arrows = tree.arrows();
    let count: usize = arrows.values().map(BTreeMap::len).sum();
    assert!(count > 300, "only {count} arrows were found");
    let (_, rest) = ranks(tree.0.keys(), &arrows);
    let circles = circles(&rest, &arrows);
    assert!(
        circles.is_empty(),
        "modules in a circle:\n{}",
        circles.join("\n")
    );
}

#[test]
fn an_arrow_is_found_wherever_its_path_is_written() {
    let arrow = |code: &str| {
        let mut modules = BTreeMap::new();
        for (name, code) in [
            (
                "",
                "mod a; mod b; pub use b::Thing; pub(crate) use b::{c::Deep, self as other};",
            ),
            ("a", code),
            ("b", "mod c; pub struct Thing;"),
            ("b::c", "pub struct Deep; pub fn f() {}"),
        ] {
            let code = without_tests(&without_comments(code));
            modules.insert(
                name.to_owned(),
                Module {
                    code,
                    ..Module::default()
                },
            );
        }
        let arrows = Tree::of(modules).arrows();
        let of = arrows.get("a").cloned().unwrap_or_default();
        of.into_keys().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(arrow("use crate::b::Thing;"), "b");
    assert_eq!(arrow("use crate::{b::{Thing, c::{Deep}}, x};"), " b b::c");
    assert_eq!(arrow("use crate::Deep as D;"), "b::c");
    assert_eq!(
        arrow("fn f() -> super::Thing { super::other::c::f() }"),
        "b b::c"
    );
    assert_eq!(arrow("use super::b::*;"), "b");
    assert_eq!(
        arrow("// use crate::b;\nconst A: &str = \"crate::b::Thing\"; "),
        ""
    );
    assert_eq!(
        arrow("#[cfg(test)] mod tests { use crate::b; } fn f<'a>() {}"),
        ""
    );
    assert_eq!(arrow("#[cfg(test)] use crate::b; use crate::b::c;"), "b::c");
    assert_eq!(arrow("use std::fmt; struct S(pub(in crate::b) u8);"), "");
}
