//! What is good, doubtful or wrong, and what to do about it. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use unstale::operate::{Lack, Product};
use unstale::{Error, ErrorKind};

use crate::colour::Paint;
use crate::common::{count, time};
use crate::text::wrap;

/// A subscriber's buffer below this is cut in a burst that it would have survived: sixteen of the
/// largest messages.
const SMALL_BUFFER: u64 = 1 << 20;

/// Longest that an isolated primary may go on taking events, in seconds.
const LONGEST_LAG: u64 = 2;

/// A difference between clocks that confuses a reader of logs; nothing here compares them.
const CLOCKS_APART: Duration = Duration::from_secs(1);

/// More than a slow round trip: the clock was set.
const CLOCK_STEP: Duration = Duration::from_millis(250);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    /// What to do; `None` where all is well.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    pub(super) fn warn(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(check, found)
        }
    }

    pub(super) fn fail(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Fail,
            remedy: Some(remedy.into()),
            ..Self::ok(check, found)
        }
    }

    pub(super) fn lines(&self, paint: Paint) -> Vec<String> {
        let level = match self.level {
            Level::Ok => paint.green("ok  "),
            Level::Warn => paint.yellow("warn"),
            Level::Fail => paint.red("FAIL"),
        };
        // The level is put in last: its colours have no width.
        let begin = format!("      {:<13}  ", self.check);
        let mut lines = wrap(&begin, &" ".repeat(begin.len()), &self.found);
        if let Some(first) = lines.first_mut() {
            first.replace_range(..4, &level);
        }
        if let Some(remedy) = &self.remedy {
            lines.extend(wrap("      -> ", "         ", remedy));
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        json!({
            "check": self.check,
            "level": level,
            "found": self.found,
            "remedy": self.remedy,
        })
    }
}

/// The last line: whether anything is wrong.
pub(super) fn verdict(findings: &[Finding], paint: Paint) -> String {
    let of = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    let (failed, warned) = (of(Level::Fail), of(Level::Warn));
    let all = count(findings.len(), "check");
    match (failed, warned) {
        (0, 0) => paint.green(format_args!("{all}: nothing is wrong")),
        (0, _) => paint.yellow(format_args!(
            "{all}: nothing failed, {}",
            count(warned, "warning")
        )),
        _ => paint.red(format_args!(
            "{all}: {failed} FAILED, {}",
            count(warned, "warning")
        )),
    }
}

/// No connection could be made.
pub(super) fn unreachable(url: &str, error: &Error) -> Finding {
    let found = format!("{url}: {error}");
    match error.kind() {
        ErrorKind::Auth => Finding::fail(
            "login",
            found,
            "put the right user and password into UNSTALE_REDIS_URL, as in \
             redis://user:password@host:6379 (percent-encode : / ? # @), or create the user in Redis",
        ),
        ErrorKind::Settings => Finding::fail("connection", found, "correct UNSTALE_REDIS_URL"),
        _ => Finding::fail(
            "connection",
            found,
            "check that Redis runs there, that host and port in UNSTALE_REDIS_URL are right, that no \
             firewall is in the way, and that the URL begins with rediss:// if and only if Redis has TLS",
        ),
    }
}

/// Something failed on a connection that was made.
pub(super) fn refused(check: &'static str, error: &Error) -> Finding {
    let remedy = match error.kind() {
        ErrorKind::Auth => "give the user this right",
        ErrorKind::Settings => "use Redis 7.0 or later",
        _ => "look into the log of Redis",
    };
    Finding::fail(check, error.to_string(), remedy)
}

pub(super) fn rights(lack: Option<&Lack>) -> Finding {
    if let Some(lack) = lack {
        return Finding::fail("rights", &lack.found, &lack.remedy);
    }
    let all = "every command, key and channel that an instance needs";
    Finding::ok("rights", all)
}

/// What an instance does, done once.
pub(super) fn rehearsal(result: &Result<(), Error>) -> Finding {
    match result {
        Ok(()) => Finding::ok(
            "rehearsal",
            "verified, announced, published, heard, repaired, stored",
        ),
        Err(error) => Finding::fail(
            "rehearsal",
            error.to_string(),
            "an instance would meet the same error: look into the log of Redis and its INFO",
        ),
    }
}

type Info = BTreeMap<String, String>;

fn number<T: std::str::FromStr>(info: &Info, name: &str) -> Option<T> {
    info.get(name)?.parse().ok()
}

/// `clustered` is whether the URL is that of a cluster.
pub(super) fn server(info: &Info, clustered: bool) -> Finding {
    let product = Product::from_fields(info);
    let role = info.get("role").map_or("unknown", String::as_str);
    let found = format!("{product}, {role}");
    if let Err(error) = product.judge(clustered) {
        return Finding::fail("server", found, error.to_string());
    }
    if role == "slave" {
        let remedy = "set UNSTALE_REDIS_URL to the primary: a replica takes no events";
        return Finding::fail("server", found, remedy);
    }
    if info.get("loading").is_some_and(|loading| loading == "1") {
        return Finding::warn(
            "server",
            format!("{found}, still loading"),
            "wait until it is done",
        );
    }
    Finding::ok("server", found)
}

/// The counters, journals and intents have no TTL.
pub(super) fn eviction(info: &Info) -> Finding {
    let limit: u64 = number(info, "maxmemory").unwrap_or(0);
    let policy = info
        .get("maxmemory_policy")
        .map_or("unknown", String::as_str);
    let found = if limit == 0 {
        format!("policy {policy}, no memory limit")
    } else {
        format!("policy {policy}, memory limit {} MiB", limit >> 20)
    };
    if !policy.starts_with("allkeys-") {
        return Finding::ok("eviction", found);
    }
    let remedy = "CONFIG SET maxmemory-policy noeviction (or volatile-lru, if other keys are to be \
                  evicted), and in redis.conf: if Redis evicts a counter, every instance drops \
                  its cache";
    if limit == 0 {
        return Finding::warn("eviction", found, remedy);
    }
    Finding::fail("eviction", found, remedy)
}

/// Variables that name files of secrets which every user of this machine may read.
pub(super) fn exposed_files(variables: &[String]) -> Option<Finding> {
    let found = || {
        format!(
            "every user of this machine may read the files of {}",
            variables.join(", ")
        )
    };
    let remedy = "give them the mode 0400 (in Kubernetes, defaultMode of the volume)";
    (!variables.is_empty()).then(|| Finding::warn("secret files", found(), remedy))
}

/// What `CONFIG GET client-output-buffer-limit` says of subscribers.
pub(super) fn output_buffer(limit: Option<&str>) -> Finding {
    let check = "output buffer";
    let Some(limit) = limit else {
        // A fleet's user should not: deploy/redis/users.acl.
        let found = "not visible to this user; the default, pubsub 32mb 8mb 60, is enough";
        return Finding::ok(check, found);
    };
    let mut words = limit.split_whitespace();
    let ours: Vec<u64> = words
        .by_ref()
        .skip_while(|word| *word != "pubsub")
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    let [hard, soft, seconds] = ours[..] else {
        return Finding::warn(
            check,
            format!("not understood: {limit}"),
            "look at the part for pubsub",
        );
    };
    let found = format!("pubsub {hard} {soft} {seconds}");
    let remedy = "CONFIG SET client-output-buffer-limit \"pubsub 32mb 8mb 60\", and in redis.conf";
    if hard == 0 && soft == 0 {
        let found = format!("{found}: a subscriber that stalls may fill the memory of Redis");
        return Finding::warn(check, found, remedy);
    }
    let small = |limit: u64| (1..SMALL_BUFFER).contains(&limit);
    if small(hard) || small(soft) {
        let found =
            format!("{found}: a burst of events disconnects subscribers, which then miss events");
        return Finding::warn(check, found, remedy);
    }
    Finding::ok(check, found)
}

/// Without `min-replicas-to-write` a primary that was replaced goes on taking events.
pub(super) fn replicas(info: &Info, needed: Option<&str>, lag: Option<&str>) -> Finding {
    let there: usize = number(info, "connected_slaves").unwrap_or(0);
    let good: Option<usize> = number(info, "min_slaves_good_slaves");
    let needed: Option<usize> = needed.and_then(|text| text.parse().ok());
    let lag: Option<u64> = lag.and_then(|text| text.parse().ok());
    let found = count(there, "replica");
    if let (Some(needed), Some(good)) = (needed, good)
        && good < needed
    {
        return Finding::fail(
            "replicas",
            format!("{found}, {good} in step, {needed} needed to write"),
            "Redis refuses every event now: start replicas again, or lower min-replicas-to-write",
        );
    }
    if there == 0 {
        return Finding::ok("replicas", "none");
    }
    let remedy = "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 1, and in redis.conf: a \
                  primary that is cut off from its replicas must refuse events";
    // INFO names good replicas only where the setting is on.
    if needed == Some(0) || (needed.is_none() && good.is_none()) {
        return Finding::warn(
            "replicas",
            format!("{found}, min-replicas-to-write is off"),
            remedy,
        );
    }
    if let Some(lag) = lag.filter(|lag| *lag > LONGEST_LAG) {
        let found = format!("{found}, but a primary that is cut off takes events for {lag} s");
        return Finding::warn("replicas", found, remedy);
    }
    Finding::ok("replicas", format!("{found}, min-replicas-to-write is on"))
}

pub(super) fn lanes(theirs: Option<u32>, ours: u32) -> Finding {
    match theirs {
        None => Finding::ok(
            "lanes",
            format!("{ours} here; no instance has been there yet"),
        ),
        Some(theirs) if theirs == ours => {
            Finding::ok("lanes", format!("{theirs}, here and in the fleet"))
        }
        Some(theirs) => Finding::fail(
            "lanes",
            format!("the fleet has {theirs}, UNSTALE_LANES says {ours}"),
            format!(
                "set UNSTALE_LANES={theirs}. To change the fleet instead, stop every instance and \
                 delete the keys of the namespace"
            ),
        ),
    }
}

/// What the clocks said.
pub(super) struct Clocks {
    /// Between the server's and this machine's wall clock.
    pub(super) offset: Duration,
    /// How far the server's went while `elapsed` passed here; `None`: backwards.
    pub(super) went: Option<Duration>,
    pub(super) elapsed: Duration,
    /// How far in the future a member was last heard of.
    pub(super) beats_ahead: Duration,
}

pub(super) fn clock(clocks: &Clocks) -> Finding {
    let remedy = "let NTP slew the clock of the server instead of setting it: members and open \
                  writes are timed by it";
    let stepped = clocks
        .went
        .is_none_or(|went| went.abs_diff(clocks.elapsed) > CLOCK_STEP);
    if stepped {
        let found = "the server's clock was set while it was watched, or the network stalled";
        return Finding::warn("clock", found, remedy);
    }
    if clocks.beats_ahead > CLOCK_STEP {
        let found = format!(
            "the server's clock was set back: a member was heard of {} in the future",
            time(clocks.beats_ahead)
        );
        return Finding::warn("clock", found, remedy);
    }
    let found = format!("{} apart from the clock here", time(clocks.offset));
    if clocks.offset > CLOCKS_APART {
        let remedy = "run NTP on both machines; the caches do not compare clocks, but readers \
                      of logs do";
        return Finding::warn("clock", found, remedy);
    }
    Finding::ok("clock", format!("steady, {found}"))
}

pub(super) fn echo(delays: &[Duration], sent: usize, verify_interval: Duration) -> Finding {
    let check = "pub/sub delay";
    let mut delays = delays.to_vec();
    delays.sort_unstable();
    let (Some(median), Some(longest)) = (delays.get(delays.len() / 2), delays.last()) else {
        return Finding::fail(
            check,
            format!("none of {sent} messages came back"),
            "check that nothing between here and Redis closes or holds back idle connections, and \
             look at `CLIENT LIST TYPE pubsub` in Redis",
        );
    };
    let found = format!("median {}, longest {}", time(*median), time(*longest));
    if delays.len() < sent {
        let found = format!("{} of {sent} messages came back; {found}", delays.len());
        return Finding::fail(check, found, "find what closes connections to Redis");
    }
    if *longest > verify_interval {
        return Finding::warn(
            check,
            found,
            "raise UNSTALE_VERIFY_INTERVAL and UNSTALE_MAX_STALENESS, or bring Redis closer",
        );
    }
    Finding::ok(check, found)
}

#[cfg(test)]
mod tests;
