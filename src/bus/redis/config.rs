//! How to reach Redis, as the settings say.

use std::fmt;
use std::path::PathBuf;

use super::dial::Lookup;
use super::listen::Listen;
use super::logins::{LoginSource, Logins};
use super::target::{Target, Times};
#[cfg(feature = "tls")]
use super::tls;
use crate::Error;
use crate::settings::Settings;
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
    /// The name that certificates are to have, in place of the host's.
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "settings without TLS are refused")
    )]
    pub(crate) tls_server_name: Option<String>,
    /// Where the password comes from.
    pub(crate) login: LoginSource,
    /// Where events are subscribed to.
    pub(crate) listen: Listen,
    pub(crate) lookup: Lookup,
    pub(crate) times: Times,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig")
            .field("address", &Address::parse(&self.url))
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// As the settings say; `None` if they name no server.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        let url = settings.server_url()?.to_owned();
        let in_file = settings.file.as_ref().filter(|file| file.url == url);
        let login = match (
            &settings.credentials,
            &settings.redis_password_file,
            in_file,
        ) {
            (Some(callback), ..) => LoginSource::Callback(callback.clone()),
            (None, Some(path), _) => LoginSource::PasswordFile(path.clone()),
            (None, None, Some(file)) => LoginSource::SettingsFile(file.path.clone()),
            (None, None, None) => LoginSource::Url,
        };
        Some(Self {
            url,
            tls_ca: settings.tls_ca.clone(),
            tls_cert: settings.tls_cert.clone(),
            tls_key: settings.tls_key.clone(),
            tls_server_name: settings.tls_server_name.clone(),
            login,
            listen: Listen::of(&settings.subscribe_at),
            lookup: Lookup::default(),
            times: Times {
                connect: settings.connect_timeout,
                command: settings.command_timeout,
                keepalive: settings.keepalive,
            },
        })
    }

    pub(super) fn target(&self, address: &Address) -> Result<Target, Error> {
        let logins = Logins::new(self.login.clone(), address)?;
        let target = Target::new(address, self.times, logins, self.lookup.clone());
        if address.tls {
            self.secured(target)
        } else {
            Ok(target)
        }
    }

    #[cfg(feature = "tls")]
    fn secured(&self, target: Target) -> Result<Target, Error> {
        let connector = tls::connector(
            self.tls_ca.as_deref(),
            self.tls_cert.as_deref(),
            self.tls_key.as_deref(),
        )?;
        Ok(target.with_tls(connector, self.tls_server_name.clone()))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn secured(&self, _: Target) -> Result<Target, Error> {
        let message =
            "the Redis URL asks for TLS, and this program was built without the feature `tls`";
        Err(Error::new(crate::ErrorKind::Settings, message))
    }
}
