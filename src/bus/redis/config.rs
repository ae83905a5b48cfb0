//! How to reach Redis, as the settings say.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::connection::Target;
#[cfg(feature = "tls")]
use super::tls;
use crate::Error;
use crate::url::Address;

/// How to reach Redis.
#[derive(Clone)]
pub(crate) struct RedisConfig {
    /// `redis://` or, with the feature `tls`, `rediss://`.
    pub(crate) url: String,
    /// PEM files; without a CA the system's roots are trusted.
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "settings without TLS are refused")
    )]
    pub(crate) tls_ca: Option<PathBuf>,
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "settings without TLS are refused")
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "settings without TLS are refused")
    )]
    pub(crate) tls_key: Option<PathBuf>,
    /// How long any command may take, and each half of connecting.
    pub(crate) command_timeout: Duration,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig")
            .field("address", &Address::parse(&self.url))
            .field("command_timeout", &self.command_timeout)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    #[cfg(feature = "tls")]
    pub(super) fn target(&self, address: &Address) -> Result<Target, Error> {
        let target = Target::new(address, self.command_timeout);
        Ok(if address.tls {
            target.with_tls(tls::connector(
                self.tls_ca.as_deref(),
                self.tls_cert.as_deref(),
                self.tls_key.as_deref(),
            )?)
        } else {
            target
        })
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn target(&self, address: &Address) -> Result<Target, Error> {
        if address.tls {
            let message =
                "the Redis URL asks for TLS, and this program was built without the feature `tls`";
            return Err(Error::new(crate::ErrorKind::Settings, message));
        }
        Ok(Target::new(address, self.command_timeout))
    }
}
