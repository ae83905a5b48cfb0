//! In place of `from_tier` in a build without the feature `shared`: there is no tier.

use std::convert::Infallible;

use crate::Key;
use crate::cache::flight::{Incoming, Leader, Wanted};
use crate::cache::state::CacheState;
use crate::loader::Loaded;

/// What a load must know to store its value in the tier.
pub(crate) struct Ticket(Infallible);

/// A place to ask the tier.
pub(crate) struct Slot;

/// What the tier had for a load.
pub(crate) enum FromTier<V> {
    #[expect(dead_code, reason = "only the tier finds a value")]
    Found(Incoming<V>),
    Load(Option<Ticket>),
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn when_tier_is_free(&self, begin: impl FnOnce(Slot)) {
        begin(Slot);
    }

    pub(crate) async fn ask_tier(
        &self,
        _: &Leader<K, V>,
        _: Wanted,
        _: Option<Slot>,
    ) -> FromTier<V> {
        FromTier::Load(None)
    }

    pub(crate) async fn store_in_tier(&self, _: &K, ticket: Ticket, _: &Loaded<V>) {
        match ticket.0 {}
    }
}
