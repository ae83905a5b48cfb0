//! The time as the follower takes it.

/// Here: the version that was due at that time; see `state`.
pub(crate) type Nanos = u64;
