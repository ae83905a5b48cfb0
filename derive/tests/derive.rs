//! What the derive encodes: every field, and which variant.

use std::collections::HashMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use proptest::prelude::*;
use unstale::{BoxError, Instance, Key, Settings};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Newtype(u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Pair(String, Option<u8>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Named {
    tenant: String,
    r#type: String,
    page: Option<Newtype>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
enum Owner {
    User(u64),
    Team(u64),
    Both { user: u64, team: Option<u64> },
    Named(String),
    Pair(String, String),
    Unit(Unit),
    Guest,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Page<T, U> {
    of: T,
    also: Vec<u8>,
    by: Option<U>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Borrowed<'a> {
    host: &'a str,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Key)]
struct Host {
    host: String,
    port: u16,
}

fn owner() -> impl Strategy<Value = Owner> {
    let text = "[01a]{0,2}";
    prop_oneof![
        (0..3_u64).prop_map(Owner::User),
        (0..3_u64).prop_map(Owner::Team),
        (0..3_u64, prop::option::of(0..3_u64)).prop_map(|(user, team)| Owner::Both { user, team }),
        text.prop_map(Owner::Named),
        (text, text).prop_map(|(a, b)| Owner::Pair(a, b)),
        Just(Owner::Unit(Unit)),
        Just(Owner::Guest),
    ]
}

/// Equal keys have equal digests, and different ones different: 64 bits do not collide by chance.
fn distinct<K: Key + Debug>(one: &K, other: &K) {
    assert_eq!(
        one.digest() == other.digest(),
        one == other,
        "{one:?} and {other:?}"
    );
}

proptest! {
    #[test]
    fn different_values_have_different_bytes(
        one in prop::collection::vec(owner(), 2), of in ("[01a]{0,3}", prop::option::of(0..3_u8)),
        other in ("[01a]{0,3}", prop::option::of(0..3_u8))
    ) {
        let [a, b] = [&one[0], &one[1]];
        distinct(a, b);
        distinct(&Pair(of.0.clone(), of.1), &Pair(other.0.clone(), other.1));
        let named = |(text, page): &(String, Option<u8>)| Named {
            tenant: text.clone(),
            r#type: text.chars().rev().collect(),
            page: page.map(|page| Newtype(page.into())),
        };
        distinct(&named(&of), &named(&other));
        let page = |owner: &Owner, (text, by): &(String, Option<u8>)| Page {
            of: owner.clone(),
            also: text.clone().into_bytes(),
            by: by.map(|_| owner.clone()),
        };
        distinct(&page(a, &of), &page(b, &other));
        distinct(&page(a, &of), &page(a, &other));
        distinct(&Some(a.clone()), &Some(b.clone()));
    }
}

#[test]
fn no_two_of_many_owners_have_the_same_bytes() {
    let mut seen: HashMap<u64, Owner> = HashMap::new();
    let texts = ["", "0", "1", "User", "Guest", "a"];
    let mut owners = vec![Owner::Guest, Owner::Unit(Unit)];
    for n in 0..10 {
        owners.extend([Owner::User(n), Owner::Team(n)]);
        for team in [None, Some(n)] {
            owners.push(Owner::Both { user: n, team });
        }
    }
    for one in texts {
        owners.push(Owner::Named(one.into()));
        owners.extend(texts.map(|other| Owner::Pair(one.into(), other.into())));
    }
    for owner in owners {
        let other = seen.insert(owner.digest().unwrap(), owner.clone());
        assert_eq!(other, None, "has the bytes of {owner:?}");
    }
}

#[test]
fn a_newtype_and_a_tuple_struct_are_as_what_they_hold() {
    assert_eq!(Newtype(7).digest(), 7_u64.digest());
    assert_eq!(Newtype::FORMAT, u64::FORMAT);
    let pair = Pair("a".into(), Some(1));
    assert_eq!(pair.digest(), ("a", Some(1_u8)).digest());
    assert_eq!(Pair::FORMAT, <(String, Option<u8>)>::FORMAT);
    assert_eq!(Owner::User(7).digest(), ("User", 7_u64).digest());
    assert_eq!(Owner::Guest.digest(), "Guest".digest());
}

#[test]
fn a_struct_that_borrows_has_the_bytes_and_the_format_of_the_one_that_owns() {
    let (host, port) = ("example.com", 80);
    let owned = Host {
        host: host.into(),
        port,
    };
    assert_eq!(Borrowed { host, port }.digest(), owned.digest());
    assert_eq!(Borrowed::FORMAT, Host::FORMAT);
}

/// The format of the key type `K` that is written there.
macro_rules! format_of {
    ($($item:tt)*) => {{
        #[derive(PartialEq, Eq, Key)]
        #[allow(dead_code, reason = "only its format is looked at")]
        $($item)*
        K::FORMAT
    }};
}

#[test]
fn the_format_of_an_enum_is_that_of_its_variants_in_any_order() {
    let given = format_of!(
        enum K {
            A(u64),
            B { x: u8, y: u8 },
        }
    );
    let moved = format_of!(
        enum K {
            B { x: u8, y: u8 },
            A(u64),
        }
    );
    assert_eq!(given, moved);
}

fn formats_of_enums() -> Vec<u32> {
    vec![
        format_of!(
            enum K {
                A(u64),
                B { x: u8, y: u8 },
            }
        ),
        format_of!(
            enum K {
                A(u64),
                C { x: u8, y: u8 },
            }
        ),
        format_of!(
            enum K {
                A(u64),
                B { y: u8, x: u8 },
            }
        ),
        format_of!(
            enum K {
                A(u64),
                B { x: u8, y: Option<u8> },
            }
        ),
        format_of!(
            enum K {
                A(u64),
            }
        ),
        format_of!(
            enum K {
                A(u64, u64),
            }
        ),
    ]
}

fn formats_of_structs() -> Vec<u32> {
    vec![
        format_of!(
            struct K {
                x: u8,
                y: u8,
            }
        ),
        format_of!(
            struct K {
                y: u8,
                x: u8,
            }
        ),
        format_of!(
            struct K {
                x: u8,
            }
        ),
        format_of!(
            struct K {
                x: u8,
                y: (u8, u8),
            }
        ),
        format_of!(
            struct K(u8, u8);
        ),
    ]
}

#[test]
fn another_set_of_fields_has_another_format() {
    let formats = [formats_of_enums(), formats_of_structs()].concat();
    for (n, format) in formats.iter().enumerate() {
        assert!(!formats[..n].contains(format), "number {n}");
    }
}

#[test]
fn a_format_that_is_set_is_the_keys_format() {
    #[derive(PartialEq, Eq, Key)]
    #[key(format = 7)]
    struct Set {
        id: u64,
    }
    assert_eq!(Set::FORMAT, 7);
    assert_eq!(Set { id: 1 }.digest(), 1_u64.digest());
}

#[test]
fn a_field_that_is_skipped_with_a_reason_is_no_part_of_the_key() {
    #[derive(Key)]
    struct Traced {
        id: u64,
        #[key(skip = "the request that asks; no part of what is asked for")]
        request: f64,
    }
    impl PartialEq for Traced {
        fn eq(&self, other: &Self) -> bool {
            self.id == other.id
        }
    }
    impl Eq for Traced {}
    let asked = |request| Traced { id: 7, request };
    assert!(asked(1.0) == asked(2.0));
    assert_eq!(asked(1.0).digest(), asked(2.0).digest());
    assert!(asked(1.0).request < asked(2.0).request);
}

#[test]
fn a_marker_needs_no_bound_on_what_it_marks() {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Invoice;
    #[derive(Clone, PartialEq, Eq, Key)]
    struct Id<T>(u64, PhantomData<T>);
    assert_eq!(Id(7, PhantomData::<Invoice>).digest(), 7_u64.digest());
}

#[tokio::test]
async fn a_user_and_a_team_of_one_number_are_two_entries() -> Result<(), BoxError> {
    let instance = Instance::start(Settings::default()).await?;
    let names = instance
        .cache::<Owner, String>("names")
        .loader(|owner| async move { Ok(format!("{owner:?}")) })
        .build()?;
    let user = names.get(&Owner::User(7)).await?;
    let team = names.get(&Owner::Team(7)).await?;
    assert_eq!(user.as_deref(), Some("User(7)"));
    assert_eq!(team.as_deref(), Some("Team(7)"));
    assert_eq!(names.peek(&Owner::User(7)), user, "both are held");
    assert_eq!(names.peek(&Owner::Team(7)), team);
    names.invalidate(&Owner::Team(7)).await?;
    assert_eq!(names.peek(&Owner::User(7)), user, "no other is dropped");
    assert_eq!(names.peek(&Owner::Team(7)), None);
    Ok(())
}
