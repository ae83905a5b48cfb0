//! Reads the fields of a TOML table one by one, so that one error has every mistake with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problems::{Problems, nearest};
use crate::foreign;

/// A value and where it begins.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Returns the number of the line in which a byte is.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().get(..byte).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// One table of the file and what an error calls it.
pub(super) struct Fields<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    place: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(text: &'a str, table: &'a DeTable<'a>, place: String) -> Self {
        Self { text, table, place }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value<'a>> {
        self.table.get(name)
    }

    /// Blames the field, in its line.
    pub(super) fn blame(&self, value: &Value<'_>, name: &str, why: &str, problems: &mut Problems) {
        let line = line_of(self.text, value.span().start);
        problems.report(&self.place, format!("line {line}: {name} {why}"));
    }

    /// Blames the value of the field with this name.
    pub(super) fn blame_name(&self, name: &str, why: &str, problems: &mut Problems) {
        if let Some(value) = self.get(name) {
            self.blame(value, name, why, problems);
        }
    }

    /// Blames the table as a whole.
    pub(super) fn lack(&self, why: &str, problems: &mut Problems) {
        problems.report(&self.place, why);
    }

    /// Every field that has another name than these is a mistake.
    pub(super) fn only(&self, known: &[&str], problems: &mut Problems) {
        for (name, _) in self.table {
            let text: &str = name.get_ref();
            if known.contains(&text) {
                continue;
            }
            let line = line_of(self.text, name.span().start);
            let near = nearest(text, known.iter().copied());
            let text = foreign::shown(text);
            let what = format!("line {line}: no such field `{text}`{near}");
            problems.report(&self.place, what);
        }
    }

    /// Returns a text that is not empty; `None` where there is none, or a wrong one.
    pub(super) fn text(&self, name: &str, problems: &mut Problems) -> Option<&'a str> {
        let value = self.get(name)?;
        let text = value.get_ref().as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.blame(value, name, "must be a text in quotes, not empty", problems);
        }
        text
    }

    /// Returns a text that must be there.
    pub(super) fn needed(
        &self,
        name: &str,
        example: &str,
        problems: &mut Problems,
    ) -> Option<&'a str> {
        if self.get(name).is_none() {
            self.lack(&format!("{name} is missing: as in {example}"), problems);
        }
        self.text(name, problems)
    }

    /// `true` or `false`; false where there is none.
    pub(super) fn flag(&self, name: &str, problems: &mut Problems) -> bool {
        let Some(value) = self.get(name) else {
            return false;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.blame(value, name, "must be true or false", problems);
            false
        })
    }

    /// Returns a number of 32 bits.
    pub(super) fn number(&self, name: &str, problems: &mut Problems) -> Option<u32> {
        let value = self.get(name)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        if number.is_none() {
            self.blame(value, name, "must be a whole number below 2^32", problems);
        }
        number
    }

    /// Returns the elements of a list; none where there is none, or something else.
    pub(super) fn list(
        &self,
        name: &str,
        example: &str,
        problems: &mut Problems,
    ) -> Vec<&'a Value<'a>> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let list = value.get_ref().as_array();
        let list: Vec<_> = list.map(|list| list.iter().collect()).unwrap_or_default();
        if list.is_empty() {
            let why = format!("must be a list that is not empty, as in {example}");
            self.blame(value, name, &why, problems);
        }
        list
    }

    /// A table inside this one.
    pub(super) fn inner(&self, table: &'a DeTable<'a>) -> Self {
        Self::new(self.text, table, self.place.clone())
    }
}
