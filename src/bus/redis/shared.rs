//! What every caller of the bus goes through: on which server, and is it that one still.

use std::sync::Arc;
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::types::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::commands::Failure;
use super::node::{Common, Node};
use super::scripts::Script;
use super::topology::Topology;
use super::{bytes, elsewhere, fault, number};
use crate::Error;
use crate::bus::StillOpen;
use crate::metrics::Kind;
use crate::without::{Mechanism, without};

/// How often one call follows its lane to another server. A failover moves it once, a slot on the
/// move some times, and the call's timeout ends it anyway.
const MOVES: usize = 16;

/// Goodbyes under way at once when the bus closes.
const GOODBYES: usize = 64;

/// What the callers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) topology: Arc<Topology>,
    /// How long a call may take.
    pub(super) timeout: Duration,
}

impl Shared {
    /// Runs a script on the lane's server, wherever that is by now. Ends within the command timeout.
    pub(super) async fn call(
        &self,
        lane: u32,
        kind: Kind,
        script: Script,
        keys: &[&Str],
        args: &[Value],
    ) -> Result<(Arc<Node>, Value), Error> {
        let deadline = Instant::now() + self.timeout;
        for _ in 0..MOVES {
            let node = self.topology.node(lane, deadline).await?;
            let call = node
                .commands
                .call(&node, kind, script, keys, args, deadline);
            let error = match call.await {
                Ok(value) => return Ok((node, value)),
                Err(failure) => failure,
            };
            let last =
                !self.topology.moves() || self.common.is_closed() || Instant::now() >= deadline;
            match error {
                Failure::Asked(Some(place), _) if !last => {
                    let call = elsewhere::call(&node, &place, kind, script, keys, args);
                    // The one that gives the lane away owns it as long as it sends calls elsewhere.
                    match timeout_at(deadline, call).await {
                        Ok(Ok(value)) => return Ok((node, value)),
                        // Mostly TRYAGAIN, or the lane has arrived.
                        Ok(Err(error)) if fault::is_redirection(&error) => pause().await,
                        Ok(Err(error)) => return Err(fault::from_fred(&error)),
                        Err(_) => {}
                    }
                }
                Failure::Moved(error) | Failure::Asked(_, error) => {
                    self.topology.moved();
                    if last {
                        return Err(error);
                    }
                    pause().await;
                }
                Failure::Other(error) if last || !node.is_retired() => return Err(error),
                // Its connection was dropped because the lane lives elsewhere now.
                Failure::Other(_) => {}
            }
        }
        Err(self.topology.unknown(lane))
    }

    /// Waits for those who know to name the server that answered: it may have been replaced.
    pub(super) async fn still_the_primary(&self, lane: u32, node: &Node) -> Result<(), Error> {
        if !self.topology.moves() || without(Mechanism::StillThePrimary) {
            return Ok(());
        }
        self.topology.confirm(lane, node).await
    }

    /// The arguments of goodbye.lua.
    pub(super) fn of_open(&self, open: &StillOpen, leaves: bool) -> Vec<Value> {
        let instance = self.common.config.instance.to_be_bytes();
        let first = [
            bytes(&instance),
            number(u8::from(leaves)),
            bytes(&open.up_to.to_be_bytes()),
        ];
        let intents = open.intents.iter().map(|id| bytes(id));
        first.into_iter().chain(intents).collect()
    }

    /// What is not up yet, the worst of it.
    pub(super) fn missing(&self) -> Option<Error> {
        let mut missing = self.topology.first_unknown();
        for node in self.topology.nodes() {
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

/// Leaves every lane. Ends within the command timeout: who cannot leave is found silent instead.
pub(super) async fn goodbye(shared: &Arc<Shared>, open: StillOpen) {
    let open = Arc::new(open);
    let all = async {
        let mut leaving = JoinSet::new();
        for (lane, names) in (0u32..).zip(shared.common.names.clone()) {
            if leaving.len() >= GOODBYES {
                leaving.join_next().await;
            }
            let (shared, open) = (Arc::clone(shared), Arc::clone(&open));
            leaving.spawn(async move {
                let keys = [&names.members, &names.intents];
                let args = shared.of_open(&open, true);
                let _ = shared
                    .call(lane, Kind::Connect, Script::Goodbye, &keys, &args)
                    .await;
            });
        }
        while leaving.join_next().await.is_some() {}
    };
    let _ = timeout(shared.timeout, all).await;
}

/// Before a call is sent again to where its lane may be by now.
async fn pause() {
    sleep(Duration::from_millis(fastrand::u64(5..60))).await;
}
