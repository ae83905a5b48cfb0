//! The simulator: seeded schedules of everything that can go wrong drive real instances, the crate's
//! own code, on a bus inside the process and under tokio's paused clock; then every read is judged
//! against the source of truth.
//!
//! A schedule is data, made from its seed before anything runs, and any part of it is a schedule
//! too: so a failing one can be shrunk, and replayed by its seed with one command.

mod draw;
mod faults;
mod fleet;
mod found;
mod generate;
mod heal;
mod holes;
mod judge;
mod log;
mod mind;
mod obliged;
mod options;
mod relay;
mod relays;
mod run;
mod schedule;
mod seeds;
mod shrink;
mod source;
mod trace;
mod watch;
mod without;
mod writers;
