//! Looking at a server as an operator does: what it is, what it allows, what it holds.
//!
//! Changes nothing and is no member of the fleet. Connections are opened when they are needed first
//! and never again, so that an operator sees when one fails. What concerns a lane is asked of the server
//! that it lives on, all else of the server of lane 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::common::Common;
use super::config::RedisConfig;
use super::connection::{Connection, options};
use super::reach::Connect;
use super::scripts::Names;
use super::target::Target;
use super::values::bytes;
use super::{error, reach, routing};
use crate::bus::BusConfig;
use crate::foreign::shown;
use crate::metrics::Traffic;
use crate::url::{Address, Place};
use crate::{Error, ErrorKind};

pub(crate) mod fleets;
pub(crate) mod journal;
pub(crate) mod lanes;
mod notes;
pub(crate) mod rights;

/// A server to look at; nothing is changed and no member is added.
///
/// Under Sentinel it is the primary. In a cluster it is each lane's own for what concerns a lane, and
/// that of lane 0 for everything else.
#[derive(Debug)]
pub struct Server {
    /// By lane, its primary, once that has been asked for.
    primaries: Mutex<BTreeMap<u32, Arc<Primary>>>,
    target: Target,
    address: Address,
    namespace: String,
}

/// The server of some lanes, and a connection to it.
#[derive(Debug)]
struct Primary {
    place: Place,
    target: Target,
    connection: Connection,
}

impl Server {
    pub(crate) async fn open(redis: &RedisConfig, namespace: &str) -> Result<Self, Error> {
        let address = Address::parse(&redis.url)?;
        let target = redis.target(&address)?;
        let server = Self {
            primaries: Mutex::default(),
            target,
            address,
            namespace: namespace.to_owned(),
        };
        server.primary(0).await?;
        Ok(server)
    }

    /// Returns whether the URL is that of a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.address.is_cluster()
    }

    /// Returns the server that the lane lives on.
    async fn primary(&self, lane: u32) -> Result<Arc<Primary>, Error> {
        let mut lanes = self.primaries.lock().await;
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
            keys: Vec::new(),
            traffic: Arc::default(),
            outages: Arc::default(),
            tasks: Arc::default(),
        };
        let common = Common::new(vec![self.names(lane)], config, self.address.is_cluster());
        let place = routing::locate(common, &self.address, &self.target).await?;
        let known = lanes.values().find(|known| known.place == place).cloned();
        let primary = if let Some(known) = known {
            known
        } else {
            let target = self.target.at(&place);
            let connection: Connection = connect(&target).await?;
            Arc::new(Primary {
                place,
                target,
                connection,
            })
        };
        lanes.insert(lane, Arc::clone(&primary));
        Ok(primary)
    }

    /// Returns the user that the URL names.
    #[must_use]
    pub fn user(&self) -> &str {
        self.address.login.username.as_deref().unwrap_or("default")
    }

    /// Returns how long one round trip takes.
    ///
    /// # Errors
    ///
    /// As all below: `Auth` where the user may not, `Bus` where Redis does not answer.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let began = Instant::now();
        self.ask(0, "PING", &[]).await?;
        Ok(began.elapsed())
    }

    /// Returns the lines of `INFO`.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn info(&self) -> Result<BTreeMap<String, String>, Error> {
        let text = self.ask(0, "INFO", &[]).await?;
        let text = text.as_string().ok_or_else(|| error::unexpected("INFO"))?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), shown(value.trim())))
            .collect())
    }

    /// Returns a setting of the server; `None` where this user may not see it or it does not exist.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn config(&self, name: &str) -> Result<Option<String>, Error> {
        match self.ask(0, "CONFIG", &["GET", name]).await {
            Ok(Value::Map(map)) => Ok(map
                .inner()
                .into_values()
                .next()
                .and_then(|v| v.as_string())
                .as_deref()
                .map(shown)),
            Ok(_) => Ok(None),
            // Also where the command was renamed or taken away, as hosted servers do.
            Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Settings) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the server's clock, since 1970.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn time(&self) -> Result<Duration, Error> {
        let answer = self.ask(0, "TIME", &[]).await?;
        let part = |at: usize| match &answer {
            Value::Array(parts) => parts.get(at).and_then(Value::as_u64),
            _ => None,
        };
        match (part(0), part(1)) {
            (Some(seconds), Some(micros)) => {
                Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
            }
            _ => Err(error::unexpected("TIME")),
        }
    }

    fn names(&self, lane: u32) -> Names {
        Names::new(&self.namespace, lane, self.address.database_of_channels())
    }

    /// Asks the server of the lane.
    async fn ask(&self, lane: u32, command: &'static str, args: &[&str]) -> Result<Value, Error> {
        let primary = self.primary(lane).await?;
        let client = primary.connection.client();
        let client = client.with_options(&options(self.target.timeout()));
        let args: Vec<Value> = args.iter().map(|arg| bytes(arg.as_bytes())).collect();
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        client
            .custom(command, args)
            .await
            .map_err(|error| error::from_fred(&error))
    }
}

async fn connect<C: Connect>(target: &Target) -> Result<C, Error> {
    reach::open(target, &Traffic::default())
        .await
        .map_err(|error| error::from_fred(&error))
}
