//! Python, with packages that a test needs.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::built::{kept, root};

/// What installs what these tests need.
const ADVICE: &str = "these tests need python3 with venv and pip: `scripts/install.sh python`, or \
                      `apt-get install python3-venv`, `dnf install python3`, `apk add python3`, \
                      `brew install python`";

/// Runs a command that must succeed; what it printed.
pub fn run(command: &mut Command, advice: &str) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| unreachable!("{command:?}: {error}; {advice}"));
    let text = text(&output);
    assert!(output.status.success(), "{command:?}: {text}; {advice}");
    text
}

pub fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// The folder `bin` of a virtual environment with what this file requires (from the root): made
/// once, and kept with what cargo builds, so that later runs are quick and need no network.
pub fn venv(requirements: &str) -> PathBuf {
    let file = root().join(requirements);
    let required = fs::read_to_string(&file).unwrap();
    let version = run(Command::new("python3").arg("--version"), ADVICE);
    let mut hasher = DefaultHasher::new();
    (required, version).hash(&mut hasher);
    let kept = kept();
    let home = kept.join(format!("python-{:016x}", hasher.finish()));
    // Tests that need it at the same time make it once.
    let lock = fs::File::create(kept.join("python.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let complete = home.join("complete");
    if !complete.exists() {
        // Made in its place, since the programs in it know where they are; what a run that was cut
        // short has left does not count.
        let _ = fs::remove_dir_all(&home);
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&home),
            ADVICE,
        );
        let pip = "-m pip install --quiet --disable-pip-version-check -r";
        run(
            Command::new(home.join("bin/python"))
                .args(pip.split(' '))
                .arg(&file),
            "is the package index reachable?",
        );
        fs::write(complete, "").unwrap();
    }
    home.join("bin")
}
