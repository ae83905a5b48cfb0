//! An explanation in plain sentences.

use std::fmt;
use std::time::Duration;

use crate::cache::explain::{Explanation, Refusal};
use crate::cache::lookup::Outcome;

/// For people: to the millisecond.
fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(time.as_millis() as u64))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(key) = self.key else {
            return f.write_str("The key is too long to be cached: a read returns an error.");
        };
        let (cache, lane) = (&self.cache, self.lane);
        write!(f, "Key {key} of cache {cache:?}, lane {lane}: ")?;
        f.write_str(match self.outcome {
            Outcome::Hit => "a read is a hit.",
            Outcome::Negative => "a read is a hit, which says that the key does not exist.",
            Outcome::Coalesced if self.error_kept => "a read returns the error of the last load.",
            Outcome::Coalesced => "a read waits for a load that is under way.",
            _ if self.waits => "a read waits for a verification, and loads if none comes in time.",
            _ => "a read loads.",
        })?;
        self.write_refusal(f)?;
        self.write_held(f)?;
        self.write_verified(f)?;
        self.write_last(f)
    }
}

impl Explanation {
    fn write_refusal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(refusal) = self.refusal else {
            return Ok(());
        };
        f.write_str(match refusal {
            Refusal::NotHeld => " Nothing is held",
            Refusal::Invalidated => {
                " Its tag, its cache or its lane was invalidated after its load began"
            }
            Refusal::Ttl => " Its TTL is over",
            Refusal::Staleness => {
                " Neither its load nor a verification is within the staleness bound"
            }
            Refusal::Unconfirmed => " The answer that the key does not exist has to be confirmed",
            Refusal::KeyTooLong => " The key is too long",
        })?;
        match self.cause {
            Some(cause) => write!(f, " (miss cause: {cause})."),
            None => f.write_str("."),
        }
    }

    fn write_held(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(held) = self.held else {
            return Ok(());
        };
        let what = if held.exists { "value" } else { "absence" };
        write!(f, " The {what} was loaded {} ago", shown(held.age))?;
        if held.ttl_left.is_zero() {
            f.write_str(".")
        } else {
            write!(f, " and has {} of its TTL left.", shown(held.ttl_left))
        }
    }

    fn write_verified(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verified_age {
            Some(age) => write!(f, " The lane was verified {} ago", shown(age))?,
            None => f.write_str(" The lane was never verified")?,
        }
        if let Some(age) = self.source_age {
            write!(f, ", its source {} ago", shown(age))?;
        }
        match self.max_staleness {
            Some(bound) => write!(f, "; the bound is {}.", shown(bound)),
            None => f.write_str("; there is no bound."),
        }
    }

    fn write_last(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = shown(self.known_for);
        match (&self.last_invalidation, self.last_invalidation_age) {
            (Some(last), Some(age)) => write!(f, " Last invalidated {} ago: {last}.", shown(age)),
            _ => write!(
                f,
                " It was not invalidated in the last {known}; older invalidations are not known."
            ),
        }
    }
}
