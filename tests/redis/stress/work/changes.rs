//! What a task changes, and how it publishes that.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::{sleep, timeout};
use unstale::WriteError;

use super::{Call, Worker};
use crate::stress::fleet::tag;
use crate::stress::truth::{Change, Place, ROWS, TAGS};
use crate::support::nodes::ms;

impl Worker {
    /// Commits the next versions of rows, one of ten rows' end.
    fn commit(&mut self, call: &Call<'_>, keys: impl IntoIterator<Item = u64>) -> Vec<Change> {
        let (by, table) = (call.node.index, call.place.table);
        let (truth, rng) = (&self.truth, &mut self.rng);
        let commit = |key| truth.commit(Place { table, key }, by, rng.u8(..10) > 0);
        keys.into_iter().filter_map(commit).collect()
    }

    /// Changes rows, and invalidates them afterwards.
    pub(super) async fn invalidate(&mut self, call: &Call<'_>) {
        let (cache, key) = (call.cache, call.place.key);
        let group = (key % TAGS..ROWS).step_by(TAGS as usize);
        self.tally.writes.fetch_add(1, Relaxed);
        let (changes, answer) = match call.name {
            "invalidate" => {
                let changes = self.commit(call, [key]);
                (changes, cache.invalidate(&key).await)
            }
            "invalidate_many" => {
                let keys = self.keys(10);
                let changes = self.commit(call, keys.iter().copied());
                (changes, cache.invalidate_many(&keys).await)
            }
            "invalidate_tag" => {
                let changes = self.commit(call, group);
                (changes, cache.invalidate_tag(&tag(key)).await)
            }
            "invalidate_all" => {
                let changes = self.commit(call, group);
                (changes, cache.invalidate_all().await)
            }
            _ => {
                let other = self.keys(1)[0];
                let changes = self.commit(call, group.chain([other]));
                let batch = call.node.instance.batch();
                let batch = batch.key(cache, &other).tag(cache, &tag(key));
                (changes, batch.invalidate().await)
            }
        };
        match answer {
            Ok(_) => self.acknowledged(&changes),
            Err(error) => self.tally.error(call.name, &error),
        }
    }

    /// Changes rows in a write.
    pub(super) async fn write(&mut self, call: &Call<'_>) {
        let (cache, key) = (call.cache, call.place.key);
        let mut keys = vec![key];
        if call.name == "batch.write" {
            keys.extend(self.keys(5));
        }
        let [before, after, patience] = [(); 3].map(|()| ms(self.rng.u64(..6)));
        let refused = self.rng.u8(..50) == 0;
        self.tally.writes.fetch_add(1, Relaxed);
        let rows = keys.clone();
        let this = &mut *self;
        let commit = async move {
            sleep(before).await;
            if refused {
                return Err(io::Error::other("the source refuses"));
            }
            let changes = this.commit(call, rows);
            sleep(after).await;
            Ok(changes)
        };
        let answer = match call.name {
            "write" => cache.write(&key, commit).await,
            "batch.write" => {
                let batch = keys.iter().fold(call.node.instance.batch(), |batch, key| {
                    batch.key(cache, key)
                });
                batch.write(commit).await
            }
            _ => match timeout(patience, cache.write(&key, commit)).await {
                Ok(answer) => answer,
                // Abandoned: peers hear of it at the write's deadline at the latest.
                Err(_) => return,
            },
        };
        match answer {
            Ok(changes) => self.acknowledged(&changes),
            Err(WriteError::Refused(error)) => self.tally.error(call.name, &error),
            Err(_) => drop(self.tally.errors.fetch_add(1, Relaxed)),
        }
    }

    fn acknowledged(&self, changes: &[Change]) {
        self.truth.acknowledge(changes);
        self.tally.acknowledged.fetch_add(1, Relaxed);
    }
}
