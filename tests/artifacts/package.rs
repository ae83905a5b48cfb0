//! What is published builds, and carries nothing that only the repository needs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use testkit::built::root;

/// Every file of the package, as cargo lists them.
fn packaged() -> BTreeSet<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut list = Command::new(cargo);
    list.args(["package", "--list", "--allow-dirty", "--offline"]);
    let output = list.current_dir(root()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().map(PathBuf::from).collect()
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

/// What a source file takes in when it is compiled.
fn included(source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root().join(source)).unwrap();
    let marks = ["include_str!(\"", "include_bytes!(\"", "#[path = \""];
    let folder = source.parent().unwrap();
    let files = marks.iter().flat_map(|mark| text.split(mark).skip(1));
    let files = files.map(|rest| rest.split_once('"').unwrap().0);
    files.map(|file| plain(&folder.join(file))).collect()
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| endings.contains(&end.to_ascii_lowercase().as_str()))
}

#[test]
fn the_package_carries_everything_that_its_source_includes() {
    let packaged = packaged();
    let sources = packaged.iter().filter(|file| ends(file, &["rs"]));
    let wanted: BTreeSet<_> = sources.flat_map(|file| included(file)).collect();
    assert!(wanted.len() > 10, "{wanted:?}");
    let missing: Vec<_> = wanted.difference(&packaged).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for file in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(packaged.contains(Path::new(file)), "{file}");
    }
}

#[test]
fn the_package_carries_no_picture_and_no_test() {
    let packaged = packaged();
    assert!(packaged.contains(Path::new("src/lib.rs")));
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
    let unwanted = packaged.iter().filter(|file| {
        let picture = ends(file, &pictures);
        picture || ours.iter().any(|folder| file.starts_with(folder))
    });
    assert_eq!(unwanted.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}
