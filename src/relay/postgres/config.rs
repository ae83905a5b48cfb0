//! Where a database is, as which user we log in, and how long things may take.

mod sslmode;
mod target;
mod url;

use super::PgError;

pub(crate) use self::target::{Config, Host, Secret, TlsMode};

impl Config {
    /// From `postgres://user:password@host:port/database?option=value`.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, and what would be right; nothing of its text.
    pub(crate) fn parse(url: &str) -> Result<Self, PgError> {
        url::parse(url)
            .map_err(|why| PgError::settings(format!("the database's URL is not valid: {why}")))
    }
}

#[cfg(test)]
mod tests;
