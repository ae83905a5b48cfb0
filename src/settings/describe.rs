//! The list of all settings and their values, with secrets redacted.

use std::fmt;

use super::options::{FIELDS, Field, Settings};
use super::problems::Place;
use super::redact;

/// One setting, as [`Settings::describe`] lists it.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), unstale::Error> {
/// let vars = [("UNSTALE_TTL".to_string(), "30s".to_string())];
/// let settings = unstale::Settings::from_vars(vars)?;
/// for row in settings.describe().iter().filter(|row| row.is_set) {
///     println!("{}={} ({}; default {})", row.variable, row.value, row.scope, row.default);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingInfo {
    /// The variable's name, such as `UNSTALE_TTL`.
    pub variable: String,
    /// What the value applies to.
    pub scope: SettingScope,
    /// The built-in default, as it would be written in the variable, or `unset`.
    pub default: String,
    /// The current value in the same form, with secrets redacted.
    pub value: String,
    /// Whether a variable or the file sets it, even if to the default.
    pub is_set: bool,
    /// What the setting does, in a sentence or a few.
    pub help: &'static str,
}

/// What a setting applies to. `Display` writes it in a few words.
///
/// # Examples
///
/// ```
/// use unstale::SettingScope;
///
/// assert_eq!(SettingScope::AllCaches.to_string(), "default for all caches");
/// assert_eq!(SettingScope::Cache("accounts".into()).to_string(), "cache accounts");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettingScope {
    /// The whole instance.
    Instance,
    /// All caches, as their default: the builder of a cache overrides it in code, and the variable of
    /// that cache overrides both.
    AllCaches,
    /// One cache, by its name. The value overrides code and the default for all caches.
    Cache(String),
}

impl fmt::Display for SettingScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => f.pad("instance"),
            Self::AllCaches => f.pad("default for all caches"),
            Self::Cache(name) => f.pad(&format!("cache {name}")),
        }
    }
}

impl Settings {
    /// Returns every setting with its default and its current value, in the order of the
    /// documentation, and then the overrides for single caches.
    ///
    /// # Examples
    ///
    /// ```
    /// let rows = unstale::Settings::default().describe();
    /// let ttl = rows.iter().find(|row| row.variable == "UNSTALE_TTL");
    /// assert_eq!(ttl.map(|row| row.default.as_str()), Some("60s"));
    /// ```
    #[must_use]
    pub fn describe(&self) -> Vec<SettingInfo> {
        let mut rows: Vec<SettingInfo> = FIELDS
            .iter()
            .map(|field| SettingInfo {
                variable: Place::global(field.name).variable(),
                scope: match field.cache {
                    None => SettingScope::Instance,
                    Some(_) => SettingScope::AllCaches,
                },
                default: (field.show)(&Self::default()),
                value: self.shown(field),
                is_set: self.given.contains_key(field.name),
                help: field.help,
            })
            .collect();
        for (cache, settings) in &self.caches {
            rows.extend(FIELDS.iter().filter_map(|field| {
                let value = (field.cache.as_ref()?.show)(settings)?;
                Some(SettingInfo {
                    variable: Place::of_cache(cache, field.name).variable(),
                    scope: SettingScope::Cache(cache.clone()),
                    default: "unset".to_string(),
                    value,
                    is_set: true,
                    help: field.help,
                })
            }));
        }
        rows
    }

    /// Returns the variables of the settings that one cache has for itself.
    pub(crate) fn variables_of(&self, cache: &str) -> Vec<String> {
        let rows = self.describe().into_iter();
        let of_it = rows.filter(|row| row.scope == SettingScope::Cache(cache.to_owned()));
        of_it.map(|row| row.variable).collect()
    }

    /// Returns the URL of Redis as it may be shown.
    pub(crate) fn shown_url(&self) -> String {
        let url = self.redis_url.as_deref();
        url.map_or_else(|| "unset".to_owned(), |url| redact::value("redis_url", url))
    }

    /// The value as text, redacted unless it is the default.
    fn shown(&self, field: &Field) -> String {
        let value = (field.show)(self);
        if value == (field.show)(&Self::default()) {
            return value;
        }
        redact::value(field.name, &value)
    }
}

/// Redacts what [`Settings::describe`] redacts: the password in a URL, the secrets and the path of the TLS key.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Settings");
        for field in FIELDS {
            out.field(field.name, &format_args!("{}", self.shown(field)));
        }
        out.field("caches", &self.caches)
            .field("credentials", &self.credentials)
            .finish()
    }
}
