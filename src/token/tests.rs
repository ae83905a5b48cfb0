use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::foreign::MOST_LANES;

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn wrong(text: &str) -> String {
    text.parse::<Token>().unwrap_err().to_string()
}

/// Any token that the fleet can make.
fn tokens() -> impl Strategy<Value = Token> {
    let position =
        (1..1_u64 << 52, 0..1_u64 << 53).prop_map(|(epoch, sequence)| at(epoch, sequence));
    let place = (0..MOST_LANES, proptest::option::weighted(0.9, position));
    let of = |(lanes, places): (u32, Vec<(u32, Option<Position>)>)| {
        let mut named = BTreeSet::new();
        let places = places.into_iter().map(|(lane, position)| Place {
            lane: lane % lanes,
            position,
        });
        let mut places: Vec<_> = places.filter(|place| named.insert(place.lane)).collect();
        places.sort_by_key(|place| place.lane);
        Token(Of::Named { lanes, places })
    };
    let places = proptest::collection::vec(place, 1..=MOST_NAMED);
    prop_oneof![
        1 => Just(Token::latest()),
        1 => Just(Token::default()),
        20 => (1..=MOST_LANES, places).prop_map(of),
    ]
}

proptest! {
    #[test]
    fn every_token_comes_back_from_its_text(token in tokens()) {
        let text = token.to_string();
        prop_assert!(text.len() <= 4_096);
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-';
        prop_assert!(text.bytes().all(legal), "{}", text);
        prop_assert_eq!(text.parse::<Token>(), Ok(token));
    }

    /// What is damaged is refused, or is the text of another token.
    #[test]
    fn no_text_is_read_but_that_which_is_written(token in tokens(), at: usize, byte in 0_u8..128) {
        let mut text = token.to_string().into_bytes();
        let place = at % text.len();
        text[place] = byte;
        let text = String::from_utf8(text).unwrap();
        if let Ok(read) = text.parse::<Token>() {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn the_order_of_a_merge_does_not_count(a in tokens(), b in tokens(), c in tokens()) {
        prop_assert_eq!(a.clone().and(&b), b.clone().and(&a));
        prop_assert_eq!(a.clone().and(&a), a.clone());
        let left = a.clone().and(&b).and(&c);
        prop_assert_eq!(left, a.and(&b.and(&c)));
    }
}

#[test]
fn the_longest_token_fits_into_a_cookie() {
    let mut all = Token::default();
    let longest = at((1 << 52) - 1, (1 << 53) - 1);
    for lane in MOST_LANES - MOST_NAMED as u32..MOST_LANES {
        all.merge(&Token::of(MOST_LANES, lane, longest));
    }
    let text = all.to_string();
    assert!((3_500..4_000).contains(&text.len()), "{}", text.len());
    assert_eq!(token(&text), all);
    all.merge(&Token::of(MOST_LANES, 0, longest));
    assert_eq!(all, Token::latest());
}

#[test]
fn a_text_that_is_no_token_says_why_and_is_not_repeated() {
    let ends = "; a token looks like us1.4.2-9f03-1a6: version, number of lanes, and places of lane, \
                epoch and sequence in lower-case hexadecimal";
    let long = "us1.1.".to_owned() + &"a".repeat(4_096);
    for (text, why) in [
        (long.as_str(), "it is longer than 4096 bytes"),
        ("", "it does not begin with `us1.`"),
        ("us2.1.0-9f-1", "it does not begin with `us1.`"),
        ("us1.", "its number of lanes is not from 0 to 400"),
        ("us1.LATEST", "its number of lanes is not from 0 to 400"),
        ("us1.401.0-1-1", "its number of lanes is not from 0 to 400"),
        ("us1.04.0-1-1", "its number of lanes is not from 0 to 400"),
        ("us1.4", "it has a number of lanes and names no lane"),
        (
            "us1.4.4-1-1",
            "one of its lanes is not below the number of lanes",
        ),
        (
            "us1.0.0-1-1",
            "one of its lanes is not below the number of lanes",
        ),
        (
            "us1.4.",
            "one of its lanes is not below the number of lanes",
        ),
        (
            "us1.4.+1-1-1",
            "one of its lanes is not below the number of lanes",
        ),
        ("us1.4.2-1-1.2-1-1", "its lanes are not in ascending order"),
        (
            "us1.4.0-1",
            "one of its places is neither a lane nor a lane, an epoch and a sequence",
        ),
        (
            "us1.4.0-1-1-1",
            "one of its places is neither a lane nor a lane, an epoch and a sequence",
        ),
        (
            "us1.4.0-0-1",
            "one of its epochs is not from 1 to fffffffffffff",
        ),
        (
            "us1.4.0-10000000000000-1",
            "one of its epochs is not from 1 to fffffffffffff",
        ),
        (
            "us1.4.0-1-20000000000000",
            "one of its sequences is not from 0 to 1fffffffffffff",
        ),
        (
            "us1.4.0-1-A",
            "one of its sequences is not from 0 to 1fffffffffffff",
        ),
        (
            "us1.4.0-1-1 ",
            "one of its sequences is not from 0 to 1fffffffffffff",
        ),
    ] {
        assert_eq!(wrong(text), format!("not a token: {why}{ends}"), "{text:?}");
    }
    let many: String = (0..121).map(|lane| format!(".{lane:x}")).collect();
    assert!(wrong(&format!("us1.400{many}")).contains("it names more than 120 lanes"));
}

#[test]
fn a_token_asks_only_what_it_names() {
    let token = token("us1.3.0-9f-1a.2");
    assert_eq!(token.asks(0, 3), Asks::Applied(at(0x9f, 0x1a)));
    assert_eq!(token.asks(1, 3), Asks::Nothing);
    assert_eq!(token.asks(2, 3), Asks::Latest);
    assert_eq!(token.asks(0, 4), Asks::Latest, "another number of lanes");
    assert_eq!(Token::default().asks(0, 4), Asks::Nothing);
    assert_eq!(Token::latest().asks(0, 4), Asks::Latest);
}

#[test]
fn of_two_places_the_later_one_stays_and_two_epochs_have_no_order() {
    for (one, other, both) in [
        ("us1.1.0-9-a", "us1.1.0-9-b", "us1.1.0-9-b"),
        ("us1.1.0-9-b", "us1.1.0-9-a", "us1.1.0-9-b"),
        ("us1.1.0-9-b", "us1.1.0-8-a", "us1.1.0"),
        ("us1.1.0", "us1.1.0-8-a", "us1.1.0"),
        ("us1.2.0-9-a", "us1.2.1-9-b", "us1.2.0-9-a.1-9-b"),
        ("us1.2.0-9-a", "us1.3.0-9-a", "us1.latest"),
        ("us1.2.0-9-a", "us1.latest", "us1.latest"),
        ("us1.0", "us1.latest", "us1.latest"),
        ("us1.0", "us1.2.0-9-a", "us1.2.0-9-a"),
    ] {
        assert_eq!(token(one).and(&token(other)).to_string(), both);
    }
}
