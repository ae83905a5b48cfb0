//! `unstale settings`: what an instance with this environment would start with.

use std::process::ExitCode;

use serde_json::json;
use unstale::{Setting, Settings};

use crate::Failure;
use crate::colour::Paint;
use crate::output::Output;

const HELP: &str = "\
Passwords are not shown. What is not valid is listed exactly as a start of the service would, \
with exit status 2.

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
                    "default": row.default,
                    "value": row.value,
                    "help": row.help,
                })
            })
            .collect();
        output.line(format_args!("{:#}", json!(rows)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let paint = Paint::for_stdout();
    let width = |of: fn(&Setting) -> &str, head: &str| {
        let widest = rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
        widest.max(head.len())
    };
    let name = width(|row| &row.variable, "variable");
    let value = width(|row| &row.value, "value");
    let default = width(|row| row.default, "default");
    let head = format!(
        "{:name$}  {:value$}  {:default$}",
        "variable", "value", "default"
    );
    output.line(paint.dim(head))?;
    for row in &rows {
        let shown = format!("{:value$}", row.value);
        let shown = if row.value == row.default {
            shown
        } else {
            paint.green(shown)
        };
        output.line(format_args!(
            "{:name$}  {shown}  {:default$}  {}",
            row.variable,
            row.default,
            paint.dim(row.help)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
