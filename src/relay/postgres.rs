//! A client of PostgreSQL for one connection: simple queries, and the log by logical decoding.
//!
//! `pgoutput` and `change` say what the messages of the log mean.

mod config;
mod connection;
mod dial;
mod error;
mod frames;
mod login;
mod lsn;
mod places;
mod socket;
mod stream;
mod tls;
mod wire;

pub(crate) use self::config::Config;
pub(crate) use self::connection::{Connection, Rows};
pub(crate) use self::error::{PgError, PgErrorKind};
pub(crate) use self::lsn::{parse_lsn, show_lsn};
pub(crate) use self::places::{end_of_log, flush_log};
pub(crate) use self::stream::{Event, Stream};

#[cfg(test)]
pub(crate) mod tests;
