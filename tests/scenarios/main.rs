//! The systems that this crate must be able to replace: each test is one promise that a program under
//! `examples/` keeps, over a real Redis and a real database file.

#![cfg(test)]
#![allow(
    clippy::print_stdout,
    reason = "the figures themselves are worth reading"
)]

// The modules of a program under `examples/` are compiled in by `#[path]`: cargo builds an example as
// a program only, so its parts are no library that a test could use.
mod support;

mod account_scheduler;
mod api_keys;
mod oidc_sessions;
mod third_party_tokens;
mod user_cache;
mod warm_up;
mod wire;
