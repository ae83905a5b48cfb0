//! What cargo has built beside the test that runs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is a folder of the repository")
}

/// The program `unstale`, which cargo builds before the tests that use it.
pub fn program() -> PathBuf {
    existing(profile().join("unstale"), "cargo build --all-features")
}

/// The folder of the examples.
///
/// `cargo test` and `cargo nextest run` build them; with `--test NAME` they do not.
pub fn examples() -> PathBuf {
    profile().join("examples")
}

/// One example.
///
/// # Panics
///
/// If it is not built.
pub fn example(name: &str) -> PathBuf {
    let examples = "cargo build --all-features --examples";
    existing(self::examples().join(name), examples)
}

/// A folder for what tests keep from one run to the next.
pub fn kept() -> PathBuf {
    let kept = profile().with_file_name("tmp");
    fs::create_dir_all(&kept).expect("cargo's folder can be written");
    kept
}

/// `target/<profile>`; tests run in its folder `deps`.
fn profile() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2);
    profile.expect("target/<profile>/deps").to_owned()
}

fn existing(file: PathBuf, build: &str) -> PathBuf {
    assert!(file.is_file(), "{} is missing: {build}", file.display());
    file
}
