//! Instances on one Redis, what they count, and what Redis counts.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use unstale::{Instance, Settings};

use testkit::redis::RedisServer;
use testkit::resp::Client;

/// How long anything may take that is only a matter of the machine, however slow it is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(3);

/// The namespace of all scenarios.
pub(crate) const NAMESPACE: &str = "scenario";

/// The defaults, on this Redis.
pub(crate) fn settings(server: &RedisServer) -> Settings {
    let mut settings = Settings::default();
    settings.redis_url = Some(server.url());
    settings.namespace = NAMESPACE.to_owned();
    settings
}

/// With these an instance verifies so seldom that what it hears of soon it has heard by the event.
pub(crate) fn by_events_alone(settings: &mut Settings) {
    settings.verify_interval = SELDOM;
    settings.max_staleness = Some(3 * SELDOM);
    settings.member_timeout = 3 * SELDOM;
    settings.write_timeout = 3 * SELDOM;
}

/// How long an event may take: less than it is until the next verification.
pub(crate) const HEARD: Duration = Duration::from_secs(25);

const SELDOM: Duration = Duration::from_secs(60);

/// An instance with the default settings.
pub(crate) async fn instance(server: &RedisServer) -> Instance {
    Instance::start(settings(server)).await.expect("it starts")
}

/// Asks again until the answer is yes.
pub(crate) async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            sleep(POLL).await;
        }
    };
    assert!(
        timeout(PATIENCE, asking).await.is_ok(),
        "never became true: {what}"
    );
}

/// The value of one series in an instance's metrics; 0 if it is not there.
pub(crate) fn metric(instance: &Instance, series: &str) -> u64 {
    let text = instance.metrics_text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
}

/// Bytes both ways: into Redis, and out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Bytes {
    pub(crate) fn both(self) -> u64 {
        self.sent + self.received
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            received: self.received - before.received,
        }
    }
}

/// What an instance has counted, of these kinds: `"shared"`, say; none of them means all.
pub(crate) fn counted(instance: &Instance, kinds: &[&str]) -> Bytes {
    let text = instance.metrics_text();
    let sum = |way: &str| {
        let name = format!("unstale_bus_{way}_bytes_total{{kind=\"");
        let count = |line: &str| {
            let (kind, value) = line.strip_prefix(&name)?.split_once("\"} ")?;
            let wanted = kinds.is_empty() || kinds.contains(&kind);
            wanted.then(|| value.parse::<f64>().expect("a number") as u64)
        };
        text.lines().filter_map(count).sum()
    };
    Bytes {
        sent: sum("sent"),
        received: sum("received"),
    }
}

/// As [`counted`], for all of them together.
pub(crate) fn counted_by_all<'a>(
    instances: impl IntoIterator<Item = &'a Instance>,
    kinds: &[&str],
) -> Bytes {
    let mut sum = Bytes::default();
    for instance in instances {
        let one = counted(instance, kinds);
        sum.sent += one.sent;
        sum.received += one.received;
    }
    sum
}

/// A connection to Redis past the instances, which knows what its own questions cost.
pub(crate) struct Admin {
    client: Client,
    asked: u64,
    /// One question for the traffic, and its answer.
    question: Bytes,
}

impl Admin {
    pub(crate) fn connect(server: &RedisServer) -> Self {
        let mut admin = Self {
            client: Client::connect(server.port()),
            asked: 0,
            question: Bytes::default(),
        };
        // Twice at once, and nothing in between.
        let first = admin.raw();
        let second = admin.raw();
        admin.question = second.since(first);
        admin.asked = 0;
        admin
    }

    /// The question itself is read before it is answered, its answer is written afterwards.
    fn raw(&mut self) -> Bytes {
        let text = self.client.cmd(&["INFO", "stats"]).text();
        self.asked += 1;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|value| value.strip_prefix(':'));
            value.expect("INFO stats has it").parse().expect("a number")
        };
        Bytes {
            sent: field("total_net_input_bytes"),
            received: field("total_net_output_bytes"),
        }
    }

    /// What Redis has read and written, these questions apart.
    pub(crate) fn traffic(&mut self) -> Bytes {
        let raw = self.raw();
        Bytes {
            sent: raw.sent - self.asked * self.question.sent,
            received: raw.received - (self.asked - 1) * self.question.received,
        }
    }

    /// How often clients and scripts have called each of these commands, together.
    pub(crate) fn calls(&mut self, commands: &[&str]) -> u64 {
        let text = self.client.cmd(&["INFO", "commandstats"]).text();
        let count = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse::<u64>().ok()?;
            commands.contains(&name).then_some(calls)
        };
        text.lines().filter_map(count).sum()
    }

    pub(crate) fn cmd(&mut self, args: &[&str]) -> testkit::resp::Value {
        self.client.cmd(args)
    }
}
