//! From a changed row to what it invalidates: the hot path.

mod image;
mod resolve;

use xxhash_rust::xxh3::xxh3_64;

use super::Rule;
use super::canonical::{self, Form};
use super::encode::Encoder;
use crate::key::cache_id;
use crate::relay::change::{Cell, Identity, Old, Relation};
use image::{Image, Unknown};
use resolve::{How, Part, Tag, rows};

/// Something to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Key {
        cache: u32,
        format: u32,
        hash: u64,
    },
    Tag {
        cache: u32,
        format: u32,
        hash: u64,
    },
    /// The whole cache.
    All {
        cache: u32,
        format: u32,
    },
    /// Every cache of the namespace.
    Everything,
}

/// What one rule does with the rows of one relation.
#[derive(Debug)]
pub(crate) struct Plan {
    cache: u32,
    format: u32,
    how: How,
}

/// The memory of the hot path: no row allocates.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    encoder: Encoder,
    text: Vec<u8>,
    /// Times that the log did not have what a rule needs.
    missing: u64,
}

impl Scratch {
    /// Returns how often that was so since this was called last.
    pub(crate) fn missing(&mut self) -> u64 {
        std::mem::take(&mut self.missing)
    }
}

impl Plan {
    /// Resolves a rule's columns in a relation. `form` says how a column's values are written, `None` where
    /// the column is not the one that was checked.
    ///
    /// Also returns whether the rule can be applied as it is meant.
    pub(crate) fn new(
        rule: &Rule,
        relation: &Relation,
        form: impl Fn(usize) -> Option<Form>,
    ) -> (Self, bool) {
        let how = if rule.all {
            Some(How::All)
        } else {
            rows(rule, relation, form)
        };
        let whole = match &how {
            None | Some(How::Rows { old: false, .. }) => false,
            Some(How::All | How::Rows { .. }) => relation.identity != Identity::Nothing,
        };
        let plan = Self {
            cache: cache_id(&rule.cache),
            format: rule.format,
            how: how.unwrap_or(How::All),
        };
        (plan, whole)
    }

    /// Returns the whole cache.
    pub(crate) fn all(&self) -> Name {
        Name::All {
            cache: self.cache,
            format: self.format,
        }
    }

    /// A new row drops its names, because a cache may know that there was none.
    pub(crate) fn inserted(
        &self,
        new: &[Cell<'_>],
        scratch: &mut Scratch,
        out: &mut impl Extend<Name>,
    ) {
        self.image(Image::New(new, None), scratch, out);
    }

    /// A row that changed: drops its old and its new names. Without an old image the identity
    /// is what it was, and the new image has the old names.
    pub(crate) fn updated(
        &self,
        old: Option<&Old<'_>>,
        new: &[Cell<'_>],
        scratch: &mut Scratch,
        out: &mut impl Extend<Name>,
    ) {
        if !self.knows_old() {
            return self.missing(scratch, out);
        }
        self.image(Image::New(new, old), scratch, out);
        if let Some(old) = old {
            self.image(Image::Old(old), scratch, out);
        }
    }

    pub(crate) fn deleted(
        &self,
        old: &Old<'_>,
        scratch: &mut Scratch,
        out: &mut impl Extend<Name>,
    ) {
        if self.knows_old() {
            self.image(Image::Old(old), scratch, out);
        } else {
            self.missing(scratch, out);
        }
    }

    fn missing(&self, scratch: &mut Scratch, out: &mut impl Extend<Name>) {
        scratch.missing += 1;
        out.extend(Some(self.all()));
    }

    fn knows_old(&self) -> bool {
        match self.how {
            How::All => true,
            How::Rows { old, .. } => old,
        }
    }

    /// Appends every name of one image of a row, or the whole cache.
    fn image(&self, image: Image<'_>, scratch: &mut Scratch, out: &mut impl Extend<Name>) {
        let How::Rows { key, tags, .. } = &self.how else {
            out.extend(Some(self.all()));
            return;
        };
        if self.key(key, image, scratch, out).is_err()
            || self.tags(tags, image, scratch, out).is_err()
        {
            self.missing(scratch, out);
        }
    }

    fn key(
        &self,
        key: &[Part],
        image: Image<'_>,
        Scratch { encoder, text, .. }: &mut Scratch,
        out: &mut impl Extend<Name>,
    ) -> Result<(), Unknown> {
        if key.is_empty() {
            return Ok(());
        }
        encoder.clear();
        for part in key {
            let Some(value) = image.cell(part.index)? else {
                if !part.optional {
                    // A key's type without `Option` has no such key.
                    return Ok(());
                }
                encoder.part(b"0");
                continue;
            };
            if part.optional {
                encoder.part(b"1");
            }
            text.clear();
            canonical::write(part.form, value, text).ok_or(Unknown)?;
            encoder.part(text);
        }
        // A key that is too long is in no cache.
        out.extend(encoder.hash().map(|hash| Name::Key {
            cache: self.cache,
            format: self.format,
            hash,
        }));
        Ok(())
    }

    fn tags(
        &self,
        tags: &[Tag],
        image: Image<'_>,
        Scratch { text, .. }: &mut Scratch,
        out: &mut impl Extend<Name>,
    ) -> Result<(), Unknown> {
        for tag in tags {
            let Some(value) = image.cell(tag.index)? else {
                continue;
            };
            text.clear();
            text.extend_from_slice(tag.prefix.as_bytes());
            canonical::write(tag.form, value, text).ok_or(Unknown)?;
            out.extend(Some(Name::Tag {
                cache: self.cache,
                format: self.format,
                hash: xxh3_64(text),
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
