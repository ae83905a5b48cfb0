//! The connection that carries commands: made again whenever it is lost, and given up when it falls silent.

mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::types::Value;
use tokio::select;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

use self::session::Session;
use super::action::Action;
use super::peer::Peer;
use super::retry::Retry;
use super::scripts::Script;
use super::status::Status;
use super::{error, renewal};
use crate::lock::{Guard, Lock};
use crate::metrics::Kind;
use crate::url::Place;
use crate::{Error, ErrorKind};

/// Commands under way at once; more wait within their timeout. The callers hardly reach it (one
/// publish and one verification for each lane): it bounds what a dead connection can hold.
const IN_FLIGHT: usize = 1_024;

/// How often one call is sent again after NOSCRIPT or TRYAGAIN: a slot on the move answers after
/// some milliseconds, and the call's timeout ends it anyway.
const RETRIES: u32 = 16;

/// Sends commands over the connection that is open.
#[derive(Debug)]
pub(super) struct Commands {
    peer: Arc<Peer>,
    session: watch::Sender<Option<Arc<Session>>>,
    pub(super) status: watch::Sender<Status>,
    permits: Semaphore,
    /// Since when there is no connection.
    away: Lock<Option<Instant>>,
    /// The server answered that it cannot serve, as a read-only replica or a part of a cluster that is
    /// down, and no call has succeeded since.
    unfit: AtomicBool,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The lane does not live here, or no longer does.
    Moved(Error),
    /// This call should be sent to another server, which takes the lane over but does not own it yet.
    Asked(Option<Place>, Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Commands {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            session: watch::Sender::default(),
            status: watch::Sender::default(),
            permits: Semaphore::new(IN_FLIGHT),
            away: Lock::new(Some(Instant::now())),
            unfit: AtomicBool::new(false),
        }
    }

    pub(super) fn connected(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Returns since when there is no connection; `None` while there is one.
    pub(super) fn away_since(&self) -> Option<Instant> {
        *self.away()
    }

    fn away(&self) -> Guard<'_, Option<Instant>> {
        self.away.lock()
    }

    fn opened(&self, session: Arc<Session>) {
        *self.away() = None;
        self.session.send_replace(Some(session));
    }

    fn lost(&self) {
        self.session.send_replace(None);
        self.away().get_or_insert_with(Instant::now);
    }

    /// Runs a script; waits for a connection where there is none. Ends at the deadline.
    pub(super) async fn call(
        &self,
        kind: Kind,
        script: Script,
        keys: &[&Str],
        args: &[Value],
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let _permit = timeout_at(deadline, self.permits.acquire())
            .await
            .map_err(|_| Error::new(ErrorKind::Bus, "too many commands wait for Redis"))?;
        let peer = &*self.peer;
        let mut retries = 0;
        loop {
            let session = self.session(deadline).await?;
            let error = match session
                .evalsha(peer, kind, script, keys, args, deadline)
                .await
            {
                Ok(value) => {
                    self.served();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let again = retries < RETRIES && Instant::now() < deadline;
            retries += 1;
            match error::code(&error) {
                "NOSCRIPT" if again => {
                    session
                        .load(peer, script)
                        .await
                        .map_err(|error| error::from_fred(&error))?;
                }
                "TRYAGAIN" if again => sleep(Duration::from_millis(fastrand::u64(2..40))).await,
                "READONLY" => {
                    // The name in the URL may lead to the new primary by now.
                    let error = error::from_fred(&error);
                    self.unfit.store(true, Relaxed);
                    peer.target.is_wrong();
                    session.give_up(error.clone());
                    return Err(Failure::Moved(error));
                }
                "ASK" => {
                    let place = error::redirected("ASK", &error, &peer.place);
                    return Err(Failure::Asked(place, error::from_fred(&error)));
                }
                "CLUSTERDOWN" => {
                    self.unfit.store(true, Relaxed);
                    return Err(Failure::Moved(error::from_fred(&error)));
                }
                "MOVED" => {
                    return Err(Failure::Moved(error::from_fred(&error)));
                }
                "LANES" => return Err(error::lanes(&error, peer.common.config.lanes).into()),
                _ => return Err(peer.explained(&error).into()),
            }
        }
    }

    /// A call succeeded. After a server that could not serve, the subscription is to follow to the one
    /// that can; it was left alone meanwhile, because events reach replicas, too.
    fn served(&self) {
        if self.unfit.load(Relaxed) && self.unfit.swap(false, Relaxed) {
            self.peer.restored("commands", &self.status);
            self.peer.actions.ask(Action::Reconnect);
        }
    }

    /// Returns the open connection, or the next one.
    async fn session(&self, deadline: Instant) -> Result<Arc<Session>, Error> {
        if let Some(open) = &*self.session.borrow() {
            return Ok(Arc::clone(open));
        }
        let mut session = self.session.subscribe();
        let open = async {
            match session.wait_for(Option::is_some).await {
                Ok(open) => open.clone(),
                Err(_) => None,
            }
        };
        select! {
            biased;
            () = self.peer.closed() => Err(Error::closed()),
            open = timeout_at(deadline, open) => match open {
                Ok(Some(session)) => Ok(session),
                Ok(None) => Err(Error::closed()),
                Err(_) => Err(self.status.borrow().error()),
            },
        }
    }

    /// Keeps a connection open until the bus is closed.
    pub(super) async fn run(self: Arc<Self>) {
        let mut retry = Retry::default();
        loop {
            let began = Instant::now();
            let error = select! {
                biased;
                () = self.peer.closed() => break,
                error = self.serve() => error,
            };
            self.lost();
            self.peer.lost("commands", &self.status, error);
            select! {
                biased;
                () = self.peer.closed() => break,
                () = self.pause(&mut retry, began) => {}
            }
        }
        self.lost();
    }

    async fn pause(&self, retry: &mut Retry, began: Instant) {
        // Where another server may take its place, it is looked for without delay.
        if self.unfit.load(Relaxed) && !self.peer.common.moves {
            retry.wait_for_another(began).await;
        } else {
            retry.wait(began).await;
        }
    }

    /// One connection, from its opening to its end; returns why it ended.
    async fn serve(&self) -> Error {
        let (session, mut connection) = match Session::open(&self.peer).await {
            Ok(open) => open,
            Err(error) => return error,
        };
        let session = Arc::new(session);
        let (client, version) = (connection.client().clone(), connection.version());
        self.opened(Arc::clone(&session));
        // One that cannot serve would be up and down again.
        if !self.unfit.load(Relaxed) {
            self.peer.restored("commands", &self.status);
        }
        select! {
            error = connection.lost() => {
                // fred ends a connection over which it comes.
                if error::code(&error) == "CLUSTERDOWN" {
                    self.unfit.store(true, Relaxed);
                }
                error::from_fred(&error)
            }
            error = session.verdict() => error,
            error = session.watch(&self.peer) => error,
            never = renewal::keep(|login| renewal::log_in(&client, &self.peer, login), &self.peer, version) => match never {},
        }
    }
}
