//! The systems that this crate must be able to replace: each program of `examples/` that stands for one,
//! over a real Redis and a real database file, and the numbers that it has to reach.

mod api_keys;
mod shows;
mod support;
mod user_cache;
mod wire;
