//! `unstale invalidate`: what another program changed without an invalidation.

use std::io::{self, BufRead};
use std::process::ExitCode;

use unstale::operate::{self, Scope};

use crate::Failure;
use crate::common::{self, count};
use crate::output::Output;

const HELP: &str = "\
A key is written as text: an integer in decimal, a string as it is, a UUID hyphenated in lower \
case. Keys of several parts cannot be written: use a tag, or --all. Instances whose key type has \
another FORMAT than --format drop the whole cache, so that nothing stays stale.

A line is printed for each message that Redis acknowledged. Publishing again does no harm.

Examples:
  unstale invalidate accounts 42 43
  unstale invalidate accounts -- -7 --odd-key
  unstale invalidate prices --tag supplier-9
  unstale invalidate prices --all
  psql -Atc 'select id from accounts where ...' | unstale invalidate accounts --stdin

Exit status: 0 all acknowledged, 1 not, 2 wrong usage or settings.";

/// Options of `unstale invalidate`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["keys", "tag", "all", "stdin"])))]
pub(crate) struct Args {
    /// The cache's name
    cache: String,

    /// Keys to drop
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    keys: Vec<String>,

    /// Drop everything that has one of these tags
    #[arg(long, value_name = "TAG", num_args = 1..)]
    tag: Vec<String>,

    /// Drop everything of the cache
    #[arg(long)]
    all: bool,

    /// Drop the keys on standard input, one a line; empty lines are skipped
    #[arg(long)]
    stdin: bool,

    /// Format of the cache's keys, `Key::FORMAT` of their type
    #[arg(long, value_name = "N", default_value_t = 1)]
    format: u32,
}

/// Publishes; exit status 1 where Redis did not acknowledge everything.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    operate::id_of_cache(&args.cache)?;
    let settings = common::settings()?;
    let (scope, noun) = scope(&args)?;
    let asked = match &scope {
        Scope::Keys(names) | Scope::Tags(names) => names.len(),
        Scope::All => 1,
    };
    if asked == 0 {
        Output::new().line("nothing to invalidate: standard input has no key")?;
        return Ok(ExitCode::SUCCESS);
    }
    common::block_on(async move {
        let mut output = Output::new();
        let mut written = Ok(());
        let report = |done: operate::Acknowledged| {
            let what = match done.names {
                0 => "everything".to_owned(),
                names => count(names, noun),
            };
            let line = format!(
                "acknowledged: {what} of {} in lane {}, sequence {}",
                args.cache, done.lane, done.sequence
            );
            if written.is_ok() {
                written = output.line(line);
            }
        };
        operate::invalidate(&settings, &args.cache, args.format, scope, report).await?;
        written?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What to drop, and what one of it is called.
fn scope(args: &Args) -> Result<(Scope, &'static str), Failure> {
    if args.all {
        return Ok((Scope::All, ""));
    }
    if !args.tag.is_empty() {
        let tags = args.tag.iter().map(|tag| Scope::tag(tag)).collect();
        return Ok((Scope::Tags(tags), "tag"));
    }
    let keys = if args.stdin {
        from_lines(io::stdin().lock())?
    } else {
        let keys = args.keys.iter().map(|key| Scope::key(key));
        keys.collect::<Result<_, _>>()?
    };
    Ok((Scope::Keys(keys), "key"))
}

/// Only the hashes are kept, so that a million keys are no burden.
fn from_lines(input: impl BufRead) -> Result<Vec<u64>, Failure> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(input.lines()) {
        let line = line.map_err(|error| format!("line {number} of standard input: {error}"))?;
        if !line.is_empty() {
            let key = Scope::key(&line).map_err(|error| format!("line {number}: {error}"))?;
            keys.push(key);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_key_and_spaces_belong_to_it() {
        let keys = from_lines(&b"a\r\n\n b \nc"[..]).unwrap();
        let expected = ["a", " b ", "c"].map(|key| Scope::key(key).unwrap());
        assert_eq!(keys, expected);
        let error = from_lines(&b"a\n\xff\n"[..]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
