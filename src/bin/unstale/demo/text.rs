//! Numbers for people.

use std::time::Duration;

/// `12 ms`, `1.42 s`, `2 s`.
pub(crate) fn time(duration: Duration) -> String {
    if duration.is_zero() {
        "0 ms".to_owned()
    } else if duration < Duration::from_millis(1) {
        "< 1 ms".to_owned()
    } else if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 write`, `2,000 writes`, `2 bursts of writes`.
pub(crate) fn some(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    let (noun, rest) = what.split_once(" of ").unwrap_or((what, ""));
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!(" of {rest}")
    };
    format!("{} {noun}{plural}{rest}", count(number))
}

/// `97.3 %`; of nothing, nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// `812 B`, `1.2 kB`, `3.4 MB`.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        _ => format!("{:.1} MB", number as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let counts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let times = [0, 20, 12_000, 1_420_000, 2_000_000].map(|us| time(Duration::from_micros(us)));
        assert_eq!(times, ["0 ms", "< 1 ms", "12 ms", "1.42 s", "2 s"]);
        assert_eq!(
            [
                some(1, "write"),
                some(2, "write"),
                some(2, "burst of writes")
            ],
            ["1 write", "2 writes", "2 bursts of writes"]
        );
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.3 %", "-"]);
        assert_eq!(
            [812, 1_200, 3_400_000].map(bytes),
            ["812 B", "1.2 kB", "3.4 MB"]
        );
    }
}
