//! The login at Redis: read again at each connect, and given to open connections when it changes.

mod source;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::error::{Error as FredError, ErrorKind as FredKind};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::source::LoginSource;
use self::source::{Read, read, sentinels};
use super::common::Common;
use super::single::Single;
use crate::backoff;
use crate::lock::Lock;
use crate::time::Clock;
use crate::url::{Address, Login, NO_PASSWORD};
use crate::{Error, ErrorKind};

/// How often a file is looked at while connections are open. With the next attempt to connect, an
/// instance is back within two seconds after its file changed.
const LOOK: Duration = Duration::from_secs(1);

/// Connections that are made at the same time share one answer of the callback.
const SHARED: Duration = Duration::from_secs(1);

/// Shortest time between two renewals, even if the callback says that its token expires earlier.
const SHORTEST: Duration = Duration::from_secs(1);

/// Longest pause after failures in a row to renew a login.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The logins of one moment.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Grows with each change.
    pub(super) version: u64,
    pub(super) server: Login,
    pub(super) sentinels: Login,
    /// Until when the callback is not asked again.
    fresh_until: Option<Instant>,
    /// When open connections are to log in again.
    renew_at: Option<Instant>,
}

/// See the module's documentation.
pub(super) struct Logins {
    source: LoginSource,
    /// The user of the URL, for sources that give a password only.
    user: Option<String>,
    reading: Single<Result<Read, Error>>,
    known: watch::Sender<Known>,
    outcome: Lock<Outcome>,
}

/// What became of reading the source.
#[derive(Default)]
struct Outcome {
    /// Something was read; before, what is known is the URL's.
    succeeded: bool,
    /// Why nothing could be read the last time.
    failed: Option<Error>,
}

impl Logins {
    pub(super) fn new(source: LoginSource, address: &Address) -> Result<Arc<Self>, Error> {
        let server = address.login.clone();
        if matches!(source, LoginSource::Url)
            && server.username.is_some()
            && server.password.is_none()
        {
            let message = format!("the Redis URL {NO_PASSWORD}");
            return Err(Error::new(ErrorKind::Settings, message));
        }
        let user = server.username.clone();
        let known = Known {
            server,
            sentinels: sentinels(address).unwrap_or_default(),
            ..Known::default()
        };
        Ok(Arc::new(Self {
            source,
            user,
            reading: Single::default(),
            known: watch::Sender::new(known),
            outcome: Lock::default(),
        }))
    }

    /// Returns the logins to connect with, read now; if that fails, those of before. May take as long as a
    /// disk or a callback does.
    pub(super) async fn current(&self) -> Result<Known, FredError> {
        let fresh = self.known.borrow().fresh_until;
        if !self.changes() || fresh.is_some_and(|until| Instant::now() < until) {
            return Ok(self.known.borrow().clone());
        }
        if let Err(error) = self.read(false).await
            && !self.outcome.lock().succeeded
        {
            return Err(as_fred(&error));
        }
        Ok(self.known.borrow().clone())
    }

    /// The server refused the login: the callback is asked again although its answer seems to be good.
    pub(super) fn refused(&self, version: u64) {
        self.known.send_if_modified(|known| {
            let shared = Instant::now() + SHARED;
            if known.version == version && known.fresh_until.is_some_and(|until| until > shared) {
                known.fresh_until = Some(shared);
            }
            false
        });
    }

    /// Returns the user of the latest login, at servers or at sentinels.
    pub(super) fn user(&self, sentinels: bool) -> Option<String> {
        let known = self.known.borrow();
        let login = if sentinels {
            &known.sentinels
        } else {
            &known.server
        };
        login.username.clone()
    }

    /// Returns the version of the latest logins.
    pub(super) fn version(&self) -> u64 {
        self.known.borrow().version
    }

    /// Waits for logins newer than this version.
    pub(super) async fn newer(&self, version: u64) -> Known {
        let mut known = self.known.subscribe();
        let newer = known.wait_for(|known| known.version > version).await;
        let newer = newer.ok().map(|known| known.clone());
        match newer {
            Some(known) => known,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Returns where the password comes from, where that is not the URL, and why it may be out of date.
    pub(super) fn origin(&self) -> Option<String> {
        let origin = match &self.source {
            LoginSource::Url => return None,
            LoginSource::PasswordFile(path) => format!("the password file {}", path.display()),
            LoginSource::SettingsFile(path) => format!("the settings file {}", path.display()),
            LoginSource::Callback(_) => "the callback for credentials".to_owned(),
        };
        Some(match &self.outcome.lock().failed {
            Some(error) => format!("{origin}, as last read: {error}"),
            None => origin,
        })
    }

    /// Returns whether there is more than one login in the life of the bus.
    pub(super) fn changes(&self) -> bool {
        !matches!(self.source, LoginSource::Url)
    }

    /// Looks for changes until the bus is closed.
    pub(super) async fn keep(self: Arc<Self>, common: Arc<Common>) {
        let mut failures = 0;
        loop {
            let renew_at = self.known.borrow().renew_at;
            let due = async {
                match (&self.source, renew_at) {
                    _ if failures > 0 => {
                        sleep(backoff::jittered(SHORTEST, LONGEST_PAUSE, failures)).await;
                    }
                    (LoginSource::Callback(_), Some(at)) => sleep_until(at).await,
                    // The next connect asks, and may say when to come back.
                    (LoginSource::Callback(_), None) => {
                        let mut known = self.known.subscribe();
                        let _ = known.wait_for(|known| known.renew_at.is_some()).await;
                    }
                    _ => sleep(LOOK).await,
                }
            };
            select! {
                biased;
                () = common.closed() => return,
                () = due => {}
            }
            if matches!(self.source, LoginSource::Callback(_))
                && self
                    .known
                    .borrow()
                    .renew_at
                    .is_none_or(|at| Instant::now() < at)
            {
                continue;
            }
            let result = select! {
                biased;
                () = common.closed() => return,
                result = self.read(true) => result,
            };
            match result {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if let Some(suppressed) = common.refusals.allow(Clock::Kernel.now()) {
                        tracing::warn!(suppressed, %error, "the login for Redis cannot be read; using the previous one");
                    }
                }
            }
        }
    }

    /// Reads the source; `renews` has open connections log in even if nothing changed, because a
    /// callback's token is to live on.
    async fn read(&self, renews: bool) -> Result<(), Error> {
        let reading = self.reading.run(|| {
            let source = self.source.clone();
            tokio::spawn(async move { read(&source).await })
        });
        let unread = || Error::new(ErrorKind::Bus, "the login cannot be read");
        let read = reading.await.unwrap_or_else(|| Err(unread()));
        {
            let mut outcome = self.outcome.lock();
            outcome.succeeded |= read.is_ok();
            outcome.failed = read.as_ref().err().cloned();
        }
        let read = read?;
        let called = matches!(self.source, LoginSource::Callback(_));
        let in_settings = matches!(self.source, LoginSource::SettingsFile(_));
        let now = Instant::now();
        // A fifth is left for the renewal, and for trying again.
        let renew = read
            .expires_in
            .map(|life| (life.mul_f64(0.8)).max(SHORTEST));
        self.known.send_if_modified(|known| {
            let mut server = read.server;
            if server.username.is_none() && !in_settings {
                server.username.clone_from(&self.user);
            }
            let sentinels = read.sentinels.unwrap_or_else(|| known.sentinels.clone());
            let changed = server != known.server || sentinels != known.sentinels;
            (known.server, known.sentinels) = (server, sentinels);
            known.fresh_until = called.then(|| now + renew.unwrap_or(SHARED));
            known.renew_at = renew.map(|life| now + life);
            let newer = changed || (renews && called);
            known.version += u64::from(newer);
            // Also when to renew is news, for the task that keeps them.
            newer || called
        });
        Ok(())
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// For [`from_fred`](super::error::from_fred), which makes the same error of it again.
fn as_fred(error: &Error) -> FredError {
    let kind = match error.kind() {
        ErrorKind::Settings => FredKind::Config,
        _ => FredKind::IO,
    };
    FredError::new(kind, error.to_string())
}
