//! Servers that are asked what they know of others: sentinels, and the primaries of a cluster.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::select;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

use crate::bus::redis::common::Common;
use crate::bus::redis::connection::Connection;
use crate::bus::redis::error;
use crate::bus::redis::reach;
use crate::bus::redis::target::Target;
use crate::bus::redis::values::{self, bytes};
use crate::metrics::Kind;
use crate::url::Place;

/// How long one that could not be reached is left alone.
const REST: Duration = Duration::from_millis(500);

/// One command to a witness.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) command: &'static str,
    pub(super) args: Vec<String>,
}

/// What one witness said to each question, or why it said nothing.
#[derive(Debug)]
pub(super) struct Testimony {
    pub(super) place: Place,
    pub(super) answers: Result<Vec<Result<Value, FredError>>, FredError>,
}

/// One server, and the connection to it that is kept between questions.
#[derive(Debug)]
pub(super) struct Witness {
    place: Place,
    target: Target,
    /// Locked by the task that asks. A witness that has not answered the last question gives no testimony.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// When and why it could not be reached.
    failed: Option<(Instant, FredError)>,
}

impl Witness {
    pub(super) fn new(target: &Target, place: Place) -> Arc<Self> {
        Arc::new(Self {
            target: target.at(&place),
            place,
            state: Mutex::default(),
        })
    }

    /// Asks all at once. The testimonies come as they are given, at most one of each witness; the
    /// receiver ends when no more can come. No question is cut short when the receiver is dropped: a
    /// connection that takes its time would never come to be.
    pub(super) fn ask_all(
        common: &Arc<Common>,
        asked: Vec<(Arc<Self>, Vec<Question>)>,
    ) -> mpsc::Receiver<Testimony> {
        let (sender, testimonies) = mpsc::channel(asked.len().max(1));
        for (witness, questions) in asked {
            let (sender, common) = (sender.clone(), Arc::clone(common));
            tokio::spawn(async move {
                let answers = select! {
                    biased;
                    () = common.closed() => return,
                    answers = witness.ask(&common, &questions) => answers,
                };
                let place = witness.place.clone();
                let _ = sender.send(Testimony { place, answers }).await;
            });
        }
        testimonies
    }

    /// Ends within the time for connecting and a command.
    async fn ask(
        &self,
        common: &Common,
        questions: &[Question],
    ) -> Result<Vec<Result<Value, FredError>>, FredError> {
        let busy = || {
            FredError::new(
                FredKind::Timeout,
                "it has not answered the last question yet",
            )
        };
        let mut state = self.state.try_lock().map_err(|_| busy())?;
        // The connection may have died since it was used last, which shows at once.
        for fresh in [false, true] {
            let newest = self.target.logins().version();
            let kept = state.connection.take();
            let mut connection = match kept.filter(|kept| kept.version() == newest) {
                Some(connection) => connection,
                None => self.connect(common, &mut state).await?,
            };
            let client = connection.client().clone();
            let answers = select! {
                biased;
                error = connection.lost() => Err(error),
                answers = self.answers(common, &client, questions) => answers,
            };
            match answers {
                Ok(answers) => {
                    state.connection = Some(connection);
                    return Ok(answers);
                }
                Err(error) if fresh || *error.kind() == FredKind::Timeout => {
                    state.failed = Some((Instant::now(), error.clone()));
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Err(busy())
    }

    async fn connect(&self, common: &Common, state: &mut State) -> Result<Connection, FredError> {
        if let Some((at, error)) = &state.failed
            && at.elapsed() < REST
        {
            return Err(error.clone());
        }
        match reach::open::<Connection>(&self.target, &common.config.traffic).await {
            Ok(connection) => {
                state.failed = None;
                Ok(connection)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// One round trip.
    async fn answers(
        &self,
        common: &Common,
        client: &Client,
        questions: &[Question],
    ) -> Result<Vec<Result<Value, FredError>>, FredError> {
        let traffic = &common.config.traffic;
        let pipeline = client.pipeline();
        for question in questions {
            let lengths = question.args.iter().map(String::len);
            let length = values::command(std::iter::once(question.command.len()).chain(lengths));
            traffic.sent(Kind::Verify, length);
            let command = CustomCommand::new_static(question.command, ClusterHash::Random, false);
            let args: Vec<Value> = question.args.iter().map(|a| bytes(a.as_bytes())).collect();
            let () = pipeline.custom(command, args).await?;
        }
        let answers = timeout(self.target.timeout(), pipeline.try_all::<Value>());
        let answers = answers
            .await
            .map_err(|_| FredError::new(FredKind::Timeout, "no answer in time"))?;
        for answer in &answers {
            match answer {
                Ok(value) => traffic.received(Kind::Verify, values::reply(value)),
                Err(error) if error::is_reply(error) => {
                    traffic.received(Kind::Verify, values::error_reply(error));
                }
                Err(error) => return Err(error.clone()),
            }
        }
        Ok(answers)
    }
}
