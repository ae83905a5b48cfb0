//! Redis Sentinel: the primary is the one that a majority of the configured sentinels names.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::poll::Poll;
use super::spellings::Spellings;
use super::witness::{Question, Witness};
use crate::Error;
use crate::bus::redis::common::Common;
use crate::bus::redis::target::Target;
use crate::url::{Address, Place};

/// The sentinels of one service.
#[derive(Debug)]
pub(super) struct Sentinels {
    service: String,
    witnesses: Vec<Arc<Witness>>,
    target: Target,
    spellings: Spellings,
}

impl Sentinels {
    pub(super) fn new(address: &Address, service: &str, target: &Target) -> Self {
        let target = target.clone().for_sentinels();
        let witness = |place: &Place| Witness::new(&target, place.clone());
        Self {
            service: service.to_owned(),
            witnesses: address.places.iter().map(witness).collect(),
            spellings: Spellings::default(),
            target,
        }
    }

    /// Asks all of them; ends with the majority's word, or when there can be none.
    pub(super) async fn primary(&self, common: &Arc<Common>) -> Result<Place, Error> {
        let question = Question {
            command: "SENTINEL",
            args: vec!["GET-MASTER-ADDR-BY-NAME".to_owned(), self.service.clone()],
        };
        let asked = self.witnesses.iter();
        let asked = asked.map(|witness| (Arc::clone(witness), vec![question.clone()]));
        let mut testimonies = Witness::ask_all(common, asked.collect());
        let mut poll = Poll::new(self.witnesses.len(), self.target.user());
        let deadline = Instant::now() + self.target.timeout();
        let counting = async {
            while let Some(testimony) = testimonies.recv().await {
                poll.count(testimony);
                if poll.may_be_one() {
                    self.spellings
                        .unite(&mut poll, &self.target, deadline)
                        .await;
                }
                if poll.elected().is_some() {
                    return;
                }
            }
        };
        let _ = timeout_at(deadline, counting).await;
        match poll.elected() {
            Some(place) => self.spellings.known(place, &self.target, deadline).await,
            None => Err(poll.failure(&self.service)),
        }
    }
}
