//! As in `tests/it`.

#![allow(
    dead_code,
    unused_imports,
    reason = "not every fixture is used by every test"
)]

#[path = "../it/support/redis.rs"]
pub(crate) mod redis;
#[path = "../it/support/resp.rs"]
pub(crate) mod resp;
