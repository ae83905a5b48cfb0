//! Loads that wait for loads: a loader that reads a cache, this one or another.
//!
//! Such a load needs no place of its own among `max_loads`, for the one that waits for it has one: 64 loads
//! that each read a parent would else hold all places, and wait for a place. A load that waits for itself is
//! an error at once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Loads that wait for one another at most: more is a recursion without an end.
const DEEPEST: usize = 32;

thread_local! {
    /// The loads whose code this thread runs.
    static CHAIN: RefCell<Option<Chain>> = const { RefCell::new(None) };
}

/// A load and those that wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Chain(Arc<Link>);

#[derive(Debug)]
struct Link {
    cache: u32,
    keys: Vec<u64>,
    waits: Option<Chain>,
    depth: usize,
}

/// The loads that wait for what is begun now.
pub(crate) fn current() -> Option<Chain> {
    CHAIN.with_borrow(Clone::clone)
}

/// Whether a loader is what runs here.
pub(crate) fn is_nested() -> bool {
    CHAIN.with_borrow(Option::is_some)
}

/// Whether a load of this key waits already, or too many loads do.
pub(crate) fn has(cache: u32, key: u64) -> bool {
    let mut at = current();
    if at.as_ref().is_some_and(|chain| chain.0.depth >= DEEPEST) {
        return true;
    }
    while let Some(Chain(link)) = at {
        if link.cache == cache && link.keys.contains(&key) {
            return true;
        }
        at = link.waits.clone();
    }
    false
}

/// Runs a loader's code as the load of these keys, for which `waits` waits.
pub(crate) fn within<F>(
    load: F,
    (cache, keys): (u32, Vec<u64>),
    waits: Option<Chain>,
) -> Within<F> {
    let depth = waits.as_ref().map_or(0, |chain| chain.0.depth + 1);
    let link = Link {
        cache,
        keys,
        waits,
        depth,
    };
    Within {
        load,
        chain: Chain(Arc::new(link)),
    }
}

/// See [`within`].
#[derive(Debug)]
pub(crate) struct Within<F> {
    load: F,
    chain: Chain,
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _inside = Inside::of(self.chain.clone());
        Pin::new(&mut self.load).poll(cx)
    }
}

/// Puts back what was there, also after a panic.
struct Inside(Option<Chain>);

impl Inside {
    fn of(chain: Chain) -> Self {
        Self(CHAIN.with_borrow_mut(|current| current.replace(chain)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let was = self.0.take();
        let _ = CHAIN.try_with(|current| current.replace(was));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chain_knows_its_loads_and_ends_with_them() {
        let inner = Box::pin(async {
            assert!(has(1, 10) && has(2, 20) && !has(1, 20) && !has(2, 10));
            tokio::task::yield_now().await;
            assert!(has(1, 10));
        });
        let outer = Box::pin(async {
            assert!(is_nested() && has(1, 10) && !has(2, 20));
            within(inner, (2, vec![20]), current()).await;
            assert!(!has(2, 20));
        });
        within(outer, (1, vec![9, 10]), None).await;
        assert!(!is_nested());
    }

    #[test]
    fn a_chain_has_an_end() {
        let mut chain = None;
        for key in 0..DEEPEST as u64 + 1 {
            assert!(!CHAIN.with_borrow_mut(|current| {
                *current = chain.clone();
                false
            }));
            assert!(!has(1, 1_000), "{key}");
            chain = Some(within((), (1, vec![key]), chain).chain);
        }
        let _inside = Inside::of(chain.unwrap());
        assert!(has(1, 1_000));
    }
}
