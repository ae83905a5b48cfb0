//! The instances, the bus between them and what can be done to their connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use unstale::testing::Faults;
use unstale::{Cache, Instance, InstanceState, LocalBus, Settings};

use super::proxy::Proxy;
use super::source::{Source, Version};
use crate::Failure;

/// Rows in the source of truth.
pub(crate) const ROWS: usize = 1_000;

/// How long an entry lives that is not invalidated; with nothing but a TTL, how old a hit may be.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// Events that the bus keeps for repair: more than a cut takes, fewer than the flood.
pub(crate) const JOURNAL: u32 = 128;

/// How long the source takes to answer a load.
const LOAD: Duration = Duration::from_millis(2);

/// A namespace of the demo's own: its few keys in Redis are the same ones in every run.
const NAMESPACE: &str = "unstale-demo";

/// What happens to one instance's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    Silent,
    Cut,
}

/// An instance with its cache.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance: Instance,
    pub(crate) cache: Cache<u64, Version>,
    wire: Wire,
    pub(crate) link: Link,
}

/// What its connections go through.
#[derive(Debug)]
enum Wire {
    Local(Faults),
    Redis(Proxy),
}

/// The instances of the demo, and beside them one that hears of no write.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    pub(crate) source: Arc<Source>,
    pub(crate) bound: Duration,
    pub(crate) alone: Cache<u64, Version>,
    alone_instance: Instance,
}

impl Fleet {
    pub(crate) async fn start(
        instances: usize,
        bound: Duration,
        redis: Option<&RedisUrl>,
        metrics: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let mut settings = Settings::default();
        settings.namespace = NAMESPACE.to_owned();
        settings.ttl = TTL;
        settings.journal = JOURNAL;
        settings.max_staleness = Some(bound);
        settings.verify_interval = bound / 4;
        let (bus, source) = (LocalBus::default(), Arc::new(Source::new(ROWS)));
        let mut members = Vec::new();
        for number in 0..instances {
            let mut settings = settings.clone();
            settings.metrics_addr = metrics.filter(|_| number == 0);
            let (instance, wire) = match redis {
                None => {
                    let instance = Instance::start_on(&bus, settings).await?;
                    (instance, Wire::Local(bus.faults(number)))
                }
                Some(url) => {
                    let proxy = Proxy::start(url.address.clone()).await?;
                    settings.redis_url = Some(url.through(proxy.port()));
                    let instance = Instance::start(settings).await?;
                    if instance.health().state != InstanceState::Coherent {
                        return Err(format!("Redis at {} does not answer", url.address).into());
                    }
                    (instance, Wire::Redis(proxy))
                }
            };
            members.push(Member {
                cache: cache(&instance, "rows", &source, Some(bound))?,
                instance,
                wire,
                link: Link::Up,
            });
        }
        let alone_instance = Instance::start_on(&LocalBus::default(), settings).await?;
        let alone = cache(&alone_instance, "rows", &source, None)?;
        Ok(Self {
            members,
            source,
            bound,
            alone,
            alone_instance,
        })
    }

    /// Cuts an instance off. Only one that is well: a cut in a silence would not be noticed.
    pub(crate) fn cut(&mut self, number: usize) -> bool {
        self.fail(number, Link::Cut)
    }

    /// As [`cut`](Self::cut), but without an error at either end.
    pub(crate) fn silence(&mut self, number: usize) -> bool {
        self.fail(number, Link::Silent)
    }

    fn fail(&mut self, number: usize, how: Link) -> bool {
        let member = &mut self.members[number];
        if member.link != Link::Up {
            return false;
        }
        member.link = how;
        match (&member.wire, how) {
            (Wire::Local(faults), Link::Cut) => faults.cut(),
            (Wire::Local(faults), _) => faults.silence(),
            (Wire::Redis(proxy), Link::Cut) => proxy.cut(),
            (Wire::Redis(proxy), _) => proxy.silence(),
        }
        true
    }

    /// Ends what [`cut`](Self::cut) and [`silence`](Self::silence) began; whether there was any.
    pub(crate) fn heal(&mut self, number: usize) -> bool {
        let member = &mut self.members[number];
        if member.link == Link::Up {
            return false;
        }
        member.link = Link::Up;
        match &member.wire {
            Wire::Local(faults) => faults.heal(),
            Wire::Redis(proxy) => proxy.heal(),
        }
        true
    }

    /// Loses the next message to an instance, if the bus can.
    pub(crate) fn lose(&self, number: usize) -> bool {
        let member = &self.members[number];
        match &member.wire {
            Wire::Local(faults) if member.link == Link::Up => {
                faults.lose_next(1);
                true
            }
            Wire::Local(_) | Wire::Redis(_) => false,
        }
    }

    /// Whether every instance has lately had everything that was published.
    pub(crate) fn settled(&self) -> bool {
        self.members.iter().all(|member| {
            let health = member.instance.health();
            let lately = |age: &Option<Duration>| age.is_some_and(|age| age <= self.bound / 2);
            health.state == InstanceState::Coherent && health.verified_age.iter().all(lately)
        })
    }

    /// Leaves the fleet. What can no longer be published has been counted before.
    pub(crate) async fn shutdown(self) {
        for member in &self.members {
            let _ = member.instance.shutdown().await;
        }
        let _ = self.alone_instance.shutdown().await;
    }
}

/// A cache over the source. One without a bound loads uncounted.
fn cache(
    instance: &Instance,
    name: &str,
    source: &Arc<Source>,
    bound: Option<Duration>,
) -> Result<Cache<u64, Version>, unstale::Error> {
    let source = source.clone();
    let counted = bound.is_some();
    instance
        .cache(name)
        .max_staleness(bound)
        .loader(move |key: u64| {
            let source = source.clone();
            async move {
                // Reads first and answers later: the worst case for a race with a write.
                let version = source.load(key, counted);
                sleep(LOAD).await;
                Ok(version)
            }
        })
        .build()
}

/// Where Redis is, and how to get there another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    /// `host:port`.
    address: String,
    /// What stands before the address in the URL: the scheme and the login.
    before: String,
    /// What follows it.
    after: String,
}

impl RedisUrl {
    /// The same server and login, through a port of this machine.
    fn through(&self, port: u16) -> String {
        format!("{}127.0.0.1:{port}{}", self.before, self.after)
    }
}

impl std::str::FromStr for RedisUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("redis://").ok_or(
            "must begin with redis:// (the demo cuts connections with a proxy of its own, which \
             TLS would not trust)",
        )?;
        let mut settings = Settings::default();
        settings.redis_url = Some(url.to_owned());
        settings.validate().map_err(|error| error.to_string())?;
        let (authority, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        let (login, host) = authority.split_at(host);
        let port = host.rsplit_once(':').map(|(_, port)| port);
        let address = match port {
            Some(port) if !port.is_empty() && !port.contains(']') => host.to_owned(),
            _ => format!("{}:6379", host.trim_end_matches(':')),
        };
        Ok(Self {
            address,
            before: format!("redis://{login}"),
            after: after.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_everything_but_its_address() {
        let parsed = |url: &str| url.parse::<RedisUrl>().unwrap();
        let url = parsed("redis://me:s%40cret@redis.example:7000/3");
        assert_eq!(url.address, "redis.example:7000");
        assert_eq!(url.through(99), "redis://me:s%40cret@127.0.0.1:99/3");
        assert_eq!(parsed("redis://localhost").address, "localhost:6379");
        assert_eq!(parsed("redis://[::1]:7000").address, "[::1]:7000");
        assert_eq!(parsed("redis://[::1]/1").address, "[::1]:6379");
        assert!("rediss://localhost".parse::<RedisUrl>().is_err());
        assert!("localhost:6379".parse::<RedisUrl>().is_err());
        assert!("redis://".parse::<RedisUrl>().is_err());
    }
}
