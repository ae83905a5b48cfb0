//! Waits until loads see what was read.
//!
//! The server may send a transaction before others see it, and long before where it waits for a standby.
//! 1: a transaction is in the log; 2: it is published and applied; 3: a load reads the row as it was; 4: the
//! transaction becomes visible. Nothing would ever drop what 3 has loaded.

use std::time::Duration;

use tokio::time::sleep;

use super::catalog::as_error;
use crate::relay::postgres::{Connection, Stream};
use crate::{Error, ErrorKind};

const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";

/// The first pause before it is looked again, and the longest.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(50);

/// Waits until all of these transactions are visible, and forgets them. The stream stays alive meanwhile.
pub(super) async fn until_visible(
    transactions: &mut Vec<u32>,
    sql: &mut Connection,
    stream: &mut Stream,
) -> Result<(), Error> {
    let mut pause = SOON;
    while !transactions.is_empty() {
        let rows = sql.query(SNAPSHOT).await.map_err(as_error)?;
        let text = rows.first().and_then(|row| row.first()?.as_deref());
        let snapshot = text.and_then(Snapshot::parse).ok_or_else(|| {
            Error::new(
                ErrorKind::Bus,
                "PostgreSQL answers with a snapshot that cannot be read",
            )
        })?;
        transactions.retain(|transaction| !snapshot.shows(*transaction));
        if transactions.is_empty() {
            break;
        }
        tokio::select! {
            error = stream.hold() => return Err(as_error(error)),
            () = sleep(pause) => pause = (2 * pause).min(LATER),
        }
    }
    Ok(())
}

/// As `pg_current_snapshot()` writes it: `xmin:xmax:in,progress`.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    /// From here on nothing is visible.
    end: u64,
    /// Below it, and not visible.
    in_progress: Vec<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, end, list) = (parts.next()?, parts.next()?, parts.next()?);
        let list = list.split(',').filter(|part| !part.is_empty());
        Some(Self {
            end: end.parse().ok()?,
            in_progress: list.map(str::parse).collect::<Result<_, _>>().ok()?,
        })
    }

    /// The log has the lower half of a transaction's number: the one meant is the nearest to the
    /// snapshot's end.
    fn shows(&self, transaction: u32) -> bool {
        let behind = (self.end as u32).wrapping_sub(transaction).cast_signed();
        let running = |number: &u64| *number as u32 == transaction;
        behind > 0 && !self.in_progress.iter().any(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_the_transactions_that_ended_before_it() {
        let snapshot = Snapshot::parse("700:705:701,703").expect("a snapshot");
        let shown: Vec<u32> = (698..708).filter(|n| snapshot.shows(*n)).collect();
        assert_eq!(shown, [698, 699, 700, 702, 704]);
        assert!(Snapshot::parse("700:700:").expect("a snapshot").shows(699));
    }

    #[test]
    fn a_snapshot_across_the_wrap_of_numbers_shows_what_ended_before_it() {
        let snapshot = Snapshot::parse("4294967290:4294967298:4294967297").expect("a snapshot");
        assert!(snapshot.shows(4_294_967_295) && snapshot.shows(0));
        assert!(!snapshot.shows(1) && !snapshot.shows(2));
    }

    #[test]
    fn a_malformed_snapshot_is_none() {
        for text in ["", "1:2", "a:b:", "1:2:x"] {
            assert_eq!(Snapshot::parse(text), None, "{text:?}");
        }
    }
}
