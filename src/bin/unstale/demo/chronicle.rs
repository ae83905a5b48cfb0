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
                let text = format!(
                    "instance {}: silenced, its connection looks open but delivers nothing",
                    number + 1
                );
                (Kind::Fault, text)
            }
            Deed::Flood => {
                self.floods += 1;
                let text = "the others write more events than the bus keeps".to_owned();
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
                    "fenced, dropped its entries: the events were gone",
                );
            } else if more(|row| row.counters.repaired) {
                say(Kind::Noticed, "has read the events that it missed");
            } else if more(|row| row.counters.gaps) {
                say(Kind::Noticed, "noticed that it may have missed events");
            }
            if was.state == InstanceState::Coherent && is.state == InstanceState::Degraded {
                say(
                    Kind::Noticed,
                    "degraded, soon it can no longer prove its entries fresh",
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
            (self.cuts, "cut connection"),
            (self.silences, "silent one"),
            (self.floods, "burst of writes"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::fleet::Link;
    use crate::demo::meters::Counters;
    use crate::text::WIDTH;

    #[test]
    fn every_entry_fits_the_screen_and_faults_are_counted() {
        let mut chronicle = Chronicle::default();
        for deed in [
            Deed::Lose(8),
            Deed::Cut(8),
            Deed::Silence(8),
            Deed::Flood,
            Deed::Flood,
            Deed::Heal(8),
        ] {
            chronicle.note(Duration::ZERO, deed);
        }
        let was = Row {
            state: InstanceState::Coherent,
            link: Link::Up,
            hits: 0,
            lookups: 0,
            reads_per_second: 0.0,
            events_per_second: 0.0,
            verified_age: None,
            counters: Counters::default(),
        };
        for change in [
            (|row| row.counters.fences += 1) as fn(&mut Row),
            |row| row.counters.repaired += 1,
            |row| row.counters.gaps += 1,
            |row| row.state = InstanceState::Degraded,
        ] {
            let mut is = was.clone();
            change(&mut is);
            for rows in [&was, &is, &was] {
                chronicle.observe(Duration::ZERO, &vec![rows.clone(); 9]);
            }
        }
        assert!(chronicle.entries.len() > 6);
        for entry in &chronicle.entries {
            let before = "3599.9 s  ! ".len();
            assert!(before + entry.text.len() <= WIDTH, "{}", entry.text);
        }
        let faults = "1 lost message, 1 cut connection, 1 silent one, 2 bursts of writes";
        assert_eq!(chronicle.faults(), faults);
    }
}
