//! Which of a name's addresses is connected to: all of them are tried, a little apart.
//!
//! fred tries the addresses of a name one after the other within one time-out, so that a first one that
//! is silent uses all of it, at every attempt. So the name is looked up here, the first address that
//! accepts a connection is found, and fred gets that address.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::single::Single;
use crate::lock::Lock;
use crate::url::Place;

/// How long an address may be silent before the next one is tried as well: RFC 8305 recommends it.
const APART: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried. A service with more replicas than that has its own balancer.
const MOST_ADDRESSES: usize = 16;

/// How names become addresses.
#[derive(Clone, Debug, Default)]
pub(crate) enum Lookup {
    /// As the system does it.
    #[default]
    System,
    /// The addresses of tests, for every name.
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

/// The way to one place.
#[derive(Debug)]
pub(super) struct Door {
    place: Place,
    lookup: Lookup,
    looking: Single<io::Result<Vec<SocketAddr>>>,
    known: Lock<Found>,
}

/// What was found out of the addresses.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// It was connected to last: both connections to a server are to reach the same one.
    good: Option<SocketAddr>,
    /// It accepted a connection and failed then: the others come first.
    bad: Option<SocketAddr>,
}

impl Door {
    pub(super) fn new(place: Place, lookup: Lookup) -> Self {
        Self {
            place,
            lookup,
            looking: Single::default(),
            known: Lock::default(),
        }
    }

    /// The server at this address accepted the login.
    pub(super) fn is_good(&self, address: SocketAddr) {
        self.known.lock().good = Some(address);
    }

    /// The connection to this address failed after it was accepted.
    pub(super) fn is_bad(&self, address: SocketAddr) {
        let mut known = self.known.lock();
        known.bad = Some(address);
        known.good = known.good.filter(|good| *good != address);
    }

    /// The server that accepted the login is not the right one.
    pub(super) fn is_wrong(&self) {
        let mut known = self.known.lock();
        known.bad = known.good.take().or(known.bad);
    }

    /// Returns the address to connect to. Of several it is one that accepts connections.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, or with each address.
    pub(super) async fn address(&self, deadline: Instant) -> Result<SocketAddr, String> {
        let mut addresses = self.addresses(deadline).await?;
        let known = *self.known.lock();
        addresses.sort_by_key(|address| match Some(*address) {
            good if good == known.good => 0,
            bad if bad == known.bad => 2,
            _ => 1,
        });
        match addresses.as_slice() {
            [only] => Ok(*only),
            several => first(several, deadline).await.map_err(|failures| {
                let mut text = format!("no address of {} can be reached:", self.place);
                for (at, (address, why)) in failures.iter().enumerate() {
                    let separator = if at == 0 { " " } else { ", " };
                    let _ = write!(text, "{separator}{address} ({why})");
                }
                text
            }),
        }
    }

    /// Returns all addresses of the place, as the resolver orders them.
    pub(super) async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
        let Place { host, port } = &self.place;
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, *port)]);
        }
        let looking = self.looking.run(|| {
            let (lookup, host, port) = (self.lookup.clone(), host.clone(), *port);
            tokio::spawn(async move { look_up(&lookup, host, port).await })
        });
        let why = match timeout_at(deadline, looking).await {
            Ok(Some(Ok(addresses))) if !addresses.is_empty() => return Ok(addresses),
            Ok(Some(Ok(_))) => "it has no address".to_owned(),
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) => "the resolver failed".to_owned(),
            Err(_) => "the resolver has not answered in time".to_owned(),
        };
        Err(format!("the name {host} cannot be looked up: {why}"))
    }
}

async fn look_up(lookup: &Lookup, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    match lookup {
        Lookup::System => {
            let mut found: Vec<SocketAddr> = Vec::new();
            for address in lookup_host((host, port)).await?.take(MOST_ADDRESSES) {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            Ok(found)
        }
        #[cfg(test)]
        Lookup::Fixed(addresses) => Ok(addresses.clone()),
    }
}

/// Returns the first of these addresses that accepts a connection, or what is wrong with each.
async fn first(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<SocketAddr, Vec<(SocketAddr, String)>> {
    let began = Instant::now();
    let total = deadline.saturating_duration_since(began);
    // So that the last one has half of the time.
    let apart = APART.min(total / u32::try_from(2 * addresses.len()).unwrap_or(u32::MAX));
    let mut left = addresses.iter().copied();
    let mut next = left.next();
    let mut due = began;
    let mut dialling = JoinSet::new();
    let mut refused: Vec<(SocketAddr, String)> = Vec::new();
    while next.is_some() || !dialling.is_empty() {
        select! {
            biased;
            Some(dialled) = dialling.join_next() => match dialled {
                Ok((address, Ok(()))) => return Ok(address),
                Ok((address, Err(why))) => {
                    refused.push((address, why));
                    due = Instant::now();
                }
                Err(_) => {}
            },
            () = sleep_until(due), if next.is_some() => {
                if let Some(address) = next.take() {
                    dialling.spawn(dial(address));
                }
                next = left.next();
                due += apart;
            }
            () = sleep_until(deadline) => break,
        }
    }
    let why = |address: &SocketAddr| {
        let found = refused.iter().find(|(refused, _)| refused == address);
        found.map_or_else(|| "no answer in time".to_owned(), |(_, why)| why.clone())
    };
    Err(addresses
        .iter()
        .map(|address| (*address, why(address)))
        .collect())
}

async fn dial(address: SocketAddr) -> (SocketAddr, Result<(), String>) {
    let dialled = TcpStream::connect(address).await;
    let why = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
        _ => error.to_string(),
    };
    (address, dialled.map(drop).map_err(why))
}
