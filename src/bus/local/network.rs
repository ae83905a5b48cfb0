//! The network between one instance and the server of a local bus, in the state that its conditions say.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::conditions::take_one;
use super::hub::{Hub, State};
use crate::{Error, ErrorKind};

/// How long a command without an answer is waited for; the same as over Redis.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that an instance can be stalled.
const STALL: Duration = Duration::from_secs(3600);

/// One instance's way to the server.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) hub: Arc<Hub>,
    /// Its place in the order of attachment.
    pub(super) number: usize,
}

/// Which commands a paused publisher stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Publish,
    Other,
}

impl Network {
    /// Runs a command on the server, or fails as it would over a network in the state it is in.
    pub(super) async fn command<T>(
        &self,
        command: Command,
        run: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let (request, reply) = self.slow();
        on_its_way(request, deadline).await?;
        let (answer, lost) = self.reach(command, deadline, run).await?;
        on_its_way(if lost { COMMAND_TIMEOUT } else { reply }, deadline).await?;
        Ok(answer)
    }

    fn slow(&self) -> (Duration, Duration) {
        let state = self.hub.lock();
        let connection = state.connections.get(&self.number);
        connection.map_or_else(Default::default, |connection| connection.conditions.slow)
    }

    /// Returns how long the verifications of this lane take, where that was set.
    pub(super) fn slow_lane(&self, lane: u32) -> Option<Duration> {
        let state = self.hub.lock();
        let (slow, by) = state.connections.get(&self.number)?.conditions.slow_lane?;
        (slow == lane).then_some(by)
    }

    /// Runs a command as soon as it gets through. Returns whether its reply is lost.
    async fn reach<T>(
        &self,
        command: Command,
        mut deadline: Instant,
        run: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<(T, bool), Error> {
        loop {
            // Registered before the state is looked at, so that no change falls in between.
            let mut changed = std::pin::pin!(self.hub.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.hub.lock();
                let Some(connection) = state.connections.get_mut(&self.number) else {
                    return Err(Error::closed());
                };
                let conditions = &mut connection.conditions;
                let publish = command == Command::Publish;
                let waits = conditions.silent
                    || conditions.mute
                    || conditions.stalled
                    || (publish && conditions.publish_paused);
                if conditions.stalled {
                    // An instance that does not run does not give up either.
                    deadline = Instant::now() + STALL + COMMAND_TIMEOUT;
                }
                if !waits && conditions.cut {
                    return Err(unreachable_bus());
                }
                if !waits && conditions.refused {
                    return Err(Error::new(
                        ErrorKind::Bus,
                        "the server refuses all commands",
                    ));
                }
                if !waits && publish && take_one(&mut conditions.fail_publishes) {
                    return Err(Error::new(ErrorKind::Bus, "the bus refused the event"));
                }
                if !waits {
                    let lost = conditions.replies_lost;
                    return Ok((run(&mut state), lost));
                }
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(timed_out());
            }
        }
    }
}

/// A message under way for `time`, which is lost after the deadline.
pub(super) async fn on_its_way(time: Duration, deadline: Instant) -> Result<(), Error> {
    let arrives = Instant::now() + time;
    if time.is_zero() {
        return Ok(());
    }
    sleep_until(arrives.min(deadline)).await;
    if arrives < deadline {
        Ok(())
    } else {
        Err(timed_out())
    }
}

fn unreachable_bus() -> Error {
    Error::new(ErrorKind::Bus, "the bus cannot be reached")
}

pub(super) fn timed_out() -> Error {
    Error::new(ErrorKind::Bus, "the bus did not answer in time")
}
