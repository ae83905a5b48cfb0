//! Where the password for Redis comes from, and how it is read there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use crate::credentials::{Credentials, CredentialsProvider};
use crate::settings::{LARGEST_SETTINGS, read_bounded, url_in};
use crate::url::{Address, Deployment, Login};
use crate::{Error, ErrorKind};

/// Largest password file that is read: tokens have some kilobytes, a device has no end.
const LARGEST_PASSWORD: u64 = 64 << 10;

/// How long the callback may take: services that issue tokens answer in less, and nothing else waits.
const CALLBACK: Duration = Duration::from_secs(10);

/// Where the password comes from.
#[derive(Clone, Default)]
pub(crate) enum LoginSource {
    /// The URL, which does not change.
    #[default]
    Url,
    /// A file that holds nothing else.
    PasswordFile(PathBuf),
    /// The URL in a settings file.
    SettingsFile(PathBuf),
    Callback(CredentialsProvider),
}

/// What a source says.
pub(super) struct Read {
    pub(super) server: Login,
    pub(super) sentinels: Option<Login>,
    pub(super) expires_in: Option<Duration>,
}

/// Reads the source; takes as long as it takes.
pub(super) async fn read(source: &LoginSource) -> Result<Read, Error> {
    match source {
        LoginSource::Url => Err(Error::new(ErrorKind::Settings, "the URL is read once")),
        LoginSource::PasswordFile(path) => {
            let text = read_file(path, LARGEST_PASSWORD, "the password file").await?;
            let password = text.trim_end_matches(['\r', '\n']).to_owned();
            if password.is_empty() {
                let message = format!("the password file {} is empty", path.display());
                return Err(Error::new(ErrorKind::Settings, message));
            }
            let server = Login {
                username: None,
                password: Some(password),
            };
            Ok(Read {
                server,
                sentinels: None,
                expires_in: None,
            })
        }
        LoginSource::SettingsFile(path) => {
            let text = read_file(path, LARGEST_SETTINGS, "the settings file").await?;
            let wrong = |why: String| {
                let message = format!("the settings file {}: {why}", path.display());
                Error::new(ErrorKind::Settings, message)
            };
            let url = url_in(&text).map_err(|why| wrong(why.to_owned()))?;
            let address = Address::parse(&url)
                .map_err(|why| wrong(format!("its redis_url is not valid: {why}")))?;
            Ok(Read {
                sentinels: sentinels(&address),
                server: address.login,
                expires_in: None,
            })
        }
        LoginSource::Callback(callback) => {
            let failed = |error: &dyn fmt::Display| {
                let message = format!("the callback for credentials failed: {error}");
                Error::new(ErrorKind::Bus, message)
            };
            let answer = timeout(CALLBACK, callback.ask()).await;
            let answer = answer.map_err(|_| failed(&format_args!("no answer in {CALLBACK:?}")))?;
            let Credentials {
                user,
                password,
                expires_in,
            } = answer.map_err(|error| failed(&error))?;
            let server = Login {
                username: user,
                password: Some(password),
            };
            Ok(Read {
                server,
                sentinels: None,
                expires_in,
            })
        }
    }
}

/// Off the threads of async tasks: a disk may take its time.
async fn read_file(path: &Path, most: u64, what: &str) -> Result<String, Error> {
    let from = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_bounded(&from, most)).await;
    let unread = |error: &dyn fmt::Display| {
        let message = format!("{what} {} cannot be read: {error}", path.display());
        Error::new(ErrorKind::Settings, message)
    };
    match read {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(unread(&error)),
        Err(error) => Err(unread(&error)),
    }
}

/// Returns the login for sentinels that a URL has.
pub(super) fn sentinels(address: &Address) -> Option<Login> {
    match &address.deployment {
        Deployment::Sentinel { login, .. } => Some(login.clone()),
        Deployment::Single | Deployment::Cluster => None,
    }
}
