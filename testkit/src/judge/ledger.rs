//! Which answers one account's writer received, and what must therefore be true of its version.

/// The versions of one account, of which one writer at a time makes the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// The last version that an answer named.
    version: u64,
    /// Writes since then, or before, that may yet turn out to have been committed.
    unknown: u64,
    /// Writes since then that the service said it did not commit.
    refused: u64,
}

impl Ledger {
    /// A write was answered with its version.
    pub(super) fn committed(&mut self, version: u64) -> Result<(), String> {
        if version <= self.version {
            return Err(format!(
                "a write was given version {version} after {}",
                self.version
            ));
        }
        let judged = self.advance(version - 1);
        self.version = version;
        judged
    }

    /// A write was answered "nothing was committed".
    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// A write was not answered, or in a way that says nothing about its outcome.
    pub(super) fn unknown(&mut self) {
        self.unknown += 1;
    }

    /// Takes the account's version, read when no write is under way.
    pub(super) fn settled(&mut self, version: u64) -> Result<(), String> {
        if version < self.version {
            return Err(format!(
                "version {version} is read, {} was promised",
                self.version
            ));
        }
        self.advance(version)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Versions up to this one exist: each beyond the known needs a write of unknown outcome.
    fn advance(&mut self, version: u64) -> Result<(), String> {
        let Self {
            version: known,
            unknown,
            refused,
        } = *self;
        let more = version - known;
        *self = Self {
            version,
            unknown: unknown.saturating_sub(more),
            refused: 0,
        };
        if more <= unknown {
            return Ok(());
        }
        Err(format!(
            "version went from {known} to {version} with {unknown} writes of unknown outcome \
             and {refused} refused ones"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_up_by_one_a_write() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.committed(1), Ok(()));
        assert_eq!(ledger.committed(2), Ok(()));
        assert_eq!(ledger.settled(2), Ok(()));
        assert!(ledger.committed(2).is_err());
        assert!(ledger.settled(1).is_err(), "an acknowledged write is lost");
    }

    #[test]
    fn a_refused_write_leaves_no_version_behind() {
        let mut ledger = Ledger::default();
        ledger.refused();
        assert_eq!(ledger.clone().committed(1), Ok(()));
        assert!(ledger.clone().committed(2).is_err());
        assert!(ledger.settled(1).is_err());
    }

    #[test]
    fn a_write_of_unknown_outcome_may_show_up_once_at_any_time() {
        let mut ledger = Ledger::default();
        ledger.unknown();
        assert_eq!(ledger.clone().settled(0), Ok(()));
        assert_eq!(ledger.clone().settled(1), Ok(()));
        assert_eq!(
            ledger.committed(1),
            Ok(()),
            "it did not commit before this one"
        );
        assert_eq!(ledger.committed(3), Ok(()), "but before this one");
        assert!(ledger.committed(5).is_err());
    }
}
