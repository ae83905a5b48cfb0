//! Subscribing to channels, and the proof that the server has done so.
//!
//! fred's `subscribe` returns before its command is written, and a refusal reaches whichever command
//! is waiting for an answer at that moment, or none. So a subscription is proven by what the server
//! says of this connection, asked behind it: `CLIENT INFO` counts the channels it is subscribed to.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, PubsubInterface};
use tokio::time::Instant;

use crate::bus::redis::connection::{options, ping, subscribed};
use crate::bus::redis::peer::Peer;
use crate::bus::redis::values;
use crate::metrics::Kind;

/// A round trip under way.
pub(super) struct Proof {
    began: Instant,
    /// The lanes whose subscription it proves; none if only that the connection answers.
    lanes: Vec<u32>,
    answer: Pin<Box<dyn Future<Output = Result<(), FredError>> + Send>>,
}

impl Proof {
    /// Begins to subscribe to the channels of these lanes and to prove it.
    pub(super) fn subscribe(client: &Client, peer: &Peer, lanes: Vec<u32>) -> Self {
        let names = &peer.common.names;
        let channels: Vec<Str> = lanes
            .iter()
            .map(|&lane| names[lane as usize].channel.clone())
            .collect();
        Self {
            began: Instant::now(),
            lanes,
            answer: if peer.common.sharded {
                Box::pin(subscribe_sharded(client, peer, channels))
            } else {
                Box::pin(subscribe(client, peer, channels))
            },
        }
    }

    /// Begins to see whether the connection answers.
    pub(super) fn check(client: &Client, peer: &Peer) -> Self {
        Self {
            began: Instant::now(),
            lanes: Vec::new(),
            answer: Box::pin(ping(client, &peer.target, &peer.common.config.traffic)),
        }
    }

    pub(super) fn subscribes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Whether it proves the subscription of all these lanes.
    pub(super) fn covers(&self, lanes: &[u32]) -> bool {
        lanes.iter().all(|lane| self.lanes.contains(lane))
    }

    /// Whether a check went unanswered only because deliveries are in front of the answer: something
    /// was heard at this moment.
    pub(super) fn is_only_late(&self, error: &FredError, heard: Instant) -> bool {
        *error.kind() == FredKind::Timeout && !self.subscribes() && heard > self.began
    }
}

/// The answer to the round trip under way, if one is.
pub(super) async fn answer(proof: &mut Option<Proof>) -> Result<(), FredError> {
    match proof {
        Some(proof) => proof.answer.as_mut().await,
        None => pending().await,
    }
}

/// Subscribes to all channels and proves it.
fn subscribe(
    client: &Client,
    peer: &Peer,
    channels: Vec<Str>,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let lengths: Vec<usize> = channels.iter().map(|channel| channel.len()).collect();
    let (sent, received) = values::subscribe(&lengths);
    let traffic = Arc::clone(&peer.common.config.traffic);
    let proof = subscribed(client, &peer.target, &traffic, channels.len());
    let client = client.with_options(&options(peer.target.timeout()));
    async move {
        traffic.sent(Kind::Connect, sent);
        client.subscribe(channels).await?;
        proof.await?;
        traffic.received(Kind::Connect, received);
        Ok(())
    }
}

/// As [`subscribe`], in a cluster. One channel a call: of several acknowledgements fred takes all but
/// one for the answers to later commands. Each is waited for and reports a refusal, so it is the proof.
fn subscribe_sharded(
    client: &Client,
    peer: &Peer,
    channels: Vec<Str>,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let client = client.with_options(&options(peer.target.timeout()));
    let traffic = Arc::clone(&peer.common.config.traffic);
    async move {
        for channel in channels {
            let (sent, received) = values::ssubscribe(channel.len());
            traffic.sent(Kind::Connect, sent);
            client.ssubscribe(channel).await?;
            traffic.received(Kind::Connect, received);
        }
        Ok(())
    }
}
