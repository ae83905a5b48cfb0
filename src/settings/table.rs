//! The macro that makes everything of a setting from one row of a table.
//!
//! A row names a setting's kind, field, type, default, bounds and help. From it come the field of
//! [`Settings`](crate::Settings) with its documentation and default, its variable, what
//! [`Settings::describe`](crate::Settings::describe) says of it, and for an option of a cache also
//! the field of [`CacheSettings`](crate::CacheSettings), the variable of one cache, and the order
//! in which both, code and the default count.
//!
//! Kinds: `plain` always has a value; `unset` may have none; `switch` may be off, in all caches or
//! in one.

/// What depends on a row's kind.
macro_rules! of_kind {
    (type plain $type:ty) => { $type };
    (type $optional:ident $type:ty) => { Option<$type> };

    (override switch $type:ty) => { Option<Switch<$type>> };
    (override plain $type:ty) => { Option<$type> };

    (doc plain) => { "" };
    (doc unset) => { "\n\n`None` means unset." };
    (doc switch) => { "\n\n`None` means off." };

    (show unset $value:expr) => {
        $value.as_ref().map_or_else(|| "unset".to_string(), Text::show)
    };
    (show $other:ident $value:expr) => { $value.show() };

    (check plain $value:expr, $check:path) => { $check($value) };
    (check unset $value:expr, $check:path) => {
        match $value {
            Some(value) => $check(value),
            None => Ok(()),
        }
    };
    (check switch $value:expr, $check:path) => {
        match $value {
            Some(value) => bounds::or_off($check(value)),
            None => Ok(()),
        }
    };

    (check_override plain $value:expr, $check:path) => {
        match $value {
            Some(value) => $check(value),
            None => Ok(()),
        }
    };
    (check_override switch $value:expr, $check:path) => {
        match $value {
            Some(Switch::On(value)) => bounds::or_off($check(value)),
            Some(Switch::Off) | None => Ok(()),
        }
    };

    (resolve plain $own:expr, $all:expr) => { $own.unwrap_or($all) };
    (resolve switch $own:expr, $all:expr) => { $own.map_or($all, Switch::into_option) };
}

/// One row's `Field`; `$cache` says how a cache overrides it.
macro_rules! field {
    ($kind:ident $name:ident, $check:path, $help:literal, $cache:expr) => {
        Field {
            name: stringify!($name),
            help: $help,
            set: |settings, text| {
                settings.$name = Text::parse(text)?;
                Ok(())
            },
            show: |settings| of_kind!(show $kind settings.$name),
            check: |settings| of_kind!(check $kind &settings.$name, $check),
            cache: $cache,
        }
    };
}

/// Defines `Settings`, `CacheSettings`, `CacheOptions` and `FIELDS` from the rows. A row of a cache
/// has an example of a good value and one that is refused, for the test that walks the table.
macro_rules! settings {
    (
        $(#[$settings_meta:meta])* Settings
        $(#[$cache_meta:meta])* CacheSettings
        first { $($kind1:ident $name1:ident: $type1:ty = $default1:expr, $check1:path, $help1:literal;)* }
        caches { $($kind:ident $name:ident: $type:ty = $default:expr, $check:path,
            $good:literal not $bad:literal, $help:literal;)* }
        last { $($kind2:ident $name2:ident: $type2:ty = $default2:expr, $check2:path, $help2:literal;)* }
    ) => {
        $(#[$settings_meta])*
        #[derive(Clone)]
        #[non_exhaustive]
        pub struct Settings {
            $(
                #[doc = concat!($help1, of_kind!(doc $kind1), "\n\nDefaults to `", stringify!($default1), "`.")]
                pub $name1: of_kind!(type $kind1 $type1),
            )*
            $(
                #[doc = concat!($help, "\n\nThis is the default for all caches: the builder of a cache overrides it, and the \
                    variable of that cache overrides both.", of_kind!(doc $kind), "\n\nDefaults to `", stringify!($default), "`.")]
                pub $name: of_kind!(type $kind $type),
            )*
            $(
                #[doc = concat!($help2, of_kind!(doc $kind2), "\n\nDefaults to `", stringify!($default2), "`.")]
                pub $name2: of_kind!(type $kind2 $type2),
            )*
            /// Overrides for single caches, by the cache's name. They win over the options of its builder.
            pub caches: BTreeMap<String, CacheSettings>,
            /// Callback that returns user and password for each connection to Redis, for tokens that
            /// expire. No variable sets it.
            ///
            /// Defaults to `None`.
            pub credentials: Option<CredentialsProvider>,
            /// The file that `UNSTALE_FILE` names, and the URL in it. Its login is read again at each
            /// connect.
            pub(crate) file: Option<UrlInFile>,
            /// Secrets that were in files of their own, which are read again while the program runs: the
            /// variable that named each, and its path.
            pub(crate) secret_files: Vec<(String, String)>,
            /// Variables that name files of secrets which every user of the machine may read.
            pub(crate) exposed: Vec<String>,
            /// The settings for all caches and of the instance that a variable or the file set, and
            /// what set them.
            pub(crate) given: BTreeMap<&'static str, String>,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    $($name1: $default1,)*
                    $($name: $default,)*
                    $($name2: $default2,)*
                    caches: BTreeMap::new(),
                    credentials: None,
                    file: None,
                    secret_files: Vec::new(),
                    exposed: Vec::new(),
                    given: BTreeMap::new(),
                }
            }
        }

        /// Compares the values, wherever they come from. Callbacks cannot be compared.
        impl PartialEq for Settings {
            fn eq(&self, other: &Self) -> bool {
                $(self.$name1 == other.$name1)&&*
                    && $(self.$name == other.$name)&&*
                    && $(self.$name2 == other.$name2)&&*
                    && self.caches == other.caches
            }
        }

        $(#[$cache_meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct CacheSettings {
            $(#[doc = $help] pub $name: of_kind!(override $kind $type),)*
        }

        /// What one cache runs with, all sources resolved and all bounds checked.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct CacheOptions {
            $(pub(crate) $name: of_kind!(type $kind $type),)*
            /// Defaults for all caches that are set and have no effect in this one.
            pub(crate) hidden: Vec<HiddenSetting>,
        }

        impl Settings {
            /// Returns a cache's variable, else its code, else the value for all caches.
            #[allow(clippy::clone_on_copy, reason = "some are")]
            pub(super) fn resolve(&self, variables: &CacheSettings, code: &CacheSettings) -> CacheOptions {
                CacheOptions {
                    $($name: of_kind!(
                        resolve $kind variables.$name.clone().or(code.$name.clone()), self.$name.clone()
                    ),)*
                    hidden: Vec::new(),
                }
            }
        }

        /// Every setting, in the documentation's order.
        pub(super) static FIELDS: &[Field] = &[
            $(field!($kind1 $name1, $check1, $help1, None),)*
            $(field!($kind $name, $check, $help, Some(CacheField {
                set: |cache, text| {
                    cache.$name = Some(Text::parse(text)?);
                    Ok(())
                },
                show: |cache| cache.$name.as_ref().map(Text::show),
                check: |cache| of_kind!(check_override $kind &cache.$name, $check),
                #[cfg(test)]
                resolved: |options| options.$name.show(),
                #[cfg(test)]
                good: $good,
                #[cfg(test)]
                bad: $bad,
            })),)*
            $(field!($kind2 $name2, $check2, $help2, None),)*
        ];
    };
}

pub(super) use {field, of_kind, settings};
