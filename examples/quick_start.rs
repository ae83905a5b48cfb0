//! A cache in front of a table: read, read again, write, read the new value.
//!
//! ```sh
//! cargo run --example quick_start      # no Redis needed: one instance, events stay in here
//! ```
//!
//! With `UNSTALE_REDIS_URL=redis://127.0.0.1:6379` the same program is one of a fleet.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use unstale::{BoxError, Instance, Settings};

type Table = Arc<Mutex<HashMap<u64, String>>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Your database.
    let table = Table::default();
    table.lock().expect("not poisoned").insert(7, "Ada".into());

    let instance = Instance::start(Settings::from_env()?).await?;
    let rows = table.clone();
    let names = instance
        .cache::<u64, String>("names")
        .loader(move |id| {
            let row = rows.lock().expect("not poisoned").get(&id).cloned();
            async move { Ok(row) }
        })
        .build()?;

    for _ in 0..2 {
        let lookup = names.lookup(&7).await?;
        println!("read:  {:?} ({:?})", lookup.value, lookup.outcome);
    }

    let commit = async {
        let mut rows = table.lock().expect("not poisoned");
        Ok::<_, io::Error>(rows.insert(7, "Ada Lovelace".into()))
    };
    let before = names.write(&7, commit).await?;
    println!("wrote: it was {before:?}");

    let lookup = names.lookup(&7).await?;
    println!("read:  {:?} ({:?})", lookup.value, lookup.outcome);

    instance.shutdown().await?;
    Ok(())
}
