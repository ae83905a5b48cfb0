//! Reads after a token: nothing older than one's own write, whichever instance published it.

use std::sync::Arc;

use crate::cache::Cache;
use crate::cache::lookup::Lookup;
use crate::cache::state::CacheState;
use crate::key::reference::KeyRef;
use crate::key::too_long;
use crate::mutants::{Mechanism, without};
use crate::store::stamps::lane_of;
use crate::token::Asks;
use crate::{Error, Key, Token};

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the value as [`get`](Self::get) does, and reflects the write whose [`Token`] this is, whichever
    /// instance published it: [`invalidate`](Self::invalidate) and [`write_with_token`](Self::write_with_token)
    /// return one.
    ///
    /// If this instance has applied what the token names, the call costs a hit and the comparison of two
    /// numbers. If it has not, the call waits for the event, or asks Redis as [`get_latest`](Self::get_latest)
    /// does, whichever comes first: one hop, or one round trip that concurrent calls share. With
    /// `UNSTALE_SIGNING_KEY` an event is applied once the journal has confirmed it, so that the first read
    /// after a write takes one round trip or two.
    ///
    /// It is `get_latest` if the token has nothing that this instance can compare: it is of another epoch of
    /// the lane, as after a restart of Redis, or of a fleet with another number of lanes. It is `get` for a key
    /// in a lane that the token does not name: the write did not change that key.
    ///
    /// While Redis does not answer and the event has not come, the value is loaded from the source. The call
    /// waits for `verification_wait` (250 ms) at most, once for each outage. A made-up token makes it wait no
    /// longer.
    ///
    /// A loader that reads from a replica of the database may return what is older than the write, as with
    /// every read: see [`primary_for`](crate::CacheBuilder::primary_for).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use unstale::{Cache, Instance, LocalBus, Settings, Token};
    /// # let bus = LocalBus::default();
    /// # async fn start(bus: &LocalBus) -> Result<Cache<u64, u64>, unstale::Error> {
    /// #     let instance = Instance::start_on(bus, Settings::default()).await?;
    /// #     instance.cache("prices").loader(|id: u64| async move { Ok(id * 10) }).build()
    /// # }
    /// # let (here, there) = (start(&bus).await?, start(&bus).await?);
    /// # let save = async { Ok::<_, std::io::Error>(()) };
    /// let ((), token) = here.write_with_token(&7, save).await?;
    /// let cookie = format!("written={token}; Path=/; Max-Age=60");
    ///
    /// // The next request, on another instance. What cannot be read as a token is no reason to fail:
    /// # let cookie = cookie.trim_start_matches("written=").split(';').next().unwrap_or_default();
    /// let token = cookie.parse().unwrap_or_else(|_| Token::latest());
    /// assert_eq!(there.get_after(&7, &token).await?, Some(70));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_after<Q>(&self, key: &Q, token: &Token) -> Result<Option<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let found = self.lookup_after(key, token).await?;
        Ok(found.value)
    }

    /// Returns what [`get_after`](Self::get_after) returns, and how it was answered.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # use unstale::Outcome;
    /// # let prices = instance
    /// #     .cache::<String, u64>("prices")
    /// #     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    /// #     .build()?;
    /// let token = prices.invalidate("sku-1").await?;
    /// let answer = prices.lookup_after("sku-1", &token).await?;
    /// assert_eq!((answer.value, answer.outcome), (Some(5), Outcome::Miss));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn lookup_after<Q>(&self, key: &Q, token: &Token) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        let state = &self.0;
        // The lane first, and then memory. In the other order:
        // 1: the read finds the value from before the write; 2: the event is applied, and drops it; 3: the read asks
        // whether the event is applied, and it is; 4: the value of 1 is returned.
        let before = without(Mechanism::AppliedBeforeLookup)
            .then(|| state.hit(hash, key).ok())
            .flatten();
        let asks = state.asks(hash, token);
        if !state.is_met(hash, asks) {
            let waited = state.entered(state.after(hash, key, asks)).await;
            return before.map_or(waited, |hit| Ok(hit.into()));
        }
        if let Some(hit) = before {
            return Ok(hit.into());
        }
        match state.hit(hash, key) {
            Ok(hit) => Ok(hit.into()),
            Err(missing) => state.entered(state.read(hash, key, missing, None)).await,
        }
    }
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What a token asks of the lane of this hash.
    fn asks(&self, hash: u64, token: &Token) -> Asks {
        let lanes = self.member().lane_count();
        token.asks(lane_of(hash, lanes), lanes)
    }

    /// Whether what memory holds from here on reflects what is asked.
    fn is_met(&self, hash: u64, asks: Asks) -> bool {
        let member = self.member();
        match asks {
            Asks::Nothing => true,
            Asks::Applied(position) => {
                let lane = lane_of(hash, member.lane_count()) as usize;
                member.lanes[lane].reached.has(position)
            }
            Asks::Latest => false,
        }
    }

    /// The rest of a read of whose token not everything is applied here: the event arrives, or a verification proves
    /// that everything published before this call is applied, the event included, or neither is waited for any longer.
    ///
    /// Whichever it is, no load answers that began before the event was applied: both ways join a load as of now, when
    /// it is, or load from the source by themselves.
    async fn after<Q>(self: &Arc<Self>, hash: u64, key: &Q, asks: Asks) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let member = self.member();
        let began = member.clock.precise();
        let Asks::Applied(position) = asks else {
            return self.latest(hash, key, began, None).await;
        };
        let lane = lane_of(hash, member.lane_count()) as usize;
        let caught_up = tokio::select! {
            biased;
            () = member.lanes[lane].reached.wait(position) => None,
            caught_up = self.caught_up(hash, began) => Some(caught_up),
        };
        if let Some(caught_up) = caught_up {
            return self.latest_if(caught_up, hash, key, None).await;
        }
        match self.hit(hash, key) {
            Ok(hit) => Ok(hit.into()),
            Err(missing) => self.read(hash, key, missing, None).await,
        }
    }
}
