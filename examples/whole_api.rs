//! The whole API in one program: every public name but those of `unstale::testing`, used once.
//!
//! ```sh
//! cargo run --example whole_api --features derive,shared
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io;
use std::time::Duration;

use unstale::metrics::{Label, Series, SeriesKind, describe, histogram_buckets};
use unstale::{
    Answer, Batch, BoxError, BusKind, Cache, CacheBuilder, CacheSettings, Credentials,
    CredentialsProvider, Error, ErrorKind, Explanation, Health, HeldEntry, HiddenSetting, Instance,
    InstanceId, InstanceState, InvalidToken, Invalidation, Invalidations, Key, KeyEncoder, KeyHash,
    KeyRef, Loaded, LocalBus, Lookup, MAX_KEY_BYTES, MissCause, Outcome, Preload, RefreshAhead,
    Refusal, Scope, SettingInfo, SettingScope, Settings, SharedTier, Statement, Stats, SubscribeAt,
    Switch, TagHash, Token, WriteError, WritePolicy,
};

#[derive(Clone, PartialEq, Eq, Key)]
enum Product {
    Sku(String),
    Ean(u64),
}

#[derive(Clone, PartialEq, Eq)]
struct Shop(String);

impl Key for Shop {
    fn encode(&self, out: &mut KeyEncoder) {
        self.0.encode(out);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let instance = Instance::start_on(&LocalBus::default(), settings()?).await?;
    let names: Cache<Product, String> = instance
        .cache("names")
        .loader(name)
        .batch_loader(names_of)
        .build()?;
    let stock = stock(instance.cache("stock"))?;

    let shop = Shop("north".to_owned());
    show(&stock, (&shop, 7)).await?;
    let written = stock.write(&(&shop, 7), save()).await;
    written.or_else(WriteError::committed)?; // committed, and peers follow within the bound
    show(&stock, (&shop, 7)).await?;
    let batch: Batch = instance
        .batch()
        .key(&names, &Product::Ean(4))
        .tag(&stock, "north");
    let token: Token = batch.invalidate().await?;
    let sent: Result<Token, InvalidToken> = token.to_string().parse(); // in a cookie, to another instance
    let read = stock.get_after(&(&shop, 7), &sent?).await?;
    println!("after the batch: {read:?}");
    let statement: Statement = instance.batch().tag(&stock, "north").in_transaction()?;
    let no_key = !statement.to_string().contains("north");
    println!("the statement has no key: {no_key}");

    let Preload { held, failed, .. } = names.preload([Product::Ean(4), Product::Ean(0)]).await;
    println!("names: {held} in memory, {failed} failed");
    println!("name: {:?}", names.get(&Product::Ean(4)).await?);
    let long = Product::Sku("x".repeat(MAX_KEY_BYTES));
    let refused = names.get(&long).await.map_err(|error| error.kind());
    println!("a key that is too long: {}", refused == Err(ErrorKind::Key));
    let Stats { hits, misses, .. } = stock.stats();
    let Health {
        id,
        state,
        bus,
        hidden_settings,
        ..
    } = instance.health();
    let own: InstanceId = instance.id();
    println!("its id is shown everywhere: {}", id == own);
    println!("it hears of Redis: {}", bus == BusKind::Redis);
    println!("stock: {misses} misses, {hits} hits");
    println!("coherent: {}", state == InstanceState::Coherent);
    let reason = why(&stock, (&shop, 7)).await?;
    println!("a tag is reported, and why a key is not held: {reason}");
    for HiddenSetting {
        cache,
        setting,
        reason,
        ..
    } in hidden_settings
    {
        println!("{cache}: {setting} has no effect: {reason}");
    }
    let is_histogram = |series: &&Series| series.kind() == SeriesKind::Histogram;
    let histograms = describe().iter().filter(is_histogram).count();
    println!(
        "every histogram has buckets: {}",
        histograms == histogram_buckets().count()
    );
    let by_cause = |label: Label| label.name == "cause";
    let by_cause = describe()
        .iter()
        .filter(|series| series.labels().any(by_cause));
    println!("some series have a cause: {}", by_cause.count() > 0);
    Ok(instance.shutdown().await?)
}

fn settings() -> Result<Settings, Error> {
    let mut settings = Settings::from_env()?;
    settings.write_policy = WritePolicy::Available;
    settings.subscribe_at = SubscribeAt::Replicas; // of a Redis, where there is one
    settings.ttl = Duration::from_secs(30);
    let mut elsewhere = Settings::default();
    elsewhere.redis_url = Some("redis://cache.example".to_owned());
    let token = || async { Ok(Credentials::new("a token of the moment").user("app")) };
    elsewhere.credentials = Some(CredentialsProvider::new(token));
    elsewhere.validate()?;
    let mut names = CacheSettings::default();
    names.max_staleness = Some(Switch::On(Duration::from_secs(5)));
    settings.caches.insert("names".to_owned(), names);
    let of_names = |row: &SettingInfo| row.scope == SettingScope::Cache("names".to_owned());
    for row in settings.describe().into_iter().filter(of_names) {
        println!("{}={}", row.variable, row.value);
    }
    Ok(settings)
}

fn stock(builder: CacheBuilder<(Shop, u64), u64>) -> Result<Cache<(Shop, u64), u64>, Error> {
    builder
        .loader(|(Shop(name), sku)| async move { Ok(Loaded::new(sku * 10).tag(name)) })
        .ttl(Duration::from_secs(10))
        .refresh_ahead(RefreshAhead::Share(0.8))
        .tier(SharedTier::new())
        .build()
}

async fn name(product: Product) -> Result<Option<String>, BoxError> {
    Ok(match product {
        Product::Sku(sku) => Some(sku),
        Product::Ean(ean) => (ean > 0).then(|| format!("EAN {ean}")),
    })
}

async fn names_of(products: Vec<Product>) -> Result<Vec<(Product, Answer<String>)>, BoxError> {
    let mut names = Vec::new();
    for product in products {
        let name = name(product.clone()).await;
        names.push((product, name.into()));
    }
    Ok(names)
}

async fn show<Q>(stock: &Cache<(Shop, u64), u64>, key: Q) -> Result<(), Error>
where
    Q: KeyRef<(Shop, u64)>,
{
    let Lookup { value, outcome, .. } = stock.lookup(&key).await?;
    println!("in stock: {value:?}, loaded: {}", outcome == Outcome::Miss);
    Ok(())
}

async fn why<Q>(stock: &Cache<(Shop, u64), u64>, key: Q) -> Result<bool, Error>
where
    Q: KeyRef<(Shop, u64)>,
{
    let mut applied: Invalidations = stock.invalidations();
    stock.get(&key).await?;
    stock.invalidate_tag("south").await?;
    stock.invalidate(&key).await?;
    let tag: Option<Invalidation> = applied.next().await;
    let is_reported = tag.is_some_and(|tag| tag.scope == Scope::Tag(TagHash::of("south")));
    let said: Explanation = stock.explain(&key);
    let held: Option<HeldEntry> = said.held;
    let gone = held.is_none() && said.refusal == Some(Refusal::NotHeld);
    let why = said.key == KeyHash::of(&key) && said.cause == Some(MissCause::Invalidated);
    Ok(is_reported && gone && why)
}

async fn save() -> io::Result<()> {
    Ok(())
}
