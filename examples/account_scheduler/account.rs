//! An upstream account: what choosing one needs, and what using it needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One account, as the database has it: some 20 KB of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    #[serde(flatten)]
    pub(crate) scheduling: Scheduling,
    /// `None` where the account came from Redis, which never has them: see `Pool::with_tokens`.
    pub(crate) tokens: Option<Tokens>,
}

/// All that choosing an account needs, and all of it that goes to Redis.
///
/// Code that chooses takes this and not an [`Account`]: a field that is left out here is an error of
/// the compiler there, and never an account that no gateway can schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scheduling {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) platform: String,
    pub(crate) groups: Vec<u64>,
    pub(crate) proxy: Option<String>,
    /// The lower, the sooner it is chosen.
    pub(crate) priority: u32,
    pub(crate) concurrency: u32,
    pub(crate) schedulable: bool,
    /// Seconds since 1970.
    pub(crate) rate_limited_until: Option<u64>,
    /// Names that clients use, and the upstream's own.
    pub(crate) models: BTreeMap<String, String>,
    pub(crate) limits: BTreeMap<String, Limit>,
}

/// How much of one model may be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) requests_per_minute: u32,
    pub(crate) tokens_per_day: u64,
}

/// What a request upstream needs, and nothing else should see.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) id: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Scheduling {
    /// Returns whether a request for this model may go to the account now.
    pub(crate) fn serves(&self, model: &str, now: u64) -> bool {
        self.schedulable
            && self.rate_limited_until.is_none_or(|until| until <= now)
            && self.models.contains_key(model)
    }
}
