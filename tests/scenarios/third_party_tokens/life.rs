//! How long a token is kept: the numbers themselves, by tokio's paused clock, over the bus inside a
//! process.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant as Moment, advance, sleep};
use unstale::{BoxError, Instance, LocalBus, Settings, testing};

use super::application;
use super::tokens::{Credentials, Grant, Issuer, Shares, Token, Tokens};

/// Issues numbered tokens, and knows when it did.
struct Mint {
    expires_in: &'static str,
    issued: Mutex<Vec<Moment>>,
    /// Every so many calls in a row fail, then every so many do not.
    moody: u64,
    calls: AtomicU64,
    down: AtomicBool,
}

impl Mint {
    fn new(expires_in: &'static str) -> Self {
        Self {
            expires_in,
            issued: Mutex::default(),
            moody: u64::MAX,
            calls: AtomicU64::new(0),
            down: AtomicBool::new(false),
        }
    }

    fn age(&self, token: &Token, at: Moment) -> Duration {
        let number: usize = token.reveal().parse().unwrap();
        at - self.issued.lock().unwrap()[number]
    }

    fn issued(&self) -> Vec<Moment> {
        self.issued.lock().unwrap().clone()
    }
}

impl Issuer for Mint {
    async fn issue(&self, _: Credentials) -> Result<Option<Grant>, BoxError> {
        let call = self.calls.fetch_add(1, SeqCst);
        if self.down.load(SeqCst) || (call / self.moody) % 2 == 1 {
            return Err("come back later".into());
        }
        let mut issued = self.issued.lock().unwrap();
        issued.push(Moment::now());
        let number = issued.len() - 1;
        let expires_in = self.expires_in;
        let answer = format!(r#"{{"access_token":"{number}","expires_in":{expires_in}}}"#);
        Ok(Some(serde_json::from_str(&answer)?))
    }
}

async fn start(bus: &LocalBus, variables: &[(&str, &str)]) -> Instance {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let settings = Settings::from_vars(variables).unwrap();
    testing::start_on(bus, settings).await.unwrap()
}

/// Lets so much time pass at once, instead of second by second. Tasks run before that and after it: a
/// question to the tier that had to wait for all of it would have missed its turn.
async fn pass(time: Duration) {
    sleep(Duration::from_millis(1)).await;
    advance(time).await;
    sleep(Duration::from_millis(1)).await;
}

/// 300 s of 7,200 s: from then on a hit starts a call, and no caller waits for one.
#[tokio::test(start_paused = true)]
async fn scenario_tokens_are_replaced_in_the_margin_before_their_end() {
    const LIFE: Duration = Duration::from_secs(7_200);
    const MARGIN: Duration = Duration::from_secs(300);
    const STEP: Duration = Duration::from_secs(5);
    for (jitter, expires_in) in [("0", "7200"), ("0", r#""7200""#), ("0.1", r#""7200""#)] {
        // Jitter shortens a life by a tenth at most.
        let shortest = if jitter == "0" { LIFE } else { LIFE * 9 / 10 };
        let mint = Arc::new(Mint::new(expires_in));
        let bus = LocalBus::default();
        let instance = start(&bus, &[("UNSTALE_TTL_JITTER", jitter)]).await;
        let tokens = Tokens::build(&instance, mint.clone(), Shares::Instance).unwrap();
        let credentials = application("corp", "secret");
        let age = async || {
            let now = Moment::now();
            let token = tokens.get(&credentials).await.unwrap().unwrap();
            mint.age(&token, now)
        };
        for life in 1..=3 {
            age().await;
            pass(shortest - MARGIN - 4 * STEP).await;
            let before = age().await;
            assert!(before > shortest - MARGIN - 5 * STEP, "{before:?}");
            assert_eq!(mint.issued().len(), life, "before the margin");
            // The hit that comes first in the margin starts a call, the next finds the new token.
            let mut oldest = before;
            while mint.issued().len() == life {
                pass(STEP).await;
                oldest = oldest.max(age().await);
            }
            assert!(oldest >= shortest - MARGIN, "{oldest:?}");
            assert!(oldest < LIFE - MARGIN + 2 * STEP, "{oldest:?}");
            pass(STEP).await;
            assert!(age().await < 3 * STEP);
        }
        assert_eq!(tokens.cache().stats().misses, 1, "no caller waits");
    }
}

/// Three instances hold one token, which is due for all of them at the same moment: one call.
#[tokio::test(start_paused = true)]
async fn scenario_tokens_are_replaced_once_for_the_fleet() {
    const LIFE: Duration = Duration::from_secs(7_200);
    const MARGIN: Duration = Duration::from_secs(300);
    const STEP: Duration = Duration::from_secs(5);
    let (mint, bus) = (Arc::new(Mint::new(r#""7200""#)), LocalBus::default());
    let credentials = application("corp", "secret");
    let mut fleet = Vec::new();
    for _ in 0..3 {
        let instance = start(&bus, &[("UNSTALE_TTL_JITTER", "0")]).await;
        let tokens = Tokens::build(&instance, mint.clone(), Shares::Fleet).unwrap();
        fleet.push((instance, tokens));
    }
    // The first verification begins the record.
    pass(Duration::from_millis(10)).await;
    let newest = async || {
        let mut numbers = Vec::new();
        for (_, tokens) in &fleet {
            let token = tokens.get(&credentials).await.unwrap().unwrap();
            numbers.push(token.reveal().parse::<usize>().unwrap());
        }
        numbers
    };
    for life in 0..3 {
        assert_eq!(newest().await, [life; 3]);
        pass(LIFE - MARGIN - 3 * STEP).await;
        assert_eq!(newest().await, [life; 3]);
        assert_eq!(mint.issued().len(), life + 1, "before the margin");
        pass(4 * STEP).await;
        newest().await;
        pass(STEP).await;
    }
    assert_eq!(newest().await, [3; 3]);
    assert_eq!(mint.issued().len(), 4);
    let misses: u64 = fleet.iter().map(|it| it.1.cache().stats().misses).sum();
    assert_eq!(misses, 3, "a caller waits only once");
}

/// 120 s are 120 s, whatever margins, jitter, an issuer that fails and `stale_if_error` say; on every
/// instance, with the shared tier and without it.
#[tokio::test(start_paused = true)]
async fn scenario_tokens_that_live_120_s_are_never_served_after_120_s() {
    const LIFE: Duration = Duration::from_secs(120);
    let mut oldest = Duration::ZERO;
    for ahead in ["off", "60s", "300s", "2h", "0.9"] {
        for (jitter, kept) in [("0", "1h"), ("0.9", "off")] {
            for shares in [Shares::Instance, Shares::Fleet] {
                let variables = [
                    // The variable of this cache wins over what the program sets.
                    ("UNSTALE_CACHES__TOKENS__REFRESH_AHEAD", ahead),
                    ("UNSTALE_TTL_JITTER", jitter),
                    ("UNSTALE_STALE_IF_ERROR", kept),
                    ("UNSTALE_TTL", "5m"),
                    ("UNSTALE_TIER_TTL", "1h"),
                    // So that what has ended is there to be served by mistake.
                    ("UNSTALE_REAP_INTERVAL", "off"),
                ];
                oldest = oldest.max(oldest_served(LIFE, shares, &variables).await);
            }
        }
    }
    assert!(oldest > LIFE * 9 / 10, "{oldest:?} proves nothing");
}

/// The oldest token that either of two instances serves; an issuer that fails half of the time.
async fn oldest_served(life: Duration, shares: Shares, variables: &[(&str, &str)]) -> Duration {
    let mut mint = Mint::new(r#""120""#);
    mint.moody = 4;
    let (mint, bus) = (Arc::new(mint), LocalBus::default());
    let credentials = application("corp", "secret");
    let mut fleet = Vec::new();
    for _ in 0..2 {
        let instance = start(&bus, variables).await;
        let tokens = Tokens::build(&instance, mint.clone(), shares).unwrap();
        fleet.push((instance, tokens));
    }
    let (mut oldest, mut rng) = (Duration::ZERO, fastrand::Rng::with_seed(7));
    let end = Moment::now() + 5 * life;
    while Moment::now() < end {
        for (_, tokens) in &fleet {
            let asked = Moment::now();
            if let Ok(token) = tokens.get(&credentials).await {
                let age = mint.age(&token.unwrap(), asked);
                assert!(age < life, "served after {age:?} with {variables:?}");
                oldest = oldest.max(age);
            }
        }
        pass(Duration::from_millis(rng.u64(1..5_000))).await;
    }
    oldest
}

/// A margin longer than a token lives does not make every hit ask for another one, and neither does an
/// issuer that is down.
#[tokio::test(start_paused = true)]
async fn scenario_tokens_that_live_shorter_than_the_margin_are_not_asked_for_by_every_hit() {
    let (mint, bus) = (Arc::new(Mint::new("120")), LocalBus::default());
    let instance = start(&bus, &[]).await;
    let tokens = Tokens::build(&instance, mint.clone(), Shares::Instance).unwrap();
    let credentials = application("corp", "secret");
    let read_for = async |seconds: u32| {
        for _ in 0..seconds * 50 {
            let _ = tokens.get(&credentials).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    read_for(300).await;
    // Each is replaced after half of its life, which jitter has shortened by a tenth at most.
    let issued = mint.issued().len();
    assert!((5..=6).contains(&issued), "{issued} in five minutes");
    let before = mint.calls.load(SeqCst);
    mint.down.store(true, SeqCst);
    read_for(60).await;
    let calls = mint.calls.load(SeqCst) - before;
    assert!((1..=61).contains(&calls), "{calls} calls in a minute");
    assert_eq!(
        tokens.cache().stats().misses,
        1,
        "it is served all the while"
    );
}

/// A token whose life is not understood is given to the callers that wait for it, and not kept.
#[tokio::test(start_paused = true)]
async fn scenario_tokens_of_unknown_life_are_not_kept() {
    for (expires_in, kept) in [
        ("7200", true),
        (r#""7200""#, true),
        (r#"" 7200 ""#, true),
        ("0", false),
        ("null", false),
        ("-1", false),
        (r#""soon""#, false),
        ("7200.5", false),
        ("[7200]", false),
    ] {
        let (mint, bus) = (Arc::new(Mint::new(expires_in)), LocalBus::default());
        let instance = start(&bus, &[]).await;
        let tokens = Tokens::build(&instance, mint.clone(), Shares::Fleet).unwrap();
        let credentials = application("corp", "secret");
        for _ in 0..3 {
            assert!(tokens.get(&credentials).await.unwrap().is_some());
            sleep(Duration::from_millis(10)).await;
        }
        let calls = if kept { 1 } else { 3 };
        assert_eq!(mint.issued().len(), calls, "{expires_in}");
    }
}
