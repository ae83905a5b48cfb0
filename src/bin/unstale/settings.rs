//! `unstale settings`: what an instance with this environment would start with.

use std::process::ExitCode;

use serde_json::json;
use unstale::{SettingInfo, SettingScope, Settings};

use crate::Failure;
use crate::colour::Paint;
use crate::output::Output;
use crate::text::{WIDTH, wrap};

const HELP: &str = "\
For each setting: its variable, the value, the default, and what the value
applies to. Passwords are not shown. If a setting is wrong, this lists what a
start of the service would list, with exit status 2.

From strongest to weakest:
  UNSTALE_CACHES__ACCOUNTS__TTL   the variable of the cache \"accounts\"
  .ttl(...)                       the call of the cache's builder in code
  UNSTALE_TTL                     the default for all caches
So a default has no effect in a cache whose code sets the option. The service
lists such cases in `Instance::health`.

UNSTALE_FILE names a TOML file with the same names in lower case. A variable
overrides the file. UNSTALE_REDIS_URL_FILE, and _FILE behind the name of other
secrets, names a file that holds only that value.

Examples:
  unstale settings
  UNSTALE_TTL=30 unstale settings        an error: the value needs a unit
  unstale settings --json | jq 'map(select(.value != .default))'

Exit status: 0 all settings are right, 2 wrong usage or settings.";

/// Options of `unstale settings`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Write a JSON array
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
    for line in lines(&rows, Paint::for_stdout()) {
        output.line(line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table, with the help of each setting below its row, and what to know of the defaults that are set.
fn lines(rows: &[SettingInfo], paint: Paint) -> Vec<String> {
    let mut lines = vec![paint.dim(line_of("variable", "value", "default", "applies to"))];
    for row in rows {
        let scope = row.scope.to_string();
        let text = line_of(&row.variable, &row.value, &row.default, &scope);
        for line in text.lines() {
            lines.push(if row.value == row.default {
                line.to_owned()
            } else {
                paint.green(line)
            });
        }
        let help = wrap("    ", "    ", row.help);
        lines.extend(help.into_iter().map(|line| paint.dim(line)));
    }
    let hideable = |row: &&SettingInfo| row.scope == SettingScope::AllCaches && row.is_set;
    let set = rows.iter().filter(hideable);
    let set: Vec<&str> = set.map(|row| row.variable.as_str()).collect();
    if !set.is_empty() {
        lines.push(String::new());
        let note = format!(
            "set as default for all caches: {}. A default has no effect in a cache whose code sets \
             it; UNSTALE_CACHES__<CACHE>__<NAME> wins over code.",
            set.join(", ")
        );
        lines.extend(wrap("", "", &note));
    }
    lines
}

/// One row of the table. What is too long for its column stands alone on its line.
fn line_of(name: &str, value: &str, default: &str, scope: &str) -> String {
    /// The longest variable that is not of one cache, and what remains of 80 columns.
    const NAME: usize = 28;
    const VALUE: usize = 15;
    const DEFAULT: usize = 9;
    let mut text = String::new();
    let mut column = 0;
    for (cell, width) in [(name, NAME), (value, VALUE), (default, DEFAULT)] {
        text += &format!("{cell:width$}  ");
        column += width + 2;
        if cell.chars().count() > width {
            text.truncate(text.trim_end().len());
            text += &format!("\n{:column$}", "");
        }
    }
    if column + scope.len() > WIDTH {
        text.truncate(text.trim_end().len());
        text += &format!("\n{:1$}", "", NAME + 2);
    }
    text + scope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_and_what_is_too_long_for_its_column_stands_alone() {
        let url = "redis://redis.shop.internal.example:6379/3";
        let cache = "UNSTALE_CACHES__ACCOUNTS_OF_OLD_CUSTOMERS__MAX_STALENESS";
        let vars = [
            ("UNSTALE_REDIS_URL", url),
            ("UNSTALE_TTL", "30s"),
            (cache, "3s"),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::from_vars(vars).unwrap();
        let lines = lines(&settings.describe(), Paint::never());
        for line in &lines {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        let at = |text: &str| {
            lines
                .iter()
                .position(|line| line.starts_with(text))
                .unwrap()
        };
        let ttl = format!(
            "{:28}  30s              60s        default for all caches",
            "UNSTALE_TTL"
        );
        assert_eq!(lines[at("UNSTALE_TTL ")], ttl);
        assert_eq!(lines[at(cache)], cache);
        let value = format!("{:30}3s               unset", "");
        assert_eq!(lines[at(cache) + 1], value);
        let scope = format!("{:30}cache accounts_of_old_customers", "");
        assert_eq!(lines[at(cache) + 2], scope);
    }
}
