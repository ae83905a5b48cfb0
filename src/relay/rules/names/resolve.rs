//! Finds a rule's columns in a relation.

use crate::relay::change::{Identity, Relation};
use crate::relay::rules::canonical::Form;
use crate::relay::rules::{Rule, TagColumn};

/// How a rule treats the rows of a relation.
#[derive(Debug)]
pub(super) enum How {
    /// Every change drops the whole cache: the rule asks for it, or it cannot be applied.
    All,
    Rows {
        key: Vec<Part>,
        tags: Vec<Tag>,
        /// The log has every mapped column of a row that is updated or deleted.
        old: bool,
    },
}

/// A column of a key.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) form: Form,
    pub(super) optional: bool,
}

#[derive(Debug)]
pub(super) struct Tag {
    pub(super) index: usize,
    pub(super) form: Form,
    pub(super) prefix: Box<str>,
}

/// `None` where a column is gone or another one.
pub(super) fn rows(
    rule: &Rule,
    relation: &Relation,
    form: impl Fn(usize) -> Option<Form>,
) -> Option<How> {
    let resolve = |name: &str| {
        let index = relation
            .columns
            .iter()
            .position(|column| column.name == name)?;
        Some((index, form(index)?))
    };
    let key = rule.key.iter().map(|part| {
        let (index, form) = resolve(&part.column)?;
        Some(Part {
            index,
            form,
            optional: part.optional,
        })
    });
    let tags = rule.tags.iter().map(|TagColumn { column, prefix }| {
        // A tag is text.
        let (index, form) = resolve(column).filter(|(_, form)| *form != Form::Bytes)?;
        Some(Tag {
            index,
            form,
            prefix: prefix.as_str().into(),
        })
    });
    let key: Vec<Part> = key.collect::<Option<_>>()?;
    let tags: Vec<Tag> = tags.collect::<Option<_>>()?;
    let full = relation.identity == Identity::Full;
    let known = |index: usize| {
        let column = relation.columns.get(index);
        full || column.is_some_and(|column| column.identity)
    };
    let old = key.iter().all(|part| known(part.index)) && tags.iter().all(|tag| known(tag.index));
    Some(How::Rows { key, tags, old })
}
