//! Whether the fleet has the number of lanes that this instance has.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::mutants::{Mechanism, without};
use crate::{Error, ErrorKind};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Agreement(watch::Sender<State>);

#[derive(Clone, Debug)]
enum State {
    /// Lane 0 has not answered yet.
    Unknown,
    Agreed,
    /// A lane has another number: nothing is verified, announced or published.
    Refused(Error),
}

impl Default for Agreement {
    fn default() -> Self {
        Self(watch::Sender::new(State::Unknown))
    }
}

impl Agreement {
    pub(crate) fn is_agreed(&self) -> bool {
        matches!(*self.0.borrow(), State::Agreed)
    }

    /// Lane 0 has confirmed the number, and no lane refuses it. Returns whether one has refused it before.
    pub(crate) fn agree(&self) -> bool {
        matches!(self.0.send_replace(State::Agreed), State::Refused(_))
    }

    /// A lane has another number of lanes. Returns whether that is news.
    pub(crate) fn refuse(&self, error: Error) -> bool {
        let before = self.0.send_replace(State::Refused(error));
        !matches!(before, State::Refused(_))
    }

    /// Waits until the fleet is known to have another number of lanes.
    pub(crate) async fn refused(&self) -> Error {
        let mut state = self.0.subscribe();
        let refused = state.wait_for(|state| matches!(state, State::Refused(_)));
        match refused.await.as_deref() {
            Ok(State::Refused(error)) => error.clone(),
            _ => Error::closed(),
        }
    }

    /// Waits until it is known that the fleet has the number of lanes that this instance has: what
    /// is announced or published in another number of lanes is heard by no peer. Waits as long as for
    /// a command.
    pub(crate) async fn agreed(&self, wait: Duration) -> Result<(), Error> {
        if without(Mechanism::AgreedLanes) {
            return Ok(());
        }
        let mut state = self.0.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Unknown));
        match timeout(wait, known)
            .await
            .map(|known| known.map(|it| it.clone()))
        {
            Ok(Ok(State::Refused(error))) => Err(error),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::new(
                ErrorKind::Bus,
                "Redis has not confirmed the number of lanes yet: check Redis and the network",
            )),
        }
    }
}
