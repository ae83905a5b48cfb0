//! Runs every subject, and ends with one table of goals.
//!
//! ```text
//! all [--json] [--document docs/benchmarks.md]
//! ```
//!
//! `--document` replaces what stands between the marks `<!-- bench -->` and `<!-- /bench -->`.

use std::env;
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use unstale_benches::{Goal, Report};

/// In the order of their tables; each a program beside this one.
const SUBJECTS: [&str; 11] = [
    "hit",
    "flight",
    "memory",
    "propagation",
    "throughput",
    "apply",
    "bytes",
    "idle",
    "scale",
    "fanout",
    "relay",
];

const MARKS: [&str; 2] = ["<!-- bench -->\n", "<!-- /bench -->"];

fn run(subject: &str) -> Result<Report, String> {
    let here = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(here.with_file_name(subject))
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{subject}: {error}; build all programs first"))?;
    if !output.status.success() {
        return Err(format!("{subject}: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{subject}: {error}"))
}

/// The table of goals first: it is what is looked for.
fn document(reports: &[Report], goals: &[Goal]) -> String {
    let details: Vec<String> = reports.iter().map(ToString::to_string).collect();
    format!("{}\n{}", Goal::table(goals), details.join("\n"))
}

fn write_document(path: &str, document: &str) -> Result<(), String> {
    let old = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let [begin, end] = MARKS;
    let (before, rest) = old.split_once(begin).ok_or("no mark in the document")?;
    let (_, after) = rest
        .split_once(end)
        .ok_or("no second mark in the document")?;
    let new = format!("{before}{begin}{document}{end}{after}");
    fs::write(path, new).map_err(|error| format!("{path}: {error}"))
}

fn all(json: bool, document_at: Option<&str>) -> Result<(), String> {
    let began = Instant::now();
    let mut reports = Vec::new();
    for subject in SUBJECTS {
        eprintln!("{subject} (after {:.0?})", began.elapsed());
        let report = run(subject)?;
        if !json {
            println!("{report}");
        }
        reports.push(report);
    }
    let goals: Vec<Goal> = reports
        .iter()
        .flat_map(|report| report.goals.clone())
        .collect();
    if json {
        let text = serde_json::to_string(&reports).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        println!("### Goals\n\n{}", Goal::table(&goals));
    }
    match document_at {
        Some(path) => write_document(path, &document(&reports, &goals)),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    let document_at = args
        .iter()
        .position(|arg| arg == "--document")
        .map(|at| args.get(at + 1));
    let json = args.iter().any(|arg| arg == "--json");
    let done = match document_at {
        Some(None) => Err("--document needs a path".into()),
        Some(Some(path)) => all(json, Some(path)),
        None => all(json, None),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
