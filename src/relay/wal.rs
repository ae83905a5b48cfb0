//! PostgreSQL's log as a relay opens it.
//!
//! - [`catalog`]: what the database says of the rules' tables
//! - [`reading`]: rows become names, transaction by transaction
//! - [`visible`]: which are not handed out before others see them

mod catalog;
mod reading;
mod visible;

use std::time::Duration;

use self::catalog::{catalog, told};
use self::reading::Reading;
use super::log::Open;
use super::postgres::{Config, Connection};
use super::rules::Rules;
use super::rules::catalog::Catalog;
use super::rules::check::check;
use crate::{Error, ErrorKind};

/// How long a transaction may run that a new slot waits for.
const WAITS_FOR_WRITERS: Duration = Duration::from_secs(60);

/// A database, and what of it is watched.
#[derive(Clone, Debug)]
pub(crate) struct Wal {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
}

impl Wal {
    /// What the database says of the rules' tables.
    pub(crate) async fn catalog(&self) -> Result<Catalog, Error> {
        let mut sql = Connection::connect(&self.config, false)
            .await
            .map_err(told)?;
        catalog(&mut sql, &self.rules).await
    }

    /// A slot's name has letters, digits and `_`, 63 at most. Two relays have two slots.
    fn slot(&self) -> String {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        };
        let source: String = self.rules.source.chars().take(40).map(plain).collect();
        format!("unstale_{source}_{:08x}", fastrand::u32(..))
    }
}

impl Open for Wal {
    type Log = Reading;

    /// The catalog comes before the slot: what is altered in between shows in the log.
    async fn open(&mut self) -> Result<Reading, Error> {
        let mut sql = Connection::connect(&self.config, false)
            .await
            .map_err(told)?;
        let catalog = catalog(&mut sql, &self.rules).await?;
        check(&self.rules, &catalog)?;
        let mut replication = Connection::connect(&self.config, true)
            .await
            .map_err(told)?;
        same_server(&mut sql, &mut replication).await?;
        let slot = self.slot();
        let from = replication
            .create_slot(&slot, true, WAITS_FOR_WRITERS)
            .await
            .map_err(told)?;
        let stream = replication
            .start_replication(&slot, from, &[&self.rules.publication], true)
            .await
            .map_err(told)?;
        Ok(Reading::new(self.rules.clone(), &catalog, sql, stream))
    }
}

/// The end of the log is asked of one connection and reached by the other: a name that leads to another server in
/// between, as in a failover, would compare the places of two logs.
async fn same_server(one: &mut Connection, other: &mut Connection) -> Result<(), Error> {
    let sql = "SELECT pg_postmaster_start_time(), inet_server_addr(), inet_server_port()";
    let one = one.query(sql).await.map_err(told)?;
    if one != other.query(sql).await.map_err(told)? {
        let message =
            "PostgreSQL: two connections lead to two servers, as while one takes over from another";
        return Err(Error::new(ErrorKind::Bus, message));
    }
    Ok(())
}
