//! Looking at a server as an operator does: what it is, what it allows, what it holds.
//!
//! Changes nothing and is no member of the fleet. Connections are opened when they are needed first
//! and never again: who looks wants to see that one fails. What concerns a lane is asked of the server
//! that it lives on, all else of the server of lane 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, LuaInterface, PubsubInterface};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio::try_join;

use super::link::{Link, Target, options};
use super::node::Common;
use super::scripts::{self, Names, SOURCES, Script};
use super::url::{Address, Place};
use super::{RedisConfig, bytes, fault, topology};
use crate::bus::{BusConfig, Position};
use crate::metrics::Traffic;
use crate::{Error, ErrorKind};

/// Delivered messages that may wait: an echo is waited for before the next is sent.
const PUSHES: usize = 16;

/// A connection to look through.
#[derive(Debug)]
pub(crate) struct Inspector {
    /// By lane, where it lives, once somebody has asked for it.
    lanes: Mutex<BTreeMap<u32, Arc<Server>>>,
    target: Target,
    address: Address,
    namespace: String,
}

/// One server that lanes live on.
#[derive(Debug)]
struct Server {
    place: Place,
    target: Target,
    link: Link,
}

/// A right that the user lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    Command(String),
    /// To read and write the namespace's keys.
    Keys,
    /// To publish and subscribe to the namespace's channels.
    Channels,
}

/// What a lane's counter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    /// `None` where no event was ever published and nobody verified.
    pub(crate) head: Option<Position>,
    /// How many lanes the fleet was set up with; `None` before its first verification.
    pub(crate) lanes: Option<u32>,
}

impl Inspector {
    pub(crate) async fn open(redis: &RedisConfig, namespace: &str) -> Result<Self, Error> {
        let address = Address::parse(&redis.url)?;
        let target = redis.target(&address)?;
        let inspector = Self {
            lanes: Mutex::default(),
            target,
            address,
            namespace: namespace.to_owned(),
        };
        inspector.server(0).await?;
        Ok(inspector)
    }

    /// Whether the URL is that of a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.address.is_cluster()
    }

    /// The server that the lane lives on.
    async fn server(&self, lane: u32) -> Result<Arc<Server>, Error> {
        let mut lanes = self.lanes.lock().await;
        if let Some(known) = lanes.get(&lane) {
            return Ok(Arc::clone(known));
        }
        let config = BusConfig {
            namespace: self.namespace.clone(),
            instance: 0,
            lanes: 1,
            journal: 0,
            member_timeout: Duration::ZERO,
            signs: false,
            traffic: Arc::default(),
            outages: Arc::default(),
            tasks: Arc::default(),
        };
        let common = Common::new(vec![self.names(lane)], config, self.address.is_cluster());
        let place = topology::locate(common, &self.address, &self.target).await?;
        let known = lanes.values().find(|server| server.place == place).cloned();
        let server = if let Some(known) = known {
            known
        } else {
            let target = self.target.at(&place);
            let (link, _) = connect(&target).await?;
            Arc::new(Server {
                place,
                target,
                link,
            })
        };
        lanes.insert(lane, Arc::clone(&server));
        Ok(server)
    }

    /// The user that the URL names.
    pub(crate) fn user(&self) -> &str {
        self.address.login.username.as_deref().unwrap_or("default")
    }

    /// One round trip.
    pub(crate) async fn ping(&self) -> Result<Duration, Error> {
        let began = Instant::now();
        self.ask(0, "PING", &[]).await?;
        Ok(began.elapsed())
    }

    /// The lines of `INFO`.
    pub(crate) async fn info(&self) -> Result<BTreeMap<String, String>, Error> {
        let text = self.ask(0, "INFO", &[]).await?;
        let text = text.as_string().ok_or_else(|| fault::unexpected("INFO"))?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// A setting of the server; `None` where this user may not see it or it does not exist.
    pub(crate) async fn config(&self, name: &str) -> Result<Option<String>, Error> {
        match self.ask(0, "CONFIG", &["GET", name]).await {
            Ok(Value::Map(map)) => Ok(map.inner().into_values().next().and_then(|v| v.as_string())),
            Ok(_) => Ok(None),
            // Also where the command was renamed or taken away, as hosted servers do.
            Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Settings) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The server's clock, since 1970.
    pub(crate) async fn time(&self) -> Result<Duration, Error> {
        let answer = self.ask(0, "TIME", &[]).await?;
        let part = |at: usize| match &answer {
            Value::Array(parts) => parts.get(at).and_then(Value::as_u64),
            _ => None,
        };
        match (part(0), part(1)) {
            (Some(seconds), Some(micros)) => {
                Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
            }
            _ => Err(fault::unexpected("TIME")),
        }
    }

    /// Gives the server every script, as an instance does, and has it try every command on a
    /// lane's keys and channel; what the ACL refuses.
    pub(crate) async fn missing(&self, lane: u32) -> Result<Vec<Missing>, Error> {
        let names = self.names(lane);
        let mut missing = Vec::new();
        let server = self.server(lane).await?;
        match self.probe(&server, &names).await {
            Ok(refused) => missing.extend(refused.into_iter().map(Missing::Command)),
            Err(error) => missing.push(denied(&error).ok_or_else(|| fault::from_fred(&error))?),
        }
        // A refused SUBSCRIBE answers another command: on a connection of its own.
        let (link, _) = connect(&server.target).await?;
        if let Err(error) = self.subscribe(&link, names.channel).await {
            missing.push(denied(&error).ok_or_else(|| fault::from_fred(&error))?);
        }
        let channels = missing.contains(&Missing::Channels);
        // Refused because of its channel.
        missing
            .retain(|right| !channels || *right != Missing::Command(self.publish().to_lowercase()));
        missing.sort();
        missing.dedup();
        Ok(missing)
    }

    async fn probe(&self, server: &Server, names: &Names) -> Result<Vec<String>, FredError> {
        let client = server.link.client();
        let mut hash = Str::default();
        for source in SOURCES {
            let client = client.with_options(&options(self.target.timeout()));
            let loaded: Value = client.script_load(Str::from_static(source)).await?;
            hash = loaded.into_bytes_str().unwrap_or_default();
        }
        // The last is the probe.
        debug_assert_eq!(Script::Probe as usize + 1, SOURCES.len());
        let keys = [
            &names.state,
            &names.journal,
            &names.members,
            &names.intents,
            &names.nothing,
        ];
        let client = client.with_options(&options(self.target.timeout()));
        let keys: Vec<Str> = keys.into_iter().cloned().collect();
        let answer: Value = client.evalsha(hash, keys, vec![self.nobody(names)]).await?;
        scripts::refused(&answer)
            .map_err(|error| FredError::new(FredKind::Protocol, error.to_string()))
    }

    /// Publishes to a channel that nobody else listens to, and how long each message took to come
    /// back; shorter than asked for if one did not come.
    pub(crate) async fn echo(&self, times: usize) -> Result<Vec<Duration>, Error> {
        let names = self.names(0);
        let channel = self.nobody(&names);
        let server = self.server(0).await?;
        let (link, mut messages) = connect(&server.target).await?;
        self.subscribe(&link, channel.clone())
            .await
            .map_err(|error| fault::from_fred(&error))?;
        let mut delays = Vec::with_capacity(times);
        for sent in 0..times {
            let nonce = sent.to_string();
            let began = Instant::now();
            self.ask(0, self.publish(), &[&channel, &nonce]).await?;
            let deadline = began + self.target.timeout();
            loop {
                match timeout_at(deadline, messages.recv()).await {
                    Ok(Ok(message)) if message.value.as_bytes() == Some(nonce.as_bytes()) => break,
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) => return Ok(delays),
                }
            }
            delays.push(began.elapsed());
        }
        Ok(delays)
    }

    /// Subscribes, and proves it by an answer behind the acknowledgement.
    async fn subscribe(&self, link: &Link, channel: Str) -> Result<(), FredError> {
        let client = link.client();
        let client = client.with_options(&options(self.target.timeout()));
        if self.address.is_cluster() {
            return client.ssubscribe(channel).await;
        }
        let nonce = format!("{:016x}", fastrand::u64(..));
        // Both are queued at once: a refusal that comes while nothing waits for an answer is dropped.
        let (_, answer) = try_join!(
            client.subscribe(vec![channel]),
            client.ping::<Value>(Some(nonce.clone()))
        )?;
        if answer.as_bytes() == Some(nonce.as_bytes()) {
            return Ok(());
        }
        let message = "answers came out of step";
        Err(FredError::new(FredKind::Protocol, message))
    }

    fn publish(&self) -> &'static str {
        if self.address.is_cluster() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        }
    }

    /// A lane's sequence and epoch.
    pub(crate) async fn counter(&self, lane: u32) -> Result<Counter, Error> {
        let state = self.names(lane).state;
        let answer = self.ask(lane, "HMGET", &[&state, "q", "e", "l"]).await?;
        let Value::Array(fields) = answer else {
            return Err(fault::unexpected("HMGET"));
        };
        let number = |at: usize| fields.get(at).and_then(Value::as_u64);
        let head = number(0).zip(number(1));
        Ok(Counter {
            head: head.map(|(sequence, epoch)| Position { epoch, sequence }),
            lanes: number(2).and_then(|lanes| lanes.try_into().ok()),
        })
    }

    /// Events in a lane's journal; `None` where this user may not count them.
    pub(crate) async fn journal_length(&self, lane: u32) -> Result<Option<u64>, Error> {
        let journal = self.names(lane).journal;
        let length = match self.ask(lane, "XLEN", &[&journal]).await {
            Ok(length) => length.as_u64().unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Auth => return Ok(None),
            Err(error) => return Err(error),
        };
        let placeholder = self.ask(lane, "XRANGE", &[&journal, "0-1", "0-1"]).await?;
        let placeholder = matches!(placeholder, Value::Array(found) if !found.is_empty());
        Ok(Some(length.saturating_sub(placeholder.into())))
    }

    /// A lane's members and when each was last heard of, by the server's clock since 1970.
    pub(crate) async fn members(&self, lane: u32) -> Result<Vec<(u64, Duration)>, Error> {
        let members = self.names(lane).members;
        let args = [&*members, "0", "(+inf", "WITHSCORES"];
        let Value::Array(pairs) = self.ask(lane, "ZRANGEBYSCORE", &args).await? else {
            return Err(fault::unexpected("ZRANGEBYSCORE"));
        };
        let member = |pair: &Value| {
            let Value::Array(pair) = pair else {
                return None;
            };
            let id = <[u8; 8]>::try_from(pair.first()?.as_bytes()?).ok()?;
            let beat = pair.get(1)?.as_f64()?;
            Some((u64::from_be_bytes(id), Duration::from_millis(beat as u64)))
        };
        Ok(pairs.iter().filter_map(member).collect())
    }

    /// Who began the writes that are open in a lane.
    pub(crate) async fn open_writes(&self, lane: u32) -> Result<Vec<u64>, Error> {
        let intents = self.names(lane).intents;
        let Value::Array(ids) = self.ask(lane, "HKEYS", &[&intents]).await? else {
            return Err(fault::unexpected("HKEYS"));
        };
        let origin = |id: &Value| {
            let id = <[u8; 16]>::try_from(id.as_bytes()?).ok()?;
            Some((u128::from_be_bytes(id) >> 64) as u64)
        };
        Ok(ids.iter().filter_map(origin).collect())
    }

    fn names(&self, lane: u32) -> Names {
        Names::new(&self.namespace, lane, self.address.database_of_channels())
    }

    /// Below the lane's own channel, so that the patterns that allow one allow the other.
    fn nobody(&self, names: &Names) -> Str {
        format!("{}:{:016x}", names.channel, fastrand::u64(..)).into()
    }

    /// Asks the server of the lane.
    async fn ask(&self, lane: u32, command: &'static str, args: &[&str]) -> Result<Value, Error> {
        let server = self.server(lane).await?;
        let client = server.link.client();
        let client = client.with_options(&options(self.target.timeout()));
        let args: Vec<Value> = args.iter().map(|arg| bytes(arg.as_bytes())).collect();
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        client
            .custom(command, args)
            .await
            .map_err(|error| fault::from_fred(&error))
    }
}

async fn connect(
    target: &Target,
) -> Result<(Link, tokio::sync::broadcast::Receiver<fred::types::Message>), Error> {
    Link::open(target, &Traffic::default(), PUSHES)
        .await
        .map_err(|error| fault::from_fred(&error))
}

/// What an error says is missing, if it is the ACL's.
fn denied(error: &FredError) -> Option<Missing> {
    let details = error.details();
    if !details.starts_with("NOPERM") {
        return None;
    }
    // "... no permissions to run the 'script|load' command".
    if let Some((_, rest)) = details.split_once("run the '") {
        let command = rest.split('\'').next().unwrap_or_default();
        return Some(Missing::Command(command.to_owned()));
    }
    Some(if details.contains("channel") {
        Missing::Channels
    } else {
        Missing::Keys
    })
}

#[cfg(test)]
mod tests;
