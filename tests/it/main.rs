//! What `unstale` promises, one file per promise.

mod support;

mod coherence;
mod crashes;
mod faults;
mod fleet;
mod flights;
mod outages;
mod race;
mod writes;
