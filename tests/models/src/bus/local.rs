//! The crate's own server of one lane.

#[allow(dead_code, reason = "the model does not need all of it")]
#[path = "../../../../src/bus/local/lane.rs"]
#[rustfmt::skip]
pub(crate) mod lane;
#[path = "../../../../src/bus/local/marks.rs"]
#[rustfmt::skip]
pub(crate) mod marks;
#[path = "../../../../src/bus/local/members.rs"]
#[rustfmt::skip]
mod members;
