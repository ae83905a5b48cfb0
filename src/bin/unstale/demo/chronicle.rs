//! What was done to the fleet, and what was seen of it.

use std::time::Duration;

use unstale::InstanceState;

use super::meters::Row;
use super::story::Deed;
use super::text;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something was done to the fleet.
    Fault,
    /// It was undone.
    Heal,
    /// An instance noticed.
    Noticed,
    /// An instance is as it should be.
    Well,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// The entries so far, and how often each fault happened.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) entries: Vec<Entry>,
    pub(crate) lost: u64,
    pub(crate) cuts: u64,
    pub(crate) silences: u64,
    pub(crate) floods: u64,
    before: Vec<Row>,
}

impl Chronicle {
    /// Something was done.
    pub(crate) fn note(&mut self, at: Duration, deed: Deed) {
        let (kind, text) = match deed {
            Deed::Lose(number) => {
                self.lost += 1;
                let text = format!("instance {}: its next message is lost", number + 1);
                (Kind::Fault, text)
            }
            Deed::Cut(number) => {
                self.cuts += 1;
                let text = format!("instance {}: cut off from the bus", number + 1);
                (Kind::Fault, text)
            }
            Deed::Silence(number) => {
                self.silences += 1;
                let text = format!("instance {}: silenced, and nobody tells it", number + 1);
                (Kind::Fault, text)
            }
            Deed::Flood => {
                self.floods += 1;
                let text = "the others write more than the journal holds".to_owned();
                (Kind::Fault, text)
            }
            Deed::Heal(number) => {
                let text = format!("instance {}: its connection is back", number + 1);
                (Kind::Heal, text)
            }
        };
        self.entries.push(Entry { at, kind, text });
    }

    /// The instances were looked at.
    pub(crate) fn observe(&mut self, at: Duration, rows: &[Row]) {
        for (number, (was, is)) in (1..).zip(self.before.iter().zip(rows)) {
            let mut say = |kind, what: &str| {
                let text = format!("instance {number}: {what}");
                self.entries.push(Entry { at, kind, text });
            };
            let more = |of: fn(&Row) -> u64| of(is) > of(was);
            if more(|row| row.counters.fences) {
                say(
                    Kind::Noticed,
                    "fenced, what it missed is gone from the journal",
                );
            } else if more(|row| row.counters.repaired) {
                say(Kind::Noticed, "has what it missed from the journal");
            } else if more(|row| row.counters.gaps) {
                say(Kind::Noticed, "knows that it may miss events");
            }
            if was.state == InstanceState::Coherent && is.state == InstanceState::Degraded {
                say(
                    Kind::Noticed,
                    "degraded, soon it cannot vouch for its entries",
                );
            }
            if was.state == InstanceState::Degraded && is.state == InstanceState::Coherent {
                say(Kind::Well, "coherent again");
            }
        }
        self.before = rows.to_vec();
    }

    /// The faults, in words.
    pub(crate) fn faults(&self) -> String {
        let parts = [
            (self.lost, "lost message"),
            (self.cuts, "cut"),
            (self.silences, "silence"),
            (self.floods, "flood"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| text::some(*number, what))
            .collect();
        if parts.is_empty() {
            "no faults".to_owned()
        } else {
            parts.join(", ")
        }
    }
}
