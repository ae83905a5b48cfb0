//! The shared tier's two scripts over Redis.

use bytes::Bytes;
use fred::bytes_utils::Str;
use fred::types::Value;

use super::call::Caller;
use super::error;
use super::scripts::{Names, Script, head, number as read};
use super::values::{bytes, number};
use crate::Error;
use crate::bus::tier::{ClaimId, Fetch, Fetched, Found, Name, Put, Stored};
use crate::metrics::Kind;

/// Asks for a value.
pub(super) async fn fetch(caller: &Caller, lane: u32, fetch: Fetch) -> Result<Fetched, Error> {
    let mut args = vec![
        bytes(&fetch.subject.packed()),
        number(fetch.part),
        number(fetch.margin),
    ];
    if let Some(claim) = fetch.claim {
        args.extend([bytes(&claim.id), number(claim.millis)]);
    }
    let answer = call(caller, lane, Script::Fetch, &fetch.name, &args).await?;
    fetched(&answer).ok_or_else(|| error::unexpected("fetch"))
}

/// Stores a value.
pub(super) async fn put(caller: &Caller, lane: u32, put: Put) -> Result<Stored, Error> {
    let args = [
        bytes(&put.subject.packed()),
        put.claim.map_or_else(|| bytes(&[]), |id| bytes(&id)),
        Bytes::from(put.head.encode()).into(),
        put.body.unwrap_or_default().into(),
        number(put.forget),
    ];
    let answer = call(caller, lane, Script::Put, &put.name, &args).await?;
    match read(&answer) {
        Some(0) => Ok(Stored::Refused),
        Some(1) => Ok(Stored::Written),
        Some(2) => Ok(Stored::Renewed),
        Some(3) => Ok(Stored::BodyNeeded),
        _ => Err(error::unexpected("put")),
    }
}

/// Gives a claim up.
pub(super) async fn release(
    caller: &Caller,
    lane: u32,
    name: Name,
    claim: ClaimId,
) -> Result<(), Error> {
    let args = [bytes(&[]), bytes(&claim)];
    call(caller, lane, Script::Put, &name, &args).await?;
    Ok(())
}

async fn call(
    caller: &Caller,
    lane: u32,
    script: Script,
    name: &Name,
    args: &[Value],
) -> Result<Value, Error> {
    let names = caller.names(lane)?;
    let (value, claim) = (names.of_value("v", name), names.of_value("c", name));
    let keys = [&names.state, &names.history, &names.formats, &value, &claim];
    caller.call(lane, Kind::Shared, script, &keys, args).await
}

impl Names {
    /// Returns the name of a value, or of its claim.
    pub(super) fn of_value(&self, kind: &str, name: &Name) -> Str {
        let lane = self.state.strip_suffix('s').unwrap_or(&self.state);
        // Names are base64: always text.
        let name = std::str::from_utf8(name).unwrap_or_default();
        Str::from(format!("{lane}{kind}{name}"))
    }
}

fn fetched(answer: &Value) -> Option<Fetched> {
    let Value::Array(values) = answer else {
        return None;
    };
    let [_, _, now, found, data] = values.as_slice() else {
        return None;
    };
    let data = data.as_bytes()?;
    let found = match read(found)? {
        0 => Found::NoHistory,
        // Copied, because a slice would keep the connection's whole read buffer alive.
        1 => Found::Value(Bytes::copy_from_slice(data)),
        2 => Found::Nothing(data.try_into().ok()),
        3 => Found::Claimed,
        _ => return None,
    };
    Some(Fetched {
        head: head(values)?,
        now: read(now)?,
        found,
    })
}
