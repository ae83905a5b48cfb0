//! `unstale why`: which events drop a key, who published them, and where its lane stands.

mod facts;
mod words;

use std::process::ExitCode;

use unstale::Settings;
use unstale::operate::{self, Answer, Question, Scope};

use crate::Failure;
use crate::common;
use crate::output::{self, Output};

const HELP: &str = "\
Write a key as text: an integer in decimal, a string as it is, a UUID with
hyphens in lower case. For a tuple or another key of several parts, give each
part to --parts; `Some(x)` of an Option is the parts 1 and x, `None` is the
part 0. The log of an instance and `unstale tail` show the hash of a key: give
that to --hash.

Redis keeps the latest events of each lane in a journal of UNSTALE_JOURNAL
events. The answer says how far it reaches back. A journal keeps the order of
events, but no times. Redis does not know the tags of a value: give with --tag
those that its loader gives it.

Examples:
  unstale why accounts 42
  unstale why accounts 42 --tag tenant-7 --tag branch-3
  unstale why members --parts 7 ada
  unstale why accounts --hash 1217cb28c0ef2191
  unstale why accounts 42 --json | jq '.events[-1].origin'

Exit status: 0 answered; 1 Redis does not answer or refuses, no instance has
ever been in the namespace, or no event and no instance knows the cache;
2 wrong usage or settings.";

const USAGE: &str = "unstale why [OPTIONS] <CACHE> <KEY>
       unstale why [OPTIONS] <CACHE> <--parts <PART>...|--hash <HASH>>";

/// Options of `unstale why`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
#[command(override_usage = USAGE)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["key", "parts", "hash"])))]
pub(crate) struct Args {
    /// Name of the cache
    cache: String,

    /// The key
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    key: Option<String>,

    /// Parts of the key, if it has several
    #[arg(long, value_name = "PART", num_args = 1.., allow_negative_numbers = true)]
    parts: Vec<String>,

    /// Hash of the key, in hexadecimal
    #[arg(long, value_name = "HASH", value_parser = from_hex)]
    hash: Option<u64>,

    /// Tag of the value, whose invalidation drops the key too;
    /// may be repeated
    #[arg(long, value_name = "TAG", verbatim_doc_comment)]
    tag: Vec<String>,

    /// Format of the cache's keys, `Key::FORMAT` of their type
    /// [default: the format that the instances have]
    #[arg(long, value_name = "N", verbatim_doc_comment)]
    format: Option<u32>,

    /// Write a JSON object
    #[arg(long)]
    json: bool,
}

fn from_hex(text: &str) -> Result<u64, String> {
    let digits = text.chars().all(|c| c.is_ascii_hexdigit());
    let number = digits.then(|| u64::from_str_radix(text, 16).ok());
    let why = "a hash is up to 16 hexadecimal digits";
    number.flatten().ok_or_else(|| why.to_owned())
}

/// Reads the journals once and prints the answer; exit status 1 if nothing knows the cache.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    operate::id_of_cache(&args.cache)?;
    let question = question(args)?;
    let settings = common::settings()?;
    common::block_on(async move {
        let answer = operate::why(&settings, &question).await?;
        let mut output = Output::new();
        if args.json {
            output.line(facts::json(&question, &answer, &settings))?;
        } else if has_fleet(&answer) {
            for line in words::lines(&question, &answer, &settings) {
                output.line(line)?;
            }
        }
        let Some(unknown) = unknown(&question, &answer, &settings) else {
            return Ok(ExitCode::SUCCESS);
        };
        let unknown: Failure = unknown.into();
        output::complain(&*unknown);
        Ok(ExitCode::FAILURE)
    })
}

fn question(args: &Args) -> Result<Question, Failure> {
    let key = match (&args.key, args.hash) {
        (Some(key), _) => Scope::key(key)?,
        (None, Some(hash)) => hash,
        (None, None) => operate::key_of_parts(&args.parts)?,
    };
    Ok(Question {
        cache: args.cache.clone(),
        key,
        tags: args.tag.iter().map(|tag| Scope::tag(tag)).collect(),
        format: args.format,
    })
}

fn has_fleet(answer: &Answer) -> bool {
    answer.lanes.is_some() || answer.head.is_some() || !answer.members.is_empty()
}

/// Why the answer is of no use, if so: most likely a name is wrong.
fn unknown(question: &Question, answer: &Answer, settings: &Settings) -> Option<String> {
    if !has_fleet(answer) {
        return Some(format!(
            "no instance has ever been in namespace {}. Are UNSTALE_NAMESPACE and the database in \
             UNSTALE_REDIS_URL those of the service? `unstale doctor` lists other namespaces",
            settings.namespace
        ));
    }
    let cache = &question.cache;
    (!answer.knows_cache()).then(|| {
        format!(
            "no event in the journals names a cache {cache}, and no member has one. Is the name right?"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(key: Option<&str>, parts: &[&str], hash: Option<u64>) -> Args {
        Args {
            cache: "rows".to_owned(),
            key: key.map(str::to_owned),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            hash,
            tag: vec!["tenant-7".to_owned()],
            format: None,
            json: false,
        }
    }

    /// The hashes are vectors of PROTOCOL.md.
    #[test]
    fn a_key_is_text_or_parts_or_a_hash() {
        for (args, hash) in [
            (args(Some("42"), &[], None), 0x1217_cb28_c0ef_2191),
            (args(None, &["42"], None), 0x1217_cb28_c0ef_2191),
            (args(None, &["7", "ada"], None), 0x7f4d_57a4_fc23_3a3b),
            (args(None, &["1", "42"], None), 0x2c76_64dd_087c_1cdb),
            (args(None, &[], Some(9)), 9),
        ] {
            let question = question(&args).unwrap();
            assert_eq!(question.key, hash, "{args:?}");
            assert_eq!(question.tags, [0x7433_8c89_b23f_aa0a]);
        }
        assert_eq!(from_hex("1217cb28c0ef2191"), Ok(0x1217_cb28_c0ef_2191));
        for wrong in ["", "0x12", "-1", "+1", "1217cb28c0ef21910"] {
            assert!(from_hex(wrong).is_err(), "{wrong}");
        }
    }
}
