//! The row before and after its change, and what the log has of either.

use crate::relay::change::{Cell, Old};

/// A value whose canonical bytes are not known: the whole cache.
pub(super) struct Unknown;

/// A row before or after its change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Image<'a> {
    /// After it; what is unchanged is in the old image, if there is one.
    New(&'a [Cell<'a>], Option<&'a Old<'a>>),
    Old(&'a Old<'a>),
}

impl<'a> Image<'a> {
    /// Returns a column's text; `None` is a null.
    pub(super) fn cell(self, index: usize) -> Result<Option<&'a [u8]>, Unknown> {
        match self {
            Self::New(row, old) => match row.get(index) {
                Some(Cell::Text(text)) => Ok(Some(text)),
                Some(Cell::Null) => Ok(None),
                // What is unchanged is as it was.
                Some(Cell::Unchanged) => old.map_or(Err(Unknown), |old| Self::Old(old).cell(index)),
                None => Err(Unknown),
            },
            Self::Old(Old::Full(row)) => match row.get(index) {
                Some(Cell::Text(text)) => Ok(Some(text)),
                Some(Cell::Null) => Ok(None),
                Some(Cell::Unchanged) | None => Err(Unknown),
            },
            // No column of a key or of an identity's index is null: a null is a column that is not there.
            Self::Old(Old::Key(row)) => match row.get(index) {
                Some(Cell::Text(text)) => Ok(Some(text)),
                Some(Cell::Null | Cell::Unchanged) | None => Err(Unknown),
            },
        }
    }
}
