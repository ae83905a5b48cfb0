//! What the user lacks, and how fast messages come.

use std::collections::BTreeSet;
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Primary, Server, connect};
use crate::Error;
use crate::bus::redis::connection::{asking, options};
use crate::bus::redis::error;
use crate::bus::redis::link::{Frame, Link, refused};
use crate::bus::redis::rights::{self, Lack, MissingRight};
use crate::bus::redis::scripts::{Names, SOURCES, Script};
use crate::bus::tier::Name;
use crate::metrics::Traffic;

/// Removes a lane. By a script, because users have the right to run `DEL`, and a connection only sends
/// scripts.
const FORGET: &str = "return redis.call('DEL', unpack(KEYS))";

/// What an instance would lack here.
#[derive(Debug)]
pub struct Lacks {
    /// Rights of the user and commands of the server.
    pub rights: Option<Lack>,
    /// Why no instance would start on this server at all.
    pub unfit: Option<Error>,
}

impl Server {
    /// Returns what an instance needs and this user does not get, in any of the lanes.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn lacks(&self, lanes: u32) -> Result<Lacks, Error> {
        let (mut rights, mut unfit) = (BTreeSet::new(), None);
        for lane in 0..lanes {
            let names = self.names(lane);
            let primary = self.primary(lane).await?;
            match self.probe(&primary, &names).await {
                Ok(probed) => {
                    unfit = unfit.or(probed.product.and_then(|product| {
                        let judged = product.judge(self.address.is_cluster());
                        judged.err()
                    }));
                    rights.extend(probed.missing);
                }
                Err(error) => rights.extend([missing(&error)?]),
            }
            if self.address.is_cluster()
                && let Err(error) = asking(primary.connection.client(), &self.target).await
            {
                rights.extend([missing(&error)?]);
            }
            let mut link: Link = connect(&primary.target).await?;
            if let Err(error) = self.subscribe(&mut link, &names.channel).await {
                rights.extend([missing(&error)?]);
            }
        }
        let lack = || Lack::of(&rights, self.user(), &self.namespace);
        Ok(Lacks {
            rights: (!rights.is_empty()).then(lack),
            unfit,
        })
    }

    /// Gives the server every script, as an instance does, and has it try every command on a
    /// lane's keys and channel.
    async fn probe(&self, primary: &Primary, names: &Names) -> Result<rights::Probed, FredError> {
        let client = primary.connection.client();
        let client = client.with_options(&options(self.target.timeout()));
        let mut hash = Str::default();
        for source in SOURCES {
            let loaded: Value = client.script_load(Str::from_static(source)).await?;
            hash = loaded.into_bytes_str().unwrap_or_default();
        }
        // The last is the probe.
        debug_assert_eq!(Script::Probe as usize + 1, SOURCES.len());
        let keys: Vec<Str> = names.probed().into_iter().cloned().collect();
        let answer: Value = client
            .evalsha(hash, keys, vec![names.unused_channel()])
            .await?;
        rights::probed(&answer)
            .map_err(|error| FredError::new(FredKind::Protocol, error.to_string()))
    }

    /// Returns how long each of some messages took from here over pub/sub to here; fewer than asked for
    /// where one did not arrive.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn echo(&self, times: usize) -> Result<Vec<Duration>, Error> {
        let channel = self.names(0).unused_channel();
        let primary = self.primary(0).await?;
        let mut link: Link = connect(&primary.target).await?;
        self.subscribe(&mut link, &channel)
            .await
            .map_err(|error| error::from_fred(&error))?;
        let mut delays = Vec::with_capacity(times);
        for sent in 0..times {
            let nonce = sent.to_string();
            let began = Instant::now();
            self.ask(0, self.publish(), &[&channel, &nonce]).await?;
            let deadline = began + self.target.timeout();
            match timeout_at(deadline, delivered(&mut link, nonce.as_bytes())).await {
                Ok(Ok(())) => delays.push(began.elapsed()),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        Ok(delays)
    }

    /// Removes what a rehearsal has left in these lanes, with the value of this name.
    pub(crate) async fn forget(&self, lanes: u32, value: &Name) -> Result<(), Error> {
        for lane in 0..lanes {
            let (names, primary) = (self.names(lane), self.primary(lane).await?);
            let client = primary.connection.client();
            let client = client.with_options(&options(self.target.timeout()));
            let mut keys: Vec<Str> = names.probed().into_iter().cloned().collect();
            keys.push(names.of_value("v", value));
            let removed = async {
                let hash: Str = client.script_load(Str::from_static(FORGET)).await?;
                client
                    .evalsha::<Value, _, _, _>(hash, keys, Vec::<Str>::new())
                    .await
            };
            removed.await.map_err(|error| error::from_fred(&error))?;
        }
        Ok(())
    }

    /// Subscribes, as an instance does.
    async fn subscribe(&self, link: &mut Link, channel: &str) -> Result<(), FredError> {
        let command: &[u8] = if self.address.is_cluster() {
            b"SSUBSCRIBE"
        } else {
            b"SUBSCRIBE"
        };
        link.send(&Traffic::default(), &[command, channel.as_bytes()]);
        let answer = async {
            loop {
                match link.next()? {
                    Some((Frame::Subscribed { .. }, _)) => return Ok(()),
                    Some((Frame::Refusal(refusal), _)) => return Err(refused(refusal)),
                    Some(_) => {}
                    None => link.arrived().await?,
                }
            }
        };
        let late = |_| FredError::new(FredKind::Timeout, "");
        timeout(self.target.timeout(), answer).await.map_err(late)?
    }

    fn publish(&self) -> &'static str {
        if self.address.is_cluster() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        }
    }
}

/// Waits until this message is delivered.
async fn delivered(link: &mut Link, expected: &[u8]) -> Result<(), FredError> {
    loop {
        match link.next()? {
            Some((Frame::Message { message, .. }, _)) if message == expected => return Ok(()),
            Some(_) => {}
            None => link.arrived().await?,
        }
    }
}

/// Returns what a refusal says is missing; any other error stays one.
fn missing(refusal: &FredError) -> Result<MissingRight, Error> {
    MissingRight::of(refusal.details()).ok_or_else(|| error::from_fred(refusal))
}
