//! What the writers of an instance do, and the database that they write to.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use unstale::internals;
use unstale::{Token, WriteError};

use crate::fleet::{Node, keys_of, ms};
use crate::log::{Acknowledged, Dropped, Shared, Written};
use crate::mind;
use crate::schedule::*;

impl Node {
    /// What a call that returned Ok promises.
    fn acknowledged(&self, keys: Vec<(u64, u64)>, from: usize, token: Token) {
        let (number, at, to) = (self.number, Instant::now(), internals::moment(&self.bus));
        let call = Acknowledged {
            keys,
            number,
            at,
            from,
            to,
            token,
        };
        self.shared.log().acknowledged.push(call);
    }

    /// The keys are dropped here by now.
    fn dropped(&self, keys: &[u64]) {
        let number = self.number;
        let keys = keys.iter().map(|key| (*key, self.source.version(*key)));
        let keys = keys.collect();
        let mut log = self.shared.log();
        let order = log.order();
        log.dropped.push(Dropped {
            keys,
            number,
            order,
        });
    }

    /// An invalidation that drops at its first poll.
    async fn drops<T>(&self, invalidation: impl Future<Output = T>, keys: &[u64]) -> T {
        let mut invalidation = pin!(invalidation);
        let first = poll_fn(|cx| Poll::Ready(invalidation.as_mut().poll(cx))).await;
        self.dropped(keys);
        match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => invalidation.await,
        }
    }

    /// What another thread does while a load leaves the table: the key is replaced, and read.
    pub(crate) fn put_and_read(self, id: usize, key: u64) {
        self.source.commit(key, self.number, None);
        let queued = self.cache_of(key).invalidate(&self.id(key));
        self.dropped(&[key]);
        drop(queued);
        mind::begin(async move {
            self.read((id, key), key, false, How::Lookup).await;
        });
    }

    pub(crate) async fn put(self, key: u64, publish_after: u64) {
        let (from, had) = self.commit_all(&[key]);
        sleep(ms(publish_after)).await;
        let id = self.id(key);
        let dropping = self.cache_of(key).invalidate(&id);
        self.dropped(&[key]);
        if let Ok(token) = dropping.await {
            self.acknowledged(had, from, token);
        }
    }

    pub(crate) async fn put_tag(self, column: bool, odd: bool) {
        let keys = keys_of(column)
            .filter(|key| (key % 2 == 1) == odd)
            .collect::<Vec<_>>();
        let (from, had) = self.commit_all(&keys);
        let tag = if odd { "odd" } else { "even" };
        let dropping = self.cache(column).invalidate_tag(tag);
        if let Ok(token) = self.drops(dropping, &keys).await {
            self.acknowledged(had, from, token);
        }
    }

    pub(crate) async fn put_all(self, column: bool) {
        let keys = keys_of(column).collect::<Vec<_>>();
        let (from, had) = self.commit_all(&keys);
        let dropping = self.cache(column).invalidate_all();
        if let Ok(token) = self.drops(dropping, &keys).await {
            self.acknowledged(had, from, token);
        }
    }

    pub(crate) async fn put_batch(self, keys: (u64, u64)) {
        let both = vec![keys.0, keys.1];
        let (from, had) = self.commit_all(&both);
        // The end of an id may panic, and a batch that is lost with its caller was never asked for.
        let ids = both.iter().map(|key| self.id(*key)).collect::<Vec<_>>();
        let mut batch = self.instance.batch();
        for (key, id) in both.iter().zip(&ids) {
            batch = batch.key(self.cache_of(*key), id);
        }
        if let Ok(token) = self.drops(batch.invalidate(), &both).await {
            self.acknowledged(had, from, token);
        }
    }

    /// How much of the bus' timeline came before, and the versions that there are then.
    fn commit_all(&self, keys: &[u64]) -> (usize, Vec<(u64, u64)>) {
        let from = internals::moment(&self.bus);
        for key in keys {
            self.source.commit(*key, self.number, None);
        }
        let had = keys.iter().map(|key| (*key, self.source.version(*key)));
        (from, had.collect())
    }

    pub(crate) async fn flood(self, keys: u64) {
        let keys: Vec<_> = (1_000..1_000 + keys).map(|key| self.id(key)).collect();
        let _ = self.cache(false).invalidate_many(&keys).await;
    }

    pub(crate) async fn write(self, key: u64, commit: Commit) {
        let began = Instant::now();
        let number = {
            let mut log = self.shared.log();
            log.writes.push(Written {
                node: self.place,
                number: self.number,
                began,
                commit_began: None,
                resolved: None,
                available: self.settings.available,
            });
            log.writes.len() - 1
        };
        let database = Database {
            node: &self,
            number,
            key,
            commit,
        };
        let _resolved = Resolved(&self.shared, number);
        let id = self.id(key);
        let write = self
            .cache_of(key)
            .write_with_token(&id, database.run(began));
        let answer = match commit.patience {
            Some(patience) => timeout(ms(patience), write).await.ok(),
            None => Some(write.await),
        };
        match answer {
            Some(Ok(((), token))) => {
                let committed = self.source.commit_of(number);
                self.acknowledged(vec![(key, committed.version)], committed.moment, token);
            }
            Some(Err(WriteError::Refused(_))) => {
                let log = self.shared.log();
                assert!(
                    log.writes[number].commit_began.is_none(),
                    "refused after it began"
                );
            }
            _ => {}
        }
    }
}

/// Notes when a write's caller was gone, if nothing was noted before.
struct Resolved<'a>(&'a Shared, usize);

impl Drop for Resolved<'_> {
    fn drop(&mut self) {
        self.0.log().writes[self.1]
            .resolved
            .get_or_insert_with(Instant::now);
    }
}

/// A commit under way in the database, which enforces the deadline.
struct Database<'a> {
    node: &'a Node,
    number: usize,
    key: u64,
    commit: Commit,
}

impl Database<'_> {
    async fn run(self, began: Instant) -> io::Result<()> {
        let Self {
            node,
            number,
            key,
            commit,
        } = self;
        let now = Instant::now();
        node.shared.log().writes[number].commit_began = Some(now);
        let _resolved = Resolved(&node.shared, number);
        let latest = began + ms(WRITE_TIMEOUT - 1);
        let landing = commit.lands.map(|lands| {
            let (source, at) = (node.source.clone(), (now + ms(lands)).min(latest));
            let (survives, by) = (commit.survives, node.number);
            let task = tokio::spawn(async move {
                sleep_until(at).await;
                source.commit(key, by, Some(number));
            });
            Landing {
                task: task.abort_handle(),
                survives,
                answered: task,
            }
        });
        sleep(ms(commit.answers)).await;
        match landing {
            Some(landing) if !commit.fails => landing.landed().await,
            _ => Err(io::Error::other(
                "it is not known whether this was committed",
            )),
        }
    }
}

/// A commit that may go on without its client.
struct Landing {
    task: AbortHandle,
    survives: bool,
    answered: tokio::task::JoinHandle<()>,
}

impl Landing {
    async fn landed(mut self) -> io::Result<()> {
        (&mut self.answered).await.map_err(io::Error::other)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.survives {
            self.task.abort();
        }
    }
}
