//! Everything that is wrong with the settings, in one error.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::redact;
use crate::error::{Error, ErrorKind};
use crate::foreign;

/// Longest value an error repeats, in characters: enough to recognise any sensible one.
const MAX_SHOWN: usize = 100;

/// Which setting, and of which cache. An empty name is the cache itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) cache: Option<String>,
    pub(super) name: String,
}

impl Place {
    pub(super) fn global(name: &str) -> Self {
        Self {
            cache: None,
            name: name.to_string(),
        }
    }

    pub(super) fn of_cache(cache: &str, name: &str) -> Self {
        Self {
            cache: Some(cache.to_string()),
            name: name.to_string(),
        }
    }

    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        match &self.cache {
            None => format!("UNSTALE_{}", self.name.to_uppercase()),
            Some(cache) => {
                format!(
                    "UNSTALE_CACHES__{}__{}",
                    cache.to_uppercase(),
                    self.name.to_uppercase()
                )
            }
        }
    }

    /// What a programmer calls it.
    fn option(&self) -> String {
        match &self.cache {
            None => self.name.clone(),
            Some(cache) if self.name.is_empty() => format!("cache {}", clip(cache)),
            Some(cache) => format!("{} of cache {}", self.name, clip(cache)),
        }
    }
}

/// Collects what is wrong; each place is blamed once, for the first thing found.
#[derive(Debug)]
pub(super) struct Problems {
    /// How to call a place whose origin is not known.
    name: fn(&Place) -> String,
    origins: BTreeMap<Place, String>,
    blamed: Vec<Place>,
    lines: Vec<String>,
}

impl Problems {
    /// Names settings as an operator does.
    pub(super) fn in_env() -> Self {
        Self::new(Place::variable)
    }

    /// Names settings as a programmer does.
    pub(super) fn in_code() -> Self {
        Self::new(Place::option)
    }

    fn new(name: fn(&Place) -> String) -> Self {
        Self {
            name,
            origins: BTreeMap::new(),
            blamed: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Remembers what set a place; the latest source wins, as its value does.
    pub(super) fn origin(&mut self, place: Place, origin: String) {
        self.origins.insert(place, origin);
    }

    /// A value that is not right.
    pub(super) fn report(&mut self, place: Place, value: &str, why: impl Into<String>) {
        if self.blames(&place) {
            return;
        }
        let name = self
            .origins
            .get(&place)
            .cloned()
            .unwrap_or_else(|| (self.name)(&place));
        let why = why.into();
        let shown = if place.name.is_empty() || value.is_empty() {
            String::new()
        } else {
            format!("={}", clip(&redact::value(&place.name, value)))
        };
        self.lines.push(format!("{}{shown}: {why}", clip(&name)));
        self.blamed.push(place);
    }

    /// Something wrong that has no place; its value is not repeated, since it may be a secret.
    pub(super) fn report_name(&mut self, name: &str, why: impl Into<String>) {
        self.lines.push(format!("{}: {}", clip(name), why.into()));
    }

    /// Whether a place was found wrong before, so that its value says nothing.
    pub(super) fn blames(&self, place: &Place) -> bool {
        self.blamed.contains(place)
    }

    pub(super) fn into_result(self) -> Result<(), Error> {
        let mut message = match self.lines.len() {
            0 => return Ok(()),
            1 => "1 setting is not valid:".to_string(),
            n => format!("{n} settings are not valid:"),
        };
        for line in &self.lines {
            let _ = write!(message, "\n  {line}");
        }
        Err(Error::new(ErrorKind::Settings, message))
    }
}

/// Cuts what is too long and escapes what could forge a line of a log.
fn clip(text: &str) -> String {
    foreign::cut(text, MAX_SHOWN)
}
