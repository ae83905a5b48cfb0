//! What the code of `#[derive(Key)]` calls.

/// The format of a struct, or of one variant of an enum: another one whenever a field is added,
/// removed, renamed, moved, or of a type with another format.
pub const fn format(variant: &str, fields: &[(&str, u32)]) -> u32 {
    let mut hash = add(OFFSET, variant.as_bytes());
    let mut n = 0;
    while n < fields.len() {
        let (name, format) = fields[n];
        hash = add(hash, name.as_bytes());
        hash = add(hash, &format.to_be_bytes());
        n += 1;
    }
    hash
}

/// FNV-1a, 32 bits: where it begins, and what it multiplies by.
const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// Adds bytes, and their length, so that `ab`, `c` and `a`, `bc` differ.
const fn add(mut hash: u32, bytes: &[u8]) -> u32 {
    hash = (hash ^ bytes.len() as u32).wrapping_mul(PRIME);
    let mut n = 0;
    while n < bytes.len() {
        hash = (hash ^ bytes[n] as u32).wrapping_mul(PRIME);
        n += 1;
    }
    hash
}
