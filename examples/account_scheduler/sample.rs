//! Accounts of a realistic size: 20 KB each, of which tokens are two thirds.

use fastrand::Rng;

use super::account::{Account, Limit, Scheduling, Tokens};

/// The platform of all of them.
pub(crate) const PLATFORM: &str = "claude";

/// A model that all of them serve.
pub(crate) const MODEL: &str = "model-07-latest";

/// The account with this id, always the same.
pub(crate) fn account(id: u64) -> Account {
    let mut rng = Rng::with_seed(id);
    let mut digits = |length| -> String { (0..length).map(|_| rng.alphanumeric()).collect() };
    let tokens = Tokens {
        access: digits(6_000),
        refresh: digits(4_000),
        id: digits(4_000),
    };
    let proxy = format!("socks5://proxy-{}.example:1080/{}", id % 7, digits(24));
    let model = |n| format!("model-{n:02}-latest");
    let upstream = |n: u64| {
        (
            model(n),
            format!("model-{n:02}-2025-{:02}-15", (n + id) % 12 + 1),
        )
    };
    let limit = |n: u64| {
        let limit = Limit {
            requests_per_minute: 50 + (n * id % 40) as u32,
            tokens_per_day: 1_000_000 + n * 10_000,
        };
        (model(n), limit)
    };
    let scheduling = Scheduling {
        id,
        name: format!("account-{id:04}"),
        platform: PLATFORM.to_owned(),
        groups: (0..id % 5).collect(),
        proxy: Some(proxy),
        priority: (id % 10) as u32,
        concurrency: 4,
        schedulable: true,
        rate_limited_until: None,
        models: (0..45).map(upstream).collect(),
        limits: (0..45).map(limit).collect(),
    };
    Account {
        scheduling,
        tokens: Some(tokens),
    }
}

/// Accounts 0 to `count`.
pub(crate) fn accounts(count: u64) -> Vec<Account> {
    (0..count).map(account).collect()
}
