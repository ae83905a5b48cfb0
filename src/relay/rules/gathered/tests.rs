//! Tests of what a transaction invalidates.

use proptest::prelude::*;

use super::*;

fn key(cache: u32, hash: u64) -> Name {
    Name::Key {
        cache,
        format: 1,
        hash,
    }
}

fn tag(cache: u32, hash: u64) -> Name {
    Name::Tag {
        cache,
        format: 1,
        hash,
    }
}

fn named(cache: u32, keys: &[u64], tags: &[u64]) -> Drops {
    let what = What::Named {
        keys: keys.to_vec(),
        tags: tags.to_vec(),
    };
    Drops {
        cache,
        format: 1,
        what,
    }
}

fn all(cache: u32) -> Drops {
    Drops {
        cache,
        format: 1,
        what: What::All,
    }
}

#[test]
fn names_are_kept_once_and_by_cache() {
    let mut gathered = Gathered::default();
    assert!(gathered.is_empty());
    gathered.extend([
        key(1, 7),
        key(1, 7),
        key(1, 3),
        key(1, 7),
        tag(1, 7),
        key(2, 9),
    ]);
    assert!(!gathered.is_empty());
    let drained = gathered.drain();
    assert_eq!(
        drained.drops,
        [named(1, &[3, 7], &[7]), named(2, &[9], &[])]
    );
    assert_eq!(gathered.drain(), Drained::default());
}

#[test]
fn a_whole_cache_swallows_its_names() {
    let mut gathered = Gathered::default();
    let whole = Name::All {
        cache: 1,
        format: 1,
    };
    gathered.extend([key(1, 7), whole, key(1, 8), key(2, 1)]);
    assert_eq!(gathered.held, 1);
    assert_eq!(gathered.drain().drops, [all(1), named(2, &[1], &[])]);
}

#[test]
fn everything_swallows_all_caches() {
    let mut gathered = Gathered::default();
    gathered.extend([key(1, 7), Name::Everything, key(2, 8)]);
    assert!(!gathered.is_empty());
    let drained = gathered.drain();
    assert!(drained.everything && drained.drops.is_empty());
    assert!(gathered.is_empty());
}

#[test]
fn beyond_the_bound_the_largest_cache_is_dropped_whole() {
    let mut gathered = Gathered::with_bound(10);
    gathered.extend((0..3).map(|hash| tag(2, hash)));
    gathered.extend((0..8).map(|hash| key(1, hash)));
    let drained = gathered.drain();
    assert_eq!(drained.drops, [all(1), named(2, &[], &[0, 1, 2])]);
    assert_eq!(drained.collapses, 1);
}

#[test]
fn a_million_changes_of_few_rows_keep_their_names() {
    let mut gathered = Gathered::default();
    gathered.extend((0..1_000_000).map(|n| key(1, n % 1_000)));
    let keys: Vec<u64> = (0..1_000).collect();
    assert_eq!(gathered.drain().drops, [named(1, &keys, &[])]);
}

#[test]
fn a_million_rows_and_a_million_caches_take_bounded_memory() {
    let mut gathered = Gathered::default();
    for n in 0..1_000_000 {
        gathered.add(key(1, n));
        assert!(gathered.held <= MOST_HASHES);
    }
    assert_eq!(gathered.drain().drops, [all(1)]);
    for n in 0..1_000_000 {
        gathered.add(key(n, 1));
        assert!(gathered.caches.len() <= MOST_CACHES);
    }
    let drained = gathered.drain();
    assert!(drained.everything);
    assert_eq!(drained.collapses, 1);
}

proptest! {
    #[test]
    fn no_gathered_name_is_left_out(
        names in proptest::collection::vec((0_u32..4, 0_u64..40, any::<bool>()), 0..200),
        most in 1_usize..60,
    ) {
        let mut gathered = Gathered::with_bound(most);
        for (cache, hash, is_key) in &names {
            gathered.add(if *is_key { key(*cache, *hash) } else { tag(*cache, *hash) });
            prop_assert!(gathered.held <= most);
        }
        let drained = gathered.drain();
        for (cache, hash, is_key) in &names {
            let drops = drained.drops.iter().find(|drops| drops.cache == *cache);
            let covered = match &drops.expect("the cache").what {
                What::All => true,
                What::Named { keys, .. } if *is_key => keys.contains(hash),
                What::Named { tags, .. } => tags.contains(hash),
            };
            prop_assert!(covered);
        }
    }
}
