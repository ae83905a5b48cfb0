//! Reads the catalog, and explains what the database answers when it cannot be read.

use crate::relay::postgres::{Config, Connection, PgError, PgErrorKind};
use crate::relay::rules::Rules;
use crate::relay::rules::catalog::Catalog;
use crate::relay::rules::queries::{Each, queries};
use crate::{Error, ErrorKind, foreign};

/// In one transaction, so that the answers agree.
pub(super) async fn catalog(sql: &mut Connection, rules: &Rules) -> Result<Catalog, Error> {
    let asks = queries(rules);
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    sql.query(begin).await.map_err(as_error)?;
    let rows = Each {
        server: sql.query(&asks.server).await.map_err(as_error)?,
        publication: sql.query(&asks.publication).await.map_err(as_error)?,
        tables: sql.query(&asks.tables).await.map_err(as_error)?,
        columns: sql.query(&asks.columns).await.map_err(as_error)?,
        indexes: sql.query(&asks.indexes).await.map_err(as_error)?,
    };
    sql.query("COMMIT").await.map_err(as_error)?;
    Catalog::read(&rows)
}

/// Connects for the first time: a login that is refused is a mistake of the settings. Later it may be one that is
/// being changed.
pub(super) async fn first(config: &Config) -> Result<Connection, Error> {
    let connected = Connection::connect(config, false).await;
    connected.map_err(|error| {
        if !error.is_refused() {
            return as_error(error);
        }
        let message = format!(
            "the database of UNSTALE_RELAY_DATABASE_URL refuses role \"{}\": {error}: set the role, the password and the \
             database that are right",
            foreign::shown(&config.user)
        );
        Error::new(ErrorKind::Settings, message)
    })
}

/// Only what an operator must fix is of kind `Settings`.
pub(super) fn as_error(error: PgError) -> Error {
    let kind = match error.kind() {
        PgErrorKind::Settings => ErrorKind::Settings,
        _ => ErrorKind::Bus,
    };
    Error::new(kind, format!("PostgreSQL: {error}"))
}
