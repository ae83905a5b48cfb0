//! What one cache runs with: its variables, its code and the defaults for all caches, resolved.

use super::bounds;
use super::check;
use super::options::{CacheOptions, CacheSettings, FIELDS, Field, Settings};
use super::problems::{Place, Problems};
use super::text::Text as _;
use super::values::{HiddenSetting, Switch};
use crate::error::Error;

/// What the code of a cache can do for the options that need it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    /// It has a weigher.
    pub(crate) weighs: bool,
    /// It can compare a served value with the source's.
    pub(crate) compares: bool,
}

impl Settings {
    /// Resolves one cache's options: its own variables win over its builder's calls (`code`),
    /// which win over the defaults for all caches. Notes which of these defaults are set and have
    /// no effect.
    ///
    /// # Errors
    ///
    /// Lists the name, if it cannot be a cache's, and every value out of bounds, each by the
    /// variable or the builder option that set it.
    pub(crate) fn for_cache(
        &self,
        name: &str,
        code: &CacheSettings,
        can: Abilities,
    ) -> Result<CacheOptions, Error> {
        let mut problems = Problems::in_code();
        let mut hidden = Vec::new();
        if let Err(why) = bounds::cache_name(name) {
            problems.report(Place::of_cache(name, ""), "", why);
        }
        let unset = CacheSettings::default();
        let variables = self.caches.get(name).unwrap_or(&unset);
        for field in FIELDS {
            let Some(part) = &field.cache else { continue };
            let place = Place::of_cache(name, field.name);
            let (from, shown) = if let Some(shown) = (part.show)(variables) {
                problems.origin(place.clone(), place.variable());
                (variables, shown)
            } else if let Some(shown) = (part.show)(code) {
                hidden.extend(self.hidden_by_code(name, field, &shown));
                (code, shown)
            } else {
                problems.origin(place, Place::global(field.name).variable());
                continue; // checked with the settings as a whole
            };
            let checked = (part.check)(from).and_then(|()| possible(field, from, can));
            if let Err(why) = checked {
                problems.report(place, &shown, why);
            }
        }
        let mut options = self.resolve(variables, code);
        if options.max_bytes.is_some() && !can.weighs {
            hidden.push(HiddenSetting {
                cache: name.to_string(),
                setting: self.origin("max_bytes"),
                value: self.max_bytes.show(),
                reason: "the cache has no weigher".to_string(),
            });
            options.max_bytes = None;
        }
        check::promise(self, name, options.max_staleness, &mut problems);
        check::source(self, name, &options, &mut problems);
        options.hidden = hidden;
        problems.into_result().map(|()| options)
    }

    /// The default for all caches, if a variable or the file sets it to another value than code.
    fn hidden_by_code(&self, cache: &str, field: &Field, code: &str) -> Option<HiddenSetting> {
        let value = (field.show)(self);
        if value == code || !self.given.contains_key(field.name) {
            return None;
        }
        let own = Place::of_cache(cache, field.name).variable();
        Some(HiddenSetting {
            cache: cache.to_string(),
            setting: self.origin(field.name),
            value,
            reason: format!("code sets {code}, which only {own} overrides"),
        })
    }

    /// What sets a default for all caches: a variable, a name in the file, or a field in code.
    fn origin(&self, name: &str) -> String {
        let given = self.given.get(name).cloned();
        given.unwrap_or_else(|| name.to_string())
    }
}

/// Checks that a cache can do what a value of its own asks for.
fn possible(field: &Field, own: &CacheSettings, can: Abilities) -> Result<(), String> {
    let missing = match field.name {
        "max_bytes" if is_on(own.max_bytes) && !can.weighs => "weigher(|key, value| ...)",
        "audit" if is_on(own.audit) && !can.compares => "audit(|served, source| ...)",
        _ => return Ok(()),
    };
    Err(format!("needs `.{missing}` in the code of this cache"))
}

fn is_on<T>(value: Option<Switch<T>>) -> bool {
    matches!(value, Some(Switch::On(_)))
}
