//! What a relay reads: the log of a source of truth, in the order of commits.

use std::future::Future;

use super::counts::Counts;
use crate::Error;
use crate::event::Op;

/// A log that is open. What was committed before it was opened may be missing.
///
/// Places are numbers that grow along the log.
pub(crate) trait Log: Send {
    /// Returns where the log ends: everything that was committed before this call lies before it. From then
    /// on the log is to say soon that it was read up to there.
    fn end(&mut self) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Reads on, and returns up to where everything that was committed is among what [`take`](Self::take) gives.
    /// Dropping the future loses nothing.
    fn read(&mut self) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Returns what the commits that were read have changed, as caches name it. Bounded, whatever a
    /// transaction holds.
    fn take(&mut self) -> Vec<Op>;

    /// Returns what was counted since this was called last.
    fn counts(&mut self) -> Counts {
        Counts::default()
    }

    /// Returns where the log ends, only to be shown; 0 where that is not known.
    fn ahead(&mut self) -> impl Future<Output = Result<u64, Error>> + Send {
        async { Ok(0) }
    }

    /// Everything up to there is published.
    fn confirm(&mut self, upto: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// Does what a read has found to be necessary and cannot do itself, because its future may be dropped. Called
    /// after each read.
    fn settle(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Shows the source that the relay lives, while it does not read; ends only with an error.
    fn hold(&mut self) -> impl Future<Output = Error> + Send;

    /// Nothing more is read: the source need not keep it. Takes a few seconds at most.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async move { drop(self) }
    }
}

/// Opens a log, as often as it is lost.
pub(crate) trait Open: Send {
    type Log: Log;

    /// Opens it again. Everything that is committed after this has returned is in it.
    ///
    /// # Errors
    ///
    /// An error of kind `Settings` where an operator must act; after any other the relay tries again.
    fn open(&mut self) -> impl Future<Output = Result<Self::Log, Error>> + Send;

    /// Returns what the source has given up before it was read, if the last opening has found that.
    /// Everything is dropped after each opening, so nothing is missed; an operator may want to know.
    fn given_up(&mut self) -> Option<String> {
        None
    }
}
