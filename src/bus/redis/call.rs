//! One call of a script: finds the server of its lane, and whether it is still the primary.

use std::sync::Arc;
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::types::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::commands::Failure;
use super::common::Common;
use super::node::Node;
use super::routing::Routing;
use super::scripts::{ComeBack, Names, Script};
use super::values::{bytes, number};
use super::{ask_redirect, error, scripts};
use crate::bus::StillOpen;
use crate::metrics::Kind;
use crate::mutants::{Mechanism, without};
use crate::{Error, ErrorKind};

/// How often one call follows its lane to another server. A failover moves it once, a slot on the
/// move some times, and the call's timeout ends it anyway.
const MOVES: usize = 16;

/// Calls of deliver.lua in turn: one delivers, the next one measures. Another would deliver only where so
/// much time has passed between the two that the next message was due.
const BACK: usize = 3;

/// Lanes that are left at once when the bus closes.
const LEAVING: usize = 64;

/// Calls the scripts of all lanes.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) common: Arc<Common>,
    pub(super) routing: Arc<Routing>,
    /// How long a call may take.
    pub(super) timeout: Duration,
}

impl Caller {
    pub(super) fn names(&self, lane: u32) -> Result<&Names, Error> {
        let names = &self.common.names;
        let lanes = names.len();
        names.get(lane as usize).ok_or_else(|| {
            Error::new(
                ErrorKind::Lanes,
                format!("there is no lane {lane}: this instance has {lanes}"),
            )
        })
    }

    pub(super) fn instance(&self) -> Value {
        bytes(&self.common.config.instance.to_be_bytes())
    }

    /// As [`call_at`](Self::call_at), without the server that answered.
    pub(super) async fn call(
        &self,
        lane: u32,
        kind: Kind,
        script: Script,
        keys: &[&Str],
        args: &[Value],
    ) -> Result<Value, Error> {
        Ok(self.call_at(lane, kind, script, keys, args).await?.1)
    }

    /// Runs a script on the lane's server, wherever that is by now. Ends within the command timeout.
    pub(super) async fn call_at(
        &self,
        lane: u32,
        kind: Kind,
        script: Script,
        keys: &[&Str],
        args: &[Value],
    ) -> Result<(Arc<Node>, Value), Error> {
        let deadline = Instant::now() + self.timeout;
        for _ in 0..MOVES {
            let node = self.routing.node(lane, deadline).await?;
            let call = node.commands.call(kind, script, keys, args, deadline);
            let error = match call.await {
                Ok(value) => return Ok((node, value)),
                Err(failure) => failure,
            };
            let last =
                !self.routing.moves() || self.common.is_closed() || Instant::now() >= deadline;
            match error {
                Failure::Asked(Some(place), _) if !last => {
                    let call = ask_redirect::call(&node.peer, &place, kind, script, keys, args);
                    // The one that gives the lane away owns it as long as it sends calls elsewhere.
                    match timeout_at(deadline, call).await {
                        Ok(Ok(value)) => return Ok((node, value)),
                        // Mostly TRYAGAIN, or the lane has arrived.
                        Ok(Err(error)) if error::is_redirection(&error) => pause().await,
                        Ok(Err(error)) => return Err(error::from_fred(&error)),
                        Err(_) => {}
                    }
                }
                Failure::Moved(error) | Failure::Asked(_, error) => {
                    self.routing.moved();
                    if last {
                        return Err(error);
                    }
                    pause().await;
                }
                Failure::Other(error) if last || !node.peer.is_retired() => return Err(error),
                // Its connection was dropped because the lane lives elsewhere now.
                Failure::Other(_) => {}
            }
        }
        Err(self.routing.unknown(lane))
    }

    /// Waits until the witnesses have named the server that answered: it may have been replaced.
    pub(super) async fn still_the_primary(&self, lane: u32, node: &Node) -> Result<(), Error> {
        if !self.routing.moves() || without(Mechanism::StillThePrimary) {
            return Ok(());
        }
        self.routing.confirm(lane, node).await
    }

    /// Returns the arguments of leave.lua.
    pub(super) fn of_open(&self, open: &StillOpen, leaves: bool) -> Vec<Value> {
        let first = [
            self.instance(),
            number(u8::from(leaves)),
            bytes(&open.up_to.to_be_bytes()),
        ];
        let intents = open.intents.iter().map(|id| bytes(id));
        first.into_iter().chain(intents).collect()
    }

    /// Returns what is not up yet, the worst of it.
    pub(super) fn missing(&self) -> Option<Error> {
        let mut missing = self.routing.first_unknown();
        for node in self.routing.nodes() {
            for status in [&node.commands.status, &node.subscription.status] {
                let status = status.borrow();
                if let Some(error) = status.permanent() {
                    return Some(error);
                }
                if !status.is_up() {
                    missing.get_or_insert_with(|| status.error());
                }
            }
        }
        missing
    }
}

/// Leaves every lane. Ends within the command timeout: an instance that cannot leave is found silent instead.
pub(super) async fn leave(caller: &Arc<Caller>, open: StillOpen) {
    let open = Arc::new(open);
    let all = async {
        let mut leaving = JoinSet::new();
        for (lane, names) in (0u32..).zip(caller.common.names.clone()) {
            if leaving.len() >= LEAVING {
                leaving.join_next().await;
            }
            let (caller, open) = (Arc::clone(caller), Arc::clone(&open));
            leaving.spawn(async move {
                let keys = [&names.members, &names.intents];
                let args = caller.of_open(&open, true);
                let _ = caller
                    .call(lane, Kind::Connect, Script::Leave, &keys, &args)
                    .await;
            });
        }
        while leaving.join_next().await.is_some() {}
    };
    let _ = timeout(caller.timeout, all).await;
}

/// Before a call is sent again to where its lane may be by now.
async fn pause() {
    sleep(Duration::from_millis(fastrand::u64(5..60))).await;
}

/// Delivers what waits in a lane once it is due, and measures what that took. Where it fails, the next
/// publication or verification of any instance delivers.
pub(super) async fn come_back(caller: Arc<Caller>, lane: u32, what: ComeBack) {
    let mut sent = match what {
        ComeBack::Measure(sent) => Some(sent),
        ComeBack::In(wait) => {
            sleep(wait).await;
            None
        }
    };
    let Ok(names) = caller.names(lane) else {
        return;
    };
    let keys = [&names.state, &names.waiting];
    for _ in 0..BACK {
        let (at, receivers) = sent.map_or((0, 0), |sent| (sent.at, sent.receivers));
        let args = [names.channel_end().into(), number(at), number(receivers)];
        let call = caller.call(lane, Kind::Publish, Script::Deliver, &keys, &args);
        sent = call
            .await
            .ok()
            .and_then(|answer| scripts::delivered(&answer));
        if sent.is_none() {
            return;
        }
    }
}
