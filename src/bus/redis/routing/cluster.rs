//! Redis Cluster: each lane lives on the primary that serves its slot.
//!
//! Where the slots are is what most of the nodes say (`CLUSTER SLOTS`). That is asked seldom; what is
//! asked after every verification is much smaller: each other primary gets a command for each lane's
//! key and answers `MOVED` with the place where it believes the slot to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fred::util::redis_keyslot;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::ballot::Ballot;
use super::slots::{Survey, View};
use super::witness::{Question, Testimony, Witness};
use crate::Error;
use crate::bus::redis::common::Common;
use crate::bus::redis::error;
use crate::bus::redis::scripts::Names;
use crate::bus::redis::target::Target;
use crate::url::{Address, Place};

/// Nodes that are asked for the slots at once. Most of so many outvote some that are cut off.
const SURVEYED: usize = 32;

/// How often the slots are looked up although nothing seems to have moved: a primary that joined
/// should be asked, too.
const REFRESH: Duration = Duration::from_secs(30);

/// The nodes of one cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<Place>,
    target: Target,
    /// By lane.
    slots: Vec<u16>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    witnesses: BTreeMap<Place, Arc<Witness>>,
    view: View,
    /// When the slots were looked up; `None` if that is to be done again.
    looked: Option<Instant>,
}

impl Cluster {
    pub(super) fn new(address: &Address, target: &Target, common: &Common) -> Self {
        let names = common.names.iter();
        Self {
            seeds: address.places.clone(),
            target: target.clone(),
            slots: names
                .map(|names| redis_keyslot(names.state.as_bytes()))
                .collect(),
            state: Mutex::default(),
        }
    }

    /// By lane, the primary that the others confirm.
    pub(super) async fn primaries(&self, common: &Arc<Common>) -> Vec<Result<Place, Error>> {
        let mut state = self.state.lock().await;
        let moved = common.moved.swap(false, Ordering::AcqRel);
        let fresh = state
            .looked
            .is_some_and(|looked| looked.elapsed() < REFRESH);
        // One primary has no others to ask: what its replicas say has to do.
        if (moved || !fresh || state.view.primaries.len() <= 1)
            && let Err(error) = self.look(common, &mut state).await
        {
            return vec![Err(error); self.slots.len()];
        }
        let ballots = self.vote(common, &mut state).await;
        let named = ballots.iter().map(Ballot::outcome);
        let named: Vec<Result<Place, Error>> = named.collect();
        if named.iter().any(Result::is_err) {
            state.looked = None;
        }
        named
    }

    /// Looks up where the slots are.
    async fn look(&self, common: &Arc<Common>, state: &mut State) -> Result<(), Error> {
        let known = state.view.nodes.iter().chain(&self.seeds).cloned();
        let known: BTreeSet<Place> = known.collect();
        let mut places: Vec<Place> = known.into_iter().collect();
        fastrand::shuffle(&mut places);
        places.truncate(SURVEYED);
        let mut survey = Survey::default();
        self.survey(common, state, &places, &mut survey).await;
        self.target.announce(survey.names());
        // The seeds may be few, and all of them out of date.
        let others = survey.nodes().into_iter();
        let mut others: Vec<Place> = others.filter(|place| !places.contains(place)).collect();
        fastrand::shuffle(&mut others);
        others.truncate(SURVEYED);
        self.survey(common, state, &others, &mut survey).await;
        self.target.announce(survey.names());
        let view = survey.result(&self.slots)?;
        let kept = |place: &Place| view.primaries.contains(place);
        state.witnesses.retain(|place, _| kept(place));
        state.view = view;
        state.looked = Some(Instant::now());
        Ok(())
    }

    /// Ends when all have answered, or with half of the time that a command may take: some may be dead.
    async fn survey(
        &self,
        common: &Arc<Common>,
        state: &mut State,
        places: &[Place],
        survey: &mut Survey,
    ) {
        let question = Question {
            command: "CLUSTER",
            args: vec!["SLOTS".to_owned()],
        };
        let asked = places.iter();
        let asked = asked.map(|place| (self.witness(state, place), vec![question.clone()]));
        let mut testimonies = Witness::ask_all(common, asked.collect());
        let deadline = Instant::now() + self.target.timeout() / 2;
        while let Ok(Some(Testimony { place, answers })) =
            timeout_at(deadline, testimonies.recv()).await
        {
            let answer = answers.and_then(|answers| {
                let mut answers = answers.into_iter();
                answers.next().unwrap_or(Ok(fred::types::Value::Null))
            });
            match answer {
                Ok(value) => survey.count(&place, &value),
                Err(error) => {
                    let user = self.target.user();
                    survey.fail(error::of_witness("the node", &place, &user, &error));
                }
            }
        }
    }

    fn witness(&self, state: &mut State, place: &Place) -> Arc<Witness> {
        let make = || Witness::new(&self.target, place.clone());
        Arc::clone(state.witnesses.entry(place.clone()).or_insert_with(make))
    }

    /// Asks every primary about the lanes of the others, in one round trip.
    async fn vote(&self, common: &Arc<Common>, state: &mut State) -> Vec<Ballot> {
        let primaries = state.view.primaries.clone();
        let owners = state.view.owners.clone();
        let spellings = state.view.spellings.clone();
        let mut ballots: Vec<Ballot> = owners
            .iter()
            .map(|owner| Ballot::new(owner.clone(), primaries.len()))
            .collect();
        let mut asked = Vec::new();
        for place in &primaries {
            let questions = self.questions(common, &owners, place);
            if !questions.is_empty() {
                asked.push((self.witness(state, place), questions));
            }
        }
        let began = Instant::now();
        let (soon, late) = (
            began + self.target.timeout() / 4,
            began + self.target.timeout(),
        );
        let mut testimonies = Witness::ask_all(common, asked);
        while !ballots.iter().all(Ballot::is_decided) {
            // Some may be dead: the others are not waited for once they cannot change much.
            let enough = ballots.iter().all(|ballot| ballot.outcome().is_ok());
            let deadline = if enough { soon } else { late };
            let Ok(Some(testimony)) = timeout_at(deadline, testimonies.recv()).await else {
                if enough || Instant::now() >= late || testimonies.is_closed() {
                    break;
                }
                continue;
            };
            let Testimony { place, answers } = testimony;
            let lanes = (0..owners.len()).filter(|&lane| owners[lane].as_ref() != Some(&place));
            match answers {
                Ok(answers) => {
                    for (lane, answer) in lanes.zip(answers) {
                        ballots[lane].count(&place, &answer, &spellings);
                    }
                }
                Err(error) => {
                    let error =
                        error::of_witness("the primary", &place, &self.target.user(), &error);
                    lanes.for_each(|lane| ballots[lane].fail(&error));
                }
            }
        }
        ballots
    }

    /// One for each lane that does not live at `place`, in their order.
    fn questions(&self, common: &Common, owners: &[Option<Place>], place: &Place) -> Vec<Question> {
        let lanes = owners.iter().zip(&common.names);
        let lanes = lanes.filter(|(owner, _)| owner.as_ref() != Some(place));
        let question = |names: &Names| Question {
            command: "HGET",
            args: vec![names.state.to_string(), "q".to_owned()],
        };
        lanes.map(|(_, names)| question(names)).collect()
    }
}
