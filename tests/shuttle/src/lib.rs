//! The crate's own store (`src/store.rs` and what is below it) and its wait for a verification
//! (`src/coherence/wait.rs`) under shuttle, which decides at every atomic operation and every lock
//! which thread runs next. They are compiled in by links to those files: they are private, and their
//! atomics and clock are this package's here.
//!
//! quick_cache is the real one; its feature `shuttle` replaces its locks. All atomic operations are
//! sequentially consistent here, so a missing `Acquire` is not found; that reads and writes happen
//! in an order that lets a stale value through is.

mod contain;
pub mod drive;
mod key;
#[allow(dead_code, reason = "as the crate has it")]
mod lock;
mod metrics;
#[allow(dead_code, unused_imports, reason = "as the crate has it")]
mod mutants;
#[allow(dead_code, reason = "these tests do not need all of it")]
mod store;
mod sync;
mod time;
mod wait;
