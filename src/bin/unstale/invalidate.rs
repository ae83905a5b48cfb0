//! `unstale invalidate`: what another program changed without an invalidation.

use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::operate::{self, Audience, Scope};
use unstale::{MAX_KEY_BYTES, Settings};

use crate::Failure;
use crate::common::{self, count};
use crate::output::{self, Output};

/// How long a cache that was built just now may take to be known in Redis, and how often to look.
const KNOWN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

const HELP: &str = "\
Write a key as text: an integer in decimal, a string as it is, a UUID with
hyphens in lower case. Keys of several parts (tuples) cannot be written: use a
tag or --all. If the keys of an instance have another format than --format, it
drops the whole cache, so that nothing old remains.

Each message that Redis acknowledged prints a line. The last line says how many
instances are there, and how many of them have the cache. It does no harm to
publish an invalidation twice.

Examples:
  unstale invalidate accounts 42 43
  unstale invalidate accounts -- -7 --odd-key
  unstale invalidate prices --tag supplier-9
  unstale invalidate prices --all
  psql -Atc 'select id ...' | unstale invalidate accounts --stdin

Exit status: 0 all was acknowledged, and instances have the cache; 1 Redis did
not acknowledge, no instance is there, or none has the cache; 2 wrong usage or
settings.";

const USAGE: &str = "unstale invalidate [OPTIONS] <CACHE> <KEY>...
       unstale invalidate [OPTIONS] <CACHE> <--tag <TAG>...|--all|--stdin>";

/// Options of `unstale invalidate`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
#[command(override_usage = USAGE)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["keys", "tag", "all", "stdin"])))]
pub(crate) struct Args {
    /// Name of the cache
    cache: String,

    /// Keys to drop
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    keys: Vec<String>,

    /// Drop each entry that has one of these tags
    #[arg(long, value_name = "TAG", num_args = 1..)]
    tag: Vec<String>,

    /// Drop the whole cache
    #[arg(long)]
    all: bool,

    /// Drop the keys on standard input, one on each line;
    /// empty lines are skipped
    #[arg(long, verbatim_doc_comment)]
    stdin: bool,

    /// Format of the cache's keys, `Key::FORMAT` of their
    /// type
    #[arg(long, value_name = "N", default_value_t = 1, verbatim_doc_comment)]
    format: u32,
}

/// Publishes; exit status 1 if Redis did not acknowledge everything, or no instance drops anything.
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
        let heard = heard_by(&settings, &args).await?;
        let (line, drops) = reach(&heard, &args, &settings.namespace);
        if !drops {
            let unheard: Failure = line.into();
            output::complain(&*unheard);
            return Ok(ExitCode::FAILURE);
        }
        output.line(line)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Who is there. If no instance is known to have the cache, it may have been built just now.
async fn heard_by(settings: &Settings, args: &Args) -> Result<Audience, Failure> {
    let deadline = Instant::now() + KNOWN;
    loop {
        let heard = operate::audience(settings, &args.cache).await?;
        let known = heard.unknown == 0 && !heard.formats.is_empty();
        if known || heard.instances == 0 || Instant::now() > deadline {
            return Ok(heard);
        }
        sleep(LOOK).await;
    }
}

/// What the instances do about it, in a line; and whether any of them drops something.
fn reach(heard: &Audience, args: &Args, namespace: &str) -> (String, bool) {
    let Audience {
        instances,
        formats,
        unknown,
    } = heard;
    let cache = &args.cache;
    let there = count(*instances, "instance");
    if *instances == 0 {
        let line = format!(
            "nothing was dropped: no instance is in namespace {namespace}. Are UNSTALE_NAMESPACE and \
             the database in UNSTALE_REDIS_URL those of the service? `unstale doctor` lists other \
             namespaces"
        );
        return (line, false);
    }
    if formats.is_empty() && *unknown == 0 {
        let line = format!(
            "nothing was dropped: {there} heard it, and none has a cache {cache}. Is the name right?"
        );
        return (line, false);
    }
    let mut line = format!("heard by {there}, {} with {cache}", formats.len());
    if *unknown > 0 {
        line += &format!(", {unknown} may have it");
    }
    let others: Vec<_> = formats
        .iter()
        .filter(|format| **format != args.format)
        .collect();
    // Keys and tags are hashes, and those of another format say nothing.
    if let Some(format) = others.first()
        && !args.all
    {
        line += &format!(
            "\n{} of them dropped the whole cache: its keys have the format {format}, not {} (--format)",
            others.len(),
            args.format
        );
    }
    (line, true)
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

/// Only the hashes are kept, so that a million keys are no burden; of a line no more than a key may have.
fn from_lines(mut input: impl BufRead) -> Result<Vec<u64>, Failure> {
    let (mut keys, mut line) = (Vec::new(), Vec::new());
    // With its end, and one byte that is too many.
    let most = MAX_KEY_BYTES as u64 + 3;
    let mut spaces = None;
    for number in 1_u64.. {
        line.clear();
        let read = input.by_ref().take(most).read_until(b'\n', &mut line);
        let read = read.map_err(|error| format!("line {number} of standard input: {error}"))?;
        if read == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = str::from_utf8(text).map_err(|error| format!("line {number}: {error}"))?;
        if !text.is_empty() {
            if text.trim() != text && spaces.is_none() {
                spaces = Some(number);
            }
            let key = Scope::key(text).map_err(|error| format!("line {number}: {error}"))?;
            keys.push(key);
        }
    }
    if let Some(number) = spaces {
        let text = format!(
            "line {number} begins or ends with white space, which is taken as part of the key. Is that \
             right? Further such lines are not mentioned"
        );
        let said: Failure = text.into();
        output::complain(&*said);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(format: u32) -> Args {
        Args {
            cache: "rows".to_owned(),
            keys: vec!["1".to_owned()],
            tag: Vec::new(),
            all: false,
            stdin: false,
            format,
        }
    }

    fn audience(instances: usize, formats: &[u32], unknown: usize) -> Audience {
        let mut audience = Audience::default();
        (audience.instances, audience.unknown) = (instances, unknown);
        audience.formats = formats.to_vec();
        audience
    }

    #[test]
    fn an_event_that_reaches_no_instance_is_no_success() {
        for (heard, says, drops) in [
            (
                audience(0, &[], 0),
                "no instance is in namespace shop",
                false,
            ),
            (
                audience(2, &[], 0),
                "2 instances heard it, and none has a cache rows",
                false,
            ),
            (
                audience(2, &[], 1),
                "heard by 2 instances, 0 with rows, 1 may have it",
                true,
            ),
            (
                audience(1, &[1], 0),
                "heard by 1 instance, 1 with rows",
                true,
            ),
            (
                audience(3, &[1, 7, 7], 0),
                "2 of them dropped the whole cache",
                true,
            ),
        ] {
            let (line, found) = reach(&heard, &args(1), "shop");
            assert!(line.contains(says), "{line}");
            assert_eq!(found, drops, "{line}");
        }
        // Everything is everything in any format.
        let mut all = args(1);
        all.all = true;
        let (line, _) = reach(&audience(1, &[7], 0), &all, "shop");
        assert!(!line.contains("format"), "{line}");
    }

    #[test]
    fn a_line_is_a_key_and_spaces_belong_to_it() {
        let keys = from_lines(&b"a\r\n\n b \nc"[..]).unwrap();
        let expected = ["a", " b ", "c"].map(|key| Scope::key(key).unwrap());
        assert_eq!(keys, expected);
        let error = from_lines(&b"a\n\xff\n"[..]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        let whole = "k".repeat(MAX_KEY_BYTES);
        let keys = from_lines(format!("{whole}\r\n{whole}").as_bytes()).unwrap();
        assert_eq!(keys, [Scope::key(&whole).unwrap(); 2]);
    }

    #[test]
    fn a_line_that_does_not_end_is_not_read_to_its_end() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                self.0 += bytes.len() as u64;
                bytes.fill(b'k');
                Ok(bytes.len())
            }
        }
        let mut input = io::BufReader::new(Endless(0));
        let error = from_lines(&mut input).unwrap_err().to_string();
        assert!(error.starts_with("line 1: "), "{error}");
        assert!(input.get_ref().0 < 2 * MAX_KEY_BYTES as u64);
    }
}
