//! What `unstale` promises, one file per promise.

mod support;

mod coherence;
mod fleet;
mod flights;
mod race;
