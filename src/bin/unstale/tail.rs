//! `unstale tail`: events as they happen.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::sleep;
use unstale::operate::{self, Contents, Drops, Heading, Heard, Tail};

use crate::Failure;
use crate::colour::Paint;
use crate::common::{self, count, short};
use crate::output::Output;

/// Hashes a line shows; an event may have a thousand.
const HASHES: usize = 3;

/// Hashes an object of JSON has.
const JSON_HASHES: usize = 8;

const HELP: &str = "\
One line is one event: when it arrived, its lane and its number there, the id of
the instance that published it, and what it invalidates. `unstale status --help`
explains the ids.

Events carry hashes of keys and of the names of caches. Name the caches you know
with --cache; `unstale why` shows the hash of a key.

Redis does not repeat what it sends while this connection is lost; a line then
says that events may be missing. Standard error shows when the program listens.

Examples:
  unstale tail --cache accounts --cache prices
  unstale tail --count 1               is anything published?
  unstale tail --json --seconds 60 | jq -r .origin | sort | uniq -c
                                       which instance invalidates most?

Exit status: 0 ended by Ctrl-C, --count or --seconds; 1 Redis does not answer or
refuses; 2 wrong usage or settings.";

/// Options of `unstale tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Show this cache by its name; may be repeated
    #[arg(long, value_name = "NAME", num_args = 1..)]
    cache: Vec<String>,

    /// Write a JSON object for each event, one on each line
    #[arg(long)]
    json: bool,

    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// End after this many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Listens until the end that an option or a signal sets.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut view = View {
        names: BTreeMap::new(),
        json: args.json,
        paint: Paint::for_stdout(),
    };
    for name in &args.cache {
        view.names.insert(operate::id_of_cache(name)?, name.clone());
    }
    let settings = common::settings()?;
    common::block_on(async move {
        let mut tail = Tail::open(&settings).await?;
        let end = async {
            match args.seconds {
                Some(seconds) => sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        let mut output = Output::new();
        let result = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Ok(()),
            () = end => Ok(()),
            result = follow(&mut tail, &view, args.count, &mut output) => result,
        };
        tail.close().await;
        result?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn follow(
    tail: &mut Tail,
    view: &View,
    count: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 && !output.closed() {
        let Some(heard) = tail.next().await else {
            break;
        };
        let now = SystemTime::now();
        if heard == Heard::Subscribed {
            let lanes = common::count(tail.lanes() as usize, "lane");
            // Standard error is closed: the report has no reader.
            let _ = writeln!(io::stderr(), "listening to {lanes}");
            continue;
        }
        left -= u64::from(matches!(heard, Heard::Event(..)));
        output.line(view.line(now, &heard))?;
    }
    Ok(())
}

/// How events are shown.
struct View {
    names: BTreeMap<u32, String>,
    json: bool,
    paint: Paint,
}

impl View {
    fn line(&self, now: SystemTime, heard: &Heard) -> String {
        let time = humantime::format_rfc3339_millis(now).to_string();
        if self.json {
            return self.object(&time, heard).to_string();
        }
        let text = match heard {
            Heard::Event(heading, contents) => self.event(*heading, contents),
            Heard::Gap { cause } => {
                let text = format!("{cause}: events may be missing here");
                self.paint.yellow(text)
            }
            Heard::Garbled { lane } => self
                .paint
                .red(format_args!("lane {lane}: something that is no message")),
            Heard::Subscribed => "listening".to_owned(),
        };
        format!("{} {text}", self.paint.dim(time))
    }

    fn event(&self, heading: Heading, contents: &Contents) -> String {
        let Heading { lane, sequence, .. } = heading;
        let head = format!("lane {lane} #{sequence}");
        match contents {
            Contents::Drops { origin, drops } => {
                let origin = origin.map_or_else(|| "a dead writer".to_owned(), short);
                let drops: Vec<_> = drops.iter().map(|drop| self.drops(drop)).collect();
                format!("{head} from {origin}: {}", drops.join("; "))
            }
            Contents::Unreadable { why } => self
                .paint
                .red(format_args!("{head}: {why}; instances drop the whole lane")),
        }
    }

    fn drops(&self, drops: &Drops) -> String {
        let hashes = &drops.hashes;
        let cache = match self.names.get(&drops.cache) {
            Some(name) => self.paint.green(name),
            None => format!("cache {:08x}", drops.cache),
        };
        match drops.kind {
            "lane" => "everything of the lane".to_owned(),
            "cache" => format!("{cache}, everything"),
            kind => {
                let shown: Vec<_> = hashes.iter().take(HASHES).map(hash).collect();
                let more = if hashes.len() > HASHES { " ..." } else { "" };
                let shown = self.paint.dim(shown.join(" ") + more);
                format!("{cache}, {} {shown}", count(hashes.len(), kind))
            }
        }
    }

    fn object(&self, time: &str, heard: &Heard) -> Value {
        let event = |Heading {
                         lane,
                         epoch,
                         sequence,
                     }: &Heading| {
            json!({
                "time": time, "lane": lane, "sequence": sequence, "epoch": format!("{epoch:x}"),
            })
        };
        match heard {
            Heard::Event(heading, Contents::Drops { origin, drops }) => {
                let mut object = event(heading);
                object["origin"] = json!(origin.map(short));
                object["ops"] = drops.iter().map(|drops| self.op(drops)).collect();
                object
            }
            Heard::Event(heading, Contents::Unreadable { why }) => {
                let mut object = event(heading);
                object["unreadable"] = json!(why);
                object
            }
            Heard::Gap { cause } => json!({ "time": time, "gap": cause }),
            Heard::Garbled { lane } => json!({ "time": time, "lane": lane, "garbled": true }),
            Heard::Subscribed => json!({ "time": time, "listening": true }),
        }
    }

    fn op(&self, drops: &Drops) -> Value {
        let hashes = drops.hashes.iter().take(JSON_HASHES).map(hash);
        json!({
            "cache": self.names.get(&drops.cache),
            "cache_id": format!("{:08x}", drops.cache),
            "format": drops.format,
            "kind": drops.kind,
            "count": drops.hashes.len(),
            "hashes": hashes.collect::<Vec<_>>(),
        })
    }
}

fn hash(hash: &u64) -> String {
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(drops: Vec<Drops>) -> Heard {
        let heading = Heading {
            lane: 2,
            epoch: 0xabc,
            sequence: 77,
        };
        let origin = Some(0x0123_4567_0000_0000);
        Heard::Event(heading, Contents::Drops { origin, drops })
    }

    fn drops(kind: &'static str, hashes: usize) -> Drops {
        Drops {
            cache: operate::id_of_cache("rows").unwrap(),
            format: 1,
            kind,
            hashes: (0..hashes as u64).collect(),
        }
    }

    #[test]
    fn many_hashes_are_counted_and_few_are_shown() {
        let mut view = View {
            names: BTreeMap::new(),
            json: true,
            paint: Paint::never(),
        };
        let heard = event(vec![drops("key", 1_000), drops("cache", 0)]);
        let object = view.object("now", &heard);
        assert_eq!(object["sequence"], 77);
        assert_eq!(object["origin"], "01234567");
        assert_eq!(object["ops"][0]["count"], 1_000);
        assert_eq!(object["ops"][0]["cache"], Value::Null);
        assert_eq!(
            object["ops"][0]["hashes"].as_array().unwrap().len(),
            JSON_HASHES
        );
        assert_eq!(object["ops"][1]["kind"], "cache");
        view.names
            .insert(operate::id_of_cache("rows").unwrap(), "rows".to_owned());
        assert_eq!(view.object("now", &heard)["ops"][0]["cache"], "rows");
    }

    #[test]
    fn a_line_says_who_drops_what() {
        let view = View {
            names: BTreeMap::from([(operate::id_of_cache("rows").unwrap(), "rows".to_owned())]),
            json: false,
            paint: Paint::never(),
        };
        let line = view.line(SystemTime::UNIX_EPOCH, &event(vec![drops("tag", 4)]));
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000Z lane 2 #77 from 01234567: rows, 4 tags 0000000000000000 \
             0000000000000001 0000000000000002 ..."
        );
    }
}
