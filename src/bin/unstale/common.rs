//! What the commands that talk to a fleet share.

use std::process::ExitCode;
use std::time::Duration;

use unstale::{Error, Settings, operate};

use crate::{Failure, output};

/// The settings of the environment, which must name a Redis.
pub(crate) fn settings() -> Result<Settings, Failure> {
    let settings = Settings::from_env()?;
    match operate::server_url(&settings) {
        Some(_) => Ok(settings),
        None => Err(format!(
            "UNSTALE_REDIS_URL is {}: set it to the Redis of the fleet, as in redis://127.0.0.1:6379, and \
             UNSTALE_NAMESPACE to the fleet's name",
            if settings.redis_url.is_some() {
                "none, which is a fleet inside one process"
            } else {
                "not set"
            }
        )
        .into()),
    }
}

/// Runs a command to its end; an error of the library is exit status 1.
pub(crate) fn block_on(
    command: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(command) {
        Err(failure) if failure.is::<Error>() => {
            output::complain(&*failure);
            Ok(ExitCode::FAILURE)
        }
        result => result,
    }
}

/// The value of a setting as it may be shown, by its variable.
pub(crate) fn shown(settings: &Settings, variable: &str) -> String {
    let rows = settings.describe();
    let row = rows.into_iter().find(|row| row.variable == variable);
    row.map(|row| row.value).unwrap_or_default()
}

/// An instance's id as the log, the metrics and `Health` show it.
pub(crate) fn short(instance: u64) -> String {
    operate::instance_id(instance).to_string()
}

/// `0.3 ms`, `252 ms`, `2.5 s`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.1 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

/// `1 key`, `2 keys`.
pub(crate) fn count(n: usize, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!(count(1, "key"), "1 key");
        assert_eq!(count(0, "key"), "0 keys");
        assert_eq!(time(Duration::from_micros(250)), "0.2 ms");
        assert_eq!(time(Duration::from_micros(251_900)), "252 ms");
        assert_eq!(time(Duration::from_millis(2_500)), "2.5 s");
        assert_eq!(short(0x0123_4567_89ab_cdef), "01234567");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let url = ("UNSTALE_REDIS_URL", "redis://u:hunter2@host");
        let vars = [(url.0.to_owned(), url.1.to_owned())];
        let settings = Settings::from_vars(vars).unwrap();
        assert_eq!(shown(&settings, url.0), "redis://***@host");
    }
}
