//! What a connection was asked and has not answered yet. Answers come in the order of the commands.

use std::collections::VecDeque;

use fred::error::{Error as FredError, ErrorKind as FredKind};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

/// What is asked.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Whether it still answers: PING.
    Check,
    /// To subscribe to the channels of `lanes`; those of `left` are not acknowledged.
    Subscribe { lanes: Vec<u32>, left: Vec<u32> },
    /// To take another login: AUTH.
    LogIn(oneshot::Sender<Result<(), FredError>>),
}

#[derive(Debug)]
struct Exchange {
    purpose: Purpose,
    began: Instant,
}

/// What became of an exchange.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing that its owner has to act on.
    Fine,
    /// The lanes are subscribed to.
    Subscribed(Vec<u32>),
    /// The connection cannot be used.
    Failed(FredError),
}

/// At most one exchange of each purpose.
#[derive(Debug)]
pub(super) struct Exchanges {
    waiting: VecDeque<Exchange>,
    timeout: Duration,
}

impl Exchanges {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            timeout,
        }
    }

    pub(super) fn begin(&mut self, purpose: Purpose) {
        let began = Instant::now();
        self.waiting.push_back(Exchange { purpose, began });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn subscribes(&self) -> bool {
        self.any(|purpose| matches!(purpose, Purpose::Subscribe { .. }))
    }

    pub(super) fn logs_in(&self) -> bool {
        self.any(|purpose| matches!(purpose, Purpose::LogIn(_)))
    }

    fn any(&self, is: impl Fn(&Purpose) -> bool) -> bool {
        self.waiting.iter().any(|exchange| is(&exchange.purpose))
    }

    /// Returns when the oldest one is too late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let oldest = self.waiting.front()?;
        Some(oldest.began + self.timeout)
    }

    /// The deadline has passed. `heard` is when anything came last: an answer to a check is only late where
    /// deliveries are in front of it.
    pub(super) fn expire(&mut self, heard: Instant) -> Outcome {
        match self.waiting.front_mut() {
            Some(oldest)
                if heard > oldest.began && !matches!(oldest.purpose, Purpose::Subscribe { .. }) =>
            {
                oldest.began = Instant::now();
                Outcome::Fine
            }
            Some(_) => Outcome::Failed(FredError::new(FredKind::Timeout, "no answer in time")),
            None => Outcome::Fine,
        }
    }

    /// An answer has come that is no error.
    pub(super) fn answered(&mut self) -> Outcome {
        match self.waiting.pop_front().map(|exchange| exchange.purpose) {
            Some(Purpose::Check) => Outcome::Fine,
            Some(Purpose::LogIn(asker)) => {
                // The task that asked may be gone.
                let _ = asker.send(Ok(()));
                Outcome::Fine
            }
            // A subscription is acknowledged in a way of its own.
            Some(Purpose::Subscribe { .. }) | None => Outcome::Failed(out_of_step()),
        }
    }

    /// An error has come.
    pub(super) fn refused(&mut self, error: FredError) -> Outcome {
        match self.waiting.pop_front().map(|exchange| exchange.purpose) {
            Some(Purpose::LogIn(asker)) => {
                let _ = asker.send(Err(error));
                Outcome::Fine
            }
            _ => Outcome::Failed(error),
        }
    }

    /// The server says that it subscribed this connection to a lane's channel.
    pub(super) fn acknowledged(&mut self, lane: u32) -> Outcome {
        let oldest = self
            .waiting
            .front_mut()
            .map(|exchange| &mut exchange.purpose);
        let Some(Purpose::Subscribe { lanes, left }) = oldest else {
            return Outcome::Failed(out_of_step());
        };
        left.retain(|missing| *missing != lane);
        if !left.is_empty() {
            return Outcome::Fine;
        }
        let lanes = std::mem::take(lanes);
        self.waiting.pop_front();
        Outcome::Subscribed(lanes)
    }
}

fn out_of_step() -> FredError {
    FredError::new(
        FredKind::Protocol,
        "an answer belongs to no command that was sent",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanges() -> Exchanges {
        Exchanges::new(Duration::from_secs(1))
    }

    fn failure(outcome: Outcome) -> Option<String> {
        match outcome {
            Outcome::Failed(error) => Some(error.details().to_owned()),
            Outcome::Fine | Outcome::Subscribed(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_belongs_to_the_oldest_question() {
        let mut exchanges = exchanges();
        let (asker, answer) = oneshot::channel();
        exchanges.begin(Purpose::Check);
        let (lanes, left) = (vec![0, 1], vec![0, 1]);
        exchanges.begin(Purpose::Subscribe { lanes, left });
        exchanges.begin(Purpose::LogIn(asker));
        assert!(exchanges.subscribes() && exchanges.logs_in());
        assert!(failure(exchanges.answered()).is_none());
        assert!(failure(exchanges.acknowledged(1)).is_none());
        let all = exchanges.acknowledged(0);
        assert!(matches!(all, Outcome::Subscribed(lanes) if lanes == [0, 1]));
        let refusal = FredError::new(FredKind::Auth, "WRONGPASS");
        assert!(failure(exchanges.refused(refusal)).is_none());
        assert!(answer.await.unwrap().is_err());
        assert!(exchanges.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_no_question_is_out_of_step() {
        let mut exchanges = exchanges();
        assert!(failure(exchanges.answered()).is_some());
        assert!(failure(exchanges.acknowledged(0)).is_some());
        let (lanes, left) = (vec![0], vec![0]);
        exchanges.begin(Purpose::Subscribe { lanes, left });
        assert!(failure(exchanges.answered()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_is_late_only_while_something_is_heard() {
        let (mut exchanges, began) = (exchanges(), Instant::now());
        exchanges.begin(Purpose::Check);
        assert_eq!(exchanges.deadline(), Some(began + Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(failure(exchanges.expire(Instant::now())).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        let why = failure(exchanges.expire(began + Duration::from_secs(1)));
        assert_eq!(why.unwrap(), "no answer in time");
    }
}
