//! How values are written in variables and in the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::values::{RefreshAhead, SubscribeAt, Switch, WritePolicy};

/// A value that can be read from text and shown as text that reads back the same.
pub(crate) trait Text: Sized {
    /// Reads it, or says what would be right. The text is trimmed and not empty.
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

/// Returns a value as one would write it in its variable.
pub(crate) fn shown(value: &impl Text) -> String {
    value.show()
}

/// `off` is no value, in any case of letters.
impl<T: Text> Text for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(None);
        }
        T::parse(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "off".to_string(), T::show)
    }
}

/// As an `Option`, `off` in any case of letters.
impl<T: Text> Text for Switch<T> {
    fn parse(text: &str) -> Result<Self, String> {
        Option::parse(text).map(Self::from)
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off".to_string(),
            Self::On(value) => value.show(),
        }
    }
}

/// A number is a share, a number with a unit a time.
impl Text for RefreshAhead {
    fn parse(text: &str) -> Result<Self, String> {
        f64::parse(text)
            .map(Self::Share)
            .or_else(|_| Duration::parse(text).map(Self::Before))
            .map_err(|_| "must be a share, as in 0.8, or a time, as in 30s".to_string())
    }

    fn show(&self) -> String {
        match self {
            Self::Share(share) => share.show(),
            Self::Before(time) => time.show(),
        }
    }
}

impl Text for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        if text.parse::<f64>().is_ok() {
            return Err(format!("add a unit, as in {}s, 500ms or 1m", whole(text)));
        }
        humantime::parse_duration(text)
            .map_err(|_| "must be a number and a unit, as in 500ms, 2s or 1m".to_string())
    }

    /// In the unit one would use: `500ms`, `60s`, `10m`, `45d`.
    fn show(&self) -> String {
        /// Up to here seconds read better than minutes, and minutes better than hours.
        const SMALL: u64 = 120;
        let whole = |unit: u64| {
            let nanos = u128::from(unit) * 1_000_000;
            let count = u64::try_from(self.as_nanos() / nanos).unwrap_or(u64::MAX);
            self.as_nanos().is_multiple_of(nanos).then_some(count)
        };
        match (whole(60_000), whole(1000), whole(1)) {
            (_, Some(seconds), _) if seconds <= SMALL => format!("{seconds}s"),
            (Some(minutes), ..) if minutes <= SMALL => format!("{minutes}m"),
            (Some(minutes), ..) if minutes.is_multiple_of(24 * 60) => {
                format!("{}d", minutes / (24 * 60))
            }
            (Some(minutes), ..) if minutes.is_multiple_of(60) => format!("{}h", minutes / 60),
            (_, None, Some(millis)) if millis < SMALL * 1000 => format!("{millis}ms"),
            _ => humantime::format_duration(*self).to_string(),
        }
    }
}

/// The number again where it is a plain one, for the hint.
fn whole(text: &str) -> &str {
    let plain = text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text } else { "30" }
}

impl Text for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err("must be on or off".to_string()),
        }
    }

    fn show(&self) -> String {
        if *self { "on" } else { "off" }.to_string()
    }
}

impl Text for f64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(|| "must be a fraction, as in 0.1".to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! count {
    ($($kind:ty)*) => {$(
        impl Text for $kind {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| "must be a whole number, as in 1000".to_string())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
count!(u32 usize);

/// The only `u64` is a size in bytes.
impl Text for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 7] = [
            ("", 1),
            ("kb", 1_000),
            ("mb", 1_000_000),
            ("gb", 1_000_000_000),
            ("kib", 1 << 10),
            ("mib", 1 << 20),
            ("gib", 1 << 30),
        ];
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, factor)| number.parse::<Self>().ok()?.checked_mul(*factor))
            .ok_or_else(|| {
                "must be a whole number of bytes, or of KB, MB, GB, KiB, MiB or GiB, as in 64MiB"
                    .to_string()
            })
    }

    fn show(&self) -> String {
        for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if *self > 0 && self.is_multiple_of(factor) {
                return format!("{}{unit}", self / factor);
            }
        }
        self.to_string()
    }
}

impl Text for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_string())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Text for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Text for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "must be an address and a port, as in 0.0.0.0:9100 or [::1]:9100".to_string()
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Text for SubscribeAt {
    fn parse(text: &str) -> Result<Self, String> {
        let words = [Self::Primary, Self::Replicas];
        let word = words
            .into_iter()
            .find(|word| word.show().eq_ignore_ascii_case(text));
        Ok(word.unwrap_or_else(|| Self::Server(text.to_owned())))
    }

    fn show(&self) -> String {
        match self {
            Self::Primary => "primary".to_owned(),
            Self::Replicas => "replicas".to_owned(),
            Self::Server(server) => server.clone(),
        }
    }
}

impl Text for WritePolicy {
    fn parse(text: &str) -> Result<Self, String> {
        [Self::Strict, Self::Available]
            .into_iter()
            .find(|policy| policy.show().eq_ignore_ascii_case(text))
            .ok_or_else(|| "must be strict or available".to_string())
    }

    fn show(&self) -> String {
        match self {
            Self::Strict => "strict",
            Self::Available => "available",
        }
        .to_string()
    }
}
