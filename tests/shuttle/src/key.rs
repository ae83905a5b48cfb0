//! What the store needs of keys.

pub mod reference;
