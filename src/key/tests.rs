use std::borrow::Cow;
use std::sync::Arc;

use super::encoder::INLINE;
use super::reference::KeyRef;
use super::*;
use crate::protocol::{Vector, vectors};

/// The format and the hash of the key that a vector describes.
fn computed(vector: &Vector) -> Option<(u32, u64)> {
    fn of<K: Key>(key: K) -> Option<(u32, u64)> {
        Some((K::FORMAT, key.digest()?))
    }
    let text = |n| vector.part::<String>(n);
    match vector.text("type") {
        "u8" => of(vector.part::<u8>(0)),
        "i8" => of(vector.part::<i8>(0)),
        "u32" => of(vector.part::<u32>(0)),
        "u64" => of(vector.part::<u64>(0)),
        "u128" => of(vector.part::<u128>(0)),
        "String" => of(text(0)),
        "Vec<u8>" => of(text(0).into_bytes()),
        #[cfg(feature = "uuid")]
        "Uuid" => of(vector.part::<uuid::Uuid>(0)),
        #[cfg(not(feature = "uuid"))]
        "Uuid" => of(text(0)),
        "bool" => of(vector.part::<bool>(0)),
        "char" => of(vector.part::<char>(0)),
        "[u8; 3]" => of(<[u8; 3]>::try_from(text(0).as_bytes()).expect("three bytes")),
        "NonZeroI32" => of(vector.part::<std::num::NonZeroI32>(0)),
        "i128" => of(vector.part::<i128>(0)),
        "Ipv4Addr" => of(vector.part::<std::net::Ipv4Addr>(0)),
        "Ipv6Addr" => of(vector.part::<std::net::Ipv6Addr>(0)),
        "IpAddr" => of(vector.part::<std::net::IpAddr>(0)),
        "Option<String>" if text(0) == "0" => of(None::<String>),
        "Option<String>" => of(Some(text(1))),
        "Option<u64>" => of(Some(vector.part::<u64>(1))),
        "(Option<u8>, bool)" => of((None::<u8>, vector.part::<bool>(1))),
        "(u8, u8, u8, u8, u8, u8)" => {
            let part = |n| vector.part::<u8>(n);
            of((part(0), part(1), part(2), part(3), part(4), part(5)))
        }
        "(String, String)" => of((text(0), text(1))),
        "(u32, String)" => of((vector.part::<u32>(0), text(1))),
        "(u32, String, String)" => of((vector.part::<u32>(0), text(1), text(2))),
        "(u8, u8, u8, u8)" => of((
            vector.part::<u8>(0),
            vector.part::<u8>(1),
            vector.part::<u8>(2),
            vector.part::<u8>(3),
        )),
        other => unreachable!("there are no keys of type {other} here"),
    }
}

#[test]
fn keys_have_the_formats_and_hashes_of_the_protocol() {
    for vector in vectors("keys").into_iter().chain(vectors("options")) {
        let written = (vector.number("format"), vector.hex("hash"));
        assert_eq!(computed(&vector), Some(written), "{vector:?}");
    }
}

#[test]
fn caches_and_tags_have_the_ids_of_the_protocol() {
    for vector in vectors("caches") {
        let id = cache_id(vector.text("cache"));
        assert_eq!(id, vector.number::<u32>("id"), "{vector:?}");
    }
    for vector in vectors("tags") {
        let hash = tag_hash(vector.text("tag"));
        assert_eq!(hash, vector.hex("hash"), "{vector:?}");
    }
}

#[test]
fn borrowed_and_owned_forms_and_numbers_as_text_agree() {
    assert_eq!("abc".digest(), String::from("abc").digest());
    assert_eq!(7_u64.digest(), "7".digest());
    assert_eq!((-7_i8).digest(), "-7".digest());
    assert_eq!(b"x"[..].digest(), vec![b'x'].digest());
    assert_eq!("abc".digest(), Some(xxh3_64(b"abc")));
}

#[test]
fn the_default_digest_is_the_hash_of_the_canonical_bytes() {
    struct Wrapped(String);
    impl PartialEq for Wrapped {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Wrapped {}
    impl Key for Wrapped {
        fn encode(&self, out: &mut KeyEncoder) {
            self.0.encode(out);
        }
    }
    for length in [0, 1, INLINE - 4, INLINE - 3, INLINE, 5_000, MAX_KEY_BYTES] {
        let text = "k".repeat(length);
        assert_eq!(
            Wrapped(text.clone()).digest(),
            text.digest(),
            "length {length}"
        );
        assert!(text.digest().is_some());
    }
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    assert_eq!(Wrapped(long.clone()).digest(), None);
    assert_eq!(long.digest(), None);
}

#[test]
fn parts_are_distinguished_by_their_lengths() {
    let key = |a: &str, b: &str| (a.to_owned(), b.to_owned()).digest();
    assert_ne!(key("ab", "c"), key("a", "bc"));
    assert_ne!(key("ab", ""), "ab".digest());
    let bytes = [
        &2_u32.to_be_bytes()[..],
        b"ab",
        &1_u32.to_be_bytes()[..],
        b"7",
    ]
    .concat();
    assert_eq!(("ab".to_owned(), 7_u32).digest(), Some(xxh3_64(&bytes)));
}

#[test]
fn formats_of_tuples_depend_on_their_parts() {
    assert_eq!(<u64 as Key>::FORMAT, <String as Key>::FORMAT);
    assert_ne!(<(u64, u64) as Key>::FORMAT, <u64 as Key>::FORMAT);
    assert_ne!(
        <(u64, u64, u64) as Key>::FORMAT,
        <(u64, u64) as Key>::FORMAT
    );
}

#[test]
fn a_pointer_has_the_format_and_the_hash_of_what_it_points_to() {
    fn of<K: Key + ?Sized>(key: &K) -> (u32, Option<u64>) {
        (K::FORMAT, key.digest())
    }
    let owned = of(&String::from("abc"));
    assert_eq!(of("abc"), owned);
    assert_eq!(of(&"abc"), owned);
    assert_eq!(of(&Arc::<str>::from("abc")), owned);
    assert_eq!(of(&Box::<str>::from("abc")), owned);
    assert_eq!(of(&Cow::Borrowed("abc")), owned);
    assert_eq!(of(&&&String::from("abc")), owned);
    assert_eq!(of(&Box::new((7_u64, 8_u64))), of(&(7_u64, 8_u64)));
}

#[test]
fn an_address_of_any_length_is_encoded_whole() {
    for text in [
        "::",
        "::1",
        "::ffff:255.255.255.255",
        "1111:2222:3333:4444:5555:6666:7777:8888",
        "255.255.255.255",
    ] {
        let address: std::net::IpAddr = text.parse().expect("an address");
        assert_eq!(address.digest(), text.digest(), "{text}");
    }
}

/// Every value differs from every other in its canonical bytes.
fn all_differ<K: Key + std::fmt::Debug>(keys: &[K]) {
    for (n, one) in keys.iter().enumerate() {
        for other in &keys[..n] {
            assert_eq!(
                canonical(one) == canonical(other),
                one == other,
                "{one:?} and {other:?}"
            );
        }
    }
}

#[test]
fn nothing_and_an_empty_string_and_a_string_like_a_mark_have_different_bytes() {
    let text = |text: &str| Some(text.to_owned());
    let marks = ["", "0", "1", "\0\0\0\u{1}0", "\0\0\0\u{1}1\0\0\0\0"];
    let mut options: Vec<Option<String>> = marks.into_iter().map(text).collect();
    options.push(None);
    all_differ(&options);
    let nested: Vec<Option<Option<String>>> = options.iter().cloned().map(Some).collect();
    all_differ(&[&nested[..], &[None]].concat());
    let pairs = options
        .iter()
        .flat_map(|one| options.iter().map(|other| (one.clone(), other.clone())));
    all_differ(&pairs.collect::<Vec<_>>());
    all_differ(&[(None, Some(())), (Some(()), None), (None, None)]);
}

/// The reference encodes the key's bytes, matches it and no other, and makes it.
fn stands_for<K: Key + Clone + std::fmt::Debug, Q: KeyRef<K> + ?Sized>(
    reference: &Q,
    key: &K,
    other: &K,
) {
    let mut bytes = KeyEncoder::new();
    reference.encode(&mut bytes);
    assert_eq!(bytes.canonical().map(<[u8]>::to_vec), canonical(key));
    assert_eq!(reference.digest(), key.digest());
    assert_eq!(Q::FORMAT, K::FORMAT);
    assert!(reference.matches(key));
    assert_eq!(reference.matches(other), key == other);
    assert_eq!(reference.to_key(), *key);
}

mod references {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_reference_form_has_the_bytes_of_its_key(
            (a, b) in (".{0,4}", ".{0,4}"), (n, m) in (0_u64..3, 0_u64..3), bytes: Vec<u8>
        ) {
            stands_for(a.as_str(), &a, &b);
            stands_for(&a.as_str(), &a, &b);
            stands_for(&a, &a, &b);
            stands_for(&&a, &a, &b);
            stands_for(&n, &n, &m);
            stands_for(&&n, &n, &m);
            stands_for(a.as_str(), &Arc::<str>::from(&*a), &Arc::from(&*b));
            stands_for(a.as_str(), &Box::<str>::from(&*a), &Box::from(&*b));
            stands_for(a.as_str(), &Cow::Owned(a.clone()), &Cow::Owned(b.clone()));
            stands_for(&bytes[..], &bytes, &vec![1]);
            stands_for(&&bytes[..], &bytes, &vec![1]);
            stands_for(&bytes[..], &Arc::<[u8]>::from(&bytes[..]), &Arc::from([1]));
            stands_for(&[7_u8, 8], &vec![7, 8], &bytes);
        }

        #[test]
        fn every_tuple_of_references_has_the_bytes_of_its_key(
            (a, b) in (".{0,4}", ".{0,4}"), (n, m) in (0_u64..3, 0_u64..3), bytes: Vec<u8>
        ) {
            let (s, t) = (a.as_str(), b.as_str());
            let of = |text: &str| text.to_owned();
            stands_for(&(n, m), &(n, m), &(m, n));
            stands_for(&(s, n), &(of(s), n), &(of(t), m));
            stands_for(&(n, s), &(n, of(s)), &(m, of(t)));
            stands_for(&(s, t), &(of(s), of(t)), &(of(t), of(s)));
            stands_for(&(s, of(t)), &(of(s), of(t)), &(of(t), of(s)));
            stands_for(&(of(s), t), &(of(s), of(t)), &(of(t), of(s)));
            stands_for(&(&n, s), &(n, of(s)), &(m, of(t)));
            stands_for(&(s, &n), &(of(s), n), &(of(t), m));
            stands_for(&(&bytes[..], n), &(bytes.clone(), n), &(vec![1], m));
            stands_for(&(s, n, t), &(of(s), n, of(t)), &(of(t), m, of(s)));
            stands_for(&(n, s, m), &(n, of(s), m), &(m, of(t), n));
            stands_for(&(n, m, s), &(n, m, of(s)), &(m, n, of(t)));
            stands_for(&(n, s, m, t), &(n, of(s), m, of(t)), &(m, of(t), n, of(s)));
            stands_for(
                &(n, m, true, s, t),
                &(n, m, true, of(s), of(t)),
                &(m, n, true, of(t), of(s)),
            );
            stands_for(
                &(n, 'c', true, m, Some(n), s),
                &(n, 'c', true, m, Some(n), of(s)),
                &(m, 'c', true, n, Some(m), of(t)),
            );
            stands_for(
                &(s, 'c', &n, m, None::<u8>, t),
                &(of(s), 'c', n, m, None, of(t)),
                &(of(t), 'c', m, n, None, of(s)),
            );
        }

        #[test]
        fn different_tuples_have_different_bytes(
            one: (String, Option<u8>, bool), other: (String, Option<u8>, bool)
        ) {
            all_differ(&[one, other]);
        }
    }
}
