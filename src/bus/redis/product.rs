//! What a server is, as its `INFO` says.

use std::collections::BTreeMap;
use std::fmt;

use crate::foreign::shown;
use crate::{Error, ErrorKind};

/// Oldest version that runs the scripts: of Redis, and of what says that it is compatible with it.
const OLDEST: (u32, u32) = (7, 0);

/// A server's name, version and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    name: String,
    version: String,
    /// The version of Redis that it says it is compatible with.
    redis_version: String,
    /// `standalone`, `cluster` or `sentinel`.
    mode: String,
    /// Without it one life of the server cannot be distinguished from the next.
    has_run_id: bool,
}

impl Product {
    /// Reads the lines of `INFO server`.
    pub(super) fn of(info: &str) -> Self {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        Self::from_fields(
            &lines
                .map(|(name, value)| (name.to_owned(), shown(value.trim())))
                .collect(),
        )
    }

    /// Reads the fields of `INFO`.
    #[must_use]
    pub fn from_fields(info: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| info.get(name).filter(|value| !value.is_empty()).cloned();
        let own = info
            .iter()
            .filter_map(|(field, version)| Some((field.strip_suffix("_version")?, version)))
            // gcc_version, and what else a server is built with, does not follow its name.
            .find(|(name, _)| get("server_name").as_deref() == Some(*name) || *name == "dragonfly");
        let unknown = || "unknown".to_owned();
        let redis_version = get("redis_version").unwrap_or_else(unknown);
        let (name, version) = match own {
            Some((name, version)) => (capitalized(name), version.clone()),
            None => ("Redis".to_owned(), redis_version.clone()),
        };
        Self {
            name,
            version,
            redis_version,
            mode: get("server_mode")
                .or_else(|| get("redis_mode"))
                .unwrap_or_else(unknown),
            has_run_id: get("run_id").is_some(),
        }
    }

    /// Whether the scripts can run there; `clustered` is whether the URL is that of a cluster.
    ///
    /// # Errors
    ///
    /// `Settings`, with what is wrong and what would be right.
    pub fn judge(&self, clustered: bool) -> Result<(), Error> {
        let mut parts = self.redis_version.split('.').map(str::parse);
        let version = match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        };
        let wrong = |why: &str| Err(Error::new(ErrorKind::Settings, format!("{self}: {why}")));
        if version.is_some_and(|version| version < OLDEST) {
            return wrong("it is too old; use Redis 7.0 or later, or Valkey");
        }
        if !self.has_run_id {
            return wrong(
                "its INFO names no run_id, by which a restart is noticed; use Redis or Valkey themselves",
            );
        }
        match (self.mode.as_str(), clustered) {
            ("cluster", false) => wrong(
                "it is a node of a cluster: begin UNSTALE_REDIS_URL with redis-cluster:// (or \
                 rediss-cluster://)",
            ),
            ("standalone", true) => wrong(
                "it is no node of a cluster: begin UNSTALE_REDIS_URL with redis:// (or rediss://)",
            ),
            ("sentinel", _) => wrong(
                "it is a sentinel: begin UNSTALE_REDIS_URL with redis-sentinel:// (or \
                 rediss-sentinel://)",
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.name, self.version, self.mode)
    }
}

fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(info: &str) -> Product {
        Product::of(&info.replace(' ', "\r\n"))
    }

    #[test]
    fn servers_are_named_as_they_name_themselves() {
        for (info, shown) in [
            (
                "redis_version:7.0.15 redis_mode:standalone gcc_version:12.2.0 run_id:a",
                "Redis 7.0.15, standalone",
            ),
            (
                "redis_version:7.2.4 server_name:valkey valkey_version:8.1.8 server_mode:cluster run_id:a",
                "Valkey 8.1.8, cluster",
            ),
            (
                "redis_version:7.4.0 dragonfly_version:df-v1.30.0 redis_mode:standalone run_id:a",
                "Dragonfly df-v1.30.0, standalone",
            ),
            ("", "Redis unknown, unknown"),
        ] {
            assert_eq!(product(info).to_string(), shown);
        }
    }

    #[test]
    fn a_server_that_cannot_run_the_scripts_is_named_with_what_would_be_right() {
        for (info, clustered, text) in [
            (
                "redis_version:6.2.5 redis_mode:standalone run_id:a",
                false,
                "too old; use Redis 7.0",
            ),
            (
                "redis_version:7.2.4 redis_mode:standalone",
                false,
                "names no run_id",
            ),
            (
                "redis_version:7.2.4 server_mode:cluster run_id:a",
                false,
                "redis-cluster://",
            ),
            (
                "redis_version:7.2.4 redis_mode:standalone run_id:a",
                true,
                "redis://",
            ),
            (
                "redis_version:7.2.4 redis_mode:sentinel run_id:a",
                false,
                "redis-sentinel://",
            ),
        ] {
            let error = product(info).judge(clustered).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(text), "{error}");
        }
        let good = product("redis_version:7.2.4 redis_mode:cluster run_id:a");
        good.judge(true).unwrap();
        // A server that does not give its version is judged by what it does.
        product("redis_version:edge run_id:a").judge(false).unwrap();
    }
}
