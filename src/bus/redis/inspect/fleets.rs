//! What else is at a server: the fleets that are listened to, and what a fleet published last.

use std::collections::BTreeSet;

use fred::types::Value;

use super::Server;
use crate::bus::redis::error;
use crate::{Error, ErrorKind};

/// A namespace that has a listener, and the number of its database; none in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The namespace.
    pub namespace: String,
    /// The number of the database; `None` in a cluster, which has none.
    pub database: Option<u8>,
}

impl Server {
    /// Returns the number of the database that the URL names; `None` in a cluster.
    #[must_use]
    pub fn database(&self) -> Option<u8> {
        self.address.database_of_channels()
    }

    /// Returns the namespaces that are listened to at the server of lane 0, in any of its databases;
    /// `None` where this user may not see that.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn neighbours(&self) -> Result<Option<BTreeSet<Neighbour>>, Error> {
        let which = if self.is_cluster() {
            "SHARDCHANNELS"
        } else {
            "CHANNELS"
        };
        match self.ask(0, "PUBSUB", &[which, "us:{*}e*"]).await {
            Ok(Value::Array(channels)) => {
                let names = channels.iter().filter_map(Value::as_string);
                Ok(Some(names.filter_map(|name| neighbour(&name)).collect()))
            }
            Ok(_) => Err(error::unexpected("PUBSUB")),
            Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Settings) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the latest event of a lane; `None` where its journal has none.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn last_event(&self, lane: u32) -> Result<Option<Vec<u8>>, Error> {
        let Some((_, sequence)) = self.head(lane).await? else {
            return Ok(None);
        };
        let journal = self.names(lane).journal;
        let from = format!("{sequence}-0");
        let answer = self.ask(lane, "XRANGE", &[&journal, &from, "+"]).await?;
        Ok(payload(&answer))
    }
}

/// Returns the payload of the last entry that XRANGE returned.
fn payload(answer: &Value) -> Option<Vec<u8>> {
    let Value::Array(entries) = answer else {
        return None;
    };
    let Some(Value::Array(entry)) = entries.last() else {
        return None;
    };
    let Some(Value::Array(fields)) = entry.get(1) else {
        return None;
    };
    Some(fields.get(1)?.as_bytes()?.to_vec())
}

/// Returns what a channel's name says; `None` for a channel of something else.
fn neighbour(channel: &str) -> Option<Neighbour> {
    let (lane, database) = channel.strip_prefix("us:{")?.split_once("}e")?;
    let (namespace, _) = lane.rsplit_once(':')?;
    let database = match database {
        "" => None,
        number => Some(number.parse().ok()?),
    };
    Some(Neighbour {
        namespace: namespace.to_owned(),
        database,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_fleet() {
        let of = |channel| neighbour(channel).map(|it| (it.namespace, it.database));
        assert_eq!(of("us:{shop:0}e0"), Some(("shop".to_owned(), Some(0))));
        assert_eq!(
            of("us:{shop.eu:12}e15"),
            Some(("shop.eu".to_owned(), Some(15)))
        );
        assert_eq!(of("us:{shop:0}e"), Some(("shop".to_owned(), None)));
        // A probe of this program, and what is not ours.
        assert_eq!(of("us:{shop:0}e0:0011223344556677"), None);
        assert_eq!(of("news"), None);
    }
}
