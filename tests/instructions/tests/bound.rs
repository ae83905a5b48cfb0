//! A hit takes more instructions only where that is meant. `make bench-instructions` prints the counts.

use std::path::Path;

use unstale_instructions::instructions;

const PROGRAM: &str = env!("CARGO_BIN_EXE_unstale-instructions");

/// Most instructions of a `get` that hits. Four of them ask whether the cache names a source.
const MOST: u64 = 395;

/// Most instructions more than a lookup in quick_cache takes, which hashes and compares as well: two
/// counters, three stamps, the TTL, the promise and a clock.
const MOST_MORE: u64 = 200;

#[test]
fn a_hit_takes_no_more_instructions_than_it_did() {
    let count = |contender| instructions(Path::new(PROGRAM), contender);
    let (bare, hit) = (count("quick_cache"), count("get"));
    assert!(bare > 100, "{bare}: that is no lookup");
    assert!(hit <= MOST, "{hit} instructions, not {MOST} at most");
    assert!(
        hit <= bare + MOST_MORE,
        "{hit} instructions, {bare} of quick_cache and {MOST_MORE} more at most"
    );
}
