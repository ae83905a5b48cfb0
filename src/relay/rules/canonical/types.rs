//! Which types of PostgreSQL have canonical bytes, and why the others have none.

use super::form::Form;

/// What decides whether a type has a canonical form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type<'a> {
    /// The id of the type itself, below every domain.
    pub(crate) id: u32,
    pub(crate) modifier: i32,
    pub(crate) is_enum: bool,
    /// The text's collation distinguishes all texts that differ in one byte.
    pub(crate) deterministic: bool,
    /// As PostgreSQL writes it.
    pub(crate) name: &'a str,
}

/// The OIDs of the types below are constants of PostgreSQL.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const OID: u32 = 26;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const CIDR: u32 = 650;
    pub(super) const INET: u32 = 869;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const UUID: u32 = 2950;
}

/// The types that have a form.
pub(crate) const TYPES: &str = "smallint, integer, bigint, numeric(n, 0), text, varchar, uuid, boolean, \
                                bytea, inet, an enum, or a domain over these";

/// Returns the form of a type's values.
///
/// # Errors
///
/// Why the type has none, and what to do.
pub(crate) fn form_of(of: &Type<'_>) -> Result<Form, String> {
    if of.is_enum {
        return Ok(Form::Text);
    }
    let why = match of.id {
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => return Ok(Form::Integer),
        oid::NUMERIC if is_whole(of.modifier) => return Ok(Form::Integer),
        oid::TEXT | oid::VARCHAR | oid::NAME if of.deterministic => return Ok(Form::Text),
        oid::UUID => return Ok(Form::Uuid),
        oid::BOOL => return Ok(Form::Bool),
        oid::BYTEA => return Ok(Form::Bytes),
        oid::INET => return Ok(Form::Address),
        oid::TEXT | oid::VARCHAR | oid::NAME => {
            "its collation takes different texts for equal, so a row can be read under a key that the \
             row does not have"
        }
        oid::NUMERIC => {
            "only a numeric without digits behind the point, as numeric(20, 0), has one text"
        }
        oid::BPCHAR => {
            "its values are padded, and a key may be read with or without that: use varchar"
        }
        oid::CIDR => "it is a network: use inet for addresses",
        oid::FLOAT4 | oid::FLOAT8 => "a fraction has several texts",
        _ => "its text is not that of a key's part",
    };
    Err(format!("type {} has no canonical form: {why}", of.name))
}

/// Returns whether a numeric's type modifier says that it has no digits behind the point.
fn is_whole(modifier: i32) -> bool {
    /// What PostgreSQL adds to every modifier, so that 0 is none.
    const HEADER: i32 = 4;
    /// PostgreSQL 15 has the scale in 11 bits; older ones have at most 1,000 in 16 bits.
    const SCALE: i32 = 0x7ff;
    modifier >= HEADER && (modifier - HEADER) & SCALE == 0
}
