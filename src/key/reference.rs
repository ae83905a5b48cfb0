//! What a key may be looked up by.

use std::borrow::Cow;
use std::sync::Arc;

use super::Key;

/// A type that a call takes in place of a key of type `K`: `K` itself, or a reference form of it that needs no
/// allocation. It encodes the same bytes as the key.
///
/// | key | looked up by |
/// |---|---|
/// | `K` | `K`, `&K` |
/// | `String`, `Box<str>`, `Arc<str>`, `Cow<'static, str>` | the same, or `str`, `&str` |
/// | `Vec<u8>`, `Box<[u8]>`, `Arc<[u8]>` | the same, or `[u8]`, `&[u8]`, `[u8; N]` |
/// | a tuple of up to six | the same, or a tuple in which any element is one of the above |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// let invoices = instance
///     .cache::<(String, u64), String>("invoices")
///     .loader(|(tenant, id)| async move { Ok(format!("{tenant}/{id}")) })
///     .build()?;
/// let tenant: &str = "acme"; // of the request
/// assert_eq!(invoices.get(&(tenant, 7)).await?.as_deref(), Some("acme/7"));
/// # Ok(())
/// # }
/// ```
///
/// For a key type of your own, implement it for a type that borrows:
///
/// ```
/// use unstale::{Key, KeyEncoder, KeyRef};
///
/// #[derive(Clone, PartialEq, Eq)]
/// struct Path { host: String, path: String }
///
/// #[derive(PartialEq, Eq)]
/// struct PathRef<'a> { host: &'a str, path: &'a str }
///
/// impl Key for Path {
///     fn encode(&self, out: &mut KeyEncoder) {
///         self.host.encode(out);
///         self.path.encode(out);
///     }
/// }
///
/// impl Key for PathRef<'_> {
///     fn encode(&self, out: &mut KeyEncoder) {
///         self.host.encode(out);
///         self.path.encode(out);
///     }
/// }
///
/// impl KeyRef<Path> for PathRef<'_> {
///     fn matches(&self, key: &Path) -> bool {
///         self.host == key.host && self.path == key.path
///     }
///     fn to_key(&self) -> Path {
///         Path { host: self.host.to_owned(), path: self.path.to_owned() }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand for a key of type `{K}`",
    label = "the cache's keys are `{K}`",
    note = "a key is looked up by itself or by a reference form: `str` for `String`, `[u8]` for `Vec<u8>`, `(&str, u64)` for `(String, u64)`",
    note = "for a type of your own that borrows, implement `unstale::KeyRef<{K}>`"
)]
pub trait KeyRef<K>: Key {
    /// Returns whether this stands for `key`.
    fn matches(&self, key: &K) -> bool;

    /// Returns the key. It is called on a miss, never on a hit.
    fn to_key(&self) -> K;
}

impl<K: Key + Clone> KeyRef<K> for K {
    #[inline]
    fn matches(&self, key: &K) -> bool {
        self == key
    }
    fn to_key(&self) -> K {
        self.clone()
    }
}

impl<K: Key + Clone> KeyRef<K> for &K {
    #[inline]
    fn matches(&self, key: &K) -> bool {
        *self == key
    }
    fn to_key(&self) -> K {
        K::clone(self)
    }
}

macro_rules! borrowed {
    ($($reference:ty => $($key:ty),+;)*) => { $($(
        impl KeyRef<$key> for $reference {
            #[inline]
            fn matches(&self, key: &$key) -> bool {
                self[..] == key[..]
            }
            fn to_key(&self) -> $key {
                self[..].into()
            }
        }
    )+)* };
}

borrowed! {
    str => String, Box<str>, Arc<str>;
    &str => String, Box<str>, Arc<str>;
    [u8] => Vec<u8>, Box<[u8]>, Arc<[u8]>;
    &[u8] => Vec<u8>, Box<[u8]>, Arc<[u8]>;
}

macro_rules! borrowed_cow {
    ($($reference:ty),*) => { $(
        impl KeyRef<Cow<'static, str>> for $reference {
            #[inline]
            fn matches(&self, key: &Cow<'static, str>) -> bool {
                self[..] == key[..]
            }
            fn to_key(&self) -> Cow<'static, str> {
                Cow::Owned(self[..].to_owned())
            }
        }
    )* };
}

borrowed_cow!(str, &str);

impl<const N: usize> KeyRef<Vec<u8>> for [u8; N] {
    #[inline]
    fn matches(&self, key: &Vec<u8>) -> bool {
        self[..] == key[..]
    }
    fn to_key(&self) -> Vec<u8> {
        self.to_vec()
    }
}

/// A tuple in which at least one element differs from the key's.
///
/// The compiler must see that no implementation is also that of a tuple for itself. So each names
/// its first element that differs, with the types on both sides; what is before it is the same on
/// both sides, and what is after it is anything that stands for the element.
macro_rules! tuples {
    // One implementation for each type of the first element that differs.
    (@ [$($same:ident $s:tt)*] $first:tt [$($rest:ident $other:ident $r:tt)*]) => {
        tuples!(@ [$($same $s)*] $first ['a,] [&'a str] [String] [$($rest $other $r)*]);
        tuples!(@ [$($same $s)*] $first ['a,] [&'a str] [Box<str>] [$($rest $other $r)*]);
        tuples!(@ [$($same $s)*] $first ['a,] [&'a str] [Arc<str>] [$($rest $other $r)*]);
        tuples!(@ [$($same $s)*] $first ['a,] [&'a str] [Cow<'static, str>] [$($rest $other $r)*]);
        tuples!(@ [$($same $s)*] $first ['a,] [&'a [u8]] [Vec<u8>] [$($rest $other $r)*]);
        tuples!(@ [$($same $s)*] $first ['a, T: Key + Clone,] [&'a T] [T] [$($rest $other $r)*]);
    };
    (@ [$($same:ident $s:tt)*] $first:tt [$($generics:tt)*] [$reference:ty] [$key:ty]
        [$($rest:ident $other:ident $r:tt)*]) => {
        impl<$($generics)* $($same: Key + Clone,)* $($rest: Key, $other: KeyRef<$rest>,)*>
            KeyRef<($($same,)* $key, $($rest,)*)> for ($($same,)* $reference, $($other,)*)
        {
            #[inline]
            fn matches(&self, key: &($($same,)* $key, $($rest,)*)) -> bool {
                $(self.$s == key.$s &&)*
                    KeyRef::<$key>::matches(&self.$first, &key.$first)
                    $(&& self.$r.matches(&key.$r))*
            }
            fn to_key(&self) -> ($($same,)* $key, $($rest,)*) {
                (
                    $(self.$s.clone(),)*
                    KeyRef::<$key>::to_key(&self.$first),
                    $(self.$r.to_key(),)*
                )
            }
        }
    };
}

tuples!(@ [] 0 [B Y 1]);
tuples!(@ [A 0] 1 []);

tuples!(@ [] 0 [B Y 1 C Z 2]);
tuples!(@ [A 0] 1 [C Z 2]);
tuples!(@ [A 0 B 1] 2 []);

tuples!(@ [] 0 [B Y 1 C Z 2 D W 3]);
tuples!(@ [A 0] 1 [C Z 2 D W 3]);
tuples!(@ [A 0 B 1] 2 [D W 3]);
tuples!(@ [A 0 B 1 C 2] 3 []);

tuples!(@ [] 0 [B Y 1 C Z 2 D W 3 E V 4]);
tuples!(@ [A 0] 1 [C Z 2 D W 3 E V 4]);
tuples!(@ [A 0 B 1] 2 [D W 3 E V 4]);
tuples!(@ [A 0 B 1 C 2] 3 [E V 4]);
tuples!(@ [A 0 B 1 C 2 D 3] 4 []);

tuples!(@ [] 0 [B Y 1 C Z 2 D W 3 E V 4 F U 5]);
tuples!(@ [A 0] 1 [C Z 2 D W 3 E V 4 F U 5]);
tuples!(@ [A 0 B 1] 2 [D W 3 E V 4 F U 5]);
tuples!(@ [A 0 B 1 C 2] 3 [E V 4 F U 5]);
tuples!(@ [A 0 B 1 C 2 D 3] 4 [F U 5]);
tuples!(@ [A 0 B 1 C 2 D 3 E 4] 5 []);
