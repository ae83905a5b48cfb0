//! At which server a subscription is made: the lanes' primary, or a replica of it.
//!
//! A replica may be late, or be cut off from its primary without notice. What it does not deliver is
//! missing at the next verification, which asks the primary; where that comes to nothing, the subscription is
//! made again, and then at the primary.

use std::future::pending;
use std::time::Duration;

use fred::error::Error as FredError;
use fred::interfaces::ClientLike;
use fred::types::InfoKind;
use tokio::time::{sleep, timeout};

use crate::bus::redis::connection::{Connection, options};
use crate::bus::redis::listen::Listen;
use crate::bus::redis::peer::Peer;
use crate::bus::redis::reach;
use crate::bus::redis::target::Target;
use crate::bus::redis::values;
use crate::metrics::Kind;
use crate::url::Place;

/// How long a subscription stays at the primary when it has no replica: from this to twice this long, so
/// that not all instances look for one at the same time.
const STAY: Duration = Duration::from_secs(60);

/// Replicas of one primary that are chosen from.
const MOST: usize = 64;

/// Where the next connection goes.
#[derive(Debug, Default)]
pub(super) struct Choice {
    at_replica: bool,
    /// The latest one at a replica ended: the primary is next.
    failed: bool,
}

impl Choice {
    /// Returns the server to subscribe at. Ends within the times for connecting and for a command.
    pub(super) async fn next(&mut self, peer: &Peer) -> Target {
        let replica = if self.failed {
            None
        } else {
            replica(peer).await
        };
        self.at_replica = replica.is_some();
        match replica {
            Some(place) => peer.target.at(&place),
            None => peer.target.clone(),
        }
    }

    /// The connection is over.
    pub(super) fn ended(&mut self) {
        self.failed = self.at_replica;
    }

    /// Waits until there is a replica, where the subscription is at the primary because there was none.
    pub(super) async fn better(&self, peer: &Peer) {
        if self.at_replica || peer.common.listen == Listen::Primary {
            return pending().await;
        }
        loop {
            sleep(STAY.mul_f64(1.0 + fastrand::f64())).await;
            if replica(peer).await.is_some() {
                return;
            }
        }
    }
}

/// Returns a replica to subscribe at; `None` where none is asked for or known.
async fn replica(peer: &Peer) -> Option<Place> {
    match &peer.common.listen {
        Listen::Primary => None,
        Listen::At(place) => Some(place.clone()),
        Listen::Replicas => {
            let known = known(peer).await.unwrap_or_default();
            fastrand::choice(known)
        }
    }
}

/// Returns the replicas that the primary knows.
async fn known(peer: &Peer) -> Result<Vec<Place>, FredError> {
    let (traffic, target) = (&peer.common.config.traffic, &peer.target);
    let connection: Connection = reach::open(target, traffic).await?;
    let client = connection.client().with_options(&options(target.timeout()));
    traffic.sent(Kind::Connect, values::command([4, 11]));
    let asked = client.info::<String>(Some(InfoKind::Replication));
    let Ok(answer) = timeout(target.timeout(), asked).await else {
        return Ok(Vec::new());
    };
    let text = answer?;
    traffic.received(Kind::Connect, text.len());
    Ok(listed(&text))
}

/// As `INFO` lists them: `slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0`.
fn listed(info: &str) -> Vec<Place> {
    let place = |line: &str| {
        let (name, fields) = line.split_once(':')?;
        let number = name.strip_prefix("slave")?;
        number.parse::<usize>().ok()?;
        let field = |name: &str| {
            let mut fields = fields.split(',');
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        if field("state")? != "online" {
            return None;
        }
        let (host, port) = (field("ip")?.to_owned(), field("port")?.parse().ok()?);
        Some(Place { host, port })
    };
    info.lines()
        .filter_map(|line| place(line.trim_end()))
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_those_that_are_online() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
            slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0\r\n\
            slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
            slave2:ip=fd00::4,port=6380,state=online,offset=14,lag=1,type=replica\r\n\
            slave3:ip=10.0.0.5,port=none,state=online\r\n\
            slave_read_only:1\r\nmaster_replid:aa\r\n";
        let place = |host: &str, port| Place {
            host: host.into(),
            port,
        };
        assert_eq!(
            listed(info),
            [place("10.0.0.2", 6379), place("fd00::4", 6380)]
        );
        assert_eq!(listed("role:slave\r\n"), []);
    }
}
