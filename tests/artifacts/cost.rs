//! What README.md says a hit, a miss and an entry cost is what docs/benchmarks.md has measured.

use crate::documents::read;

/// The cells of the first row that begins like this, in the section with that heading.
fn row<'a>(document: &'a str, heading: &str, begins: &str) -> Vec<&'a str> {
    let at = document.find(&format!("\n{heading}"));
    let section = &document[at.expect("the section") + 1..];
    let rows = section
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    let found = rows.into_iter().find(|line| line.starts_with(begins));
    let row = found.unwrap_or_else(|| unreachable!("{heading} has no row {begins}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// The number at the beginning of a cell.
fn number(cell: &str) -> f64 {
    let end = cell.find(|c: char| c != '.' && !c.is_ascii_digit());
    cell[..end.unwrap_or(cell.len())].parse().expect("a number")
}

/// `1,682 ns`.
fn nanoseconds(cell: &str) -> String {
    let ns = number(cell).round() as u64;
    if ns < 1_000 {
        format!("{ns} ns")
    } else {
        format!("{},{:03} ns", ns / 1_000, ns % 1_000)
    }
}

#[test]
fn costs_in_the_readme_are_those_of_the_benchmarks() {
    let (readme, measured) = (read("README.md"), read("docs/benchmarks.md"));
    let said = |begins: &str| row(&readme, "## What it costs", begins)[1..].join(" | ");
    let contenders = [
        "quick_cache |",
        "quick_cache, expiry by `Instant::now()` |",
        "unstale |",
        "moka sync, TTL |",
    ];
    for (name, keys) in [
        ("hit, 1,000 keys, 1 thread", "1k keys, 1 thread"),
        ("hit, 1,000 keys, 2 threads", "1k keys, 2 threads"),
        ("hit, 100,000 keys, 1 thread", "100k keys, 1 thread"),
    ] {
        let cells = contenders.map(|cache| {
            let cells = row(&measured, "### A hit", &format!("| {keys} | {cache}"));
            nanoseconds(cells[2])
        });
        let [quick, expiring, ours, moka] = cells;
        let expected = format!("{quick} | {expiring} | **{ours}** | {moka}");
        assert_eq!(said(&format!("| {name} |")), expected);
    }
    let of = |heading: &str, caches: [&str; 3]| {
        caches.map(|cache| number(row(&measured, heading, &format!("| {cache} |"))[1]).round())
    };
    let [quick, ours, moka] = of("### A miss", ["quick_cache", "unstale", "moka"]);
    let expected = format!("{quick} µs |  | **{ours} µs** | {moka} µs");
    assert_eq!(said("| miss,"), expected);
    let [quick, ours, moka] = of("### Memory", ["quick_cache", "unstale", "moka, TTL"]);
    let expected = format!("{quick} B |  | **{ours} B** | {moka} B");
    assert_eq!(said("| memory of an entry |"), expected);
    let gone = row(&measured, "### Propagation", "| 2 ms between two |");
    let expected = format!(
        "the TTL | the TTL | **{:.1} ms** | the TTL",
        number(gone[3]) / 1_000.0
    );
    assert_eq!(said("| another instance drops"), expected);
}
