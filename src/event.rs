//! What one message of a lane says: which entries to drop, and which writer published it.
//!
//! An event never carries a value or a key in clear, only hashes; [`wire`] is its encoding and
//! [`signing`] proves that a holder of the key made it.

mod message;
mod signing;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use message::{Event, MAX_PAYLOAD, NO_ORIGIN, Op, What};
pub(crate) use signing::{KeyPrint, Mac, Seal};
#[cfg(test)]
pub(crate) use wire::encode_within;
pub(crate) use wire::{DecodeError, decode};
