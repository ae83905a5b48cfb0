//! Message authentication: with a key, every payload ends with a MAC, and a payload without one is not an event.
//!
//! ```text
//! payload = event, MAC        MAC = first 16 bytes of keyed BLAKE3(namespace, lane, event)
//! ```
//!
//! The MAC names the namespace and the lane, so that an event of one is none in another. It cannot
//! name the epoch and the sequence, which Redis assigns: an old event stays genuine wherever it is
//! replayed. So with a key the *place* that a message on the channel claims proves nothing;
//! see [`Hints`](crate::coherence::follower) and PROTOCOL.md.

use std::fmt;
use std::sync::Arc;

use blake3::Hash;
use bytes::Bytes;

use super::message::{Event, MAX_PAYLOAD};
use super::wire::{DecodeError, decode, encode_within};
use crate::lock::Lock;
use crate::settings::Settings;

/// Bytes of a MAC. An attacker gets one guess per message: 128 bits cannot be brute-forced.
pub(crate) const MAC: usize = 16;

/// What ends a payload.
pub(crate) type Mac = [u8; MAC];

/// Separates these keys from all others that may be derived from the same secret.
const CONTEXT: &str = "unstale 2026 v1 event authentication";

/// Distinguishes one key from another, and shows nothing else of it.
pub(crate) type KeyPrint = [u8; 4];

const PRINT: &str = "unstale 2026 v1 key fingerprint";

/// Writes and reads the payloads of one namespace.
pub(crate) struct Seal {
    namespace: String,
    /// The first signs; any of them is accepted. None: payloads are bare events, and stay so.
    keys: Lock<Keys>,
    keyed: bool,
}

type Keys = Arc<[[u8; 32]]>;

fn keys(settings: &Settings) -> Keys {
    let secrets = [&settings.signing_key, &settings.signing_key_accepted];
    let derive = |secret: &String| blake3::derive_key(CONTEXT, secret.as_bytes());
    secrets.into_iter().flatten().map(derive).collect()
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("keys", &self.keys().len())
            .finish_non_exhaustive()
    }
}

impl Seal {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            namespace: settings.namespace.clone(),
            keyed: settings.signing_key.is_some(),
            keys: Lock::new(keys(settings)),
        }
    }

    /// Takes the keys of these settings, which differ from those of before in the secrets alone.
    pub(crate) fn renew(&self, settings: &Settings) {
        debug_assert_eq!(self.keyed, settings.signing_key.is_some(), "signed or not");
        *self.keys.lock() = keys(settings);
    }

    fn keys(&self) -> Keys {
        self.keys.lock().clone()
    }

    /// Returns the fingerprint of each key, the one that signs first.
    pub(crate) fn prints(&self) -> Vec<KeyPrint> {
        let print = |key: &[u8; 32]| {
            let mut print = KeyPrint::default();
            let mut hasher = blake3::Hasher::new_derive_key(PRINT);
            hasher.update(key).finalize_xof().fill(&mut print);
            print
        };
        self.keys().iter().map(print).collect()
    }

    /// Returns whether there is a key, so that only the journal says which event has which sequence.
    pub(crate) fn is_keyed(&self) -> bool {
        self.keyed
    }

    /// Returns the payload that says `event` on `lane`.
    pub(crate) fn encode(&self, lane: u32, event: &Event) -> Bytes {
        let keys = self.keys();
        let Some(key) = keys.first() else {
            return encode_within(event, MAX_PAYLOAD).into();
        };
        let mut payload = encode_within(event, MAX_PAYLOAD - MAC);
        let mac = self.mac(key, lane, &payload);
        payload.extend_from_slice(&mac);
        payload.into()
    }

    /// Returns the event that a payload says, and its MAC where there is a key.
    pub(crate) fn decode(&self, lane: u32, payload: &[u8]) -> Result<(Event, Mac), DecodeError> {
        if !self.keyed {
            return decode(payload).map(|event| (event, Mac::default()));
        }
        // Before anything is spent on it.
        if payload.len() > MAX_PAYLOAD {
            return Err(DecodeError::TooLong);
        }
        let (event, mac) = payload.split_last_chunk().ok_or(DecodeError::Unsigned)?;
        let good = |key| same(&self.mac(key, lane, event), mac);
        if !self.keys().iter().any(good) {
            return Err(DecodeError::Unsigned);
        }
        decode(event).map(|event| (event, *mac))
    }

    fn mac(&self, key: &[u8; 32], lane: u32, event: &[u8]) -> Mac {
        let mut hasher = blake3::Hasher::new_keyed(key);
        // The length in front keeps the namespace apart from what follows.
        hasher.update(&(self.namespace.len() as u32).to_be_bytes());
        hasher.update(self.namespace.as_bytes());
        hasher.update(&lane.to_be_bytes());
        hasher.update(event);
        let mut mac = Mac::default();
        hasher.finalize_xof().fill(&mut mac);
        mac
    }
}

/// In constant time, which is how `Hash` compares: the time says nothing of how much was right.
fn same(one: &Mac, other: &Mac) -> bool {
    let padded = |mac: &Mac| {
        let mut bytes = [0; 32];
        bytes[..MAC].copy_from_slice(mac);
        Hash::from_bytes(bytes)
    };
    padded(one) == padded(other)
}

#[cfg(test)]
mod tests;
