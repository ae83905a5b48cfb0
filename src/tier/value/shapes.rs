//! Types of every kind that serde has: what is read is what was written, or nothing is written. It is never
//! another value.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Codec, Unfit, Whole};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(String, Option<u8>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plain {
    id: u64,
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(rename = "type")]
    kind: char,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatAddress {
    id: u64,
    #[serde(flatten)]
    at: At,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct At {
    address: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External {
    Nothing,
    One(u64),
    Two(u8, String),
    Named { id: Option<u64> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Internal {
    Nothing,
    Named { id: u64 },
    Where { address: IpAddr },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Nothing,
    One(u64),
    Maybe(Option<u64>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Small(u8),
    Large(u64),
    Text(String),
    Maybe(Option<u64>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    inner: Option<Duration>,
}

/// Says less than it knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    id: u64,
    #[serde(skip)]
    history: Vec<u64>,
}

/// Loses what is below a second on its way.
#[derive(Clone, Debug, PartialEq)]
struct Rounds(f64);

impl Serialize for Rounds {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Rounds {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        f64::deserialize(from).map(|seconds| Self(seconds.floor()))
    }
}

/// What another instance may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Shared,
    Alone,
}

fn fate<V>(value: V) -> Fate
where
    V: Debug + PartialEq + Serialize + DeserializeOwned,
{
    match Whole.write(&value) {
        Ok(written) => {
            let read: Option<V> = Whole.read(&written.bytes, written.print);
            assert_eq!(read, Some(value));
            Fate::Shared
        }
        Err(unfit) => {
            assert_ne!(unfit, Unfit::Oversized);
            Fate::Alone
        }
    }
}

macro_rules! all {
    ($expected:expr; $($value:expr),+ $(,)?) => {$(
        assert_eq!(fate($value), $expected, "{}", stringify!($value));
    )+};
}

#[test]
fn what_serde_can_write_and_read_back_is_shared() {
    all! { Fate::Shared;
        true, 'x', -1_i8, i64::MIN, u64::MAX, u128::MAX, i128::MIN, 1.5_f32, f64::MAX, -0.0_f64,
        String::from("text"), String::new(), (), Unit, Newtype(7), Pair("a".into(), None), Pair("b".into(), Some(1)),
        (1_u8, "two".to_owned(), 3.0_f64), [1_u8, 2, 3], Vec::<u64>::new(), vec![vec![1_u8], vec![]],
        Some(Unit), Some(1_u64), Some("x".to_owned()), Some(vec![None, Some(1_u64)]), Box::new(5_u64),
        VecDeque::from([1_u64, 2]), BTreeSet::from([3_u64, 1]), HashSet::from([1_u64, 2, 3, 4, 5, 6, 7, 8]),
        BTreeMap::from([(1_u64, "a".to_owned())]), BTreeMap::from([((1_u8, 2_u8), 3_u64)]),
        BTreeMap::from([(Some(1_u64), 2_u64), (None, 3)]), BTreeMap::from([(true, 'x')]),
        HashMap::from([("a".to_owned(), 1_u64), ("b".to_owned(), 2), ("c".to_owned(), 3)]),
        IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST),
        SocketAddr::from(([127, 0, 0, 1], 80)), Duration::from_nanos(1_500_000_001), NonZeroU64::MIN,
        std::ops::Range { start: 1_u8, end: 2 }, Cow::<'static, str>::Owned("cow".to_owned()), Ok::<u64, String>(1),
        Err::<u64, String>("no".to_owned()), "x".repeat(100_000), vec![0_u8; 50_000],
        Plain { id: 1, name: None, tags: vec![], kind: 'k' },
        Plain { id: 2, name: Some("n".into()), tags: vec!["t".into()], kind: 'k' },
        Flat { id: 1, rest: BTreeMap::from([("a".to_owned(), -1)]) },
        External::Nothing, External::One(1), External::Two(1, "x".into()), External::Named { id: None },
        Internal::Nothing, Internal::Named { id: 1 }, Adjacent::Nothing, Adjacent::One(1), Adjacent::Maybe(None),
        Untagged::Small(1), Untagged::Large(1 << 40), Untagged::Text("x".into()),
        Transparent { inner: Some(Duration::from_secs(1)) }, Skips { id: 1, history: vec![] },
    }
}

#[test]
fn what_comes_back_as_another_value_or_not_at_all_stays_in_memory() {
    all! { Fate::Alone;
        Some(()), Some(None::<u64>), vec![Some(())], Some(Transparent { inner: None }),
        Untagged::Large(1), Untagged::Maybe(Some(1)), Internal::Where { address: IpAddr::V4(Ipv4Addr::LOCALHOST) },
        FlatAddress { id: 1, at: At { address: IpAddr::V4(Ipv4Addr::LOCALHOST) } }, Rounds(1.5),
    }
}

/// Nested as deeply as one likes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Number(i64),
    Text(String),
    Maybe(Option<Box<Tree>>),
    Twice(Option<Option<Box<Tree>>>),
    Many(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
    Odd(BTreeMap<u8, Option<()>>),
    Named {
        left: Box<Tree>,
        right: Option<Box<Tree>>,
    },
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Leaf),
        any::<i64>().prop_map(Tree::Number),
        ".{0,8}".prop_map(Tree::Text),
        Just(Tree::Maybe(None)),
        Just(Tree::Twice(None)),
        Just(Tree::Twice(Some(None))),
        prop::collection::btree_map(any::<u8>(), prop::option::of(Just(())), 0..3)
            .prop_map(Tree::Odd),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed().prop_map(|tree| Tree::Maybe(Some(tree))),
            boxed().prop_map(|tree| Tree::Twice(Some(Some(tree)))),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Many),
            prop::collection::btree_map("[a-c]{1,2}", inner.clone(), 0..4).prop_map(Tree::Map),
            (boxed(), prop::option::of(boxed()))
                .prop_map(|(left, right)| Tree::Named { left, right }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever it is made of, nothing else comes back.
    #[test]
    fn a_tree_of_anything_comes_back_as_it_was_or_not_at_all(tree in tree()) {
        let has_twice = format!("{tree:?}").contains("Some(None)") || format!("{tree:?}").contains("Some(())");
        let fate = fate(tree);
        prop_assert!(fate == Fate::Shared || has_twice);
    }
}
