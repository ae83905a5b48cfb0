//! A relay of a log that a test keeps.

use std::future::Future;

use crate::event::{Op, What};
use crate::key::cache_id;
use crate::relay::log::{Log, Open};
use crate::relay::{Duty, run};
use crate::{Error, Instance};

/// The log of a source of truth, in places that grow.
pub trait SourceLog: Send {
    /// Returns where it ends.
    fn end(&mut self) -> u64;

    /// Waits for more, or for the place that was the end; returns up to where was read, and what was changed: caches
    /// and hashes of keys.
    fn read(&mut self) -> impl Future<Output = (u64, Vec<(&'static str, u64)>)> + Send;
}

struct Read<S> {
    log: S,
    names: Vec<(&'static str, u64)>,
}

impl<S: SourceLog> Log for Read<S> {
    async fn end(&mut self) -> Result<u64, Error> {
        Ok(self.log.end())
    }

    async fn read(&mut self) -> Result<u64, Error> {
        let (upto, names) = self.log.read().await;
        self.names.extend(names);
        Ok(upto)
    }

    fn take(&mut self) -> Vec<Op> {
        let names = std::mem::take(&mut self.names);
        let op = |(cache, key)| of(cache, What::Keys(vec![key]));
        names.into_iter().map(op).collect()
    }

    async fn confirm(&mut self, _: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn hold(&mut self) -> Error {
        std::future::pending().await
    }
}

struct Opens<F>(F);

impl<S: SourceLog, F: FnMut() -> S + Send> Open for Opens<F> {
    type Log = Read<S>;

    async fn open(&mut self) -> Result<Read<S>, Error> {
        let (log, names) = (self.0(), Vec::new());
        Ok(Read { log, names })
    }
}

/// Relays through this instance's bus what a log says of these caches, until an operator must act. `open` opens the
/// log again.
pub async fn relay<S: SourceLog>(
    instance: Instance,
    source: String,
    caches: Vec<String>,
    open: impl FnMut() -> S + Send,
) -> Option<Error> {
    let all = caches.iter().map(|cache| of(cache, What::Cache)).collect();
    let duty = Duty { source, all };
    let never = std::future::pending();
    run(instance.member(), &duty, Opens(open), |_| {}, never).await
}

fn of(cache: &str, what: What) -> Op {
    Op {
        cache: cache_id(cache),
        format: 1,
        what,
    }
}
