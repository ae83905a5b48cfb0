//! The types that are keys; their bytes are those of PROTOCOL.md.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::sync::Arc;

use super::encoder::KeyEncoder;
use super::{Key, single};

macro_rules! single_part {
    ($($(#[$meta:meta])* $type:ty: $self:ident => $bytes:expr;)*) => { $(
        $(#[$meta])*
        impl Key for $type {
            fn encode(&self, out: &mut KeyEncoder) {
                let $self = self;
                out.part($bytes);
            }
            // As long as a hit: a call of it would be seen there.
            #[inline(always)]
            fn digest(&self) -> Option<u64> {
                let $self = self;
                single($bytes)
            }
        }
    )* };
}

single_part! {
    str: key => key.as_bytes();
    String: key => key.as_bytes();
    [u8]: key => key;
    Vec<u8>: key => key;
    bool: key => if *key { b"true" } else { b"false" };
    char: key => key.encode_utf8(&mut [0; 4]).as_bytes();
    u8: key => itoa::Buffer::new().format(*key).as_bytes();
    u16: key => itoa::Buffer::new().format(*key).as_bytes();
    u32: key => itoa::Buffer::new().format(*key).as_bytes();
    u64: key => itoa::Buffer::new().format(*key).as_bytes();
    u128: key => itoa::Buffer::new().format(*key).as_bytes();
    usize: key => itoa::Buffer::new().format(*key).as_bytes();
    i8: key => itoa::Buffer::new().format(*key).as_bytes();
    i16: key => itoa::Buffer::new().format(*key).as_bytes();
    i32: key => itoa::Buffer::new().format(*key).as_bytes();
    i64: key => itoa::Buffer::new().format(*key).as_bytes();
    i128: key => itoa::Buffer::new().format(*key).as_bytes();
    isize: key => itoa::Buffer::new().format(*key).as_bytes();
    Ipv4Addr: key => Text::of(key).as_bytes();
    Ipv6Addr: key => Text::of(key).as_bytes();
    IpAddr: key => Text::of(key).as_bytes();
    // On the implementation itself, so that its documentation names the feature.
    #[cfg(feature = "uuid")]
    uuid::Uuid: key => key.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes();
}

/// An address as text, on the stack.
struct Text {
    /// Room for the longest: `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
    buffer: [u8; 45],
    length: usize,
}

impl Text {
    fn of(address: &impl fmt::Display) -> Self {
        let mut buffer = [0; 45];
        let mut rest = &mut buffer[..];
        let written = write!(rest, "{address}");
        debug_assert!(written.is_ok(), "an address has at most 45 characters");
        let length = 45 - rest.len();
        Self { buffer, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut KeyEncoder) {
        out.part(self);
    }
    #[inline]
    fn digest(&self) -> Option<u64> {
        single(self)
    }
}

macro_rules! non_zero {
    ($($type:ty),*) => { $(
        impl Key for $type {
            fn encode(&self, out: &mut KeyEncoder) {
                self.get().encode(out);
            }
            #[inline]
            fn digest(&self) -> Option<u64> {
                self.get().digest()
            }
        }
    )* };
}

non_zero!(
    NonZeroU8,
    NonZeroU16,
    NonZeroU32,
    NonZeroU64,
    NonZeroU128,
    NonZeroUsize
);
non_zero!(
    NonZeroI8,
    NonZeroI16,
    NonZeroI32,
    NonZeroI64,
    NonZeroI128,
    NonZeroIsize
);

macro_rules! pointer {
    ($($type:ty),*) => { $(
        impl<T: Key + ?Sized> Key for $type {
            const FORMAT: u32 = T::FORMAT;
            fn encode(&self, out: &mut KeyEncoder) {
                T::encode(self, out);
            }
            #[inline]
            fn digest(&self) -> Option<u64> {
                T::digest(self)
            }
        }
    )* };
}

pointer!(&T, Arc<T>, Box<T>);

impl<T> Key for Cow<'_, T>
where
    T: Key + ToOwned<Owned: Send + Sync> + ?Sized,
{
    const FORMAT: u32 = T::FORMAT;
    fn encode(&self, out: &mut KeyEncoder) {
        T::encode(self, out);
    }
    #[inline]
    fn digest(&self) -> Option<u64> {
        T::digest(self)
    }
}

/// `None` is the part `0`; `Some` is the part `1` and then those of the value.
impl<T: Key> Key for Option<T> {
    const FORMAT: u32 = T::FORMAT.wrapping_mul(31).wrapping_add(2);
    fn encode(&self, out: &mut KeyEncoder) {
        match self {
            None => out.part(b"0"),
            Some(value) => {
                out.part(b"1");
                value.encode(out);
            }
        }
    }
}

/// No part.
impl Key for () {
    fn encode(&self, _: &mut KeyEncoder) {}
}

/// No part.
impl<T: Send + Sync + ?Sized> Key for PhantomData<T> {
    fn encode(&self, _: &mut KeyEncoder) {}
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            const FORMAT: u32 = {
                let mut format = 0_u32;
                $(format = format.wrapping_mul(31).wrapping_add($name::FORMAT);)+
                format
            };
            fn encode(&self, out: &mut KeyEncoder) {
                $(self.$index.encode(out);)+
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
