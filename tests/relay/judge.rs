//! Writers that change rows by SQL alone, readers on all instances, and a ledger of what was committed when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use testkit::service::Service;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::MAX_STALENESS;
use super::database::Database;
use super::fleet::read;
use super::report::{Entry, Ledger, Phase, Seen};
use crate::support::nodes::ms;
use crate::support::over_redis::until;

/// Accounts that the writer changes.
pub(crate) const ACCOUNTS: i64 = 24;

/// Where their rows go when their key changes; there are none at first.
pub(crate) const MOVED: i64 = 1_000_000;

/// A row that no writer changes.
pub(crate) const UNTOUCHED: i64 = 900_000;

/// Tasks that read on each instance.
const READERS: usize = 2;

/// Between two reads of a task. Three services and their judge share the machine with other tests.
const READ: Duration = ms(3);

/// Between two commits.
const WRITE: Duration = ms(10);

/// A load that runs until it is settled or dropped.
pub(crate) struct Judge {
    pub(crate) shared: Arc<Shared>,
    tasks: JoinSet<()>,
    stopping: watch::Sender<bool>,
}

pub(crate) struct Shared {
    pub(crate) database: Arc<Database>,
    services: Vec<Arc<Service>>,
    ledger: Mutex<Ledger>,
    seen: Mutex<Vec<Seen>>,
    failed: Mutex<Vec<(Instant, String)>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    version: AtomicI64,
    /// The account that was changed last.
    latest: AtomicI64,
}

/// Inserts the accounts, all in this state.
pub(crate) fn rows(state: i64) -> String {
    format!(
        "INSERT INTO accounts SELECT n, 'judged', {state}, 1 FROM generate_series(0, {}) n;
         INSERT INTO accounts VALUES ({UNTOUCHED}, 'untouched', 1, 1)",
        ACCOUNTS - 1
    )
}

impl Judge {
    /// Inserts the accounts, then writes and reads.
    pub(crate) async fn start(database: Arc<Database>, services: Vec<Arc<Service>>) -> Self {
        database.run(&rows(1)).await;
        let at = |state| vec![Entry::known(state, Instant::now())];
        let accounts = (0..ACCOUNTS).map(|id| (id, at(Some(1))));
        let moved = (0..ACCOUNTS).map(|id| (MOVED + id, at(None)));
        let shared = Arc::new(Shared {
            database,
            services,
            ledger: Mutex::new(accounts.chain(moved).collect()),
            seen: Mutex::default(),
            failed: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            version: AtomicI64::new(1),
            latest: AtomicI64::new(0),
        });
        let stopping = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for node in 0..shared.services.len() {
            for _ in 0..READERS {
                tasks.spawn(shared.clone().read(node, stopping.subscribe()));
            }
        }
        tasks.spawn(shared.clone().write(stopping.subscribe()));
        Self {
            shared,
            tasks,
            stopping,
        }
    }

    /// Waits until marks are proven on every instance: what is not changed is a hit, however long ago it was loaded.
    pub(crate) async fn proven(&self) {
        until("marks are proven on every instance", async || {
            let mut all = true;
            for service in &self.shared.services {
                let read = read(service, UNTOUCHED).await;
                all &= read.is_ok_and(|read| read.hit && read.age > 3 * MAX_STALENESS);
            }
            all
        })
        .await;
    }

    /// Stops the load, and judges what was seen between these moments.
    pub(crate) async fn settle(mut self, phases: &[(&str, Instant, Instant)]) -> Vec<Phase> {
        self.stopping.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let (ledger, seen) = (self.shared.ledger(), self.shared.seen.lock().unwrap());
        let failed = self.shared.failed.lock().unwrap();
        let phases = phases.iter().map(|(name, from, to)| {
            Phase::new(name, (*from, *to), &ledger, &seen, &failed, MAX_STALENESS)
        });
        phases.collect()
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Reads one account after the other: in turn the one that was changed last, and any.
    async fn read(self: Arc<Self>, node: usize, stopping: watch::Receiver<bool>) {
        let keys: Vec<i64> = self.ledger().keys().copied().collect();
        let mut any = false;
        while !*stopping.borrow() {
            any = !any;
            let key = match any {
                true => keys[fastrand::usize(..keys.len())],
                false => self.latest.load(Relaxed),
            };
            let began = Instant::now();
            match read(&self.services[node], key).await {
                Ok(read) => self.seen.lock().unwrap().push(Seen {
                    node,
                    key,
                    began,
                    hit: read.hit,
                    state: read.state,
                    age: read.age,
                }),
                Err(error) => self.failed.lock().unwrap().push((began, error)),
            }
            sleep(READ).await;
        }
    }

    /// Changes one account after the other, in no order.
    async fn write(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            let key = fastrand::i64(0..ACCOUNTS);
            let turn = self.turn.lock().await;
            let exists = self.ledger()[&key]
                .last()
                .is_some_and(|last| last.state.is_some());
            if exists {
                let version = self.versions(1);
                let state = Some(version);
                self.begin(&[(key, state)]);
                let sql = "UPDATE accounts SET balance = $2, version = version + 1 WHERE id = $1";
                // One that fails may still have been committed: it stays in the ledger, without a time.
                if let Ok(rows) = self.database.change(sql, &[&key, &version]).await {
                    self.committed(&[(key, state)]);
                    self.latest.store(key, Relaxed);
                    assert_eq!(rows, 1, "the row is there");
                }
            }
            drop(turn);
            sleep(WRITE).await;
        }
    }

    /// Changes many accounts at once, which must succeed. `to` says what becomes of them all.
    pub(crate) async fn change(&self, sql: &str, to: impl FnOnce(&mut BTreeMap<i64, Option<i64>>)) {
        let turn = self.turn.lock().await;
        let before: BTreeMap<i64, Option<i64>> = self
            .ledger()
            .iter()
            .map(|(key, entries)| (*key, entries.last().and_then(|last| last.state)))
            .collect();
        let mut after = before.clone();
        to(&mut after);
        let changed: Vec<_> = after
            .into_iter()
            .filter(|(key, state)| before[key] != *state)
            .collect();
        self.begin(&changed);
        self.database.run(sql).await;
        self.committed(&changed);
        drop(turn);
    }

    /// A state that no row has had, nor the rows that follow in a statement that counts on from it.
    pub(crate) fn versions(&self, count: i64) -> i64 {
        self.version.fetch_add(count, Relaxed) + 1
    }

    /// A read may see it before its commit has answered.
    fn begin(&self, changed: &[(i64, Option<i64>)]) {
        let mut ledger = self.ledger();
        for (key, state) in changed {
            ledger.entry(*key).or_default().push(Entry::unknown(*state));
        }
    }

    fn committed(&self, changed: &[(i64, Option<i64>)]) {
        let now = Instant::now();
        let mut ledger = self.ledger();
        for (key, _) in changed {
            let entries = ledger.get_mut(key).expect("it has begun");
            entries.last_mut().expect("it has begun").committed = Some(now);
        }
    }
}
