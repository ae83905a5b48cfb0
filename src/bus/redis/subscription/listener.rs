//! One connection's listening, from its opening to its end.

use std::collections::HashMap;
use std::future::pending;

use fred::error::{Error as FredError, ErrorKind as FredKind};
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::exchange::{Exchanges, Outcome, Purpose};
use super::queue::{Queue, vacancy};
use crate::bus::BusEvent;
use crate::bus::redis::action::Action;
use crate::bus::redis::error;
use crate::bus::redis::link::{Frame, Link, refused};
use crate::bus::redis::peer::Peer;
use crate::bus::redis::reach;
use crate::bus::redis::renewal;
use crate::bus::redis::scripts;
use crate::bus::redis::status::Status;
use crate::bus::redis::target::Target;
use crate::metrics::Kind;
use crate::url::Login;
use crate::{Error, ErrorKind};

/// How long the next read waits for a consumer that is behind, at most: then what it has no place for is
/// dropped, so that a consumer that is stuck does not keep answers from being read.
const PATIENCE: Duration = Duration::from_millis(10);

/// A login that the connection is to take.
type Renewal = (Login, oneshot::Sender<Result<(), FredError>>);

/// See the module's documentation.
pub(super) struct Listener<'a> {
    peer: &'a Peer,
    /// Where it is made: the peer, or a replica of it.
    target: &'a Target,
    status: &'a watch::Sender<Status>,
    /// By channel.
    lanes: &'a HashMap<Vec<u8>, u32>,
    events: &'a mpsc::Sender<BusEvent>,
    queue: Queue<'a>,
    exchanges: Exchanges,
    /// [`BusEvent::Subscribed`] was delivered.
    pub(super) proven: bool,
    /// When the connection last showed that it lives.
    heard: Instant,
}

impl<'a> Listener<'a> {
    pub(super) fn new(
        peer: &'a Peer,
        target: &'a Target,
        status: &'a watch::Sender<Status>,
        lanes: &'a HashMap<Vec<u8>, u32>,
        events: &'a mpsc::Sender<BusEvent>,
    ) -> Self {
        Self {
            peer,
            target,
            status,
            lanes,
            events,
            queue: Queue::new(events, &peer.common.room),
            exchanges: Exchanges::new(target.timeout()),
            proven: false,
            heard: Instant::now(),
        }
    }

    /// From the connection's opening to its end; returns why it ended.
    pub(super) async fn serve(&mut self) -> Error {
        let peer = self.peer;
        // What was asked of the connection before does not concern this one.
        peer.actions.take();
        let mut link: Link = match reach::open(self.target, &peer.common.config.traffic).await {
            Ok(link) => link,
            Err(error) => return peer.explained(&error),
        };
        let (renew, mut renewals) = mpsc::channel(1);
        let renewing = renewal::keep(|login| log_in(&renew, login), peer, link.version());
        tokio::pin!(renewing);
        self.subscribe(&mut link);
        let keepalive = self.target.times().keepalive;
        loop {
            select! {
                // Proxies on the way end connections that are silent.
                () = sleep_until(self.heard + keepalive), if self.exchanges.is_empty() => {
                    self.check(&mut link);
                }
                () = late(self.exchanges.deadline()) => {
                    if let Outcome::Failed(error) = self.exchanges.expire(self.heard) {
                        return self.explained(&error);
                    }
                }
                never = &mut renewing => match never {},
                Some((login, asker)) = renewals.recv(), if !self.exchanges.logs_in() => {
                    self.log_in(&mut link, &login, asker);
                }
                arrived = link.arrived() => {
                    if let Err(error) = arrived {
                        return error::from_fred(&error);
                    }
                    self.heard = Instant::now();
                    if let Err(error) = self.take(&mut link) {
                        return self.explained(&error);
                    }
                    self.give_way().await;
                }
                () = vacancy(self.events, &peer.common.room), if self.queue.owes_a_gap() => {
                    self.queue.report_gap();
                }
                action = peer.actions.next() => match action {
                    Some(Action::Reconnect) => {
                        let why = "the subscription did not deliver; connecting again";
                        return Error::new(ErrorKind::Bus, why);
                    }
                    Some(Action::Resubscribe) => self.subscribe(&mut link),
                    Some(Action::Check) if self.exchanges.is_empty() => self.check(&mut link),
                    Some(Action::Check) | None => {}
                },
            }
        }
    }

    fn explained(&self, error: &FredError) -> Error {
        self.peer.explained(error)
    }

    /// Asks whether the connection still answers.
    fn check(&mut self, link: &mut Link) {
        self.exchanges.begin(Purpose::Check);
        link.send(&self.peer.common.config.traffic, &[b"PING"]);
    }

    fn log_in(
        &mut self,
        link: &mut Link,
        login: &Login,
        asker: oneshot::Sender<Result<(), FredError>>,
    ) {
        self.exchanges.begin(Purpose::LogIn(asker));
        let words = std::iter::once("AUTH")
            .chain(login.username.as_deref())
            .chain(login.password.as_deref());
        let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
        link.send(&self.peer.common.config.traffic, &words);
    }

    /// Begins to subscribe to every lane's channel, unless that is under way.
    fn subscribe(&mut self, link: &mut Link) {
        if self.exchanges.subscribes() {
            return;
        }
        let (common, lanes) = (&self.peer.common, self.peer.lanes());
        let channel = |lane: &u32| common.names[*lane as usize].channel.as_bytes();
        let channels: Vec<&[u8]> = lanes.iter().map(channel).collect();
        let traffic = &common.config.traffic;
        if channels.is_empty() {
            return;
        }
        if common.sharded {
            // Those of one command must be in one slot.
            for channel in channels {
                link.send(traffic, &[b"SSUBSCRIBE", channel]);
            }
        } else {
            let subscribe: &[u8] = b"SUBSCRIBE";
            let words: Vec<&[u8]> = std::iter::once(subscribe).chain(channels).collect();
            link.send(traffic, &words);
        }
        let left = lanes.clone();
        self.exchanges.begin(Purpose::Subscribe { lanes, left });
    }

    /// Takes all that has arrived.
    fn take(&mut self, link: &mut Link) -> Result<(), FredError> {
        let traffic = &self.peer.common.config.traffic;
        let mut subscribed = None;
        while let Some((frame, bytes)) = link.next()? {
            let lane = |channel: &[u8]| self.lanes.get(channel).copied();
            let mut kind = Kind::Connect;
            let outcome = match frame {
                Frame::Message { channel, message } => {
                    kind = Kind::Deliver;
                    if let Some(lane) = lane(channel).filter(|_| self.proven) {
                        self.queue.heard(lane, scripts::message(message));
                    }
                    Outcome::Fine
                }
                Frame::TooLarge { channel } => {
                    kind = Kind::Deliver;
                    if let Some(lane) = lane(channel).filter(|_| self.proven) {
                        self.queue.heard(lane, None);
                    }
                    Outcome::Fine
                }
                Frame::Subscribed { channel } => match lane(channel) {
                    Some(lane) => self.exchanges.acknowledged(lane),
                    None => Outcome::Fine,
                },
                Frame::Unsubscribed { channel } => self.ended(lane(channel)),
                Frame::Answer(_) => self.exchanges.answered(),
                Frame::Refusal(refusal) => self.exchanges.refused(refused(refusal)),
                Frame::Other => Outcome::Fine,
            };
            traffic.received(kind, bytes as usize);
            match outcome {
                Outcome::Fine => {}
                Outcome::Subscribed(lanes) => {
                    // What came before this is before `Subscribed`, and is asked for after it.
                    self.subscribed(&lanes);
                    subscribed = Some(lanes);
                }
                Outcome::Failed(error) => return Err(error),
            }
        }
        // Lanes that came while it was under way are not subscribed to yet.
        if subscribed.is_some_and(|lanes| self.lacks(&lanes)) {
            self.subscribe(link);
        }
        Ok(())
    }

    fn lacks(&self, lanes: &[u32]) -> bool {
        self.peer.lanes().iter().any(|lane| !lanes.contains(lane))
    }

    /// The server has acknowledged the subscription of these lanes.
    fn subscribed(&mut self, lanes: &[u32]) {
        if self.lacks(lanes) {
            return;
        }
        self.proven = true;
        self.peer.restored("subscription", self.status);
        self.queue.pass(BusEvent::Subscribed);
    }

    /// The server has ended the subscription of a lane: its slot lives elsewhere, or nowhere. The next
    /// connection subscribes to all that live here then, however long that takes.
    fn ended(&self, lane: Option<u32>) -> Outcome {
        match lane.filter(|lane| self.peer.lanes().contains(lane)) {
            Some(_) => Outcome::Failed(FredError::new(
                FredKind::Cluster,
                "the server has ended the subscription of a lane",
            )),
            None => Outcome::Fine,
        }
    }

    /// Lets the consumer catch up.
    async fn give_way(&self) {
        let until = Instant::now() + PATIENCE;
        while self.queue.is_half_full() && Instant::now() < until {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Has the connection log in, and waits for the answer.
async fn log_in(renew: &mpsc::Sender<Renewal>, login: Login) -> Result<(), FredError> {
    let (asker, answer) = oneshot::channel();
    // The listener that has the other end is the one that waits here.
    let _ = renew.send((login, asker)).await;
    match answer.await {
        Ok(result) => result,
        Err(_) => pending().await,
    }
}

async fn late(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
