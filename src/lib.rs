//! Coherent in-memory caches for fleets.
mod bus;
mod error;
mod metrics;

pub use error::{BoxError, Error, ErrorKind, WriteError};
