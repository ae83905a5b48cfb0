//! What a printed line looks like, whatever the numbers in it.

/// What lines say but for numbers, units and the width of columns.
pub(crate) fn kinds<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    lines.into_iter().map(kind).collect()
}

fn kind(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let token = |part: &str| {
            let id = part.len() >= 8 && part.chars().all(|c| c.is_ascii_hexdigit());
            if id || part.contains(|c: char| c.is_ascii_digit()) {
                "N".to_owned()
            } else {
                part.to_owned()
            }
        };
        let mut kind = String::new();
        for part in word.split_inclusive(|c: char| !c.is_alphanumeric()) {
            let separator = part.chars().next_back().filter(|c| !c.is_alphanumeric());
            kind += &token(part.trim_end_matches(|c: char| !c.is_alphanumeric()));
            kind.extend(separator);
        }
        for joint in ["N.N", "N,N", "N:N", "N-N"] {
            while kind.contains(joint) {
                kind = kind.replace(joint, "N");
            }
        }
        // One event, two events; 1 ms, 1 s.
        if words.last().is_some_and(|last| last == "N") {
            let bare = kind.trim_end_matches(|c: char| !c.is_alphanumeric());
            let end = kind[bare.len()..].to_owned();
            let unit = ["s", "ms", "µs", "B", "kB", "MB"].contains(&bare);
            let noun = if unit {
                "unit"
            } else {
                bare.trim_end_matches('s')
            };
            kind = format!("{noun}{end}");
        }
        // "within < 1 ms" is as much as "within 2 ms".
        if kind != "<" {
            words.push(kind);
        }
    }
    words.join(" ")
}

#[test]
fn numbers_do_not_matter_and_everything_else_does() {
    let same = |one: &str, other: &str| kind(one) == kind(other);
    assert!(same(
        "1 event, half  within < 1 ms; 189.8 kB.",
        "2,400 events, half within 1.2 s; 3 MB."
    ));
    assert!(same(
        "#17 from deadbeef: 2 keys e2c3a37ac509f8d0",
        "#9 from 406dac97: 1 key 0102030405060708"
    ));
    assert!(!same(
        "1 event, half within 1 ms",
        "1 gap, half within 1 ms"
    ));
    assert!(!same("ok  lanes  1", "warn  lanes  1"));
    assert!(!same("ok  lanes  1", "ok  lanes  one"));
}
