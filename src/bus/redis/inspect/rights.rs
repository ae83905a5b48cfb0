//! What the user may do, and how fast messages come.

use std::collections::BTreeSet;
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, LuaInterface, PubsubInterface};
use fred::types::Value;
use tokio::time::{Instant, timeout_at};
use tokio::try_join;

use super::{Primary, Server, connect};
use crate::Error;
use crate::bus::redis::connection::{Connection, options};
use crate::bus::redis::error;
use crate::bus::redis::scripts::{self, Names, SOURCES, Script};

/// A right that the user of the URL lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissingRight {
    /// To run this command.
    Command(String),
    /// To use the namespace's keys.
    Keys,
    /// To use the namespace's channels.
    Channels,
}

impl Server {
    /// Returns the rights that an instance needs and this user lacks, in any of the lanes.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn missing_rights(&self, lanes: u32) -> Result<BTreeSet<MissingRight>, Error> {
        let mut all = BTreeSet::new();
        for lane in 0..lanes {
            all.extend(self.missing(lane).await?);
        }
        Ok(all)
    }

    /// Gives the server every script, as an instance does, and has it try every command on a
    /// lane's keys and channel; what the ACL refuses.
    async fn missing(&self, lane: u32) -> Result<Vec<MissingRight>, Error> {
        let names = self.names(lane);
        let mut missing = Vec::new();
        let primary = self.primary(lane).await?;
        match self.probe(&primary, &names).await {
            Ok(refused) => missing.extend(refused.into_iter().map(MissingRight::Command)),
            Err(error) => missing.push(denied(&error).ok_or_else(|| error::from_fred(&error))?),
        }
        // A refused SUBSCRIBE answers another command: on a connection of its own.
        let (connection, _) = connect(&primary.target).await?;
        if let Err(error) = self.subscribe(&connection, names.channel).await {
            missing.push(denied(&error).ok_or_else(|| error::from_fred(&error))?);
        }
        let channels = missing.contains(&MissingRight::Channels);
        // Refused because of its channel.
        missing.retain(|right| {
            !channels || *right != MissingRight::Command(self.publish().to_lowercase())
        });
        Ok(missing)
    }

    async fn probe(&self, primary: &Primary, names: &Names) -> Result<Vec<String>, FredError> {
        let client = primary.connection.client();
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
        let answer: Value = client
            .evalsha(hash, keys, vec![self.unused_channel(names)])
            .await?;
        scripts::refused(&answer)
            .map_err(|error| FredError::new(FredKind::Protocol, error.to_string()))
    }

    /// Returns how long each of some messages took from here over pub/sub to here; fewer than asked for
    /// where one did not arrive.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn echo(&self, times: usize) -> Result<Vec<Duration>, Error> {
        let names = self.names(0);
        let channel = self.unused_channel(&names);
        let primary = self.primary(0).await?;
        let (connection, mut messages) = connect(&primary.target).await?;
        self.subscribe(&connection, channel.clone())
            .await
            .map_err(|error| error::from_fred(&error))?;
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
    async fn subscribe(&self, connection: &Connection, channel: Str) -> Result<(), FredError> {
        let client = connection.client();
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
}

/// What an error says is missing, if it is the ACL's.
fn denied(error: &FredError) -> Option<MissingRight> {
    let details = error.details();
    if !details.starts_with("NOPERM") {
        return None;
    }
    // "... no permissions to run the 'script|load' command".
    if let Some((_, rest)) = details.split_once("run the '") {
        let command = rest.split('\'').next().unwrap_or_default();
        return Some(MissingRight::Command(command.to_owned()));
    }
    Some(if details.contains("channel") {
        MissingRight::Channels
    } else {
        MissingRight::Keys
    })
}

#[cfg(test)]
mod tests;
