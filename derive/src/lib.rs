//! `#[derive(Key)]` of the crate `unstale`; use it through that crate's feature `derive`.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// The example of README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Implements `unstale::Key` for a struct or an enum: every field is part of the key, and so is an
/// enum's variant.
///
/// The type also needs `PartialEq`, `Eq`, and, to be a cache's key, `Clone`. Every field must be a key; in a
/// generic type, each field type that mentions a parameter becomes a bound.
///
/// # Bytes
///
/// A struct encodes its fields in order, as a tuple does; a newtype encodes what it holds. An enum encodes the
/// *name* of the variant and then its fields, so that reordering variants, or adding one in between, changes no
/// key.
///
/// # `FORMAT`
///
/// `Key::FORMAT` changes whenever the fields change: their names, types or order, or the variants. Instances
/// that disagree, as in a rolling upgrade, then drop the whole cache at an event instead of missing a key. A
/// tuple struct has the format of the tuple, and a newtype has the format of the type that it holds.
///
/// `#[key(format = 2)]` on the type sets the number, for writers in other languages, which have to send it.
/// Then change it yourself whenever the bytes change.
///
/// # Fields that are left out
///
/// `#[key(skip)]` does not compile: two keys that differ in the field would have the same bytes, and where
/// caches share values in Redis, a reader of one gets the other's value. A field that is no part of the key's
/// identity is skipped with a reason, `#[key(skip = "the request's id")]`; the type's `Eq` must ignore it as
/// well.
///
/// # Examples
///
/// ```
/// use unstale::Key;
///
/// #[derive(Clone, PartialEq, Eq, Key)]
/// struct ProductId(u64);
///
/// #[derive(Clone, PartialEq, Eq, Key)]
/// struct Price { product: ProductId, country: String }
///
/// #[derive(Clone, PartialEq, Eq, Key)]
/// enum Owner { User(u64), Team { id: u64 }, Public }
///
/// #[derive(Clone, PartialEq, Eq, Key)]
/// struct Page<T> { of: T, number: u32 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// let names = instance
///     .cache::<Page<Owner>, String>("names")
///     .loader(|page: Page<Owner>| async move {
///         Ok(match page.of {
///             Owner::User(id) => format!("user {id}"),
///             Owner::Team { id } => format!("team {id}"),
///             Owner::Public => "public".to_owned(),
///         })
///     })
///     .build()?;
/// let team = Page { of: Owner::Team { id: 7 }, number: 1 };
/// assert_eq!(names.get(&team).await?.as_deref(), Some("team 7"));
/// # Ok(())
/// # }
/// ```
#[proc_macro_derive(Key, attributes(key))]
pub fn derive_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::key(&input)
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
