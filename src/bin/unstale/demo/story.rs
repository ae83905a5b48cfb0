//! What goes wrong on the way, and when.

use std::collections::VecDeque;
use std::time::Duration;

/// Something that is done to the fleet; instances are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The next message to the instance is lost.
    Lose(usize),
    /// Its connections are closed, and it cannot make new ones.
    Cut(usize),
    /// Its connections stay open, and nothing arrives through them.
    Silence(usize),
    /// The others write more rows than the journal holds events.
    Flood,
    /// What was cut or silenced comes back.
    Heal(usize),
}

/// The longest act; a longer run has several, each with other instances.
pub(crate) const ACT: Duration = Duration::from_secs(15);

/// The parts of an act for which an instance is cut off, and silent: longer than the bound, and
/// short enough for the journal to repair.
const CUT: f64 = 0.24;
const SILENCE: f64 = 0.2;

/// The deeds of a run that are yet to come, in order.
#[derive(Debug)]
pub(crate) struct Story(VecDeque<(Duration, Deed)>);

impl Story {
    /// The story of a run of this length. Only a bus inside the process can lose one message.
    pub(crate) fn new(run: Duration, instances: usize, can_lose: bool) -> Self {
        let act = run.min(ACT);
        let mut deeds = VecDeque::new();
        // The last act that ends before the run does.
        let acts = (0..).take_while(|number| act * *number + act.mul_f64(0.8) <= run);
        for number in acts {
            let at = |part: f64| act * number + act.mul_f64(part);
            let victim = |next: u32| (number + next) as usize % instances;
            let (one, other) = (victim(1), victim(2));
            if can_lose {
                deeds.push_back((at(0.1), Deed::Lose(other)));
            }
            deeds.extend([
                (at(0.2), Deed::Cut(one)),
                (at(0.2 + CUT), Deed::Heal(one)),
                (at(0.55), Deed::Silence(other)),
                (at(0.6), Deed::Flood),
                (at(0.55 + SILENCE), Deed::Heal(other)),
            ]);
        }
        Self(deeds)
    }

    /// The next deed that is due.
    pub(crate) fn due(&mut self, elapsed: Duration) -> Option<Deed> {
        let (at, _) = self.0.front()?;
        if *at > elapsed {
            return None;
        }
        self.0.pop_front().map(|(_, deed)| deed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_cut_comes_back_before_the_end() {
        for (seconds, instances) in [(3, 2), (4, 3), (15, 4), (23, 4), (29, 4), (60, 9)] {
            let run = Duration::from_secs(seconds);
            let mut story = Story::new(run, instances, true);
            let mut down = Vec::new();
            let (mut cuts, mut last) = (0, Duration::ZERO);
            for (at, deed) in &story.0 {
                assert!(*at >= last, "{at:?} is out of order");
                last = *at;
                match deed {
                    Deed::Cut(one) | Deed::Silence(one) => {
                        assert!(*one < instances && !down.contains(one));
                        down.push(*one);
                        cuts += 1;
                    }
                    Deed::Heal(one) => down.retain(|other| other != one),
                    Deed::Lose(_) | Deed::Flood => {}
                }
            }
            assert_eq!(down, [0_usize; 0], "{seconds} s");
            assert!(cuts >= 2 && last < run);
            assert_eq!(story.due(Duration::ZERO), None);
            assert!(story.due(run).is_some());
        }
    }

    #[test]
    fn redis_loses_no_single_message() {
        let story = Story::new(Duration::from_secs(15), 4, false);
        assert!(
            !story
                .0
                .iter()
                .any(|(_, deed)| matches!(deed, Deed::Lose(_)))
        );
    }
}
