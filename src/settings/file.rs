//! Files that are read while the program runs: secrets that are changed there take effect without a restart.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::problems::Place;

const SUFFIX: &str = "_FILE";

/// Secrets that a file may hold, whose path the variable with `_FILE` behind its name has: as systemd
/// (`LoadCredential=`) and Kubernetes hand them over, in no environment that others may read.
const IN_FILES: [&str; 5] = [
    "redis_url",
    "signing_key",
    "signing_key_accepted",
    "tier_secret",
    "tier_secret_accepted",
];

/// The variable whose value is in the file that the variable of this name names.
pub(super) fn in_file(name: &str) -> Option<String> {
    let variables = IN_FILES.map(|setting| Place::global(setting).variable());
    let of = name.strip_suffix(SUFFIX)?;
    variables.into_iter().find(|variable| variable == of)
}

/// The variables that name files of secrets.
pub(super) fn in_files() -> impl Iterator<Item = String> {
    IN_FILES
        .into_iter()
        .map(|setting| Place::global(setting).variable() + SUFFIX)
}

/// Whether every user of this machine may read a file.
#[cfg(unix)]
pub(super) fn others_may_read(path: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
pub(super) fn others_may_read(_: &str) -> bool {
    false
}

/// The URL of Redis in the file that `UNSTALE_FILE` names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UrlInFile {
    pub(crate) path: PathBuf,
    /// As it was when the settings were read: where the settings have another, the file is not the source.
    pub(crate) url: String,
}

/// Largest settings file that is read. Ten thousand caches with every setting fit; a device does not.
pub(crate) const LARGEST_SETTINGS: u64 = 4 << 20;

/// Reads a settings file.
pub(super) fn read_settings(path: &str) -> std::io::Result<String> {
    read_bounded(Path::new(path), LARGEST_SETTINGS)
}

/// Largest file that holds one secret.
const LARGEST_SECRET: u64 = 64 << 10;

/// Reads a file that holds a secret and nothing else; the end of its line does not belong to it.
pub(super) fn read_secret(path: &str) -> Result<String, String> {
    let text = read_bounded(Path::new(path), LARGEST_SECRET);
    let text = text.map_err(|error| format!("{path} cannot be read: {error}"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{path} is empty")),
        secret => Ok(secret.to_owned()),
    }
}

/// Reads a file of at most so many bytes.
pub(crate) fn read_bounded(path: &Path, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(most + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > most {
        let size = if most < 1 << 20 {
            format!("{} KiB", most >> 10)
        } else {
            format!("{} MiB", most >> 20)
        };
        return Err(std::io::Error::other(format!("larger than {size}")));
    }
    Ok(text)
}
