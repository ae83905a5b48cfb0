//! The cache from threads that know nothing of async: `peek` to read, `invalidate` to write.
//!
//! ```sh
//! cargo run --example blocking_code
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::thread;

use tokio::runtime::Runtime;
use unstale::{BoxError, Instance, Settings};

fn main() -> Result<(), BoxError> {
    // The instance lives on a runtime, which need not be where it is used.
    let runtime = Runtime::new()?;
    let instance = runtime.block_on(Instance::start(Settings::from_env()?))?;
    let squares = instance
        .cache::<u64, u64>("squares")
        .loader(|n: u64| async move { Ok(n * n) })
        .build()?;
    runtime.block_on(squares.preload(0..4));

    // `peek` neither loads nor waits.
    let workers: Vec<_> = (0..5)
        .map(|n| {
            let squares = squares.clone();
            thread::spawn(move || (n, squares.peek(&n)))
        })
        .collect();
    for worker in workers {
        let (n, square) = worker.join().expect("a worker does not panic");
        println!("peek {n}: {square:?}");
    }

    // `invalidate` drops here and queues the event at the call; its future only waits for the
    // acknowledgement, so a thread may drop it ...
    let other = squares.clone();
    thread::spawn(move || drop(other.invalidate(&2)))
        .join()
        .expect("it does not panic");
    println!("invalidated 2: {:?}", squares.peek(&2));

    // ... or wait for it, and for loads too, by the runtime's handle.
    let (handle, other) = (runtime.handle().clone(), squares.clone());
    let reloaded = thread::spawn(move || {
        handle.block_on(other.invalidate(&3))?;
        handle.block_on(other.get(&3))
    });
    let reloaded = reloaded.join().expect("it does not panic")?;
    println!("invalidated and loaded 3: {reloaded:?}");

    runtime.block_on(instance.shutdown())?; // publishes what is still queued
    Ok(())
}
