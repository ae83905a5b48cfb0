//! Calls to a server that takes a lane over, while its slot is on the move.

use fred::bytes_utils::Str;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::{ClusterHash, CustomCommand, Value};

use super::connection::{Connection, options};
use super::peer::Peer;
use super::scripts::{SOURCES, Script};
use super::{reach, values};
use crate::metrics::Kind;
use crate::url::Place;

/// Runs a script on a server that takes the lane over, as the one that gives it away asked for. On a
/// connection of its own: such a move takes moments, and nothing may come between the two commands.
pub(super) async fn call(
    peer: &Peer,
    place: &Place,
    kind: Kind,
    script: Script,
    keys: &[&Str],
    args: &[Value],
) -> Result<Value, FredError> {
    let traffic = &peer.common.config.traffic;
    let connection: Connection = reach::open(&peer.target.at(place), traffic).await?;
    let client = connection
        .client()
        .with_options(&options(peer.target.timeout()));
    let source = Str::from_static(SOURCES[script as usize]);
    traffic.sent(Kind::Connect, values::command([6, 4, source.len()]));
    let hash: Str = client.script_load(source).await?;
    let lengths = args.iter().map(|arg| arg.as_bytes().map_or(0, <[u8]>::len));
    let length = values::evalsha(hash.len(), keys.iter().map(|key| key.len()), lengths);
    traffic.sent(kind, values::command([6]) + length);
    let words = [hash.into(), keys.len().to_string().into()];
    let words = words
        .into_iter()
        .chain(keys.iter().map(|key| Value::from((*key).clone())))
        .chain(args.iter().cloned());
    let pipeline = client.pipeline();
    let asking = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
    let () = pipeline.custom(asking, Vec::<Value>::new()).await?;
    let call = CustomCommand::new_static("EVALSHA", ClusterHash::Random, false);
    let () = pipeline.custom(call, words.collect::<Vec<_>>()).await?;
    let answers = pipeline.try_all::<Value>().await;
    let lost = || FredError::new(FredKind::IO, "connection closed");
    let answer = answers.into_iter().nth(1).unwrap_or_else(|| Err(lost()))?;
    traffic.received(kind, values::reply(&answer));
    Ok(answer)
}
