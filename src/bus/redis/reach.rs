//! Makes a connection to a server: which login, which address, under which of its names, by when.

use std::net::SocketAddr;

use fred::error::{Error as FredError, ErrorKind as FredKind};
use tokio::time::{Instant, timeout_at};

use super::logins::Known;
use super::refusal;
use super::target::Target;
use crate::metrics::Traffic;

/// One attempt to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// `None` where the place is a socket file.
    pub(super) address: Option<SocketAddr>,
    /// That the server's certificate is to have.
    pub(super) name: &'a str,
}

/// A kind of connection.
pub(super) trait Connect: Sized + Send {
    /// Connects and authenticates.
    fn connect(
        target: &Target,
        attempt: Attempt<'_>,
        login: &Known,
        traffic: &Traffic,
    ) -> impl Future<Output = Result<Self, FredError>> + Send;
}

/// Connects; ends within the time for connecting. The error names the place.
pub(super) async fn open<C: Connect>(target: &Target, traffic: &Traffic) -> Result<C, FredError> {
    let deadline = Instant::now() + target.times().connect;
    let failed = |why: String| FredError::new(FredKind::IO, why);
    let login = timeout_at(deadline, target.logins().current()).await;
    let login = login.map_err(|_| failed("the login cannot be read in time".to_owned()))??;
    let address = match target.place().socket() {
        Some(_) => None,
        None => Some(target.door().address(deadline).await.map_err(failed)?),
    };
    let mut first = None;
    for name in target.server_names() {
        let name = &*name;
        let connecting = C::connect(target, Attempt { address, name }, &login, traffic);
        let late = || FredError::new(FredKind::Timeout, "");
        let connected = timeout_at(deadline, connecting).await;
        let error = match connected.unwrap_or_else(|_| Err(late())) {
            Ok(open) => {
                address.inspect(|address| target.door().is_good(*address));
                return Ok(open);
            }
            Err(error) => error,
        };
        let wrong_name = error.details().contains("NotValidForName");
        first.get_or_insert_with(|| refusal::explain(target, address, name, &error));
        if !wrong_name {
            break;
        }
    }
    target.logins().refused(login.version);
    address.inspect(|address| target.door().is_bad(*address));
    Err(first.unwrap_or_else(|| failed("it has no name to connect to".to_owned())))
}
