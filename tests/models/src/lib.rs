//! An exhaustive check of the protocol: one lane, a server, an instance that reads (and may write)
//! and one that writes, under every order of a small number of events.
//!
//! What is the crate's own code, compiled in from `src`: the follower (sequence, repair, what a
//! verification proves) and the server of a lane (counter, epochs, journal, members, intents). Links
//! and `#[path]` do that: these modules are private, and name others that are the model's own here.
//! What is modelled: the rest of an instance, which is tasks and locks there. The store is one
//! entry and one load of one key, with a bit for "invalidated since it began" in place of tokens
//! and stamps; the outbox, the open write and the link around the follower are in `writer` and
//! `reader`.
//!
//! Delivery is a log of all messages ever published, any of which may reach the reader at any time,
//! again and again, or never: loss, duplication, delay and reordering are all in that. So is an event
//! that waits to be delivered with others, which comes late, or never if its publisher dies. The key that
//! is cached is one; events of other keys matter only by their sequences.
//!
//! Not expressed: the order of resubscription. Any message may be missed here, so nothing rests on it
//! but how soon a verification succeeds.
//!
//! A relay's marks have a model of their own, `relay`, and the shared tier has one, `tier`.
//!
//! There is no wall time. A verification or a load that began when version `v` of the key was *due*
//! (see [`State::due`](state)) must not serve an older one. What `max_staleness` adds to that is
//! the hit rule's comparison, which `judge` in `src/store/entry.rs` tests at its edges.

#[allow(
    dead_code,
    reason = "as the crate has it, whether the model needs it or not"
)]
mod bus;
mod event;
#[allow(dead_code, reason = "the model does not need all of it")]
#[rustfmt::skip]
mod follower;
#[path = "../../../src/coherence/marks.rs"]
#[rustfmt::skip]
mod marks;
mod model;
mod reader;
mod relay;
mod server;
mod state;
mod store;
mod tier;
mod time;
#[path = "../../../src/mutants.rs"]
#[rustfmt::skip]
mod mutants;
mod writer;

pub use model::{Action, Model, Report, check};
pub use mutants::Mechanism;
pub use relay::{RelayBounds, RelayReport, RelaySeen, check_relay};
pub use state::{Bounds, Seen};
pub use tier::{Cut, Limits, Tier, check_tier};
