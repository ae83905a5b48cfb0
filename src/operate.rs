//! What the program `unstale` needs of the library's inside.
//!
//! Not part of the API: it may change in any version. Small typed functions; the words for people,
//! and what is good or bad, are the program's.

mod access;
mod audience;
mod invalidate;
mod members;
mod rehearsal;
#[cfg(feature = "relay")]
mod relay;
mod tail;
mod why;

pub use self::access::{connect, instance_id, server_url};
pub use self::audience::{Audience, audience};
pub use self::invalidate::{Acknowledged, Scope, id_of_cache, invalidate};
pub use self::members::of_other_keys;
pub use self::rehearsal::rehearse;
#[cfg(feature = "relay")]
pub use self::relay::{RelayNews, SourceRelay};
pub use self::tail::{Contents, Drops, Heading, Heard, Tail, last_event};
pub use self::why::{Answer, By, Found, Member, Question, Reach, key_of_parts, why};
pub use crate::bus::redis::inspect::Server;
pub use crate::bus::redis::inspect::fleets::Neighbour;
pub use crate::bus::redis::inspect::lanes::Lane;
pub use crate::bus::redis::inspect::rights::Lacks;
pub use crate::bus::redis::product::Product;
pub use crate::bus::redis::rights::Lack;

/// Returns the variables that name files of secrets which every user of this machine may read.
#[must_use]
pub fn exposed_files(settings: &crate::Settings) -> &[String] {
    &settings.exposed
}

/// Returns text of others as it may be shown: cut and escaped.
#[must_use]
pub fn shown(text: &str) -> String {
    crate::foreign::shown(text)
}

/// Returns text that has lines of ours in it as it may be shown: escaped.
#[must_use]
pub fn escaped(text: &str) -> String {
    crate::foreign::escaped(text).into_owned()
}
