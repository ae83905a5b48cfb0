//! Settings: plain values with defaults, bounds and help.
//!
//! [`Settings`] is what an instance starts with; [`Settings::from_env`] fills it from `UNSTALE_*`.
//! One table (`settings/options.rs`) gives each setting its field, default, bounds and help, so that
//! reading, checking, resolving and describing cannot disagree.

mod bounds;
mod check;
mod describe;
mod env;
mod file;
mod options;
mod problems;
mod redact;
mod resolve;
mod secrets;
mod table;
mod text;
mod values;

#[cfg(feature = "cli")]
pub(crate) use check::check_cache_name;
#[cfg(feature = "shared")]
pub(crate) use check::single_flight;
pub use describe::{SettingInfo, SettingScope};
pub(crate) use env::nearest;
#[cfg(feature = "redis")]
pub(crate) use env::url_in;
#[cfg(feature = "redis")]
pub(crate) use file::{LARGEST_SETTINGS, read_bounded};
pub(crate) use options::CacheOptions;
pub use options::{CacheSettings, Settings};
pub(crate) use resolve::Abilities;
pub(crate) use text::shown;
pub use values::{HiddenSetting, RefreshAhead, SubscribeAt, Switch, WritePolicy};

#[cfg(test)]
mod tests;
