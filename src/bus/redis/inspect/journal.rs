//! A lane's journal as Redis has it, page by page.

use fred::types::Value;

use super::Server;
use crate::Error;
use crate::bus::redis::error;

/// Entries of one page: each has an event of 64 KiB at most, so a page takes 7 MB at most.
const PAGE: &str = "100";

/// One entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where the next page begins.
    id: String,
    /// The event's sequence; 0 for the placeholder, with which verify.lua begins an epoch.
    pub(crate) sequence: u64,
    /// The event; `None` for an entry that has none.
    pub(crate) payload: Option<Vec<u8>>,
}

#[cfg(test)]
impl Entry {
    /// An entry as publish.lua adds it.
    pub(crate) fn of(sequence: u64, payload: Option<&[u8]>) -> Self {
        Self {
            id: format!("{sequence}-0"),
            sequence,
            payload: payload.map(<[u8]>::to_vec),
        }
    }
}

/// Which entry a page begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// That of this sequence, or the first behind it.
    At(u64),
    /// The first behind this one.
    Behind(&'a Entry),
}

impl Server {
    /// Returns the next entries of a lane's journal up to a sequence, oldest first; none behind the last page.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub(crate) async fn journal_page(
        &self,
        lane: u32,
        start: Start<'_>,
        last: u64,
    ) -> Result<Vec<Entry>, Error> {
        let journal = self.names(lane).journal;
        let from = match start {
            Start::At(sequence) => format!("{sequence}-0"),
            Start::Behind(entry) => format!("({}", entry.id),
        };
        // Without a dash: up to every entry of this sequence.
        let to = last.to_string();
        let args = [&*journal, &from, &to, "COUNT", PAGE];
        let Value::Array(entries) = self.ask(lane, "XRANGE", &args).await? else {
            return Err(error::unexpected("XRANGE"));
        };
        let entries = entries.iter().map(entry).collect::<Option<_>>();
        entries.ok_or_else(|| error::unexpected("XRANGE"))
    }

    /// Returns whether the lane's journal has had no entry removed since the lane's epoch began.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub(crate) async fn journal_is_whole(&self, lane: u32) -> Result<bool, Error> {
        // The oldest entries go first, and the placeholder is older than all others.
        let oldest = self.journal_page(lane, Start::At(0), 0).await?;
        Ok(oldest.iter().any(|entry| entry.sequence == 0))
    }
}

/// `None` if this is no entry of a stream.
fn entry(value: &Value) -> Option<Entry> {
    let Value::Array(parts) = value else {
        return None;
    };
    let id = parts.first()?.as_string()?;
    let sequence = id.split('-').next()?.parse().ok()?;
    let payload = match parts.get(1) {
        // As journal.lua takes it: the value of the first field.
        Some(Value::Array(fields)) => fields.get(1).and_then(Value::as_bytes).map(<[u8]>::to_vec),
        _ => None,
    };
    Some(Entry {
        id,
        sequence,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: &[Value]) -> Value {
        Value::Array(values.to_vec())
    }

    #[test]
    fn an_entry_has_a_sequence_and_an_event() {
        let fields = array(&[Value::from("e"), Value::from("event")]);
        let read = entry(&array(&[Value::from("17-0"), fields])).expect("an entry");
        assert_eq!(read.sequence, 17);
        assert_eq!(read.payload.as_deref(), Some(&b"event"[..]));
    }

    #[test]
    fn a_malformed_entry_is_none_and_an_entry_without_an_event_is_an_entry() {
        for strange in [
            Value::Null,
            array(&[]),
            array(&[Value::from("x-0"), array(&[])]),
        ] {
            assert_eq!(entry(&strange), None, "{strange:?}");
        }
        let empty = entry(&array(&[Value::from("17-3"), array(&[])])).expect("an entry");
        assert_eq!((empty.sequence, empty.payload), (17, None));
    }
}
