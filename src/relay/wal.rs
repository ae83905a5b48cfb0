//! PostgreSQL's log as a relay opens it.
//!
//! - [`catalog`]: what the database says of the rules' tables
//! - [`slot`]: where the log is read from
//! - [`reading`]: rows become names, transaction by transaction
//! - [`visible`]: which are not handed out before others see them

mod catalog;
mod reading;
mod slot;
mod visible;

use self::catalog::{as_error, catalog, first};
use self::reading::Reading;
use super::log::Open;
use super::postgres::{Config, Connection};
use super::rules::Rules;
use super::rules::catalog::Catalog;
use super::rules::check::check;
use crate::{Error, ErrorKind};

/// A database, and what of it is watched.
#[derive(Clone, Debug)]
pub(crate) struct Wal {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    /// The slot that outlives the relay, if one does.
    slot: Option<String>,
    /// It was opened before.
    opened: bool,
    /// What the server has given up, until that is reported.
    given_up: Option<String>,
}

impl Wal {
    pub(crate) fn new(config: Config, rules: Rules, slot: Option<String>) -> Self {
        Self {
            config,
            rules,
            slot,
            opened: false,
            given_up: None,
        }
    }

    /// Returns what the database says of the rules' tables.
    pub(crate) async fn catalog(&self) -> Result<Catalog, Error> {
        let mut sql = first(&self.config).await?;
        self.ask(&mut sql).await
    }

    async fn ask(&self, sql: &mut Connection) -> Result<Catalog, Error> {
        let mut catalog = catalog(sql, &self.rules).await?;
        if let Some(slot) = &self.slot {
            catalog.server.durable_slot = true;
            // It has its place already.
            catalog.server.free_slots += i64::from(slot::exists(slot, sql).await?);
        }
        Ok(catalog)
    }
}

impl Open for Wal {
    type Log = Reading;

    /// The catalog comes before the slot: what is altered in between shows in the log.
    async fn open(&mut self) -> Result<Reading, Error> {
        let mut sql = match self.opened {
            true => Connection::connect(&self.config, false)
                .await
                .map_err(as_error)?,
            false => first(&self.config).await?,
        };
        let catalog = self.ask(&mut sql).await?;
        check(&self.rules, &catalog)?;
        let mut replication = Connection::connect(&self.config, true)
            .await
            .map_err(as_error)?;
        same_server(&mut sql, &mut replication).await?;
        let from = match &self.slot {
            None => slot::temporary(&self.rules.source, &mut replication).await?,
            Some(slot) => slot::durable(slot, &mut sql, &mut replication).await?,
        };
        if from.was_lost {
            self.given_up = Some(format!(
                "PostgreSQL has given up the log that slot {} had not read (max_slot_wal_keep_size); created the slot again",
                from.slot
            ));
        }
        let stream = replication
            .start_replication(&from.slot, from.place, &[&self.rules.publication], true)
            .await
            .map_err(as_error)?;
        self.opened = true;
        Ok(Reading::new(self.rules.clone(), &catalog, sql, stream))
    }

    fn given_up(&mut self) -> Option<String> {
        self.given_up.take()
    }
}

/// The end of the log is asked of one connection and reached by the other: a name that leads to
/// another server in between, as in a failover, would compare the places of two logs.
async fn same_server(one: &mut Connection, other: &mut Connection) -> Result<(), Error> {
    let sql = "SELECT pg_postmaster_start_time(), inet_server_addr(), inet_server_port()";
    let one = one.query(sql).await.map_err(as_error)?;
    if one != other.query(sql).await.map_err(as_error)? {
        let message =
            "PostgreSQL: two connections lead to two servers, as while one takes over from another";
        return Err(Error::new(ErrorKind::Bus, message));
    }
    Ok(())
}
