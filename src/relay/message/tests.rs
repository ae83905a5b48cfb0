//! Tests of messages. The vectors are what PostgreSQL's `jsonb` writes.

use super::hashed::{self, MOST_OPERATIONS};
use super::*;
use crate::coherence::outbox::Invalidation;
use crate::instance::statement::{MOST_CACHES, MOST_HASHES, Statement};
use crate::protocol::vectors;
use crate::relay::rules::encode::hash_of;

fn rules(text: &str) -> Rules {
    Rules::parse(&format!("source = \"s\"\n{text}")).unwrap()
}

const RULES: &str = r#"
[[rule]]
table = "a"
cache = "accounts"
key = ["id"]
[[rule]]
table = "b"
cache = "members"
key = ["tenant", { column = "team", optional = true }]
[[rule]]
table = "c"
cache = "odd"
key = ["x", "y"]
format = 77
"#;

fn names(content: &str) -> Vec<Name> {
    let mut names = Vec::new();
    let said = parse(content.as_bytes()).unwrap();
    said.names(&rules(RULES), &mut names);
    names
}

fn name(content: &str) -> Option<Name> {
    let names = names(content);
    assert!(names.len() <= 1, "{names:?}");
    names.first().copied()
}

fn key(cache: &str, parts: &[&str], format: u32) -> Option<Name> {
    let hash = hash_of(parts.iter().map(|part| part.as_bytes()))?;
    let cache = cache_id(cache);
    Some(Name::Key {
        cache,
        format,
        hash,
    })
}

#[test]
fn keys_have_the_format_of_their_cache() {
    for (content, named) in [
        (r#"["k", "accounts", ["42"]]"#, key("accounts", &["42"], 1)),
        (
            r#"["k", "accounts", ["grüße \"\u0001"]]"#,
            key("accounts", &["grüße \"\u{1}"], 1),
        ),
        (
            r#"["k", "nowhere", ["7", "ada"]]"#,
            key("nowhere", &["7", "ada"], 32),
        ),
        (
            r#"["k", "odd", ["7", "ada"]]"#,
            key("odd", &["7", "ada"], 77),
        ),
        (
            r#"["k", "odd", ["7", "ada"], 5]"#,
            key("odd", &["7", "ada"], 5),
        ),
        // A `None` has one part, a `Some` two.
        (
            r#"["k", "members", ["7", "0"]]"#,
            key("members", &["7", "0"], 64),
        ),
        (
            r#"["k", "members", ["7", "1", "ada"]]"#,
            key("members", &["7", "1", "ada"], 64),
        ),
        // No key of these caches: the format makes instances drop the whole cache.
        (
            r#"["k", "accounts", ["42", "x"]]"#,
            key("accounts", &["42", "x"], 32),
        ),
        (r#"["k", "odd", ["7"]]"#, key("odd", &["7"], 1)),
    ] {
        assert!(named.is_some());
        assert_eq!(name(content), named, "{content}");
    }
}

#[test]
fn the_key_42_has_the_hash_of_the_protocol() {
    let Some(Name::Key { cache, hash, .. }) = name(r#"["k", "accounts", ["42"]]"#) else {
        unreachable!("a key");
    };
    assert_eq!((cache, hash), (1_095_501_882, 0x1217_cb28_c0ef_2191));
}

#[test]
fn tags_caches_and_tables_are_read() {
    let hash = tag_hash("tenant-7");
    let (cache, members) = (cache_id("accounts"), cache_id("members"));
    let format = 1;
    for (content, named) in [
        (
            r#"["t", "accounts", "tenant-7"]"#,
            Name::Tag {
                cache,
                format,
                hash,
            },
        ),
        (
            r#"["t", "accounts", "tenant-7", 9]"#,
            Name::Tag {
                cache,
                format: 9,
                hash,
            },
        ),
        (r#"["a", "accounts"]"#, Name::All { cache, format }),
        (
            r#"["a", "members"]"#,
            Name::All {
                cache: members,
                format: 64,
            },
        ),
    ] {
        assert_eq!(name(content), Some(named), "{content}");
    }
    let altered = Said::Altered {
        schema: "public".to_owned(),
        table: "My \"table".to_owned(),
    };
    assert_eq!(parse(br#"["d", "public", "My \"table"]"#), Ok(altered));
}

#[test]
fn operations_with_hashes_are_those_of_the_protocol() {
    for vector in vectors("statements") {
        let expected = vector.list("ops").into_iter().flat_map(|op| {
            let (cache, format) = (op.number("cache"), op.number("format"));
            let hashes = op.hexes("hashes").into_iter();
            match op.number::<u8>("kind") {
                0 => hashes
                    .map(|hash| Name::Key {
                        cache,
                        format,
                        hash,
                    })
                    .collect(),
                1 => hashes
                    .map(|hash| Name::Tag {
                        cache,
                        format,
                        hash,
                    })
                    .collect(),
                2 => vec![Name::All { cache, format }],
                _ => vec![Name::Everything],
            }
        });
        let expected: Vec<Name> = expected.collect();
        let content = vector.text("content");
        assert_eq!(names(content), expected, "{vector:?}");
        // As JSON of other writers.
        let spaced = content.replace(',', " , ").replace('[', " [ ");
        assert_eq!(names(&spaced), expected, "{vector:?}");
    }
}

#[test]
fn the_longest_statement_is_read() {
    let (cache, format) = (u32::MAX - MOST_CACHES as u32, u32::MAX);
    let items: Vec<Invalidation> = (0..MOST_HASHES as u32)
        .map(|n| {
            let (cache, hash) = (cache + n / 2 % MOST_CACHES as u32, u64::from(n));
            match n % 2 {
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
            }
        })
        .collect();
    let statement = Statement::new(&items);
    let longest = statement.parameter();
    assert!(longest.len() > 16 * MOST_HASHES, "nothing is collapsed");
    assert!(longest.len() <= hashed::LONGEST, "{}", longest.len());
    let mut read = names(longest);
    read.sort_by_key(|name| match name {
        Name::Key { hash, .. } | Name::Tag { hash, .. } => *hash,
        Name::All { .. } | Name::Everything => unreachable!("{name:?}"),
    });
    let all = items.into_iter().map(|item| match item {
        Invalidation::Key {
            cache,
            format,
            hash,
        } => Name::Key {
            cache,
            format,
            hash,
        },
        Invalidation::Tag { cache, format, tag } => Name::Tag {
            cache,
            format,
            hash: tag,
        },
        Invalidation::Cache { cache, format } => Name::All { cache, format },
    });
    assert!(read.into_iter().eq(all));
}

#[test]
fn a_message_that_is_not_understood_is_an_error_without_its_content() {
    let parts = vec!["\"secret\""; 65].join(", ");
    let many = format!("[\"k\", \"accounts\", [{parts}]]");
    let long = format!("[\"k\", \"accounts\", [\"{}\"]]", "s".repeat(LONGEST));
    let deep = "[".repeat(10_000);
    let many_operations = format!("[\"h\"{}]", ",[1,1,2,\"\"]".repeat(MOST_OPERATIONS + 1));
    let long_hashes = format!(
        "[\"h\",[1,1,0,\"{}\"]]",
        "0".repeat(hashed::LONGEST / 16 * 16)
    );
    for content in [
        "",
        "secret",
        "{}",
        "[]",
        "[1]",
        r#"["z", "accounts"]"#,
        r#"["k", "accounts"]"#,
        r#"["k", "accounts", []]"#,
        r#"["k", "accounts", "secret"]"#,
        r#"["k", "accounts", ["secret", null]]"#,
        r#"["k", "accounts", ["secret"], 1, 2]"#,
        r#"["k", "accounts", ["secret"], -1]"#,
        r#"["k", "accounts", ["secret"], 4294967296]"#,
        r#"["k", "accounts", ["secret"], 1.5]"#,
        r#"["k", "Secret", ["1"]]"#,
        r#"["k", "", ["1"]]"#,
        r#"["t", "accounts"]"#,
        r#"["t", "accounts", 7]"#,
        r#"["a"]"#,
        r#"["a", "accounts", "secret"]"#,
        r#"["d", "public"]"#,
        r#"["a", "accounts"] x"#,
        r#"["h", [1, 1, 0]]"#,
        r#"["h", [1, 1, 4, ""]]"#,
        r#"["h", [1, 1, 0, "secret"]]"#,
        r#"["h", [1, 1, 0, "+000000000000001"]]"#,
        r#"["h", [1, 1, 0, "00000000000001"]]"#,
        r#"["h", [1, 1, 2, "0000000000000001"]]"#,
        r#"["h", [4294967296, 1, 2, ""]]"#,
        r#"["h", [-1, 1, 2, ""]]"#,
        r#"["h", [1, 1, 0, "0000000000000001", "secret"]]"#,
        r#"["h", "secret"]"#,
        &many_operations,
        &long_hashes,
        &many,
        &long,
        &deep,
    ] {
        let error = parse(content.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("ecret"), "{error}");
    }
    assert!(parse(b"[\"a\", \"\xff\"]").is_err());
}

#[test]
fn a_key_that_is_too_long_is_in_no_cache() {
    let content = format!(
        "[\"k\", \"accounts\", [\"{}\"]]",
        "s".repeat(MAX_KEY_BYTES + 1)
    );
    assert_eq!(name(&content), None);
}

proptest::proptest! {
    #[test]
    fn arbitrary_content_causes_no_panic(content: Vec<u8>, text in "\\[\"[ktahd]\", ?[\\[\\]\", a-z0-9\\\\]{0,30}\\]?") {
        let _ = parse(&content);
        let _ = parse(text.as_bytes());
    }
}
