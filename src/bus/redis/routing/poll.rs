//! What the sentinels say of one service: which server each named, and whether most of them agree.

use std::collections::BTreeSet;

use fred::types::Value;

use super::witness::Testimony;
use crate::bus::redis::error;
use crate::foreign::is_host;
use crate::url::Place;
use crate::{Error, ErrorKind};

/// The sentinels' answers about one service.
#[derive(Debug)]
pub(super) struct Poll {
    sentinels: usize,
    /// The user that asks them.
    user: String,
    /// Each sentinel, and the server that it named.
    votes: Vec<(Place, Place)>,
    /// How many answered that they watch no such service.
    ignorant: usize,
    refusal: Option<Error>,
    silence: Option<Error>,
}

impl Poll {
    pub(super) fn new(sentinels: usize, user: String) -> Self {
        Self {
            sentinels,
            user,
            votes: Vec::new(),
            ignorant: 0,
            refusal: None,
            silence: None,
        }
    }

    pub(super) fn count(&mut self, testimony: Testimony) {
        let answer = testimony.answers.and_then(|answers| {
            let mut answers = answers.into_iter();
            answers.next().unwrap_or(Ok(Value::Null))
        });
        match answer {
            Ok(Value::Null) => self.ignorant += 1,
            Ok(value) => {
                if let Some(place) = place(&value) {
                    self.votes.push((testimony.place, place));
                }
            }
            Err(error) => {
                let error = error::of_witness("the sentinel", &testimony.place, &self.user, &error);
                let kept = if error::is_permanent(&error) {
                    &mut self.refusal
                } else {
                    &mut self.silence
                };
                kept.get_or_insert(error);
            }
        }
    }

    fn votes_for(&self, place: &Place) -> usize {
        let votes = self.votes.iter();
        votes.filter(|(_, named)| named == place).count()
    }

    /// Named by more than half of all sentinels, those that said nothing included.
    pub(super) fn elected(&self) -> Option<&Place> {
        let mut named = self.votes.iter().map(|(_, named)| named);
        named.find(|place| self.is_majority(self.votes_for(place)))
    }

    /// No place is elected, but one would be if some of those that are named are the same server.
    pub(super) fn may_be_one(&self) -> bool {
        self.elected().is_none() && self.is_majority(self.votes.len())
    }

    /// Returns every place that is named, once.
    pub(super) fn named(&self) -> BTreeSet<Place> {
        self.votes.iter().map(|(_, named)| named.clone()).collect()
    }

    /// Votes for one place are votes for the other.
    pub(super) fn count_as(&mut self, spelling: &Place, place: &Place) {
        for (_, named) in &mut self.votes {
            if named == spelling {
                named.clone_from(place);
            }
        }
    }

    fn is_majority(&self, votes: usize) -> bool {
        votes * 2 > self.sentinels
    }

    pub(super) fn failure(self, service: &str) -> Error {
        if self.is_majority(self.ignorant) {
            let message = format!("the sentinels watch no service of the name {service:?}");
            return Error::new(ErrorKind::Settings, message);
        }
        if let Some(refusal) = self.refusal {
            return refusal;
        }
        let mut why: Vec<String> = Vec::new();
        for (sentinel, named) in &self.votes {
            why.push(format!("{sentinel} names {named}"));
        }
        why.extend(self.silence.map(|error| error.to_string()));
        if why.is_empty() {
            why.push("none has answered in time".to_owned());
        }
        let message = format!(
            "no majority of the {} sentinels names one primary of {service:?}: {}",
            self.sentinels,
            why.join("; ")
        );
        Error::new(ErrorKind::Bus, message)
    }
}

/// `[host, port]`.
fn place(value: &Value) -> Option<Place> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [host, port] = parts.as_slice() else {
        return None;
    };
    Some(Place {
        host: host
            .as_string()
            .filter(|host| !host.is_empty() && is_host(host))?,
        port: port.as_u64()?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use fred::error::{Error as FredError, ErrorKind as FredKind};

    use super::*;

    fn names(port: &str) -> Value {
        Value::Array(vec!["10.0.0.1".into(), port.into()])
    }

    fn poll(words: &[Result<Value, &'static str>]) -> Poll {
        let mut poll = Poll::new(words.len(), "app".to_owned());
        for word in words {
            let host = "s".to_owned();
            let place = Place { host, port: 26379 };
            let word = word.clone();
            let answers = word
                .map(|value| vec![Ok(value)])
                .map_err(|details| FredError::new(FredKind::Unknown, details));
            poll.count(Testimony { place, answers });
        }
        poll
    }

    #[test]
    fn only_more_than_half_of_all_sentinels_elect() {
        let elected = |words: &[_]| poll(words).elected().map(|place| place.port);
        let silent = || Err("ERR down");
        assert_eq!(
            elected(&[Ok(names("1")), Ok(names("1")), silent()]),
            Some(1)
        );
        assert_eq!(elected(&[Ok(names("1")), Ok(names("2")), silent()]), None);
        assert_eq!(elected(&[Ok(names("1")), silent(), silent()]), None);
        assert_eq!(elected(&[Ok(names("1")), silent()]), None);
        assert_eq!(elected(&[Ok(names("1"))]), Some(1));
        assert_eq!(elected(&[Ok(names("")), Ok(Value::Null)]), None);
    }

    #[test]
    fn spellings_of_one_server_are_votes_for_it() {
        let mut poll = poll(&[Ok(names("1")), Ok(names("2")), Err("ERR down")]);
        assert!(poll.may_be_one());
        let at = |port| Place {
            host: "10.0.0.1".to_owned(),
            port,
        };
        poll.count_as(&at(2), &at(1));
        assert_eq!(poll.elected(), Some(&at(1)));
    }

    #[test]
    fn an_error_says_what_an_operator_must_fix() {
        let failure = |words: &[_]| poll(words).failure("m");
        let unknown = failure(&[Ok(Value::Null), Ok(Value::Null), Ok(names("1"))]);
        assert_eq!(unknown.kind(), ErrorKind::Settings);
        let refused = failure(&[Err("NOAUTH Authentication required."), Err("ERR x")]);
        assert_eq!(refused.kind(), ErrorKind::Auth);
        assert!(
            refused.to_string().contains("sentinel s:26379"),
            "{refused}"
        );
        let divided = failure(&[Ok(names("1")), Ok(names("2"))]);
        assert_eq!(divided.kind(), ErrorKind::Bus);
        let text = divided.to_string();
        assert!(
            text.contains("s:26379 names 10.0.0.1:1; s:26379 names 10.0.0.1:2"),
            "{text}"
        );
    }
}
