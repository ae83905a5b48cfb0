//! `unstale settings`: what an instance with this environment would start with.

use std::process::ExitCode;

use serde_json::json;
use unstale::{SettingInfo, SettingScope, Settings};

use crate::Failure;
use crate::colour::Paint;
use crate::output::Output;

const HELP: &str = "\
Passwords are not shown. What is not valid is listed exactly as a start of the service would, \
with exit status 2.

A default for all caches has no effect in a cache whose code sets it: the variable of one cache,
UNSTALE_CACHES__<CACHE>__<NAME>, wins over code. `Instance::health` of the running service lists
the variables that code hides.

Examples:
  unstale settings
  UNSTALE_TTL=30 unstale settings       2 and: UNSTALE_TTL=30: add a unit, as in 30s, 500ms or 1m
  unstale settings --json | jq 'map(select(.value != .default))'";

/// Options of `unstale settings`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Write one JSON array
    #[arg(long)]
    json: bool,
}

/// Lists the settings, or fails with everything that is wrong with them.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let rows = Settings::from_env()?.describe();
    let mut output = Output::new();
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "variable": row.variable,
                    "scope": row.scope.to_string(),
                    "default": row.default,
                    "value": row.value,
                    "set": row.is_set,
                    "help": row.help,
                })
            })
            .collect();
        output.line(format_args!("{:#}", json!(rows)))?;
        return Ok(ExitCode::SUCCESS);
    }
    table(&rows, &mut output)?;
    let hideable = |row: &&SettingInfo| row.scope == SettingScope::AllCaches && row.is_set;
    let set: Vec<&str> = rows
        .iter()
        .filter(hideable)
        .map(|row| row.variable.as_str())
        .collect();
    if !set.is_empty() {
        output.line(format_args!(
            "\nset as default for all caches: {}. A default has no effect in a cache whose code sets \
             it; UNSTALE_CACHES__<CACHE>__<NAME> wins over code.",
            set.join(", ")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[SettingInfo], output: &mut Output) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    let width = |of: fn(&SettingInfo) -> usize, head: &str| {
        let widest = rows.iter().map(of).max().unwrap_or(0);
        widest.max(head.len())
    };
    let name = width(|row| row.variable.len(), "variable");
    let value = width(|row| row.value.len(), "value");
    let default = width(|row| row.default.len(), "default");
    let scope = width(|row| row.scope.to_string().len(), "scope");
    let head = format!(
        "{:name$}  {:value$}  {:default$}  {:scope$}",
        "variable", "value", "default", "scope"
    );
    output.line(paint.dim(head))?;
    for row in rows {
        let shown = format!("{:value$}", row.value);
        let shown = if row.value == row.default {
            shown
        } else {
            paint.green(shown)
        };
        output.line(format_args!(
            "{:name$}  {shown}  {:default$}  {:scope$}  {}",
            row.variable,
            row.default,
            row.scope,
            paint.dim(row.help)
        ))?;
    }
    Ok(())
}
