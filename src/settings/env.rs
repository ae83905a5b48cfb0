//! Reading settings from variables and from the file that `UNSTALE_FILE` names, with hints for typos.
//!
//! The process environment is read here and nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;

use config::{Environment, File, FileFormat, Source as _, Value, ValueKind};

use super::bounds;
use super::file::{UrlInFile, in_file, in_files, others_may_read, read_secret, read_settings};
use super::options::{FIELDS, Settings, field};
use super::problems::{Place, Problems};
use crate::error::Error;

const PREFIX: &str = "UNSTALE_";

/// Names the file; the only variable that is not a setting.
const FILE: &str = "UNSTALE_FILE";

impl Settings {
    /// Reads the variables `UNSTALE_*` and the TOML file that `UNSTALE_FILE` names. Where both set a
    /// value, the variable counts.
    ///
    /// The file has the same names in lower case, `ttl = "30s"`, and a table for each cache that has
    /// settings of its own, `[caches.accounts]`. White space around a value is ignored. A variable
    /// that is present but empty is an error, because its value may have been lost.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use unstale::{Instance, Settings};
    ///
    /// # async fn start() -> Result<(), unstale::Error> {
    /// let instance = Instance::start(Settings::from_env()?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns one error of kind [`Settings`](crate::ErrorKind::Settings) that lists everything that is
    /// wrong: values that do not parse or are out of bounds, and names that do not exist, each with what
    /// would be right. Secrets are redacted.
    pub fn from_env() -> Result<Self, Error> {
        from_os_vars(std::env::vars_os())
    }

    /// Reads settings as [`from_env`](Self::from_env) does, but from these variables instead of those of
    /// the process.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), unstale::Error> {
    /// let vars = [("UNSTALE_TTL".to_string(), "30s".to_string())];
    /// let settings = unstale::Settings::from_vars(vars)?;
    /// assert_eq!(settings.ttl.as_secs(), 30);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the same error as [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        from_vars(vars, Problems::in_env())
    }
}

pub(super) fn from_os_vars(
    all: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, Error> {
    let mut problems = Problems::in_env();
    let mut vars = Vec::new();
    for (name, value) in all {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => vars.push((name, value)),
            (Ok(name), Err(_)) if is_ours(&name) => {
                problems.report_name(&name, "is not UTF-8");
            }
            (Err(name), _) if is_ours(&name.to_string_lossy()) => {
                problems.report_name(&name.to_string_lossy(), "no such setting");
            }
            _ => {}
        }
    }
    from_vars(vars, problems)
}

fn from_vars(
    vars: impl IntoIterator<Item = (String, String)>,
    mut problems: Problems,
) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    let mut file = None;
    let mut known = config::Map::new();
    let mut secrets = Vec::new();
    let mut url_file = None;
    for (name, value) in vars {
        let value = value.trim();
        if !is_ours(&name) {
            continue;
        }
        if name != FILE
            && let Err(why) = knows(&name)
        {
            problems.report_name(&name, why);
        } else if value.is_empty() {
            problems.report_name(&name, empty(&name));
        } else if name == FILE {
            file = Some(value.to_string());
        } else if let Some(variable) = in_file(&name) {
            secrets.push((variable, name, value.to_string()));
        } else {
            known.insert(name, value.to_string());
        }
    }
    for (variable, name, path) in secrets {
        if known.contains_key(&variable) {
            problems.report_name(
                &name,
                format!("{variable} is set too: leave one of them out"),
            );
            continue;
        }
        match read_secret(&path) {
            Ok(secret) => {
                if others_may_read(&path) {
                    settings.exposed.push(name.clone());
                }
                if variable == Place::global("redis_url").variable() {
                    url_file = Some(path);
                } else {
                    settings.secret_files.push((name, path));
                }
                known.insert(variable, secret);
            }
            Err(why) => problems.report_name(&name, why),
        }
    }
    let name = "UNSTALE_REDIS_PASSWORD_FILE";
    if known.get(name).is_some_and(|path| others_may_read(path)) {
        settings.exposed.push(name.to_owned());
    }
    if let Some(path) = file {
        apply_file(&mut settings, &path, &mut problems);
        settings.file = settings.redis_url.clone().map(|url| UrlInFile {
            path: path.into(),
            url,
        });
    }
    apply_vars(&mut settings, known, &mut problems);
    if let (Some(path), Some(url)) = (url_file, settings.redis_url.clone()) {
        settings.file = Some(UrlInFile {
            path: path.into(),
            url,
        });
    }
    settings.check(&mut problems);
    problems.into_result().map(|()| settings)
}

fn is_ours(name: &str) -> bool {
    let made_by_kubernetes = |rest: &str| {
        let padded = format!("_{rest}");
        padded.ends_with("_SERVICE_HOST")
            || padded.contains("_SERVICE_PORT")
            || padded.ends_with("_PORT")
            || padded.contains("_PORT_")
    };
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| !made_by_kubernetes(rest))
}

/// What is wrong with a value that is present but empty: a variable of a deployment that was filled
/// from nothing looks like this, and what was meant is unknown.
fn empty(name: &str) -> &'static str {
    if name.to_ascii_lowercase().ends_with("redis_url") {
        "is empty: set it to the Redis of the fleet, as in redis://127.0.0.1:6379, or to none for a fleet \
         inside this process"
    } else {
        "is empty: leave it out, or give it a value"
    }
}

/// Whether a variable names a setting, or what is wrong with the name.
fn knows(variable: &str) -> Result<(), String> {
    let rest = variable.strip_prefix(PREFIX).unwrap_or(variable);
    let parts: Vec<&str> = rest.split("__").collect();
    match parts[..] {
        _ if in_file(variable).is_some() => Ok(()),
        [name] if is_upper(name) && field(&name.to_lowercase()).is_some() => Ok(()),
        ["CACHES", cache, name] if is_upper(cache) && is_upper(name) => {
            bounds::cache_name(&cache.to_lowercase())?;
            match field(&name.to_lowercase()) {
                Some(field) if field.cache.is_some() => Ok(()),
                Some(_) => Err(format!("cannot be set for one cache; use {PREFIX}{name}")),
                None => Err(unknown(variable, &suggestions(cache))),
            }
        }
        [_, cache, _] => Err(unknown(variable, &suggestions(cache))),
        _ => Err(unknown(variable, &suggestions("<NAME>"))),
    }
}

fn is_upper(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn unknown(name: &str, known: &[String]) -> String {
    match nearest(name, known) {
        Some(near) => format!("no such setting; the nearest is {near}"),
        None => "no such setting".to_string(),
    }
}

/// Every variable there is, with the overrides of one cache.
fn suggestions(cache: &str) -> Vec<String> {
    let global = FIELDS
        .iter()
        .map(|field| Place::global(field.name).variable());
    let caches = FIELDS
        .iter()
        .filter(|field| field.cache.is_some())
        .map(|field| Place::of_cache(cache, field.name).variable());
    let files = in_files().chain([FILE.to_string()]);
    global.chain(files).chain(caches).collect()
}

/// The name with the fewest edits between them, without regard to case.
pub(crate) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    /// No setting has a name nearly so long, and the work grows with its square.
    const MAX_NAME: usize = 160;
    let name: Vec<char> = name
        .chars()
        .take(MAX_NAME)
        .flat_map(char::to_uppercase)
        .collect();
    known.iter().min_by_key(|other| {
        let other: Vec<char> = other.chars().flat_map(char::to_uppercase).collect();
        let edits = edits(&name, &other);
        // A name that was begun and not finished is half as far.
        if other.starts_with(&name) {
            edits / 2
        } else {
            edits
        }
    })
}

/// Levenshtein's distance, one row at a time.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Variables whose names are known to be right.
fn apply_vars(settings: &mut Settings, vars: config::Map<String, String>, problems: &mut Problems) {
    // No `try_parsing`: it would turn a password of digits into a number.
    let source = Environment::with_prefix("UNSTALE")
        .prefix_separator("_")
        .separator("__")
        .source(Some(vars));
    let values = match source.collect() {
        Ok(values) => values.into_iter().collect::<BTreeMap<_, _>>(),
        Err(_) => return problems.report_name("the environment", "cannot be read"),
    };
    for (path, value) in values {
        let place = match path.split('.').collect::<Vec<_>>()[..] {
            ["caches", cache, name] => Place::of_cache(cache, name),
            _ => Place::global(&path),
        };
        let origin = place.variable();
        apply(settings, place, value, origin, problems);
    }
}

fn apply_file(settings: &mut Settings, path: &str, problems: &mut Problems) {
    let text = match read_settings(path) {
        Ok(text) => text,
        Err(why) => return problems.report_name(FILE, format!("{path} cannot be read: {why}")),
    };
    let root = match File::from_str(&text, FileFormat::Toml).collect() {
        Ok(root) => root.into_iter().collect::<BTreeMap<_, _>>(),
        Err(error) => return problems.report_name(FILE, not_toml(path, &error)),
    };
    for (name, value) in root {
        if name != "caches" {
            let origin = format!("{path}: {name}");
            apply(settings, Place::global(&name), value, origin, problems);
            continue;
        }
        let ValueKind::Table(caches) = value.kind else {
            problems.report_name(
                &format!("{path}: caches"),
                "must be tables, [caches.<name>]",
            );
            continue;
        };
        for (cache, value) in caches.into_iter().collect::<BTreeMap<_, _>>() {
            apply_table(settings, path, &cache, value, problems);
        }
    }
}

fn apply_table(
    settings: &mut Settings,
    path: &str,
    cache: &str,
    value: Value,
    problems: &mut Problems,
) {
    let here = format!("{path}: caches.{cache}");
    let ValueKind::Table(table) = value.kind else {
        return problems.report_name(&here, "must be a table, [caches.<name>]");
    };
    if let Err(why) = bounds::cache_name(cache) {
        return problems.report_name(&here, why);
    }
    for (name, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
        let origin = format!("{path}: caches.{cache}.{name}");
        apply(
            settings,
            Place::of_cache(cache, &name),
            value,
            origin,
            problems,
        );
    }
}

/// Sets one value, or says why not.
fn apply(
    settings: &mut Settings,
    place: Place,
    value: Value,
    origin: String,
    problems: &mut Problems,
) {
    let field = field(&place.name);
    let Some(field) = field.filter(|field| place.cache.is_none() || field.cache.is_some()) else {
        let names: Vec<String> = FIELDS
            .iter()
            .filter(|field| place.cache.is_none() || field.cache.is_some())
            .map(|field| field.name.to_string())
            .collect();
        return problems.report_name(&origin, unknown(&place.name, &names));
    };
    problems.origin(place.clone(), origin.clone());
    let text = match value.kind {
        ValueKind::String(text) => text,
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::Boolean(yes) => yes.to_string(),
        _ => return problems.report(place, "", "must be one value"),
    };
    let text = text.trim();
    if text.is_empty() {
        let why = empty(&place.name);
        return problems.report(place, "", why);
    }
    let set = match (&place.cache, &field.cache) {
        (Some(cache), Some(part)) => {
            (part.set)(settings.caches.entry(cache.clone()).or_default(), text)
        }
        _ => (field.set)(settings, text),
    };
    if place.cache.is_none() {
        settings.given.insert(field.name, origin);
    }
    if let Err(why) = set {
        problems.report(place, text, why);
    }
}

/// Returns the URL of Redis that the text of a settings file has, or what is wrong with the text,
/// of which nothing is repeated.
#[cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "only the bus over Redis connects")
)]
pub(crate) fn url_in(text: &str) -> Result<String, &'static str> {
    let line = text.trim();
    let is_scheme = |text: &str| text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if let Some((scheme, _)) = line.split_once("://")
        && is_scheme(scheme)
    {
        // The file of UNSTALE_REDIS_URL_FILE.
        return Ok(line.to_owned());
    }
    let root = File::from_str(text, FileFormat::Toml).collect();
    let root = root.map_err(|_| "it is not valid TOML")?;
    match root.get("redis_url").map(|value| &value.kind) {
        Some(ValueKind::String(url)) => Ok(url.trim().to_owned()),
        _ => Err("it has no redis_url"),
    }
}

/// Where the file is broken. The parser's own message repeats the line, which may hold a password.
fn not_toml(path: &str, error: &config::ConfigError) -> String {
    let message = match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        _ => String::new(),
    };
    let place = message
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("TOML parse error at "));
    format!(
        "{path} is not valid TOML{}",
        place.map(|at| format!(" at {at}")).unwrap_or_default()
    )
}
