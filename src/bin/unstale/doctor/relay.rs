//! Whether a database is fit for a relay, where the environment names one.

use unstale::operate::SourceRelay;
use unstale::{ErrorKind, Settings};

use super::checks::Finding;

/// Nothing where no database is named.
pub(super) async fn examine(settings: &Settings) -> Option<Finding> {
    settings.relay_database_url.as_ref()?;
    let relay = match SourceRelay::new(settings, None) {
        Ok(relay) => relay,
        Err(error) => return Some(Finding::fail("relay", error.to_string(), RULES)),
    };
    Some(match relay.check().await {
        Ok(_) => Finding::ok(
            "relay",
            format!("the rules of {} fit {}", relay.source(), relay.place()),
        ),
        Err(error) if error.kind() == ErrorKind::Settings => Finding::fail(
            "relay",
            error.to_string(),
            "do what each line says; `unstale relay --print-sql` prints the SQL",
        ),
        Err(error) => Finding::fail(
            "relay",
            error.to_string(),
            "have the database reachable from here, or correct UNSTALE_RELAY_DATABASE_URL",
        ),
    })
}

const RULES: &str = "name a file of rules that is right with UNSTALE_RELAY_RULES";
