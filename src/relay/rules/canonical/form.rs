//! The forms of canonical bytes.

/// How the values of a column become canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Decimal text without leading zeros.
    Integer,
    /// UTF-8 as it is.
    Text,
    Uuid,
    Bool,
    /// `\x` and hexadecimal digits.
    Bytes,
    /// One host's address.
    Address,
}
