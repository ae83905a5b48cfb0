//! The packages that are published build, say what they are, and carry nothing that only the
//! repository needs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::built::root;

/// Each published package and its folder.
const PACKAGES: [(&str, &str); 2] = [("unstale", ""), ("unstale-derive", "derive")];

/// Bytes of all files of a package. The registry takes 10 MB, compressed.
const MOST_BYTES: u64 = 5_000_000;

/// Slugs of the registry's list of categories (November 2026): a package that names another one is
/// published without it.
const CATEGORIES: [&str; 3] = ["asynchronous", "caching", "concurrency"];

fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    cargo.args(arguments).arg("--offline").current_dir(root());
    let output = cargo.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every file of a package, as cargo lists them.
fn packaged(package: &str) -> BTreeSet<PathBuf> {
    let list = cargo(&["package", "--list", "--allow-dirty", "--package", package]);
    list.lines().map(PathBuf::from).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} is outside", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

/// What a source file of a package takes in when it is compiled as a dependency.
fn included(folder: &Path, source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(folder.join(source)).unwrap();
    let beside = source.parent().unwrap();
    let mut files = Vec::new();
    for mark in ["include_str!(\"", "include_bytes!(\"", "#[path = \""] {
        for (at, _) in text.match_indices(mark) {
            if text[..at].trim_end().ends_with("#[cfg(test)]") {
                continue;
            }
            let file = text[at + mark.len()..].split_once('"').unwrap().0;
            files.push(plain(&beside.join(file)));
        }
    }
    files
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| endings.contains(&end.to_ascii_lowercase().as_str()))
}

/// Rust sources of a package, without their examples.
fn sources(packaged: &BTreeSet<PathBuf>) -> impl Iterator<Item = &PathBuf> {
    packaged.iter().filter(|file| ends(file, &["rs"]))
}

#[test]
fn each_package_carries_everything_that_its_source_includes() {
    for (package, folder) in PACKAGES {
        let folder = root().join(folder);
        let packaged = packaged(package);
        let wanted = sources(&packaged).flat_map(|file| included(&folder, file));
        let wanted: BTreeSet<_> = wanted.collect();
        assert!(wanted.len() > 10 || package != "unstale", "{wanted:?}");
        let missing: Vec<_> = wanted.difference(&packaged).collect();
        assert!(missing.is_empty(), "{package}: {missing:?}");
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"] {
            assert!(packaged.contains(Path::new(file)), "{package}: {file}");
        }
    }
}

#[test]
fn the_package_carries_every_document_for_users() {
    let packaged = packaged("unstale");
    for file in ["CHANGELOG.md", "SECURITY.md", "PROTOCOL.md"] {
        assert!(packaged.contains(Path::new(file)), "{file}");
    }
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let file = Path::new("docs").join(entry.unwrap().file_name());
        let wanted = ends(&file, &["md"]);
        assert!(!wanted || packaged.contains(&file), "{}", file.display());
    }
}

/// Tests use `testkit`, which is not published. Rustdoc shows one picture.
#[test]
fn no_package_carries_tests_or_pictures_but_the_one_that_rustdoc_shows() {
    let pictures = ["png", "svg", "jpg", "jpeg", "gif", "webp"];
    let ours = [
        "tests",
        "testkit",
        "benches",
        "fuzz",
        "dashboards",
        "deploy",
        "scripts",
        "target",
        ".ci",
    ];
    for (package, _) in PACKAGES {
        let packaged = packaged(package);
        let unwanted = packaged.iter().filter(|file| {
            let picture = ends(file, &pictures) && *file != Path::new("docs/concepts.svg");
            let tests = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
            picture || tests || ours.iter().any(|folder| file.starts_with(folder))
        });
        let unwanted: Vec<_> = unwanted.collect();
        assert!(unwanted.is_empty(), "{package}: {unwanted:?}");
    }
}

/// The package leaves out `tests.rs` and `tests/`: a build must not need them.
#[test]
fn modules_named_tests_are_compiled_for_tests_alone() {
    for file in sources(&packaged("unstale")) {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for (at, _) in text.match_indices("mod tests;") {
            let before: Vec<_> = text[..at].lines().rev().take(3).collect();
            let alone = |line: &&str| line.starts_with("#[cfg(") && line.contains("test");
            assert!(before.iter().any(alone), "{}", file.display());
        }
    }
}

#[test]
fn each_package_is_smaller_than_its_bound() {
    for (package, folder) in PACKAGES {
        let folder = root().join(folder);
        // What cargo makes itself is not there, or is in the root.
        let size = |file| fs::metadata(folder.join(file)).map_or(0, |file| file.len());
        let bytes: u64 = packaged(package).iter().map(size).sum();
        assert!(bytes < MOST_BYTES, "{package} has {bytes} bytes");
    }
}

#[test]
fn each_package_says_what_it_is() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let found = metadata["packages"].as_array().unwrap();
    let find = |name| found.iter().find(|found| found["name"] == name).unwrap();
    let ours = find("unstale");
    for (package, _) in PACKAGES {
        let it = find(package);
        for text in ["description", "documentation", "readme"] {
            assert!(it[text].is_string(), "{package}: {text}");
        }
        for same in ["version", "license", "rust_version", "edition"] {
            assert!(it[same].is_string(), "{package}: {same}");
            assert_eq!(it[same], ours[same], "{package}: {same}");
        }
        let words = |list: &str| -> Vec<String> {
            let list = it[list].as_array().unwrap().iter();
            list.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let keywords = words("keywords");
        assert!((1..=5).contains(&keywords.len()), "{package}: {keywords:?}");
        let short = |word: &String| !word.is_empty() && word.len() <= 20;
        assert!(keywords.iter().all(short), "{package}: {keywords:?}");
        let categories = words("categories");
        assert!((1..=5).contains(&categories.len()), "{categories:?}");
        let known = |slug: &String| CATEGORIES.contains(&slug.as_str());
        assert!(categories.iter().all(known), "{package}: {categories:?}");
    }
}

#[test]
fn readme_names_the_oldest_rust_that_the_package_promises() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let oldest = manifest.split_once("\nrust-version = \"").unwrap().1;
    let oldest = oldest.split_once('"').unwrap().0;
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let promise = format!("Rust {oldest} or newer");
    assert!(readme.contains(&promise), "README.md lacks: {promise}");
}

/// A package holds no file from above its folder.
#[test]
fn licences_of_the_derive_are_those_of_the_crate() {
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let read = |folder: &str| fs::read(root().join(folder).join(file)).unwrap();
        assert_eq!(read("derive"), read(""), "{file}");
    }
}
