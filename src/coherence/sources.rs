//! The sources that caches of one instance name: up to when everything committed in each is applied here.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::lock::Lock;
use crate::store::source::{Proof, SourceFreshness};
use crate::time::Nanos;
use crate::{Error, ErrorKind};

/// Sources of one instance at most: each verification asks for all of them.
const MOST: usize = 16;

/// Each source that a cache has named, for as long as the instance lives.
#[derive(Debug, Default)]
pub(crate) struct Sources(Lock<Vec<Source>>);

#[derive(Debug)]
struct Source {
    name: String,
    /// When a cache named it first.
    since: Nanos,
    freshness: Arc<SourceFreshness>,
}

impl Sources {
    /// Returns the source of this name; from its first cache on the bus is asked for its marks.
    pub(crate) fn get(
        &self,
        name: &str,
        lanes: u32,
        now: Nanos,
        bus: &dyn Bus,
    ) -> Result<Arc<SourceFreshness>, Error> {
        let (source, names) = self.enter(name, lanes, now)?;
        bus.watch(names);
        Ok(source)
    }

    fn enter(
        &self,
        name: &str,
        lanes: u32,
        now: Nanos,
    ) -> Result<(Arc<SourceFreshness>, Arc<[String]>), Error> {
        let mut sources = self.0.lock();
        let known = sources.iter().find(|source| source.name == name);
        let known = known.map(|source| source.freshness.clone());
        if known.is_none() && sources.len() >= MOST {
            let message = format!("the caches of one instance name {MOST} sources at most");
            return Err(Error::new(ErrorKind::Settings, message));
        }
        let source = known.unwrap_or_else(|| {
            let freshness = Arc::new(SourceFreshness::new(lanes));
            sources.push(Source {
                name: name.to_owned(),
                since: now,
                freshness: freshness.clone(),
            });
            freshness
        });
        let names = sources.iter().map(|source| source.name.clone()).collect();
        Ok((source, names))
    }

    /// Everything committed in these sources before these moments is applied in the lane.
    pub(crate) fn verify(&self, lane: u32, proven: Vec<(usize, Proof)>) {
        for (source, proof) in proven {
            let source = self
                .0
                .lock()
                .get(source)
                .map(|source| source.freshness.clone());
            if let Some(source) = source {
                source.verify(lane, proof);
            }
        }
    }

    /// Returns how long ago everything committed in each was known to be applied, in its oldest lane; since a
    /// cache named it, where it never was.
    pub(crate) fn ages(&self, now: Nanos) -> Vec<(String, Duration)> {
        let sources = self.0.lock();
        let age = |source: &Source| {
            let proven = source.freshness.oldest().max(source.since);
            let age = Duration::from_nanos(now.saturating_sub(proven));
            (source.name.clone(), age)
        };
        sources.iter().map(age).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_ages_from_its_first_cache_on_and_by_its_oldest_lane() {
        let sources = Sources::default();
        sources.enter("shop", 2, 100).unwrap();
        sources.enter("stock", 2, 400).unwrap();
        let ages = |now| {
            sources
                .ages(now)
                .into_iter()
                .map(|(name, age)| (name, age.as_nanos()))
        };
        let proof = |at| Proof {
            at,
            token: 0,
            place: 0,
        };
        let of = |shop, stock| vec![("shop".to_owned(), shop), ("stock".to_owned(), stock)];
        assert_eq!(ages(500).collect::<Vec<_>>(), of(400, 100));
        sources.verify(0, vec![(0, proof(450)), (1, proof(490))]);
        assert_eq!(ages(500).collect::<Vec<_>>(), of(400, 100));
        sources.verify(1, vec![(0, proof(430))]);
        // A second cache changes nothing.
        sources.enter("shop", 2, 500).unwrap();
        assert_eq!(ages(500).collect::<Vec<_>>(), of(70, 100));
    }
}
