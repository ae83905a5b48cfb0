//! Who hears an invalidation of one cache.

use super::access::connect;
use super::id_of_cache;
use super::members::alive;
use crate::bus::CacheFormat;
use crate::{Error, Settings};

/// Who hears an invalidation of one cache, as far as Redis knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Members that were heard of within their `member_timeout`.
    pub instances: usize,
    /// Those of them that have the cache, by the format of its keys.
    pub formats: Vec<u32>,
    /// Those of them of which it is not known which caches they have.
    pub unknown: usize,
}

/// Returns who hears an invalidation of the cache.
///
/// # Errors
///
/// As [`connect`]; `Settings`, if no cache can have that name.
pub async fn audience(settings: &Settings, cache: &str) -> Result<Audience, Error> {
    let id = id_of_cache(cache)?;
    let server = connect(settings).await?;
    let alive = alive(settings, &server).await?;
    let told = server.notes(&alive).await?;
    let mut audience = Audience {
        instances: alive.len(),
        ..Audience::default()
    };
    for member in &alive {
        let caches = told.get(member).map_or(&[][..], |note| &note.caches);
        let of_it = |cache: &&CacheFormat| cache.id == id;
        match caches.iter().find(of_it) {
            Some(found) => audience.formats.push(found.format),
            // It has reported none yet, or had more than it could report.
            None if caches.is_empty() || caches.iter().any(|cache| cache.id == 0) => {
                audience.unknown += 1;
            }
            None => {}
        }
    }
    Ok(audience)
}
