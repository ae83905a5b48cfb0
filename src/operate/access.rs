//! The way to the fleet: a server to look at, and the bus without an instance.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::bus::redis::inspect::Server;
use crate::bus::redis::{RedisBus, RedisConfig};
use crate::bus::{Bus, BusConfig, BusEvent, StillOpen};
use crate::event::Seal;
use crate::identity::{self, InstanceId};
use crate::metrics::Traffic;
use crate::time::Clock;
use crate::{Error, ErrorKind, Settings};

/// How long one command may take at least. A person waits: longer than an instance's.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the bus may take to come up once it is connected.
pub(super) const READY: Duration = Duration::from_secs(5);

/// Connects to the server that the settings name.
///
/// # Errors
///
/// `Settings` for a bad URL, `Auth` for a wrong login, `Bus` for everything else.
pub async fn connect(settings: &Settings) -> Result<Server, Error> {
    Server::open(&config(settings)?, &settings.namespace).await
}

/// Returns the URL of the server that the settings name; `None` where they name none.
#[must_use]
pub fn server_url(settings: &Settings) -> Option<&str> {
    settings.server_url()
}

/// Returns an instance's id as it is shown everywhere, from the number that Redis has.
#[must_use]
pub fn instance_id(number: u64) -> InstanceId {
    InstanceId::new(number)
}

fn config(settings: &Settings) -> Result<RedisConfig, Error> {
    let Some(mut redis) = RedisConfig::of(settings) else {
        return Err(Error::new(
            ErrorKind::Settings,
            "UNSTALE_REDIS_URL is not set: there is no fleet to talk to",
        ));
    };
    redis.times.command = redis.times.command.max(COMMAND_TIMEOUT);
    Ok(redis)
}

/// The bus without an instance: publishes and listens, and is no member.
pub(super) struct Access {
    pub(super) bus: Arc<RedisBus>,
    pub(super) events: mpsc::Receiver<BusEvent>,
    pub(super) seal: Seal,
    pub(super) id: u64,
    pub(super) lanes: u32,
}

impl Access {
    /// With the number of lanes that the fleet has; where there is none yet, that of the settings.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Error> {
        let lanes = connect(settings).await?.lanes().await?;
        let (id, lanes) = (
            identity::instance(Clock::Kernel)?,
            lanes.unwrap_or(settings.lanes),
        );
        let config_of_bus = BusConfig {
            namespace: settings.namespace.clone(),
            instance: id,
            lanes,
            journal: settings.journal,
            member_timeout: settings.member_timeout,
            signs: Seal::new(settings).is_keyed(),
            keys: Seal::new(settings).prints(),
            traffic: Arc::new(Traffic::default()),
            outages: Arc::default(),
            tasks: Arc::default(),
        };
        let (bus, events) = RedisBus::start(config_of_bus, &config(settings)?)?;
        if let Err(error) = bus.ready(READY + settings.connect_timeout).await {
            bus.close(StillOpen::default()).await;
            return Err(error);
        }
        Ok(Self {
            bus,
            events,
            seal: Seal::new(settings),
            id,
            lanes,
        })
    }
}
