//! Counts instructions by valgrind: the same number on a busy machine as on a quiet one.

use std::path::Path;
use std::process::{Command, Output};

/// Lookups that are counted; each is the same work.
const LOOKUPS: u64 = 20_000;

/// What is counted, by the names that `src/main.rs` knows.
pub const CONTENDERS: [&str; 4] = ["quick_cache", "peek", "get", "lookup"];

/// Instructions that one lookup takes. `program` is this package's.
///
/// # Panics
///
/// Without valgrind, and if the program fails under it.
pub fn instructions(program: &Path, contender: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // Nothing but the lookups: what comes before them takes another number each time.
        .args(["--collect-atstart=no", "--toggle-collect=*only_this*"])
        .arg(program)
        .args([contender, &LOOKUPS.to_string()])
        .output()
        .expect("valgrind is installed: `scripts/install.sh valgrind` does it");
    let collected = collected(&output).unwrap_or_else(|| {
        panic!(
            "valgrind gives no count for {contender}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    });
    collected / LOOKUPS
}

/// The number in `==1234== Collected : 5678`.
fn collected(output: &Output) -> Option<u64> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find(|line| line.contains("Collected :"))?;
    let count = line.rsplit(':').next()?.trim().parse().ok()?;
    (output.status.success() && count > 0).then_some(count)
}
