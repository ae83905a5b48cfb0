//! A limit on the loads of keys that nothing in memory knows of.
//!
//! Requests for keys that were made up cannot be answered from memory, and each would go to the
//! source. They may take a share of it that the user sets; keys that exist are not limited by it,
//! for a load that finds a value costs nothing, and most have been seen before.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::lock::{Guard, Lock};
use crate::time::{Clock, Nanos};

/// How far a batch that finds little may overdraw the bucket: the longest time for which
/// unknown keys are refused on its account.
const MOST_DEBT: Nanos = 60_000_000_000;

/// Nanoseconds of the second that the limit is set for.
const SECOND: Nanos = 1_000_000_000;

/// A bucket of as many tokens as the limit says, which fills up again in a second.
///
/// A load borrows a token. If it finds a value, it gives the token back; otherwise the token is spent:
/// within any time `t` at most `limit * (1 + t)` loads find nothing.
pub(crate) struct UnknownLoads {
    pub(crate) limit: u32,
    clock: Clock,
    bucket: Lock<Bucket>,
    /// The queue of loads that wait for a token that is lent.
    line: tokio::sync::Mutex<()>,
    /// A token has come back, or is spent.
    settled: Notify,
}

struct Bucket {
    /// When everything spent will have been refilled.
    full_at: Nanos,
    lent: u32,
}

/// What a bucket has for a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Taken,
    /// What is not spent is lent to loads under way.
    Lent,
    /// All are spent.
    Spent,
}

/// A token that a load has borrowed; spent unless it is given back.
pub(crate) struct Loan<'a> {
    from: &'a UnknownLoads,
    spent: bool,
}

impl UnknownLoads {
    pub(crate) fn new(limit: u32, clock: Clock) -> Self {
        Self {
            limit,
            clock,
            bucket: Lock::new(Bucket {
                full_at: 0,
                lent: 0,
            }),
            line: tokio::sync::Mutex::default(),
            settled: Notify::new(),
        }
    }

    /// Borrows a token; `None` if all are spent. While only loads under way keep it from one, it
    /// waits for them: a start with an empty memory is no attack.
    pub(crate) async fn borrow(&self) -> Option<Loan<'_>> {
        // The first in line looks again; the others wait behind it and wake no task.
        let _first = self.line.lock().await;
        loop {
            match self.take() {
                Token::Taken => {
                    return Some(Loan {
                        from: self,
                        spent: true,
                    });
                }
                Token::Spent => return None,
                Token::Lent => {}
            }
            // A token settled since the look above is not missed: `notify_one` remembers it. The
            // bucket also fills up while all loads go on.
            let refilled = Duration::from_nanos(self.interval());
            let _ = timeout(refilled, self.settled.notified()).await;
        }
    }

    fn take(&self) -> Token {
        let now = self.clock.now();
        let mut bucket = self.bucket();
        let spent = bucket.full_at.saturating_sub(now).div_ceil(self.interval());
        let left = u64::from(self.limit).saturating_sub(spent);
        if left == 0 {
            Token::Spent
        } else if left <= u64::from(bucket.lent) {
            Token::Lent
        } else {
            bucket.lent += 1;
            Token::Taken
        }
    }

    /// Counts loads that have found nothing beyond those that a loan pays for: a batch's.
    pub(crate) fn spend(&self, loads: usize) {
        let now = self.clock.now();
        self.bucket().spend(now, loads as u64, self.interval());
    }

    /// How long it takes to refill one token.
    fn interval(&self) -> Nanos {
        SECOND / u64::from(self.limit.max(1))
    }

    fn bucket(&self) -> Guard<'_, Bucket> {
        self.bucket.lock()
    }
}

impl Bucket {
    fn spend(&mut self, now: Nanos, loads: u64, interval: Nanos) {
        let cost = loads.saturating_mul(interval);
        let full_at = self.full_at.max(now).saturating_add(cost);
        self.full_at = full_at.min(now.saturating_add(SECOND + MOST_DEBT));
    }
}

/// The load found a value, or never began.
pub(crate) fn give_back(loan: Option<Loan<'_>>) {
    if let Some(mut loan) = loan {
        loan.spent = false;
    }
}

/// A load that ends in any other way, by a panic for example, has cost the source something.
impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let (now, interval) = (self.from.clock.now(), self.from.interval());
        let mut bucket = self.from.bucket();
        bucket.lent -= 1;
        if self.spent {
            bucket.spend(now, 1, interval);
        }
        drop(bucket);
        self.from.settled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance, sleep};

    use super::*;

    fn limit(per_second: u32) -> UnknownLoads {
        UnknownLoads::new(per_second, Clock::Tokio(Instant::now()))
    }

    /// Loads that begin now and find nothing.
    async fn misses(limit: &UnknownLoads) -> u32 {
        let mut begun = 0;
        while limit.borrow().await.is_some() {
            begun += 1;
        }
        begun
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_is_refilled_within_a_second_and_no_sooner() {
        let limit = limit(10);
        assert_eq!(misses(&limit).await, 10);
        advance(Duration::from_millis(99)).await;
        assert_eq!(misses(&limit).await, 0);
        advance(Duration::from_millis(1)).await;
        assert_eq!(misses(&limit).await, 1);
        advance(Duration::from_millis(500)).await;
        assert_eq!(misses(&limit).await, 5);
        advance(Duration::from_secs(3_600)).await;
        assert_eq!(misses(&limit).await, 10, "a second's worth at most");
    }

    #[tokio::test(start_paused = true)]
    async fn loads_that_find_a_value_cost_nothing_however_many() {
        let limit = limit(3);
        for _ in 0..1_000 {
            give_back(limit.borrow().await);
        }
        assert_eq!(misses(&limit).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn while_tokens_are_only_lent_others_wait_for_them() {
        let limit = limit(2);
        let load = async |found: bool| {
            let loan = limit.borrow().await?;
            sleep(Duration::from_millis(100)).await;
            if found {
                give_back(Some(loan));
            }
            Some(())
        };
        let began = Instant::now();
        let all = tokio::join!(load(true), load(true), load(true), load(true), load(false));
        assert_eq!(all, (Some(()), Some(()), Some(()), Some(()), Some(())));
        assert_eq!(began.elapsed(), Duration::from_millis(300), "two at a time");
        // One is spent and the other lent: no caller is refused before that one is spent as well.
        let all = tokio::join!(load(true), load(false), load(true));
        assert_eq!(all, (Some(()), Some(()), None));
        // Both are spent while the third waits.
        sleep(Duration::from_secs(1)).await;
        let all = tokio::join!(load(false), load(false), load(true), load(true));
        assert_eq!(all, (Some(()), Some(()), None, None));
        assert_eq!(limit.bucket().lent, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_takes_what_is_refilled_while_loads_hang() {
        let limit = limit(2);
        drop(limit.borrow().await);
        let _hangs = limit.borrow().await.expect("a token");
        let began = Instant::now();
        limit.borrow().await.expect("the refilled token");
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(500), "{waited:?}");
        assert!(waited <= Duration::from_millis(502), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_pays_for_all_it_did_not_find_within_bounds() {
        let limit = limit(10);
        limit.spend(25);
        advance(Duration::from_millis(1_500)).await;
        assert_eq!(misses(&limit).await, 0, "one and a half seconds of debt");
        advance(Duration::from_millis(100)).await;
        assert_eq!(misses(&limit).await, 1);
        limit.spend(usize::MAX);
        advance(Duration::from_nanos(MOST_DEBT)).await;
        assert_eq!(misses(&limit).await, 0);
        advance(Duration::from_millis(100)).await;
        assert_eq!(misses(&limit).await, 1);
    }
}
