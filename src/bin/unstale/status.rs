//! `unstale status`: who is there, how much is going on, and what another TTL would do.

mod ttl;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use unstale::Settings;
use unstale::operate::{self, Lane, shown};

use crate::Failure;
use crate::colour::Paint;
use crate::common::{self, short, time};
use crate::output::{self, Output};
use crate::scrape::{self, Sample};

/// How long events are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Members that are listed: a screen of them.
const SHOWN: usize = 50;

const HELP: &str = "\
An id is that of an instance: the service logs it at its start (instance=...),
and `unstale_settings_info` in its metrics has it too. With --metrics, the list
shows the address behind each id.

An instance that was silent for longer than UNSTALE_MEMBER_TIMEOUT is dead: the
others finish its open writes and forget it. A lane is a stream of events, which
are counted for a second.

With --metrics, each cache also shows the hit ratio that another TTL would have
given since the instances started. For a shorter TTL it is a lower bound: each
hit on an older entry counts as a miss. For a longer TTL it is an upper bound:
each read of an entry that had expired for no longer counts as a hit.

Examples:
  unstale status
  watch unstale status
  unstale status --json | jq '.members | length'
  unstale status --metrics http://10.0.0.7:9100/metrics \\
                 --metrics http://10.0.0.8:9100/metrics

Exit status: 0 shown, 1 Redis does not answer or refuses, 2 wrong usage or
settings.";

/// Options of `unstale status`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Write a JSON object
    #[arg(long)]
    json: bool,
    /// Metrics of an instance, http://HOST:PORT/metrics or a
    /// file; give it once for each instance. Without
    /// UNSTALE_REDIS_URL, it shows only what these say
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    metrics: Vec<String>,
}

/// Looks twice, a second apart, and shows what is there.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = Settings::from_env()?;
    // Caches alone need no Redis.
    let settings = if operate::server_url(&settings).is_none() && !args.metrics.is_empty() {
        None
    } else {
        Some(common::settings()?)
    };
    common::block_on(async move {
        let mut instances = Vec::new();
        for from in &args.metrics {
            match scrape::metrics(from).await {
                Ok(samples) => instances.push(samples),
                Err(error) => {
                    output::complain(&error);
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        let caches = ttl::caches(&instances);
        let status = match &settings {
            Some(settings) => Some((Status::take(settings).await?, settings)),
            None => None,
        };
        let mut output = Output::new();
        if args.json {
            let mut json = status.map_or(json!({}), |(status, settings)| status.json(settings));
            if !args.metrics.is_empty() {
                let caches = caches.iter().map(|(name, cache)| cache.json(name));
                json["caches"] = caches.collect();
            }
            output.line(json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let addresses = addresses(&args.metrics, &instances);
        let shown = status
            .map(|(status, settings)| status.lines(settings, &addresses, Paint::for_stdout()));
        let caches = caches.iter().flat_map(|(name, cache)| cache.lines(name));
        for line in shown.unwrap_or_default().into_iter().chain(caches) {
            output.line(line)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// By the id of an instance, where its metrics came from.
fn addresses(from: &[String], instances: &[Vec<Sample>]) -> HashMap<String, String> {
    let id = |samples: &[Sample]| {
        let info = samples
            .iter()
            .find(|sample| sample.name == "unstale_settings_info")?;
        Some(info.label("id").to_owned())
    };
    let pairs = from.iter().zip(instances);
    pairs
        .filter_map(|(from, samples)| Some((id(samples)?, shown(from))))
        .collect()
}

/// What was seen.
struct Status {
    version: String,
    /// As the fleet has it; `None` where there is no fleet.
    agreed_lanes: Option<u32>,
    lanes: Vec<Lane>,
    /// Events per second, by lane; `None` where a new epoch began meanwhile.
    rates: Vec<Option<f64>>,
    /// By instance, how long ago it was last heard of, in any lane.
    members: BTreeMap<u64, Duration>,
    /// Of them, those that sign otherwise than the settings say.
    of_other_keys: usize,
}

impl Status {
    async fn take(settings: &Settings) -> Result<Self, unstale::Error> {
        let server = operate::connect(settings).await?;
        let mut info = server.info().await?;
        let agreed_lanes = server.lanes().await?;
        let numbers = 0..agreed_lanes.unwrap_or(settings.lanes);
        let mut before = Vec::new();
        for lane in numbers.clone() {
            before.push((Instant::now(), server.head(lane).await?));
        }
        sleep(WINDOW).await;
        let (mut lanes, mut rates) = (Vec::new(), Vec::new());
        for (number, (began, before)) in numbers.zip(before) {
            let lane = server.lane(number).await?;
            rates.push(rate(before, lane.head, began.elapsed()));
            lanes.push(lane);
        }
        let now = server.time().await?;
        Ok(Self {
            version: info.remove("redis_version").unwrap_or_default(),
            agreed_lanes,
            members: latest(&lanes, now),
            of_other_keys: operate::of_other_keys(settings, &server).await?,
            lanes,
            rates,
        })
    }

    fn writes_of(&self) -> HashMap<u64, usize> {
        let mut writes = HashMap::new();
        for origin in self.lanes.iter().flat_map(|lane| &lane.open_writes) {
            *writes.entry(*origin).or_default() += 1;
        }
        writes
    }

    fn json(&self, settings: &Settings) -> Value {
        let writes = self.writes_of();
        let member = |(id, silent): (&u64, &Duration)| {
            json!({
                "id": short(*id),
                "silent_seconds": silent.as_secs_f64(),
                "alive": *silent <= settings.member_timeout,
                "open_writes": writes.get(id).unwrap_or(&0),
            })
        };
        let lane = |(number, (lane, rate)): (usize, (&Lane, &Option<f64>))| {
            json!({
                "lane": number,
                "epoch": lane.head.map(|(epoch, _)| format!("{epoch:x}")),
                "sequence": lane.head.map(|(_, sequence)| sequence),
                "journal": lane.journal,
                "open_writes": lane.open_writes.len(),
                "events_per_second": rate,
                "delivery_pause_seconds": lane.delivery_pause.as_secs_f64(),
            })
        };
        let lanes = self.lanes.iter().zip(&self.rates).enumerate();
        json!({
            "namespace": settings.namespace,
            "redis_version": self.version,
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
            "of_other_keys": self.of_other_keys,
            "lanes": lanes.map(lane).collect::<Vec<_>>(),
        })
    }

    fn lines(
        &self,
        settings: &Settings,
        addresses: &HashMap<String, String>,
        paint: Paint,
    ) -> Vec<String> {
        let url = common::shown(settings, "UNSTALE_REDIS_URL");
        let mut lines = vec![format!(
            "namespace {} on {url} (Redis {})",
            settings.namespace, self.version
        )];
        match self.agreed_lanes {
            None => lines.push(paint.yellow("no instance has ever been here")),
            Some(lanes) if lanes != settings.lanes => lines.push(paint.yellow(format_args!(
                "the fleet has {}, UNSTALE_LANES says {}",
                common::count(lanes as usize, "lane"),
                settings.lanes
            ))),
            Some(_) => {}
        }
        if self.of_other_keys > 0 {
            lines.push(paint.yellow(format_args!(
                "instances with another UNSTALE_SIGNING_KEY than here, or none: {}",
                self.of_other_keys
            )));
        }
        self.members(settings, addresses, paint, &mut lines);
        self.lanes(paint, &mut lines);
        lines
    }

    fn members(
        &self,
        settings: &Settings,
        addresses: &HashMap<String, String>,
        paint: Paint,
        lines: &mut Vec<String>,
    ) {
        let writes = self.writes_of();
        lines.push(format!("members: {}", self.members.len()));
        for (id, silent) in self.members.iter().take(SHOWN) {
            let heard = if *silent > settings.member_timeout {
                paint.red(format_args!("dead, silent for {}", time(*silent)))
            } else {
                format!("heard of {} ago", time(*silent))
            };
            let open = writes.get(id).copied().unwrap_or(0);
            let open = if open == 0 {
                String::new()
            } else {
                format!(", {} open", common::count(open, "write"))
            };
            let id = short(*id);
            let address = addresses.get(&id).map(|from| format!("  {from}"));
            lines.push(format!(
                "  {id}  {heard}{open}{}",
                address.unwrap_or_default()
            ));
        }
        if let Some(more) = self
            .members
            .len()
            .checked_sub(SHOWN)
            .filter(|more| *more > 0)
        {
            lines.push(format!("  and {more} more; --json has them all"));
        }
    }

    /// A table of the lanes.
    fn lanes(&self, paint: Paint, lines: &mut Vec<String>) {
        lines.push(format!("lanes: {}", self.lanes.len()));
        let row = |cells: [&str; 6]| {
            let [lane, rate, open, journal, sequence, epoch] = cells;
            format!("  {lane:>4}  {rate:>8}  {open:>11}  {journal:>7}  {sequence:>16}  {epoch}")
        };
        let head = [
            "lane",
            "events/s",
            "open writes",
            "journal",
            "sequence",
            "epoch",
        ];
        lines.push(paint.dim(row(head)));
        let mut no_right = false;
        for (number, (lane, rate)) in self.lanes.iter().zip(&self.rates).enumerate() {
            let Some((epoch, sequence)) = lane.head else {
                lines.push(format!("  {number:>4}  unused"));
                continue;
            };
            no_right |= lane.journal.is_none();
            let journal = lane
                .journal
                .map_or("?".to_owned(), |length| length.to_string());
            lines.push(row([
                &number.to_string(),
                &rate.map_or("?".to_owned(), |rate| format!("{rate:.1}")),
                &lane.open_writes.len().to_string(),
                &journal,
                &sequence.to_string(),
                &format!("{epoch:x}"),
            ]));
            if rate.is_none() {
                lines.push(paint.yellow("        this lane began a new epoch just now"));
            }
            if !lane.delivery_pause.is_zero() {
                let pause = time(lane.delivery_pause);
                lines.push(format!(
                    "        many subscribers: a pause of {pause} after each message"
                ));
            }
        }
        if no_right {
            lines.push("  journal ?: this user may not run XLEN".to_owned());
        }
    }
}

/// Events per second between two looks at a lane.
fn rate(before: Option<(u64, u64)>, after: Option<(u64, u64)>, elapsed: Duration) -> Option<f64> {
    match (before, after) {
        (None, None) => Some(0.0),
        (Some((epoch, first)), Some((same, last))) if epoch == same => {
            Some(last.saturating_sub(first) as f64 / elapsed.as_secs_f64())
        }
        _ => None,
    }
}

/// How long ago each member was heard of, in whichever lane was last.
fn latest(lanes: &[Lane], now: Duration) -> BTreeMap<u64, Duration> {
    let mut members = BTreeMap::new();
    for (id, beat) in lanes.iter().flat_map(|lane| &lane.members) {
        let silent = now.saturating_sub(*beat);
        members
            .entry(*id)
            .and_modify(|least: &mut Duration| *least = silent.min(*least))
            .or_insert(silent);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_epoch_has_no_rate() {
        let second = Duration::from_secs(2);
        assert_eq!(rate(Some((1, 10)), Some((1, 14)), second), Some(2.0));
        assert_eq!(rate(Some((1, 10)), Some((2, 14)), second), None);
        assert_eq!(rate(None, Some((2, 14)), second), None);
        assert_eq!(rate(None, None, second), Some(0.0));
    }

    #[test]
    fn a_member_is_as_silent_as_in_the_lane_it_was_heard_of_last() {
        let lane = |beat| Lane {
            head: None,
            journal: None,
            members: BTreeMap::from([(1, Duration::from_secs(beat))]),
            open_writes: Vec::new(),
            delivery_pause: Duration::ZERO,
        };
        let members = latest(&[lane(5), lane(8), lane(6)], Duration::from_secs(10));
        assert_eq!(members, BTreeMap::from([(1, Duration::from_secs(2))]));
    }
}
