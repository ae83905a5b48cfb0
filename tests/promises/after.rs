//! `get_after` reads nothing older than the write whose token it is given, whichever instance wrote, and costs a hit
//! once that is applied.

use tokio::time::Instant;
use unstale::internals::{Mechanism, Without};
use unstale::{LocalBus, Outcome, Settings, Token};

use crate::support::nodes::{Node, Source, get, ms, pair, pair_with, pass};

/// Two instances that both have 1 for the key 7.
async fn both_hold() -> (LocalBus, Source, Node, Node) {
    let (bus, source, a, b) = pair().await;
    source.set(7, 1);
    assert_eq!((a.get(7).await, b.get(7).await), (Some(1), Some(1)));
    (bus, source, a, b)
}

async fn write(source: &Source, on: &Node, value: u64) -> Token {
    source.set(7, value);
    on.cache.invalidate(&7).await.unwrap()
}

async fn after(node: &Node, token: &Token) -> Option<u64> {
    node.cache.get_after(&7, token).await.unwrap()
}

async fn outcome(node: &Node, token: &Token) -> Outcome {
    node.cache.lookup_after(&7, token).await.unwrap().outcome
}

fn verifications(node: &Node) -> u64 {
    node.metric(r#"unstale_verifications_total{outcome="ok"}"#)
}

#[tokio::test(start_paused = true)]
async fn a_write_is_read_elsewhere_and_then_costs_a_hit() {
    let (bus, source, a, b) = both_hold().await;
    let token = write(&source, &a, 2).await;
    assert_eq!(after(&b, &token).await, Some(2));
    pass(ms(1)).await;
    // Nothing is asked of a bus that would not answer.
    bus.faults(1).silence();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(outcome(&b, &token).await, Outcome::Hit);
    }
    assert_eq!(began.elapsed(), ms(0));
    assert_eq!(after(&a, &token).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_late_is_not_waited_for_longer_than_redis_is_asked() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).delay(ms(100));
    let token = write(&source, &a, 2).await;
    assert_eq!(b.outcome(7).await, Outcome::Hit, "a hop behind");
    let began = Instant::now();
    assert_eq!(after(&b, &token).await, Some(2));
    assert!(began.elapsed() < ms(100), "{:?}", began.elapsed());
}

/// Verifications take a second: it is the event that ends the wait.
#[tokio::test(start_paused = true)]
async fn an_event_that_arrives_ends_the_wait() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).slow(ms(500), ms(500));
    bus.faults(1).delay(ms(100));
    let token = write(&source, &a, 2).await;
    let began = Instant::now();
    assert_eq!(after(&b, &token).await, Some(2));
    assert_eq!(began.elapsed(), ms(100));
    // The wait has paid: the value is held now.
    assert_eq!(outcome(&b, &token).await, Outcome::Hit);
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_asked_for_and_applied() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).lose_next(1);
    let token = write(&source, &a, 2).await;
    pass(ms(1)).await;
    assert_eq!(b.outcome(7).await, Outcome::Hit, "nothing was heard");
    assert_eq!(after(&b, &token).await, Some(2));
    assert_eq!(outcome(&b, &token).await, Outcome::Hit);
}

/// The lost event is the earlier one: what is heard later is applied after it, and only then counts.
#[tokio::test(start_paused = true)]
async fn a_later_event_does_not_settle_a_lost_one() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).lose_next(1);
    let first = write(&source, &a, 2).await;
    bus.faults(1).slow(ms(500), ms(500));
    let second = a.cache.invalidate(&8).await.unwrap();
    pass(ms(1)).await;
    for token in [first, second] {
        assert_eq!(after(&b, &token).await, Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_bus_is_away_the_source_is_read_and_one_read_waits() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).silence();
    let token = write(&source, &a, 2).await;
    let began = Instant::now();
    assert_eq!(after(&b, &token).await, Some(2));
    assert_eq!(began.elapsed(), ms(250));
    let token = write(&source, &a, 3).await;
    assert_eq!(after(&b, &token).await, Some(3));
    assert_eq!(began.elapsed(), ms(250));
    bus.faults(1).cut();
    let token = write(&source, &a, 4).await;
    assert_eq!(after(&b, &token).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_the_write_answers_no_read_after_it() {
    let (bus, source, a, b) = both_hold().await;
    b.cache.invalidate(&7).await.unwrap();
    pass(ms(1)).await;
    for late in [false, true] {
        source.slow(ms(1_000));
        let reader = get(&b.cache, 7);
        pass(ms(500)).await;
        if late {
            bus.faults(1).silence();
        }
        let before = source.row(7);
        let now = before.unwrap() + 1;
        let token = write(&source, &a, now).await;
        assert_eq!(after(&b, &token).await, Some(now));
        assert_eq!(reader.await.unwrap().unwrap(), before);
        b.cache.invalidate(&7).await.ok();
        bus.faults(1).heal();
        pass(ms(2_000)).await;
        b.cache.invalidate(&7).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_epoch_is_the_latest() {
    let (bus, source, a, b) = both_hold().await;
    let old = write(&source, &a, 2).await;
    let ended = old.to_string();
    bus.restart_empty();
    pass(ms(2_000)).await;
    let new = write(&source, &a, 3).await;
    assert_ne!(new.to_string()[..12], ended[..12], "another epoch");
    assert_eq!(b.get(7).await, Some(3));
    // The event is on its way for longer than this test: only a verification knows of it.
    bus.faults(1).delay(ms(60_000));
    write(&source, &a, 4).await;
    assert_eq!(b.outcome(7).await, Outcome::Hit, "a hop behind");
    assert_eq!(after(&b, &old).await, Some(4));
    let asked = verifications(&b);
    assert_eq!(after(&b, &old).await, Some(4));
    assert!(verifications(&b) > asked, "it is asked for each time");
    // Two epochs have no order.
    assert_eq!(after(&b, &old.and(&new)).await, Some(4));
}

/// The server comes back without the write's event and gives its number to another one, in a new epoch.
#[tokio::test(start_paused = true)]
async fn a_number_that_is_given_out_again_is_not_the_write() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).lose_next(1);
    let token = write(&source, &a, 2).await;
    bus.restart_losing(1);
    // Before any instance has verified there, it goes by its old numbers.
    let again = a.cache.invalidate(&8).await;
    assert_eq!(after(&b, &token).await, Some(2));
    if let Ok(again) = again {
        assert_eq!(after(&b, &again).await, Some(2));
    }
    pass(ms(2_000)).await;
    assert_eq!(after(&b, &token).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_made_up_token_costs_what_the_latest_costs() {
    let (bus, _source, a, b) = both_hold().await;
    let token = a.cache.invalidate(&8).await.unwrap().to_string();
    pass(ms(1)).await;
    let (place, _) = token.rsplit_once('-').unwrap();
    let ahead: Token = format!("{place}-1fffffffffffff").parse().unwrap();
    let began = Instant::now();
    assert_eq!(outcome(&b, &ahead).await, Outcome::Hit);
    assert!(began.elapsed() < ms(250), "{:?}", began.elapsed());
    // And other reads wait for their verification as before: the lane is not taken for down.
    bus.faults(1).delay(ms(60_000));
    let asked = verifications(&b);
    assert_eq!(b.cache.get_latest(&7).await.unwrap(), Some(1));
    assert!(verifications(&b) > asked);
}

/// Two lanes, and a key in each.
async fn in_two_lanes() -> (LocalBus, Source, Node, Node, [u64; 2]) {
    let mut settings = Settings::default();
    settings.lanes = 2;
    let (bus, source, a, b) = pair_with(settings).await;
    let mut of_lane = [None; 2];
    for key in 1..50 {
        let token = a.cache.invalidate(&key).await.unwrap().to_string();
        let lane = usize::from(token.starts_with("us1.2.1-"));
        of_lane[lane].get_or_insert(key);
    }
    let keys = of_lane.map(Option::unwrap);
    pass(ms(1)).await;
    for key in keys {
        source.set(key, 1);
        assert_eq!(b.get(key).await, Some(1));
    }
    (bus, source, a, b, keys)
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_lane_that_the_token_does_not_name_is_a_plain_read() {
    let (bus, source, a, b, [zero, one]) = in_two_lanes().await;
    bus.faults(1).silence();
    source.set(zero, 2);
    let token = a.cache.invalidate(&zero).await.unwrap();
    let began = Instant::now();
    let read = b.cache.lookup_after(&one, &token).await.unwrap();
    assert_eq!((read.value, read.outcome), (Some(1), Outcome::Hit));
    let none = b.cache.lookup_after(&zero, &Token::default()).await;
    assert_eq!(none.unwrap().outcome, Outcome::Hit);
    assert_eq!(began.elapsed(), ms(0));
    assert_eq!(b.cache.get_after(&zero, &token).await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_every_lane_has_a_token_of_every_lane() {
    let (bus, source, a, b, keys) = in_two_lanes().await;
    bus.faults(1).delay(ms(60_000));
    let tag = format!("tens-{}", keys[0] / 10);
    let batch = a.instance.batch().key(&a.cache, &keys[0]);
    let batch = batch.key(&a.cache, &keys[1]);
    let mut value = 1;
    let by = [
        a.cache.invalidate_tag(&tag).await,
        a.cache.invalidate_all().await,
        a.cache.invalidate_many(keys).await,
        batch.invalidate().await,
    ];
    for token in by {
        let token = token.unwrap().to_string();
        assert!(
            token.starts_with("us1.2.0-") && token.contains(".1-"),
            "{token}"
        );
    }
    for key in keys {
        value += 1;
        source.set(key, value);
        let token = a.cache.invalidate_all().await.unwrap();
        assert_eq!(b.cache.get_after(&key, &token).await.unwrap(), Some(value));
    }
    let nothing = a.instance.batch().invalidate().await.unwrap();
    assert_eq!(nothing, Token::default());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_number_of_lanes_is_the_latest() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).delay(ms(60_000));
    write(&source, &a, 2).await;
    let other: Token = "us1.2.0-9f-1".parse().unwrap();
    assert_eq!(b.outcome(7).await, Outcome::Hit, "a hop behind");
    assert_eq!(after(&b, &other).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_write_gives_its_token_with_what_the_commit_returned() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).delay(ms(60_000));
    let commit = |value: u64| {
        let source = source.clone();
        async move {
            source.set(7, value);
            Ok::<_, std::io::Error>(value * 10)
        }
    };
    let (returned, token) = a.cache.write_with_token(&7, commit(2)).await.unwrap();
    assert_eq!((returned, after(&b, &token).await), (20, Some(2)));
    let batch = a.instance.batch().key(&a.cache, &7);
    let (returned, token) = batch.write_with_token(commit(3)).await.unwrap();
    assert_eq!((returned, after(&b, &token).await), (30, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn after_the_shutdown_the_source_is_read() {
    let (_bus, source, a, b) = both_hold().await;
    let before = write(&source, &a, 2).await;
    assert_eq!(after(&b, &before).await, Some(2));
    b.instance.shutdown().await.unwrap();
    let token = write(&source, &a, 3).await;
    assert_eq!(after(&b, &token).await, Some(3));
    source.set(7, 4);
    assert_eq!(after(&b, &before).await, Some(4), "nothing is held");
}

/// More than one piece, over several messages: the token is that of the last one.
#[tokio::test(start_paused = true)]
async fn a_bulk_has_the_token_of_all_of_it() {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).delay(ms(60_000));
    source.set(7, 2);
    let keys = (1_000..21_000_u64).chain([7]);
    let token = a.cache.invalidate_many(keys).await.unwrap();
    assert_eq!(after(&b, &token).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn with_a_key_the_journal_says_what_is_applied() {
    let mut settings = Settings::default();
    settings.signing_key = Some("0123456789abcdef0123456789abcdef".to_owned());
    let (bus, source, a, b) = pair_with(settings).await;
    source.set(7, 1);
    assert_eq!(b.get(7).await, Some(1));
    bus.faults(1).lose_next(1);
    let token = write(&source, &a, 2).await;
    assert_eq!(after(&b, &token).await, Some(2));
    pass(ms(1_000)).await;
    let asked = verifications(&b);
    assert_eq!(outcome(&b, &token).await, Outcome::Hit);
    assert_eq!(
        verifications(&b),
        asked,
        "it is applied, and nothing is asked"
    );
}

/// The race of `lookup_after`: the value from before the write is found, the event is applied, and the value is
/// returned.
async fn looked_up_first() -> Option<u64> {
    let (bus, source, a, b) = both_hold().await;
    bus.faults(1).delay(ms(10));
    bus.faults(1).slow(ms(500), ms(500));
    let token = write(&source, &a, 2).await;
    after(&b, &token).await
}

#[tokio::test(start_paused = true)]
async fn the_lane_is_asked_before_memory() {
    assert_eq!(looked_up_first().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn without_applied_before_lookup_an_older_value_is_read() {
    let _without = Without::new(Mechanism::AppliedBeforeLookup);
    assert_eq!(looked_up_first().await, Some(1));
}
