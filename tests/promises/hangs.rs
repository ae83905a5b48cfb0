//! No read waits for itself: the second look that a miss takes at memory may start a reload.

use std::time::Duration;

use tokio::time::timeout;
use unstale::Loaded;

use crate::expiry::{OverRows, rows};
use crate::support::nodes::{ms, pair, pass};

/// In virtual time; a thread that waits for itself never gets there.
const PATIENCE: Duration = Duration::from_secs(60);

/// 1: a batch waits for the lane of one of its entries; 2: meanwhile another read loads the row that
/// the batch misses, which is soon due for a reload; 3: the batch finds it at its second look.
#[tokio::test(start_paused = true)]
async fn a_batch_that_finds_at_its_second_look_what_is_due_for_a_reload_ends() {
    let (bus, source, a, _b) = pair().await;
    let cache = rows(&a, "ahead")
        .refresh_ahead(0.1)
        .loader_of(&source)
        .build()
        .unwrap();
    source.set(1, 10);
    source.set(2, 20);
    cache.get(&2).await.unwrap();
    bus.faults(0).silence();
    pass(ms(2_200)).await;
    let batch = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_many(&[1, 2]).await })
    };
    pass(ms(20)).await;
    let short = async { Ok(Loaded::new(10).ttl(ms(1_000))) };
    cache.get_with(&1, short).await.unwrap();
    let values = timeout(PATIENCE, batch).await.unwrap().unwrap().unwrap();
    assert_eq!(values, [Some(10), Some(20)]);
    // The next hit starts the reload.
    cache.get(&1).await.unwrap();
    pass(ms(100)).await;
    assert_eq!(a.metric(r#"unstale_refreshes_total{cache="ahead"}"#), 1);
}
