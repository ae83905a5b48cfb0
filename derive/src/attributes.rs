//! The attribute `#[key(...)]`.

use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, LitInt, LitStr, Result, Token};

const SKIPPED: &str = "a field that is left out makes two different keys one, and the cache serves \
     the value of one for the other; if the field is no part of the key's identity, and `Eq` ignores \
     it, give the reason: #[key(skip = \"the reason\")]";

/// The number of `#[key(format = 2)]` on a type.
pub(crate) fn format(attributes: &[Attribute]) -> Result<Option<u32>> {
    let mut format = None;
    each(attributes, |meta| {
        if meta.path.is_ident("skip") {
            return Err(meta.error("`skip` belongs on a field"));
        }
        if !meta.path.is_ident("format") {
            return Err(meta.error("unknown option; there is `format`"));
        }
        if format.is_some() {
            return Err(meta.error("`format` is given twice"));
        }
        let number: LitInt = meta.value()?.parse()?;
        format = Some(number.base10_parse()?);
        Ok(())
    })?;
    Ok(format)
}

/// Whether a field is skipped, with a reason.
pub(crate) fn skips(attributes: &[Attribute]) -> Result<bool> {
    let mut skips = false;
    each(attributes, |meta| {
        if meta.path.is_ident("format") {
            return Err(meta.error("`format` belongs on the type"));
        }
        if !meta.path.is_ident("skip") {
            return Err(meta.error("unknown option; there is `skip = \"the reason\"`"));
        }
        if !meta.input.peek(Token![=]) {
            return Err(meta.error(SKIPPED));
        }
        let reason: LitStr = meta.value()?.parse()?;
        if reason.value().trim().is_empty() {
            return Err(Error::new(reason.span(), SKIPPED));
        }
        skips = true;
        Ok(())
    })?;
    Ok(skips)
}

/// Refuses the attribute, on a variant.
pub(crate) fn refuse(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|it| it.path().is_ident("key")) {
        Some(attribute) => Err(Error::new(
            attribute.span(),
            "`key` belongs on the type or on a field; no variant can be left out",
        )),
        None => Ok(()),
    }
}

fn each(
    attributes: &[Attribute],
    mut take: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    for attribute in attributes.iter().filter(|it| it.path().is_ident("key")) {
        attribute.parse_nested_meta(&mut take)?;
    }
    Ok(())
}
