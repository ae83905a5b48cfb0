//! One file per promise.

mod support;

mod coherence;
mod fleet;
