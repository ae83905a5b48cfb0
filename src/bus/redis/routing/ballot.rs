//! What the other primaries say of one lane's place.

use std::collections::BTreeMap;

use fred::error::Error as FredError;
use fred::types::Value;

use super::slots::Spellings;
use crate::Error;
use crate::bus::redis::error;
use crate::url::Place;

/// The votes on one lane.
///
/// Another primary is promoted by more than half of the primaries, the one it replaces never among
/// them. So where the others that name the present one make at least half of all *with* it, one of
/// them has had a part in any promotion and would name the new one; one dead primary among three does
/// not stop that. If another place is named by as many or more, the present one is not confirmed.
#[derive(Debug)]
pub(super) struct Ballot {
    owner: Option<Place>,
    primaries: usize,
    votes: BTreeMap<Place, usize>,
    error: Option<Error>,
}

impl Ballot {
    pub(super) fn new(owner: Option<Place>, primaries: usize) -> Self {
        Self {
            owner,
            primaries,
            votes: BTreeMap::new(),
            error: None,
        }
    }

    /// What the primary at `voter` answered to a command for a key of the lane.
    pub(super) fn count(
        &mut self,
        voter: &Place,
        answer: &Result<Value, FredError>,
        spellings: &Spellings,
    ) {
        match answer {
            // It serves the slot itself.
            Ok(_) => *self.votes.entry(voter.clone()).or_default() += 1,
            Err(error) => match error::redirected("MOVED", error, voter) {
                Some(place) => *self.votes.entry(spellings.known(place)).or_default() += 1,
                // Down, or cut off from most: it does not know.
                None => self.fail(&error::of_witness("the primary", voter, "<user>", error)),
            },
        }
    }

    pub(super) fn fail(&mut self, error: &Error) {
        if !self.error.as_ref().is_some_and(error::is_permanent) {
            self.error = Some(error.clone());
        }
    }

    fn others(&self) -> usize {
        self.primaries.saturating_sub(1)
    }

    fn votes_for_owner(&self) -> usize {
        let votes = self.owner.as_ref().and_then(|owner| self.votes.get(owner));
        votes.copied().unwrap_or(0)
    }

    /// The votes that are still to come cannot change the outcome.
    pub(super) fn is_decided(&self) -> bool {
        let others = self.others();
        let counted = self.votes.values().sum::<usize>();
        self.owner.is_none() || self.votes_for_owner() * 2 > others || counted >= others
    }

    /// Returns the owner, if it is confirmed.
    pub(super) fn outcome(&self) -> Result<Place, Error> {
        let Some(owner) = &self.owner else {
            return Err(error::unknown_place(
                "no primary of the cluster serves the lane's slot",
            ));
        };
        let named = self.votes_for_owner();
        let rival = self
            .votes
            .iter()
            .filter(|(place, _)| *place != owner)
            .max_by_key(|(_, votes)| **votes);
        if let Some((place, votes)) = rival
            && *votes >= named
        {
            return Err(error::unknown_place(format!(
                "{place} has taken the place of {owner}"
            )));
        }
        // Itself included; of two, the other one.
        let enough = self.others() == 0 || (named > 0 && (named + 1) * 2 >= self.primaries);
        if enough {
            return Ok(owner.clone());
        }
        Err(match &self.error {
            Some(error) if error::is_permanent(error) => error.clone(),
            Some(error) => {
                error::unknown_place(format!("too few primaries confirm {owner}: {error}"))
            }
            None => error::unknown_place(format!("too few primaries confirm {owner} in time")),
        })
    }
}

#[cfg(test)]
mod tests {
    use fred::error::ErrorKind as FredKind;

    use super::*;

    fn place(port: u16) -> Place {
        let host = "h".to_owned();
        Place { host, port }
    }

    /// The owner is at port 1, the others at 2 and so on; 0 says nothing.
    fn ballot(primaries: usize, words: &[u16]) -> Ballot {
        let mut ballot = Ballot::new(Some(place(1)), primaries);
        for (voter, &port) in (2..).zip(words) {
            let details = match port {
                0 => "CLUSTERDOWN The cluster is down".to_owned(),
                port => format!("MOVED 5 :{port}"),
            };
            let answer = if port == voter {
                Ok(Value::Null)
            } else {
                Err(FredError::new(FredKind::Cluster, details))
            };
            ballot.count(&place(voter), &answer, &Spellings::default());
        }
        ballot
    }

    #[test]
    fn half_of_the_primaries_with_itself_confirm() {
        let ok = |primaries, words: &[u16]| ballot(primaries, words).outcome().is_ok();
        assert!(ok(1, &[]));
        assert!(ok(2, &[1]) && !ok(2, &[0]));
        assert!(ok(3, &[1, 1]) && ok(3, &[1, 0]) && !ok(3, &[0, 0]));
        assert!(ok(5, &[1, 1, 0, 0]) && !ok(5, &[1, 0, 0, 0]));
        assert!(ok(6, &[1, 1, 0, 0, 0]) && !ok(6, &[1, 0, 0, 0, 0]));
    }

    #[test]
    fn a_primary_whose_rival_is_named_as_often_is_not_confirmed() {
        let ok = |words: &[u16]| ballot(words.len() + 1, words).outcome().is_ok();
        assert!(!ok(&[1, 9]) && !ok(&[9, 9]) && !ok(&[1, 3]));
        assert!(ok(&[1, 1, 1, 9]) && !ok(&[1, 1, 9, 9]));
    }

    #[test]
    fn a_ballot_ends_when_no_vote_can_change_its_outcome() {
        assert!(!ballot(3, &[1]).is_decided());
        assert!(ballot(3, &[1, 1]).is_decided() && ballot(3, &[9, 9]).is_decided());
        assert!(ballot(4, &[1, 1]).is_decided() && !ballot(4, &[1]).is_decided());
        assert!(ballot(1, &[]).is_decided());
    }
}
