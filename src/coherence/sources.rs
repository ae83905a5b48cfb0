//! The sources that caches of one instance name: up to when everything committed in each is applied here.

use std::sync::Arc;

use crate::bus::Bus;
use crate::lock::Lock;
use crate::store::source::{Proof, SourceFreshness};
use crate::{Error, ErrorKind};

/// Sources of one instance at most: each verification asks for all of them.
const MOST: usize = 16;

/// Each source that a cache has named, for as long as the instance lives.
#[derive(Debug, Default)]
pub(crate) struct Sources(Lock<Vec<(String, Arc<SourceFreshness>)>>);

impl Sources {
    /// The source of this name; from its first cache on the bus is asked for its marks.
    pub(crate) fn get(
        &self,
        name: &str,
        lanes: u32,
        bus: &dyn Bus,
    ) -> Result<Arc<SourceFreshness>, Error> {
        let (source, names) = self.enter(name, lanes)?;
        bus.watch(names);
        Ok(source)
    }

    fn enter(
        &self,
        name: &str,
        lanes: u32,
    ) -> Result<(Arc<SourceFreshness>, Arc<[String]>), Error> {
        let mut sources = self.0.lock();
        let known = sources.iter().find(|(of, _)| of == name);
        let known = known.map(|(_, source)| source.clone());
        if known.is_none() && sources.len() >= MOST {
            let message = format!("the caches of one instance name {MOST} sources at most");
            return Err(Error::new(ErrorKind::Settings, message));
        }
        let source = known.unwrap_or_else(|| {
            let source = Arc::new(SourceFreshness::new(lanes));
            sources.push((name.to_owned(), source.clone()));
            source
        });
        let names = sources.iter().map(|(name, _)| name.clone()).collect();
        Ok((source, names))
    }

    /// Everything committed in these sources before these moments is applied in the lane.
    pub(crate) fn verify(&self, lane: u32, proven: Vec<(usize, Proof)>) {
        for (source, proof) in proven {
            let source = self.0.lock().get(source).map(|(_, source)| source.clone());
            if let Some(source) = source {
                source.verify(lane, proof);
            }
        }
    }
}
