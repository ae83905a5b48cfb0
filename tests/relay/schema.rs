//! The tables, their rules, and one instance with the caches over them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use unstale::{Cache, Instance, Loaded, Lookup, Settings};

use super::database::Database;
use super::{MEMBER_TIMEOUT, VERIFY_INTERVAL};
use crate::support::nodes::ms;
use crate::support::over_redis::PATIENCE;

/// Accounts have numbers, members a key of two parts, codes a text. The total of a tenant is made of many rows,
/// which a tag names. No rule names the notes.
pub(crate) const TABLES: &str = "
    CREATE TABLE accounts (id bigint PRIMARY KEY, version bigint NOT NULL);
    CREATE TABLE members (tenant bigint, name text, version bigint NOT NULL, PRIMARY KEY (tenant, name));
    CREATE TABLE codes (code text PRIMARY KEY, version bigint NOT NULL);
    CREATE TABLE items (id bigint PRIMARY KEY, tenant bigint, amount bigint NOT NULL);
    CREATE TABLE notes (note text);";

/// A publication of another name would do as well.
pub(crate) const RULES: &str = r#"source = "shop"

[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]

[[rule]]
table = "members"
cache = "members"
key = ["tenant", "name"]

[[rule]]
table = "public.codes"
cache = "codes"
key = ["code"]

[[rule]]
table = "items"
cache = "totals"
tags = [{ column = "tenant", prefix = "tenant:" }]
"#;

/// A column that is added later counts, too.
pub(crate) const ACCOUNT: &str = "SELECT version + coalesce((to_jsonb(a) ->> 'extra')::bigint, 0)
    FROM accounts a WHERE id = $1";
const MEMBER: &str = "SELECT version FROM members WHERE tenant = $1 AND name = $2";
const CODE: &str = "SELECT version FROM codes WHERE code = $1";
const TOTAL: &str = "SELECT sum(amount)::bigint FROM items WHERE tenant = $1 HAVING count(*) > 0";

/// Longer than any test: nothing is fresh again because its time has passed.
const LONG: Duration = Duration::from_secs(3_600);

/// One instance with all caches.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) instance: Instance,
    pub(crate) accounts: Cache<i64, i64>,
    pub(crate) members: Cache<(i64, String), i64>,
    pub(crate) codes: Cache<String, i64>,
    pub(crate) totals: Cache<i64, i64>,
}

impl Node {
    pub(crate) async fn start(
        redis: &str,
        (database, lanes): (&Arc<Database>, u32),
        bound: Duration,
    ) -> Self {
        let mut settings = Settings::default();
        settings.redis_url = Some(redis.to_owned());
        settings.namespace = "shop".to_owned();
        settings.lanes = lanes;
        settings.verify_interval = VERIFY_INTERVAL;
        settings.member_timeout = MEMBER_TIMEOUT;
        settings.write_timeout = ms(2_000);
        settings.max_staleness = Some(bound);
        let instance = Instance::start(settings).await.unwrap();
        let [accounts, members, codes, totals] = [(); 4].map(|()| database.clone());
        Self {
            accounts: long(instance.cache("accounts"))
                .loader(move |id: i64| {
                    let database = accounts.clone();
                    async move { Ok(database.number(ACCOUNT, &[&id]).await?) }
                })
                .build()
                .unwrap(),
            members: long(instance.cache("members"))
                .loader(move |(tenant, name): (i64, String)| {
                    let database = members.clone();
                    async move { Ok(database.number(MEMBER, &[&tenant, &name]).await?) }
                })
                .build()
                .unwrap(),
            codes: long(instance.cache("codes"))
                .loader(move |code: String| {
                    let database = codes.clone();
                    async move { Ok(database.number(CODE, &[&code]).await?) }
                })
                .build()
                .unwrap(),
            totals: long(instance.cache("totals"))
                .loader(move |tenant: i64| {
                    let database = totals.clone();
                    async move {
                        let total = database.number(TOTAL, &[&tenant]).await?;
                        Ok(Loaded::new(total).tag(format!("tenant:{tenant}")))
                    }
                })
                .build()
                .unwrap(),
            instance,
        }
    }

    /// An account, and how the answer came about. A read that fails is the caller's.
    pub(crate) async fn account(&self, id: i64) -> Result<Lookup<i64>, String> {
        match timeout(PATIENCE, self.accounts.lookup(&id)).await {
            Ok(Ok(lookup)) => Ok(lookup),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

/// What no entry and no load ends by itself within a test.
fn long<K, V>(cache: unstale::CacheBuilder<K, V>) -> unstale::CacheBuilder<K, V>
where
    K: unstale::Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache
        .source("shop")
        .ttl(LONG)
        .negative_ttl(LONG)
        .error_ttl(Duration::ZERO)
        .load_timeout(ms(60_000))
        .max_loads(1_000)
}
