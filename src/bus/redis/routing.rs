//! Which server each lane lives on, and which servers decide that.
//!
//! Under Sentinel and in a cluster a server may answer, take events and keep its subscribers for
//! seconds after another has taken its place. So others are asked, again after every verification:
//! a majority of the sentinels, or the other primaries of the cluster. One consultation at a time
//! answers for all lanes and for every call that waited for one to begin.

mod ballot;
mod cluster;
mod poll;
mod sentinel;
mod slots;
mod spellings;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::cluster::Cluster;
use self::sentinel::Sentinels;
use super::common::Common;
#[cfg(feature = "cli")]
use super::error;
use super::node::Node;
use super::retry::Retry;
use super::target::Target;
use crate::bus::BusEvent;
use crate::url::{Address, Deployment, Place};
use crate::{Error, ErrorKind};

/// By lane, the server it lives on, once that is known.
pub(super) type Roster = Vec<Option<Arc<Node>>>;

/// What one consultation found out.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// None was asked before.
    began: Instant,
    /// By lane, its primary, or why none can be named.
    primaries: Vec<Result<Place, Error>>,
}

/// The servers that are asked.
#[derive(Debug)]
enum Witnesses {
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// Where the lanes live.
#[derive(Debug)]
pub(super) struct Routing {
    common: Arc<Common>,
    /// With the login and the timeouts for every server.
    target: Target,
    /// `None` for a single server, which is never replaced.
    witnesses: Option<Witnesses>,
    roster: watch::Sender<Roster>,
    word: watch::Sender<Option<Word>>,
    began: Instant,
}

impl Routing {
    pub(super) fn new(common: Arc<Common>, address: &Address, target: Target) -> Self {
        let witnesses = match &address.deployment {
            Deployment::Single => None,
            Deployment::Sentinel { service, .. } => {
                let sentinels = Sentinels::new(address, service, &target);
                Some(Witnesses::Sentinels(sentinels))
            }
            Deployment::Cluster => {
                let cluster = Cluster::new(address, &target, &common);
                Some(Witnesses::Cluster(cluster))
            }
        };
        let lanes = common.names.len();
        Self {
            common,
            target,
            witnesses,
            roster: watch::Sender::new(vec![None; lanes]),
            word: watch::Sender::default(),
            began: Instant::now(),
        }
    }

    /// Returns whether another server may take the place of one.
    pub(super) fn moves(&self) -> bool {
        self.witnesses.is_some()
    }

    /// All lanes live at one place.
    pub(super) fn settle(
        &self,
        place: &Place,
        tasks: &mut JoinSet<()>,
        events: &mpsc::Sender<BusEvent>,
    ) {
        let primaries = vec![Ok(place.clone()); self.common.names.len()];
        self.adopt(&primaries, tasks, events);
    }

    /// Returns the server that a lane lives on; waits where it is not known.
    pub(super) async fn node(&self, lane: u32, deadline: Instant) -> Result<Arc<Node>, Error> {
        let at = lane as usize;
        let known = |roster: &Roster| roster.get(at).cloned().flatten();
        if let Some(node) = known(&self.roster.borrow()) {
            return Ok(node);
        }
        let mut roster = self.roster.subscribe();
        let found = async {
            known(
                &*roster
                    .wait_for(|roster| known(roster).is_some())
                    .await
                    .ok()?,
            )
        };
        select! {
            biased;
            () = self.common.closed() => Err(Error::closed()),
            found = timeout_at(deadline, found) => match found {
                Ok(Some(node)) => Ok(node),
                Ok(None) => Err(Error::closed()),
                Err(_) => Err(self.unknown(lane)),
            },
        }
    }

    /// Returns since when the lane's server cannot be sent commands. A lane whose server is not known has had
    /// none since the start: it keeps the one that it had.
    pub(super) fn away_since(&self, lane: u32) -> Option<Instant> {
        match self.roster.borrow().get(lane as usize) {
            Some(Some(node)) => node.commands.away_since(),
            _ => Some(self.began),
        }
    }

    /// Returns every server in use, once.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for node in self.roster.borrow().iter().flatten() {
            if !nodes.iter().any(|known| Arc::ptr_eq(known, node)) {
                nodes.push(Arc::clone(node));
            }
        }
        nodes
    }

    /// Returns whether it is known of every lane where it lives.
    pub(super) fn is_complete(&self) -> bool {
        self.roster.borrow().iter().all(Option::is_some)
    }

    /// Why it is not known where a lane lives.
    pub(super) fn unknown(&self, lane: u32) -> Error {
        match &*self.word.borrow() {
            Some(word) => match word.primaries.get(lane as usize) {
                Some(Err(error)) => error.clone(),
                _ => Error::new(ErrorKind::Bus, "the lane's primary has just changed"),
            },
            None => Error::new(ErrorKind::Bus, "no answer named the primary in time"),
        }
    }

    /// As [`unknown`](Self::unknown), of the first lane for which it matters.
    pub(super) fn first_unknown(&self) -> Option<Error> {
        let lane = self.roster.borrow().iter().position(Option::is_none)?;
        Some(self.unknown(u32::try_from(lane).unwrap_or(u32::MAX)))
    }

    /// A server said that a lane lives elsewhere.
    pub(super) fn moved(&self) {
        self.common.moved.store(true, Ordering::Release);
        self.doubt();
    }

    /// The lanes may have moved: asks again.
    fn doubt(&self) {
        self.common.doubt.notify_one();
    }

    /// Whether the witnesses name this server as the lane's primary, asked after this call.
    ///
    /// 1: an old primary answers; 2: another is promoted, takes an event and is named by all.
    /// If they had been asked before 1, the answer would count, and the event would be missed.
    pub(super) async fn confirm(&self, lane: u32, node: &Node) -> Result<(), Error> {
        let asked = Instant::now();
        // Twice: the consultation that is under way began before.
        let deadline = asked + self.target.timeout() * 2;
        let mut words = self.word.subscribe();
        self.doubt();
        let fresh = |word: &Option<Word>| word.as_ref().is_some_and(|word| word.began >= asked);
        let word = select! {
            biased;
            () = self.common.closed() => return Err(Error::closed()),
            word = timeout_at(deadline, words.wait_for(fresh)) => word,
        };
        let late = || Error::new(ErrorKind::Bus, "no answer confirmed the primary in time");
        let word = word.map_err(|_| late())?.map_err(|_| late())?;
        let named = word
            .as_ref()
            .and_then(|word| word.primaries.get(lane as usize));
        match named {
            Some(Ok(place)) if *place == node.peer.place => Ok(()),
            Some(Ok(place)) => Err(Error::new(
                ErrorKind::Bus,
                format!("{place} has taken the place of {}", node.peer.place),
            )),
            Some(Err(error)) => Err(error.clone()),
            None => Err(late()),
        }
    }

    async fn consult(&self) -> Word {
        let began = Instant::now();
        let lanes = self.common.names.len();
        let primaries = match &self.witnesses {
            Some(Witnesses::Sentinels(sentinels)) => {
                vec![sentinels.primary(&self.common).await; lanes]
            }
            Some(Witnesses::Cluster(cluster)) => cluster.primaries(&self.common).await,
            None => Vec::new(),
        };
        Word { began, primaries }
    }

    /// Lanes whose primary is known now live there; of the others nothing better is known than before.
    fn adopt(
        &self,
        primaries: &[Result<Place, Error>],
        tasks: &mut JoinSet<()>,
        events: &mpsc::Sender<BusEvent>,
    ) {
        let mut roster = self.roster.borrow().clone();
        let mut nodes: BTreeMap<Place, Arc<Node>> = BTreeMap::new();
        for node in self.nodes() {
            nodes.insert(node.peer.place.clone(), node);
        }
        let mut lanes: BTreeMap<Place, Vec<u32>> = BTreeMap::new();
        for ((lane, named), present) in (0u32..).zip(primaries).zip(&roster) {
            let place = match named {
                Ok(place) => Some(place),
                Err(_) => present.as_ref().map(|node| &node.peer.place),
            };
            if let Some(place) = place {
                lanes.entry(place.clone()).or_default().push(lane);
            }
        }
        let changed = lanes.iter().any(|(place, lanes)| {
            nodes
                .get(place)
                .is_none_or(|node| node.peer.lanes() != *lanes)
        });
        if !changed && nodes.len() == lanes.len() {
            return;
        }
        for (place, lanes) in &lanes {
            let node = if let Some(node) = nodes.remove(place) {
                node.peer.set_lanes(lanes.clone());
                node
            } else {
                if self.moves() {
                    tracing::info!(server = %place, lanes = lanes.len(), "lanes live on this Redis server now");
                }
                let (place, target) = (place.clone(), self.target.at(place));
                Node::start(&self.common, place, target, lanes.clone(), tasks, events)
            };
            for &lane in lanes {
                roster[lane as usize] = Some(Arc::clone(&node));
            }
        }
        self.roster.send_replace(roster);
        for old in nodes.values() {
            tracing::info!(server = %old.peer.place, "no lane lives on this Redis server now; closing its connections");
            old.peer.retire();
        }
        self.common.changes.send_replace(());
    }

    /// Forgets the servers, which know what knows them.
    fn forget(&self) {
        self.roster
            .send_replace(vec![None; self.common.names.len()]);
    }
}

/// Returns where one lane lives, asked once, without keeping connections up.
#[cfg(feature = "cli")]
pub(super) async fn locate(
    common: Common,
    address: &Address,
    target: &Target,
) -> Result<Place, Error> {
    /// The first answers may be cut short by connections that take their time.
    const ATTEMPTS: u32 = 3;
    let routing = Routing::new(Arc::new(common), address, target.clone());
    if !routing.moves() {
        return Ok(address.places[0].clone());
    }
    let mut found = Err(routing.unknown(0));
    for _ in 0..ATTEMPTS {
        let word = routing.consult().await;
        let named = word.primaries.into_iter().next();
        found = named.unwrap_or_else(|| Err(routing.unknown(0)));
        if found.is_ok() || found.as_ref().is_err_and(error::is_permanent) {
            break;
        }
    }
    found
}

/// Keeps the lanes where they live until the bus is closed.
pub(super) async fn run(
    routing: Arc<Routing>,
    mut tasks: JoinSet<()>,
    events: mpsc::Sender<BusEvent>,
) {
    let common = Arc::clone(&routing.common);
    let mut retry = Retry::default();
    while routing.moves() {
        let word = select! {
            biased;
            () = common.closed() => break,
            () = events.closed() => break,
            word = routing.consult() => word,
        };
        routing.adopt(&word.primaries, &mut tasks, &events);
        // The tasks of servers that were replaced.
        while tasks.try_join_next().is_some() {}
        let (began, complete) = (word.began, word.primaries.iter().all(Result::is_ok));
        routing.word.send_replace(Some(word));
        common.changes.send_replace(());
        let wait = async {
            if complete {
                retry = Retry::default();
                common.doubt.notified().await;
            } else {
                // No server is known whose failure would ask again.
                retry.wait(began).await;
            }
        };
        select! {
            biased;
            () = common.closed() => break,
            () = wait => {}
        }
    }
    drop(events);
    while tasks.join_next().await.is_some() {}
    routing.forget();
}
