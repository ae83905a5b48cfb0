//! A tenant of the same Redis who may listen and `PUBLISH` on the lane's channel, and nothing else:
//! with a key it hides no event; without one it can, which the protocol's document says.

use std::time::Duration;

use tokio::time::Instant;
use unstale::{Outcome, Settings};

use super::watch::endure;
use super::{
    CHANNEL, COUNTER, JOURNAL, MAX_STALENESS, Pair, dropped, fences, gaps, misses, one_event,
    renewed, stale_for, until,
};
use crate::support::nodes::ms;
use testkit::redis::RedisServer;
use testkit::resp::{Client, Value};

const KEY: &str = "thirty-two random bytes, let's say";

/// The row that is read, and another one.
const ROW: u64 = 1;
const OTHER: u64 = 2;

/// A well-formed event of a stranger that names nothing: version 1, `[7, 0, []]`.
const NOTHING: [u8; 5] = [1, 0x93, 7, 0, 0x90];

fn keyed(url: &str) -> Settings {
    let mut settings = super::settings(url);
    settings.signing_key = Some(KEY.to_owned());
    settings
}

/// Listens and publishes with the rights of a tenant.
struct Tenant {
    out: Client,
    tap: Client,
}

impl Tenant {
    fn of(pair: &Pair) -> Self {
        let rights = [
            "resetkeys",
            "resetchannels",
            "-@all",
            "+publish",
            "+subscribe",
        ];
        let channel = format!("&{CHANNEL}");
        let mut user = vec!["ACL", "SETUSER", "tenant", "on", ">pw", &channel];
        user.splice(5..5, rights);
        pair.admin(&user);
        let login = || {
            let mut client = Client::connect(pair.server.port());
            client.cmd(&["AUTH", "tenant", "pw"]);
            client
        };
        let (mut out, mut tap) = (login(), login());
        tap.cmd(&["SUBSCRIBE", CHANNEL]);
        for forbidden in [["HGET", COUNTER, "q"], ["XLEN", JOURNAL, ""]] {
            assert!(matches!(out.try_cmd(&forbidden), Ok(Value::Error(_))));
        }
        Self { out, tap }
    }

    /// Where the next event stands that comes over the channel, and its payload.
    fn hear(&mut self) -> (u64, u64, Vec<u8>) {
        let push = self.tap.read().expect("a message in time");
        let [_, _, Value::Text(message)] = push.array() else {
            unreachable!("{push:?}");
        };
        let number = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().unwrap());
        (number(0), number(8), message[20..].to_vec())
    }

    fn say(&mut self, message: &[u8]) {
        let heard = self.out.cmd(&[b"PUBLISH", CHANNEL.as_bytes(), message]);
        assert_eq!(heard.int(), Some(3), "both instances and the tenant listen");
        self.tap.read().expect("its own message");
    }

    fn claim(&mut self, epoch: u64, sequence: u64, payload: &[u8]) {
        self.say(&one_event(epoch, sequence, payload));
    }
}

/// What becomes of the real event's own message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Real {
    Heard,
    Lost,
}

/// A genuine event that names another row is made, then row 1 is in B's memory, then the tenant takes
/// the next event's place by what `forge` makes of that genuine one, then row 1 changes.
/// How long B gives the old value.
async fn hide(pair: &Pair, forge: impl Fn(&mut Tenant, u64, u64, &[u8]), real: Real) -> Duration {
    let mut tenant = Tenant::of(pair);
    pair.change(OTHER, 1).await;
    let (.., genuine) = tenant.hear();
    pair.change(ROW, 1).await;
    let (epoch, last, _) = tenant.hear();
    until("B hits", async || {
        pair.b.get(ROW).await == Some(1) && pair.b.outcome(ROW).await == Outcome::Hit
    })
    .await;
    let received = || pair.b.metric("unstale_events_received_total") + dropped(&pair.b, "refused");
    let before = received();
    forge(&mut tenant, epoch, last, &genuine);
    until("B has heard it", async || received() > before).await;
    until("B hits", async || pair.b.outcome(ROW).await == Outcome::Hit).await;
    if real == Real::Lost {
        pair.proxy.drop_next(1);
    }
    pair.change(ROW, 2).await;
    stale_for(Instant::now(), async || pair.b.get(ROW).await == Some(2)).await
}

/// Twice the steps of the clock that ages are measured by, beyond the bound.
const BOUND: Duration = MAX_STALENESS.saturating_add(ms(10));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_key_no_forgery_in_the_next_place_hides_an_event() {
    let pair = Pair::with(RedisServer::start(), keyed).await;
    type Forge = fn(&mut Tenant, u64, u64, &[u8]);
    let forgeries: [(&str, Forge); 6] = [
        ("nonsense", |t, e, q, _| t.claim(e, q + 1, b"\xc1nonsense")),
        ("unsigned", |t, e, q, _| t.claim(e, q + 1, &NOTHING)),
        ("no header", |t, _, _, _| t.say(b"short")),
        ("replayed", |t, e, q, genuine| t.claim(e, q + 1, genuine)),
        ("replayed ahead", |t, e, q, genuine| {
            for ahead in (1..20).rev() {
                t.claim(e, q + ahead, genuine);
            }
        }),
        ("of another epoch", |t, e, q, genuine| {
            t.claim(e + 1, q + 1, genuine)
        }),
    ];
    let fenced = fences(&pair.b, "undecodable") + fences(&pair.b, "epoch") + fences(&pair.b, "gap");
    for (what, forge) in forgeries {
        let stale = hide(&pair, forge, Real::Heard).await;
        assert!(stale <= BOUND, "{what}: stale for {stale:?}");
    }
    let now = fences(&pair.b, "undecodable") + fences(&pair.b, "epoch") + fences(&pair.b, "gap");
    assert_eq!(now, fenced, "the channel makes no instance drop a lane");
    assert!(dropped(&pair.b, "refused") >= 3);
}

fn take_the_next_place(tenant: &mut Tenant, epoch: u64, last: u64, _: &[u8]) {
    tenant.claim(epoch, last + 1, &NOTHING);
}

/// The real event has a place that another one has taken: it is applied, and the lane's life is
/// doubted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_an_event_whose_place_was_taken_is_applied_where_it_is_heard() {
    let pair = Pair::start().await;
    let stale = hide(&pair, take_the_next_place, Real::Heard).await;
    assert!(stale <= BOUND, "stale for {stale:?}");
}

/// One instance that hears the real event has the lane's life end, for those that do not hear it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_an_event_whose_place_was_taken_is_found_by_any_instance_that_hears_it() {
    let pair = Pair::start().await;
    let stale = hide(&pair, take_the_next_place, Real::Lost).await;
    assert!(stale <= BOUND, "stale for {stale:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_key_forgeries_while_events_flow_hide_no_event() {
    let pair = Pair::with(RedisServer::start(), keyed).await;
    let mut tenant = Tenant::of(&pair);
    pair.change(OTHER, 1).await;
    let (epoch, _, genuine) = tenant.hear();
    endure(&pair, async |pair| {
        let mut out = tenant.out;
        let mut forge = async || {
            for round in 0..400_u64 {
                let now: u64 = pair.admin(&["HGET", COUNTER, "q"]).parse().unwrap();
                let payload = match round % 3 {
                    0 => genuine.clone(),
                    1 => NOTHING.to_vec(),
                    _ => (0..fastrand::usize(..99))
                        .map(|_| fastrand::u8(..))
                        .collect(),
                };
                let message = one_event(epoch, now + round % 7, &payload);
                out.cmd(&[b"PUBLISH", CHANNEL.as_bytes(), &message]);
            }
        };
        // An instance that gets no time for long may hear the journal first.
        until("the subscription is heard all the while", async || {
            let refused = dropped(&pair.b, "refused");
            let silent = gaps(&pair.b, "silent");
            forge().await;
            until("they were refused", async || {
                dropped(&pair.b, "refused") >= refused + 200
            })
            .await;
            gaps(&pair.b, "silent") == silent
        })
        .await;
    })
    .await;
    assert_eq!(fences(&pair.b, "undecodable"), 0);
}

/// An instance that has another key, or none: each drops too much, and nothing stale is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_different_keys_drop_too_much_and_never_too_little() {
    for other in [None, Some("another key, of enough bytes")] {
        let calls = std::cell::Cell::new(0);
        let mixed = |url: &str| {
            let mut settings = keyed(url);
            if calls.replace(1) == 0 {
                settings.signing_key = other.map(str::to_owned);
            }
            settings
        };
        let pair = Pair::with(RedisServer::start(), mixed).await;
        for (version, now) in [(1, &pair.a), (2, &pair.b), (3, &pair.a)] {
            pair.source.set(ROW, version);
            until("it is acknowledged", async || {
                now.cache.invalidate(&ROW).await.is_ok()
            })
            .await;
            let published = Instant::now();
            for node in [&pair.a, &pair.b] {
                let follows = async || node.get(ROW).await == Some(version);
                let stale = stale_for(published, follows).await;
                assert!(stale <= BOUND, "stale for {stale:?}");
            }
        }
        assert!(fences(&pair.b, "undecodable") > 0);
        assert!(fences(&pair.a, "undecodable") > 0);
    }
}

/// A user who may run the script, or write the journal, without the key: nothing stale, but additional loads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsigned_event_of_the_journal_drops_the_lane() {
    let pair = Pair::with(RedisServer::start(), keyed).await;
    let forge = "local id = redis.call('HINCRBY', KEYS[1], 'q', 1) \
        return redis.call('XADD', KEYS[2], string.format('%.0f-0', id), 'e', ARGV[1])";
    pair.change(ROW, 1).await;
    until("B hits", async || {
        pair.b.get(ROW).await == Some(1) && pair.b.outcome(ROW).await == Outcome::Hit
    })
    .await;
    let fenced = fences(&pair.b, "undecodable");
    pair.admin(&[
        "EVAL",
        forge,
        "2",
        COUNTER,
        JOURNAL,
        "\u{1}nonsense of sixteen bytes",
    ]);
    until("the lane is dropped", async || {
        pair.b.get(OTHER).await;
        fences(&pair.b, "undecodable") > fenced
    })
    .await;
    pair.change(ROW, 2).await;
    until("B follows", async || pair.b.get(ROW).await == Some(2)).await;
}

/// One recorded event would else be a cold cache for as long as the key is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genuine_event_that_is_played_again_drops_nothing() {
    let pair = Pair::with(RedisServer::start(), keyed).await;
    let mut tenant = Tenant::of(&pair);
    pair.change(ROW, 1).await;
    let (epoch, last, genuine) = tenant.hear();
    until("B has heard it", async || {
        pair.b.metric("unstale_events_applied_total") > 0
    })
    .await;
    assert_eq!(pair.b.get(ROW).await, Some(1));
    let invalidated = misses(&pair.b, "invalidated");
    for ahead in 1..=50 {
        tenant.claim(epoch, last + ahead, &genuine);
        tenant.claim(epoch + 1, last + ahead, &genuine);
    }
    until("they were distinguished from events", async || {
        dropped(&pair.b, "replayed") == 100
    })
    .await;
    assert_eq!(pair.b.get(ROW).await, Some(1));
    assert_eq!(misses(&pair.b, "invalidated"), invalidated);
    pair.change(ROW, 2).await;
    until("the next event counts", async || {
        pair.b.get(ROW).await == Some(2)
    })
    .await;
}

/// A user who may run the script, without the key: the lane is dropped, and the subscription, which delivers
/// what was published, is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_without_the_key_cuts_no_subscription() {
    let pair = Pair::with(RedisServer::start(), keyed).await;
    let publish = "local id = redis.call('HINCRBY', KEYS[1], 'q', 1) \
        redis.call('XADD', KEYS[2], string.format('%.0f-0', id), 'e', ARGV[1]) \
        local epoch = redis.call('HGET', KEYS[1], 'e') \
        return redis.call('PUBLISH', ARGV[2], struct.pack('>I8I8I4', epoch, id, #ARGV[1]) .. ARGV[1])";
    let unsigned = "\u{1}an event of a writer that has no key";
    let events = async || {
        for _ in 0..12 {
            let fenced = fences(&pair.b, "undecodable");
            pair.admin(&["EVAL", publish, "2", COUNTER, JOURNAL, unsigned, CHANNEL]);
            until("the lane is dropped", async || {
                fences(&pair.b, "undecodable") > fenced
            })
            .await;
        }
    };
    // An instance that gets no time for long may read the journal first.
    until("the subscription is taken for what it is", async || {
        let silent = gaps(&pair.b, "silent");
        let renewals = renewed(&pair.b, "resubscribe") + renewed(&pair.b, "reconnect");
        events().await;
        gaps(&pair.b, "silent") == silent
            && renewed(&pair.b, "resubscribe") + renewed(&pair.b, "reconnect") == renewals
    })
    .await;
    assert!(dropped(&pair.b, "refused") > 0);
}

/// What is heard on the channel is not applied again when the journal confirms it: else every
/// invalidation would cost two loads.
///
/// Invalidations are counted, not loads: an instance that gets no time for as long as its bound loads
/// again as well, and is right to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_heard_is_confirmed_and_not_applied_again() {
    let pair = Pair::with(RedisServer::start(), keyed).await;
    let applied = || pair.b.metric("unstale_events_applied_total");
    // An event that is published again, since its acknowledgement came late, counts twice here too.
    let counter = || -> u64 { pair.admin(&["HGET", COUNTER, "q"]).parse().unwrap() };
    let (before, applied_before) = (counter(), applied());
    let published = || counter() - before;
    let applied = || applied() - applied_before;
    let has_heard = async |what: &str| {
        let all = published();
        until(what, async || applied() >= all).await;
    };
    pair.change(OTHER, 1).await;
    pair.change(ROW, 1).await;
    // Acknowledged is not arrived: what B loads before that is dropped once, as it must be.
    has_heard("both events have arrived").await;
    until("B hits", async || {
        pair.b.get(ROW).await == Some(1) && pair.b.outcome(ROW).await == Outcome::Hit
    })
    .await;
    let invalidated = misses(&pair.b, "invalidated");
    for _ in 0..10 {
        pair.change(OTHER, 2).await;
        has_heard("the event has arrived").await;
        let verified = pair.b.metric("unstale_verifications_total{outcome=\"ok\"}");
        until("a verification", async || {
            pair.b.get(ROW).await;
            pair.b.metric("unstale_verifications_total{outcome=\"ok\"}") > verified + 1
        })
        .await;
    }
    assert_eq!(applied(), published(), "of those published");
    assert_eq!(misses(&pair.b, "invalidated"), invalidated);
}
