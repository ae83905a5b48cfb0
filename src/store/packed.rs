//! An entry's numbers in sixteen bytes.
//!
//! A cache of a million entries pays for every byte a million times, and a hit that touches one
//! cache line less is faster. Each number is rounded to the side on which less is served.

use crate::store::stamps::Stamp;
use crate::time::Nanos;

/// Enough for a million invalidations a second over nine years.
const TOKEN_BITS: u32 = 48;

/// Milliseconds: 35 years of the machine's uptime.
const LOADED_BITS: u32 = 40;

/// A TTL in milliseconds: exact up to 9 minutes, then to 2 millionths, up to 35,000 years.
const LIFE: Float = Float { mantissa: 19 };

/// Bytes: exact up to 1 KiB, then to a thousandth, up to 4 TiB.
const BYTES: Float = Float { mantissa: 10 };

/// Exponents take this many bits in either.
const EXPONENT_BITS: u32 = 5;

const MILLISECOND: Nanos = 1_000_000;

/// What decides whether an entry may be served, and what it weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Token, bytes, and whether the TTL came with the value.
    what: u64,
    /// When the load began, and the TTL.
    when: u64,
}

impl Packed {
    /// - A token too large becomes the largest: the next invalidation is above it, and nothing is
    ///   stored from then on.
    /// - The beginning is rounded down, and so is the life: the entry looks older than it is.
    /// - The weight is rounded up.
    pub(crate) fn new(
        token: Stamp,
        loaded_at: Nanos,
        life: Nanos,
        bytes: u64,
        hard_ttl: bool,
    ) -> Self {
        let loaded = (loaded_at / MILLISECOND).min(max(LOADED_BITS));
        // From the rounded beginning, so that the end is never later than it was meant.
        let life = LIFE.floor(life / MILLISECOND);
        let token = token.min(max(TOKEN_BITS));
        Self {
            what: token << (64 - TOKEN_BITS) | BYTES.ceiling(bytes) << 1 | u64::from(hard_ttl),
            when: loaded << (64 - LOADED_BITS) | life,
        }
    }

    #[inline]
    pub(crate) fn token(self) -> Stamp {
        self.what >> (64 - TOKEN_BITS)
    }

    #[inline]
    pub(crate) fn loaded_at(self) -> Nanos {
        (self.when >> (64 - LOADED_BITS)) * MILLISECOND
    }

    /// At most the largest number there is.
    #[inline]
    pub(crate) fn expires_at(self) -> Nanos {
        let life = LIFE.value(self.when & max(64 - LOADED_BITS));
        self.loaded_at()
            .saturating_add(life.saturating_mul(MILLISECOND))
    }

    /// Whether `now` is not before [`expires_at`](Self::expires_at). Compares milliseconds, where no
    /// sum overflows: a hit pays for no saturation.
    #[inline]
    pub(crate) fn expired(self, now: Nanos) -> bool {
        let loaded = self.when >> (64 - LOADED_BITS);
        let life = LIFE.value(self.when & max(64 - LOADED_BITS));
        now / MILLISECOND >= loaded + life
    }

    pub(crate) fn bytes(self) -> u64 {
        BYTES.value(self.what >> 1 & max(BYTES.bits()))
    }

    pub(crate) fn hard_ttl(self) -> bool {
        self.what & 1 == 1
    }
}

/// The largest number of so many bits.
const fn max(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Numbers with a mantissa of so many bits; small ones are exact. Larger codes are larger numbers.
struct Float {
    mantissa: u32,
}

impl Float {
    const fn bits(&self) -> u32 {
        EXPONENT_BITS + self.mantissa
    }

    /// The code of the largest number that is not above `n`.
    fn floor(&self, n: u64) -> u64 {
        let Some(shift) = n.checked_ilog2().unwrap_or(0).checked_sub(self.mantissa) else {
            return n;
        };
        let code = (u64::from(shift) + 1) << self.mantissa | n >> shift & max(self.mantissa);
        code.min(max(self.bits()))
    }

    /// The code of the smallest number that is not below `n`, as far as there is one.
    fn ceiling(&self, n: u64) -> u64 {
        let code = self.floor(n);
        let up = u64::from(self.value(code) < n);
        (code + up).min(max(self.bits()))
    }

    #[inline]
    fn value(&self, code: u64) -> u64 {
        let exponent = code >> self.mantissa;
        let mantissa = code & max(self.mantissa);
        match exponent.checked_sub(1) {
            None => mantissa,
            Some(shift) => (mantissa | 1 << self.mantissa) << shift,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_are_exact_and_large_ones_end_somewhere() {
        for n in 0..=1 << 10 {
            assert_eq!(BYTES.value(BYTES.floor(n)), n);
            assert_eq!(BYTES.value(BYTES.ceiling(n)), n);
        }
        let ten_minutes = 600_000;
        assert!(ten_minutes - LIFE.value(LIFE.floor(ten_minutes)) <= 1);
        for float in [LIFE, BYTES] {
            let largest = float.value(max(float.bits()));
            assert_eq!(float.value(float.floor(u64::MAX)), largest);
            assert_eq!(float.value(float.ceiling(u64::MAX)), largest);
        }
        assert!(BYTES.value(BYTES.ceiling(u64::MAX)) > 1 << 40);
    }

    #[test]
    fn what_does_not_fit_is_served_less() {
        let packed = Packed::new(u64::MAX, u64::MAX, u64::MAX, u64::MAX, true);
        assert_eq!(packed.token(), (1 << 48) - 1);
        assert!(packed.expires_at() < u64::MAX || packed.loaded_at() < u64::MAX);
        assert!(packed.hard_ttl());
    }

    proptest! {
        #[test]
        fn every_number_is_rounded_to_the_safe_side(
            token in 0_u64..1 << 48,
            loaded_at in 0_u64..1 << 59,
            life in 0_u64..1 << 59,
            bytes in 0_u64..1 << 40,
            hard_ttl: bool,
            late in 0_u64..1 << 59,
        ) {
            let packed = Packed::new(token, loaded_at, life, bytes, hard_ttl);
            prop_assert_eq!(packed.token(), token);
            prop_assert_eq!(packed.hard_ttl(), hard_ttl);
            prop_assert!(packed.loaded_at() <= loaded_at);
            prop_assert!(loaded_at - packed.loaded_at() < MILLISECOND);
            prop_assert!(packed.expires_at() <= loaded_at + life);
            let early = loaded_at + life - packed.expires_at();
            prop_assert!(early <= 2 * MILLISECOND + life / 500_000, "{}", early);
            let end = packed.expires_at();
            prop_assert!(packed.expired(end) && packed.expired(end.saturating_add(late)));
            prop_assert!(!packed.expired(end - 1));
            prop_assert!(packed.bytes() >= bytes);
            prop_assert!(packed.bytes() - bytes <= bytes / 1_000);
        }
    }
}
