//! One server as its connections see it: where it is, and which lanes live there.

use std::sync::Arc;

use fred::error::Error as FredError;
use tokio::select;
use tokio::sync::watch;

use super::action::{Action, Pending};
use super::common::Common;
use super::error;
use super::rights::{self, MissingRight};
use super::status::Status;
use super::target::Target;
use crate::Error;
use crate::identity::InstanceId;
use crate::lock::Lock;
use crate::time::Clock;
use crate::url::Place;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) common: Arc<Common>,
    pub(super) place: Place,
    pub(super) target: Target,
    /// What is to be done about the subscription.
    pub(super) actions: Pending,
    lanes: Lock<Vec<u32>>,
    retired: watch::Sender<bool>,
    /// Connections of which the log says that they are lost.
    said_lost: Lock<Vec<&'static str>>,
}

impl Peer {
    pub(super) fn new(
        common: Arc<Common>,
        place: Place,
        target: Target,
        lanes: Vec<u32>,
    ) -> Arc<Self> {
        Arc::new(Self {
            common,
            place,
            target,
            actions: Pending::default(),
            lanes: Lock::new(lanes),
            retired: watch::Sender::default(),
            said_lost: Lock::default(),
        })
    }

    /// Lanes that live here, in ascending order.
    pub(super) fn lanes(&self) -> Vec<u32> {
        self.lanes.lock().clone()
    }

    /// Lanes came or went. The subscription of those that came is proven like the first one.
    pub(super) fn set_lanes(&self, lanes: Vec<u32>) {
        let mut present = self.lanes.lock();
        let grew = lanes.iter().any(|lane| !present.contains(lane));
        *present = lanes;
        drop(present);
        if grew {
            self.actions.ask(Action::Resubscribe);
        }
    }

    /// No lane lives here: the connections are dropped.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// Waits until this server is no longer used.
    pub(super) async fn closed(&self) {
        let mut retired = self.retired.subscribe();
        select! {
            biased;
            () = self.common.closed() => {}
            _ = retired.wait_for(|retired| *retired) => {}
        }
    }

    /// Returns what a server answered, as the crate's error; a right that is missing is named with its remedy.
    pub(super) fn explained(&self, error: &FredError) -> Error {
        match MissingRight::of(error.details()) {
            Some(missing) => self.lacks([missing]),
            None => error::from_fred(error),
        }
    }

    /// Returns the error that says that these are missing, and how to give them.
    pub(super) fn lacks(&self, missing: impl IntoIterator<Item = MissingRight>) -> Error {
        let missing = missing.into_iter().collect();
        rights::error(&missing, &self.target.user(), &self.common.config.namespace)
    }

    /// Notes that a connection ended, or could not be made.
    pub(super) fn lost(
        &self,
        connection: &'static str,
        status: &watch::Sender<Status>,
        error: Error,
    ) {
        let now = Clock::Kernel.now();
        let instance = InstanceId::new(self.common.config.instance);
        if error::is_permanent(&error) {
            if let Some(suppressed) = self.common.refusals.allow(now) {
                tracing::error!(%instance, connection, server = %self.place, suppressed, %error, "Redis refuses this instance; caches reload until it is let in");
                self.say_lost(connection);
            }
        } else if let Some(suppressed) = self.common.config.outages.allow(now) {
            tracing::warn!(
                %instance, connection, server = %self.place, suppressed, %error,
                "lost the connection to Redis; retrying"
            );
            self.say_lost(connection);
        }
        status.send_replace(Status::Down(error));
        self.common.changes.send_replace(());
        // Another may have taken its place.
        self.common.doubt.notify_one();
    }

    fn say_lost(&self, connection: &'static str) {
        let mut said = self.said_lost.lock();
        if !said.contains(&connection) {
            said.push(connection);
        }
    }

    /// Notes that a connection works, and logs it if the log has said that the connection was lost.
    pub(super) fn restored(&self, connection: &'static str, status: &watch::Sender<Status>) {
        status.send_replace(Status::Up);
        let said = {
            let mut said = self.said_lost.lock();
            let before = said.len();
            said.retain(|lost| *lost != connection);
            said.len() < before
        };
        if said {
            let instance = InstanceId::new(self.common.config.instance);
            tracing::info!(%instance, connection, server = %self.place, "connected to Redis again");
        }
        self.common.changes.send_replace(());
    }
}
