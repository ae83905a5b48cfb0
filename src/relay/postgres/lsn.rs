//! Places in the log as PostgreSQL writes them: two hexadecimal numbers with a slash between.

/// Returns the place that a text such as `16/B374D848` is.
pub(crate) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok();
        number.filter(|_| plain).map(u64::from)
    };
    Some(half(high)? << 32 | half(low)?)
}

pub(crate) fn show_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown() {
        for (text, lsn) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(parse_lsn(text), Some(lsn));
            assert_eq!(show_lsn(lsn), text);
        }
        for wrong in [
            "",
            "1",
            "/",
            "1/",
            "/1",
            "1/1/1",
            "+1/0",
            "1/100000000",
            "G/0",
            " 1/1",
        ] {
            assert_eq!(parse_lsn(wrong), None, "{wrong}");
        }
    }
}
