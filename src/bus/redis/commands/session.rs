//! One life of the connection that carries commands.

use std::time::Duration;

use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio::try_join;

use crate::bus::redis::action::Action;
use crate::bus::redis::connection::{Connection, asking, options, ping};
use crate::bus::redis::error;
use crate::bus::redis::peer::Peer;
use crate::bus::redis::reach;
use crate::bus::redis::rights;
use crate::bus::redis::scripts::{SOURCES, Script};
use crate::bus::redis::values;
use crate::lock::{Guard, Lock};
use crate::metrics::Kind;
use crate::{Error, ErrorKind};

/// Commands without an answer, sent some time apart, after which the connection counts as dead.
/// One may be a slow moment of the server. fred notices a dead peer only while nothing is sent.
const SILENCES: u32 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// By [`Script`].
    hashes: [Str; SOURCES.len()],
    silence: Lock<Silence>,
    /// Why the connection was found to be unusable.
    verdict: Lock<Option<Error>>,
    given_up: Notify,
}

/// What happened since the last answer.
#[derive(Debug)]
struct Silence {
    /// When that answer came.
    since: Instant,
    /// Timeouts counted.
    count: u32,
    /// When the command that was counted last had been sent.
    last: Option<Instant>,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
            last: None,
        }
    }
}

impl Session {
    /// Connects, loads the scripts and makes sure that the user may run what they contain.
    pub(super) async fn open(peer: &Peer) -> Result<(Self, Connection), Error> {
        let from_fred = |error| peer.explained(&error);
        let traffic = &peer.common.config.traffic;
        let connection: Connection = reach::open(&peer.target, traffic)
            .await
            .map_err(from_fred)?;
        let session = Self {
            client: connection.client().clone(),
            hashes: Default::default(),
            silence: Lock::default(),
            verdict: Lock::default(),
            given_up: Notify::new(),
        };
        let session = session.with_scripts(peer).await.map_err(from_fred)?;
        session.probe(peer).await?;
        Ok((session, connection))
    }

    /// Loads all scripts in one round trip.
    async fn with_scripts(mut self, peer: &Peer) -> Result<Self, FredError> {
        let load = |script| self.load(peer, script);
        let (publish, verify, journal, announce, leave, fetch, put, deliver, mark, probe) = try_join!(
            load(Script::Publish),
            load(Script::Verify),
            load(Script::Journal),
            load(Script::Announce),
            load(Script::Leave),
            load(Script::Fetch),
            load(Script::Put),
            load(Script::Deliver),
            load(Script::Mark),
            load(Script::Probe),
        )?;
        self.hashes = [
            publish, verify, journal, announce, leave, fetch, put, deliver, mark, probe,
        ];
        Ok(self)
    }

    /// Gives the server a script; returns its hash.
    pub(super) async fn load(&self, peer: &Peer, script: Script) -> Result<Str, FredError> {
        let source = SOURCES[script as usize];
        let traffic = &peer.common.config.traffic;
        traffic.sent(Kind::Connect, values::command([6, 4, source.len()]));
        let client = self.client.with_options(&options(peer.target.timeout()));
        let hash: Value = client.script_load(Str::from_static(source)).await?;
        traffic.received(Kind::Connect, values::reply(&hash));
        hash.into_bytes_str()
            .ok_or_else(|| FredError::new(FredKind::Protocol, "no hash of a script"))
    }

    /// Makes sure that an instance can live there; an error says what is missing, and how to give it.
    async fn probe(&self, peer: &Peer) -> Result<(), Error> {
        let lanes = peer.lanes();
        let Some(&lane) = lanes.first() else {
            return Ok(());
        };
        let common = &peer.common;
        let names = &common.names[lane as usize];
        if common.sharded {
            let asked = asking(&self.client, &peer.target).await;
            asked.map_err(|error| peer.explained(&error))?;
        }
        let (keys, args) = (names.probed(), [names.unused_channel().into()]);
        let deadline = Instant::now() + peer.target.timeout();
        let probe = self.evalsha(peer, Kind::Connect, Script::Probe, &keys, &args, deadline);
        let answer = match probe.await {
            Ok(answer) => answer,
            // A lane on the move: what the user may do shows with the first call.
            Err(error) if error::is_redirection(&error) => return Ok(()),
            Err(error) => return Err(peer.explained(&error)),
        };
        let probed = rights::probed(&answer)?;
        let namespace = &common.config.namespace;
        rights::judge(&probed, common.sharded, &peer.target.user(), namespace)
    }

    pub(super) async fn evalsha(
        &self,
        peer: &Peer,
        kind: Kind,
        script: Script,
        keys: &[&Str],
        args: &[Value],
        deadline: Instant,
    ) -> Result<Value, FredError> {
        let traffic = &peer.common.config.traffic;
        let hash = &self.hashes[script as usize];
        let lengths = args.iter().map(|arg| arg.as_bytes().map_or(0, <[u8]>::len));
        let began = Instant::now();
        traffic.sent(
            kind,
            values::evalsha(hash.len(), keys.iter().map(|key| key.len()), lengths),
        );
        let keys: Vec<Str> = keys.iter().copied().cloned().collect();
        let client = self.client.with_options(&options(left(deadline, began)));
        let result: Result<Value, _> = client.evalsha(hash.clone(), keys, args.to_vec()).await;
        match &result {
            Ok(value) => traffic.received(kind, values::reply(value)),
            Err(error) if error::is_reply(error) => {
                traffic.received(kind, values::error_reply(error))
            }
            Err(error) if *error.kind() == FredKind::Timeout => {
                self.silent(peer, began);
                return result;
            }
            // The connection is lost; its owner sees it too.
            Err(_) => return result,
        }
        *self.silence() = Silence::default();
        result
    }

    /// Counts a command sent at `began` that was not answered.
    fn silent(&self, peer: &Peer, began: Instant) {
        let mut silence = self.silence();
        // Commands sent together share one fate: they count once.
        let apart = peer.target.timeout() / 4;
        if silence
            .last
            .is_some_and(|last| began.saturating_duration_since(last) < apart)
        {
            return;
        }
        silence.last = Some(began);
        silence.count += 1;
        let silent = silence.count >= SILENCES;
        drop(silence);
        if silent {
            self.give_up(Error::new(
                ErrorKind::Bus,
                "Redis does not answer; connecting again",
            ));
            // Most likely the subscription's peer is the same dead one.
            peer.actions.ask(Action::Check);
        }
    }

    /// Asks for an answer whenever none came for longer than a healthy instance is silent: callers give
    /// up before the timeout and so never notice one. Returns a failure.
    pub(super) async fn watch(&self, peer: &Peer) -> Error {
        // An idle instance's verification every half member timeout is enough of a sign of life, unless
        // that is long.
        let times = peer.target.times();
        let silent = (peer.common.config.member_timeout / 2 + times.command).min(times.keepalive);
        loop {
            let due = self.silence().since + silent;
            if Instant::now() < due {
                sleep_until(due).await;
                continue;
            }
            if let Err(error) = ping(&self.client, &peer.target, &peer.common.config.traffic).await
            {
                peer.actions.ask(Action::Check);
                return error::from_fred(&error);
            }
            *self.silence() = Silence::default();
        }
    }

    /// Ends the connection, so that another is made.
    pub(super) fn give_up(&self, why: Error) {
        self.verdict.lock().get_or_insert(why);
        self.given_up.notify_one();
    }

    /// Waits until the connection is given up.
    pub(super) async fn verdict(&self) -> Error {
        loop {
            self.given_up.notified().await;
            let verdict = self.verdict.lock().take();
            if let Some(why) = verdict {
                return why;
            }
        }
    }

    fn silence(&self) -> Guard<'_, Silence> {
        self.silence.lock()
    }
}

/// Returns what is left until the deadline, and never nothing: fred takes that for no timeout at all.
fn left(deadline: Instant, now: Instant) -> Duration {
    let left = deadline.saturating_duration_since(now);
    left.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_command_whose_deadline_has_passed_still_has_a_timeout() {
        let now = Instant::now();
        assert_eq!(left(now, now), Duration::from_millis(1));
        assert_eq!(
            left(now, now + Duration::from_secs(5)),
            Duration::from_millis(1)
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(left(later, now), Duration::from_secs(1));
    }
}
