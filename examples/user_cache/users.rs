//! Users and their roles, as every request needs them.

use std::sync::Arc;
use std::time::Duration;

use unstale::{Cache, Error, Instance, WriteError};

use super::database::{self, Database, User};

/// Reads users through memory. Clones share everything.
///
/// Nothing here is about stampedes or cancelled requests: however many ask for one user, the cache
/// asks the database once, in a task of its own. A request that goes away stops no query,
/// not even its own: the next one finds the answer in memory.
#[derive(Clone)]
pub(crate) struct Users {
    users: Cache<u32, Arc<User>>,
    database: Database,
}

/// What may be chosen, with what is right for most.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) ttl: Duration,
    /// The deadline of a query, however many callers wait for it and however long.
    pub(crate) query_timeout: Duration,
    /// How often users that are no longer asked for are freed; `None` leaves them until room is
    /// needed.
    pub(crate) reap: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            query_timeout: Duration::from_secs(2),
            reap: Some(Duration::from_secs(1)),
        }
    }
}

pub(crate) type Failed = WriteError<(), database::Error>;

impl Users {
    pub(crate) fn new(
        instance: &Instance,
        database: Database,
        options: Options,
    ) -> Result<Self, Error> {
        let source = database.clone();
        let users = instance
            .cache("users")
            .loader(move |id| {
                let database = source.clone();
                async move { Ok(database.find(id).await?) }
            })
            .ttl(options.ttl)
            .load_timeout(options.query_timeout)
            .reap_interval(options.reap)
            .build()?;
        Ok(Self { users, database })
    }

    pub(crate) async fn get(&self, id: u32) -> Result<Option<Arc<User>>, Error> {
        self.users.get(&id).await
    }

    /// Gives a user a role, on every instance; makes the user where there is none.
    pub(crate) async fn set_role(&self, id: u32, role: &str) -> Result<(), Failed> {
        let commit = self.database.set_role(id, role.to_owned());
        self.users.write(&id, commit).await
    }

    /// Deletes a user, on every instance, also for those whose query is under way.
    pub(crate) async fn delete(&self, id: u32) -> Result<(), Failed> {
        let commit = self.database.delete(id);
        self.users.write(&id, commit).await
    }
}
