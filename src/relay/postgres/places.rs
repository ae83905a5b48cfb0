//! The end of the log: the place that a stream has to pass, and what makes it pass.

use super::{Connection, PgError, parse_lsn};

/// What a page of the log begins with; on the first page of a file it is longer.
const PAGE_HEADER: u64 = 24;
const FILE_HEADER: u64 = 40;

const END: &str = "SELECT pg_current_wal_insert_lsn(), current_setting('wal_block_size'), \
     pg_size_bytes(current_setting('wal_segment_size'))";

/// A commit that waits until the log is on this server's disk, whatever the session's settings are;
/// for replicas it does not wait.
const FLUSH: &str = "BEGIN; SET LOCAL synchronous_commit = local; \
     SELECT pg_logical_emit_message(true, 'unstale.flush', ''); COMMIT";

/// All that was committed before this began lies before the place that it returns.
///
/// # Errors
///
/// As a query. A replica has no such place, which is code 55000.
pub(crate) async fn end_of_log(connection: &mut Connection) -> Result<u64, PgError> {
    let rows = connection.query(END).await?;
    let cell = |at: usize| rows.first()?.get(at)?.as_deref();
    let number = |at: usize| cell(at)?.parse().ok();
    cell(0)
        .and_then(parse_lsn)
        .zip(number(1))
        .zip(number(2))
        .and_then(|((insert, page), file)| before_header(insert, page, file))
        .ok_or_else(|| PgError::protocol("PostgreSQL's answer is not a place of the log"))
}

/// Writes the whole log to the disk; a stream passes only what is there.
///
/// The server does so by itself within half a second, but for what an open transaction wrote, which
/// takes it 15 to 25 seconds.
///
/// # Errors
///
/// As a query.
pub(crate) async fn flush_log(connection: &mut Connection) -> Result<(), PgError> {
    connection.query(FLUSH).await.map(drop)
}

/// Returns the end of the last record before a place where a record may begin.
///
/// Where a page is full the next record begins after the header of a page that does not exist yet. No
/// stream comes there before the next record is written.
fn before_header(insert: u64, page: u64, file: u64) -> Option<u64> {
    let of_page = insert.checked_rem(page)?;
    let of_file = insert.checked_rem(file)?;
    let is_header = of_file == FILE_HEADER || (of_page == PAGE_HEADER && of_file > page);
    Some(if is_header { insert - of_page } else { insert })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_alone_is_not_waited_for() {
        let (page, file) = (8192, 1 << 24);
        let end = |insert| before_header(insert, page, file);
        assert_eq!(end(3 * file + 5 * page + 24), Some(3 * file + 5 * page));
        assert_eq!(end(3 * file + 40), Some(3 * file));
        for place in [
            0,
            24,
            32,
            41,
            page,
            page + 40,
            page + 32,
            file,
            file + 24,
            5 * file - 8,
        ] {
            assert_eq!(end(place), Some(place), "{place}");
        }
        assert_eq!(before_header(1, 0, file), None);
        assert_eq!(before_header(1, page, 0), None);
    }
}
