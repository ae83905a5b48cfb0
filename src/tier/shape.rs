//! A print of what a value says to serde: whether what came back from Redis is what was stored.
//!
//! MessagePack has no `Some`: `Some(())` and `None` are written alike, and serde's attributes can make others
//! alike. Types need not be comparable, but they can be serialized, and two values that call a serializer alike are
//! one to every reader of them. Elements of sequences and maps count in any order, which sets do not have.

use std::fmt;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The print of a value; `None` if it cannot be serialized.
pub(super) fn print(value: &(impl Serialize + ?Sized)) -> Option<u64> {
    value.serialize(Print).ok()
}

/// A serializer that keeps nothing of a value but its print.
#[derive(Clone, Copy, Debug)]
struct Print;

/// Why there is no print: the value's own words.
#[derive(Debug)]
struct NoPrint(String);

impl fmt::Display for NoPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoPrint {}

impl serde::ser::Error for NoPrint {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Printed = Result<u64, NoPrint>;

fn leaf(kind: &str, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, xxh3_64(kind.as_bytes()))
}

/// Several prints in their order.
fn pair(one: u64, other: u64) -> u64 {
    leaf("pair", &[one.to_be_bytes(), other.to_be_bytes()].concat())
}

/// What has parts: a struct, a sequence, a map.
#[derive(Debug)]
struct Parts {
    print: u64,
    count: u64,
    /// Of a map whose value is yet to come.
    key: Option<u64>,
    ordered: bool,
}

impl Parts {
    fn of(kind: &str, name: &str, ordered: bool) -> Self {
        Self {
            print: leaf(kind, name.as_bytes()),
            count: 0,
            key: None,
            ordered,
        }
    }

    fn add(&mut self, print: u64) {
        self.count += 1;
        self.print = if self.ordered {
            pair(self.print, print)
        } else {
            self.print.wrapping_add(leaf("part", &print.to_be_bytes()))
        };
    }

    fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), NoPrint> {
        let value = value.serialize(Print)?;
        self.add(pair(leaf("field", name.as_bytes()), value));
        Ok(())
    }

    fn ended(self) -> u64 {
        pair(self.print, self.count)
    }
}

macro_rules! leaves {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, value: $type) -> Printed {
            Ok(leaf(stringify!($type), &value.to_be_bytes()))
        }
    )*};
}

impl Serializer for Print {
    type Ok = u64;
    type Error = NoPrint;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    leaves! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64
    }

    /// As MessagePack's.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Printed {
        Ok(leaf("bool", &[u8::from(value)]))
    }

    fn serialize_char(self, value: char) -> Printed {
        Ok(leaf("char", &u32::from(value).to_be_bytes()))
    }

    fn serialize_str(self, value: &str) -> Printed {
        Ok(leaf("str", value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Printed {
        Ok(leaf("bytes", value))
    }

    fn serialize_none(self) -> Printed {
        Ok(leaf("none", &[]))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Printed {
        Ok(pair(leaf("some", &[]), value.serialize(self)?))
    }

    fn serialize_unit(self) -> Printed {
        Ok(leaf("unit", &[]))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Printed {
        Ok(leaf("unit struct", name.as_bytes()))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Printed {
        Ok(leaf("variant", variant.as_bytes()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Printed {
        Ok(pair(
            leaf("newtype", name.as_bytes()),
            value.serialize(self)?,
        ))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Printed {
        Ok(pair(
            leaf("variant", variant.as_bytes()),
            value.serialize(self)?,
        ))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, NoPrint> {
        Ok(Parts::of("seq", "", false))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, NoPrint> {
        Ok(Parts::of("tuple", "", true))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts, NoPrint> {
        Ok(Parts::of("tuple struct", name, true))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, NoPrint> {
        Ok(Parts::of("variant", variant, true))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts, NoPrint> {
        Ok(Parts::of("map", "", false))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts, NoPrint> {
        Ok(Parts::of("struct", name, false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, NoPrint> {
        Ok(Parts::of("variant", variant, false))
    }
}

macro_rules! elements {
    ($($trait:ident $method:ident),*) => {$(
        impl $trait for Parts {
            type Ok = u64;
            type Error = NoPrint;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoPrint> {
                self.add(value.serialize(Print)?);
                Ok(())
            }

            fn end(self) -> Printed {
                Ok(self.ended())
            }
        }
    )*};
}

elements! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
}

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl $trait for Parts {
            type Ok = u64;
            type Error = NoPrint;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), NoPrint> {
                self.field(key, value)
            }

            fn end(self) -> Printed {
                Ok(self.ended())
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant }

impl SerializeMap for Parts {
    type Ok = u64;
    type Error = NoPrint;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoPrint> {
        self.key = Some(key.serialize(Print)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoPrint> {
        let key = self.key.take();
        let key = key.ok_or_else(|| NoPrint::custom("a value of a map comes before its key"))?;
        self.add(pair(key, value.serialize(Print)?));
        Ok(())
    }

    fn end(self) -> Printed {
        Ok(self.ended())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::*;

    #[test]
    fn what_a_reader_could_tell_apart_has_another_print() {
        let prints = [
            print(&None::<()>),
            print(&Some(())),
            print(&Some(None::<()>)),
            print(&()),
            print(&1_u8),
            print(&1_u64),
            print(&1_i64),
            print(&1.0_f64),
            print("1"),
            print(&'1'),
            print(&[1_u8; 0][..]),
            print(&[1_u8][..]),
            print(&[1_u8, 1][..]),
            print(&[1_u8, 2][..]),
            print(&(1_u8, 2_u8)),
            print(&(2_u8, 1_u8)),
            print(&BTreeMap::from([(1_u8, 2_u8)])),
            print(&BTreeMap::from([(2_u8, 1_u8)])),
        ];
        let distinct: HashSet<_> = prints.iter().map(|print| print.unwrap()).collect();
        assert_eq!(distinct.len(), prints.len());
    }

    #[test]
    fn an_order_that_means_nothing_changes_nothing() {
        let many = || (0..100_u64).map(|n| (n, n.to_string()));
        let map: HashMap<u64, String> = many().collect();
        let other: HashMap<u64, String> = many().rev().collect();
        assert_eq!(print(&map), print(&other));
        assert_eq!(print(&map), print(&many().collect::<BTreeMap<_, _>>()));
        let set: HashSet<u64> = (0..100).collect();
        let other: HashSet<u64> = (0..100).rev().collect();
        assert_eq!(print(&set), print(&other));
    }
}
