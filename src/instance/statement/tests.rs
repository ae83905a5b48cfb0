use super::*;
use crate::protocol::vectors;

fn key(cache: u32, hash: u64) -> Invalidation {
    Invalidation::Key {
        cache,
        format: 1,
        hash,
    }
}

fn all(cache: u32) -> Invalidation {
    Invalidation::Cache { cache, format: 1 }
}

#[test]
fn statements_are_those_of_the_protocol() {
    for vector in vectors("statements") {
        let items = vector.list("ops").into_iter().flat_map(|op| {
            let (cache, format) = (op.number("cache"), op.number("format"));
            let kind: u8 = op.number("kind");
            let hashes = op.hexes("hashes").into_iter();
            let named: Vec<Invalidation> = hashes
                .map(|hash| match kind {
                    0 => Invalidation::Key {
                        cache,
                        format,
                        hash,
                    },
                    _ => Invalidation::Tag {
                        cache,
                        format,
                        tag: hash,
                    },
                })
                .collect();
            match kind {
                2 => vec![Invalidation::Cache { cache, format }],
                // What more caches become than one statement has.
                3 => (0..=MOST_CACHES as u32).map(all).collect(),
                _ => named,
            }
        });
        let statement = Statement::new(&items.collect::<Vec<_>>());
        assert_eq!(statement.parameter(), vector.text("content"), "{vector:?}");
    }
}

#[test]
fn names_are_in_order_and_each_once() {
    let items = [key(7, 2), key(7, 1), all(8), key(7, 2), key(8, 3)];
    assert_eq!(
        Statement::new(&items).parameter(),
        r#"["h",[7,1,0,"00000000000000010000000000000002"],[8,1,2,""]]"#
    );
    assert_eq!(Statement::new(&[]).parameter(), r#"["h"]"#);
}

#[test]
fn the_largest_cache_becomes_whole_where_the_names_are_too_many() {
    let of = |cache, hashes: std::ops::Range<u64>| hashes.map(move |hash| key(cache, hash));
    let items: Vec<Invalidation> = of(7, 0..3).chain(of(8, 0..2)).chain(of(7, 0..3)).collect();
    let within = |most| Statement::within(&items, most, 2).content;
    let digits = |n: u64| (0..n).map(|n| format!("{n:016x}")).collect::<String>();
    let keys = |cache, n| format!("[{cache},1,0,\"{}\"]", digits(n));
    assert_eq!(within(5), format!("[\"h\",{},{}]", keys(7, 3), keys(8, 2)));
    assert_eq!(within(4), format!("[\"h\",[7,1,2,\"\"],{}]", keys(8, 2)));
    assert_eq!(within(1), r#"["h",[7,1,2,""],[8,1,2,""]]"#);
    assert_eq!(
        Statement::within(&items, 5, 1).parameter(),
        r#"["h",[0,0,3,""]]"#
    );
}

#[test]
fn many_keys_are_one_statement_of_bounded_length() {
    let keys = |n: u64| (0..n).map(|n| key(u32::MAX, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let many: Vec<Invalidation> = keys(100_000).collect();
    let text = Statement::new(&many).content;
    assert!(
        (1_600_000..1_601_000).contains(&text.len()),
        "{}",
        text.len()
    );
    let too_many: Vec<Invalidation> = keys(MOST_HASHES as u64 + 1).collect();
    assert_eq!(
        Statement::new(&too_many).parameter(),
        r#"["h",[4294967295,1,2,""]]"#
    );
}

#[test]
fn a_statement_is_one_literal_of_its_parameter() {
    let statement = Statement::new(&[key(7, 1)]);
    let whole = statement
        .sql()
        .replace("$1::text", &format!("'{}'", statement.parameter()));
    assert_eq!(statement.to_string(), whole);
}
