//! A cache is filled before the first request: ten thousand rows, five hundred a query, and a line
//! that shows how far it is, if the output is a terminal.
//!
//! ```sh
//! cargo run --example warm_up
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod progress;

use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::Connection;
use tokio::task::spawn_blocking;
use unstale::{BoxError, Instance, Settings};

use progress::Progress;

const ROWS: u64 = 10_000;

/// Keys that one call of the loader is asked for: some thousand would do as well, but this is how
/// often the line moves.
const AT_ONCE: usize = 500;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("products.db");
    create(&file)?;
    let instance = Instance::start(Settings::from_env()?).await?;
    let queries = Arc::new(AtomicU64::new(0));
    let (source, counter) = (file.clone(), queries.clone());
    let products = instance
        .cache::<u64, String>("products")
        // Somewhat more than there is: the parts of the store do not fill evenly.
        .capacity(12_000)
        .batch_loader(move |ids| {
            counter.fetch_add(1, Relaxed);
            names(source.clone(), ids)
        })
        .build()?;

    // Which keys are worth it only the program knows. These could be the busiest of yesterday.
    let ids: Vec<u64> = (1..=ROWS).collect();
    let mut progress = Progress::new(stderr().is_terminal().then(stderr), ids.len())?;
    let mut held = 0;
    for (n, some) in ids.chunks(AT_ONCE).enumerate() {
        held += products.preload(some).await.held;
        progress.at(n * AT_ONCE + some.len())?;
    }
    progress.end()?;
    let queries = queries.load(Relaxed);
    println!("{held} of {ROWS} rows are in memory, by {queries} queries");

    let first = products.lookup(&4_711).await?;
    println!("the first read: {:?} ({:?})", first.value, first.outcome);
    instance.shutdown().await?;
    Ok(())
}

fn create(file: &Path) -> rusqlite::Result<()> {
    let mut database = Connection::open(file)?;
    let rows = database.transaction()?;
    rows.execute_batch(
        "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
    )?;
    {
        let mut insert = rows.prepare("INSERT INTO products VALUES (?1, ?2)")?;
        for id in 1..=ROWS {
            insert.execute((id, format!("product {id}")))?;
        }
    }
    rows.commit()
}

/// One query for all of them. What it does not find does not exist, and is remembered as that.
async fn names(file: PathBuf, ids: Vec<u64>) -> Result<Vec<(u64, String)>, BoxError> {
    spawn_blocking(move || {
        let database = Connection::open(file)?;
        let marks = vec!["?"; ids.len()].join(", ");
        let query = format!("SELECT id, name FROM products WHERE id IN ({marks})");
        let mut query = database.prepare(&query)?;
        let rows = query.query_map(rusqlite::params_from_iter(&ids), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
    .await?
}
