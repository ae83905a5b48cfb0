//! The slot that a log is read from: one of this opening alone, or one that outlives the relay.
//!
//! A durable slot saves a wait: a new slot begins once every transaction has ended that writes at that
//! moment, and where one writes for hours no relay can start. It saves no drop of the caches, which follows every
//! opening. What a relay has read says nothing of what caches have loaded while none worked:
//! 1: a transaction commits without waiting for the disk (`synchronous_commit = off`); 2: a load reads its row; 3: the
//! server crashes and forgets it. No log has it, so only a drop after 3 ends what 2 has loaded. The log does not say
//! which rules the relay before this one had, or that a table was altered without a record in the log.

use std::time::Duration;

use super::catalog::as_error;
use crate::relay::postgres::{Connection, Rows};
use crate::{Error, ErrorKind};

/// How long a transaction may run that a new slot waits for.
const WAITS_FOR_WRITERS: Duration = Duration::from_secs(60);

/// Where a log is read from.
pub(super) struct From {
    pub(super) slot: String,
    pub(super) place: u64,
    /// There was one of this name, and the server had given up what was to be read next.
    pub(super) was_lost: bool,
}

/// Makes a slot that is gone with its connection.
pub(super) async fn temporary(source: &str, replication: &mut Connection) -> Result<From, Error> {
    let slot = name(source);
    let place = replication
        .create_slot(&slot, true, WAITS_FOR_WRITERS)
        .await
        .map_err(as_error)?;
    Ok(From {
        slot,
        place,
        was_lost: false,
    })
}

/// Opens the slot of this name: as it is, or a new one where there is none or the server has given it up.
pub(super) async fn durable(
    slot: &str,
    sql: &mut Connection,
    replication: &mut Connection,
) -> Result<From, Error> {
    let state = state(slot, sql).await?;
    if state == State::Lost {
        replication.drop_slot(slot).await.map_err(as_error)?;
    }
    let place = match state {
        // From where it stands: the first place of all is before that.
        State::Good => 0,
        State::Missing | State::Lost => replication
            .create_slot(slot, false, WAITS_FOR_WRITERS)
            .await
            .map_err(as_error)?,
    };
    Ok(From {
        slot: slot.to_owned(),
        place,
        was_lost: state == State::Lost,
    })
}

/// Whether there is a slot of this name; an error where it is another program's.
pub(super) async fn exists(slot: &str, sql: &mut Connection) -> Result<bool, Error> {
    Ok(state(slot, sql).await? != State::Missing)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Good,
    Lost,
}

async fn state(slot: &str, sql: &mut Connection) -> Result<State, Error> {
    let rows = rows(slot, sql).await?;
    let Some(row) = rows.first() else {
        return Ok(State::Missing);
    };
    let is = |at: usize| row.get(at).and_then(Option::as_deref) == Some("t");
    if !is(0) {
        let message = format!(
            "PostgreSQL: the slot \"{slot}\" of UNSTALE_RELAY_SLOT is another program's: it is no slot for pgoutput of \
             this database that lasts; set another name, or drop the slot"
        );
        return Err(Error::new(ErrorKind::Settings, message));
    }
    Ok(if is(1) { State::Lost } else { State::Good })
}

/// Whether it is one of ours, and whether it is lost.
async fn rows(slot: &str, sql: &mut Connection) -> Result<Rows, Error> {
    // The name has nothing that would have to be quoted: see the setting.
    let query = format!(
        "SELECT coalesce(plugin = 'pgoutput' AND database = current_database() AND NOT temporary, false), \
         coalesce(wal_status = 'lost', false) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    sql.query(&query).await.map_err(as_error)
}

/// Letters, digits and `_`, 63 at most. Two relays have two slots.
fn name(source: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    let source: String = source.chars().take(40).map(plain).collect();
    format!("unstale_{source}_{:08x}", fastrand::u32(..))
}
