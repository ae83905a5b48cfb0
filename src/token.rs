//! `Token`: what was published, so that a read on any instance can reflect it.

pub(crate) mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::bus::Position;

/// Lanes that one token names at most: its text fits into a cookie. What reaches more is
/// [`Token::latest`].
const MOST_NAMED: usize = 120;

/// What an invalidation or a write has published: its place in each lane that it reached.
///
/// [`Cache::get_after`](crate::Cache::get_after) takes it on any instance of the fleet, and answers with
/// nothing older than that write. If one instance writes and another serves the next request of the same user,
/// send the token along: in a cookie, a header, or the page itself.
///
/// # As text
///
/// `Display` writes it and `FromStr` reads it: lower-case letters, digits, `.` and `-`, which a cookie, a
/// header and a URL carry as they are, 4 KiB at most. With one lane (the default) it has 10 to 40
/// characters. A token names no key and has no secret, but its numbers grow with what the fleet publishes.
///
/// A token that comes back from a client may be old, damaged or made up. A read with it costs at most what
/// [`get_latest`](crate::Cache::get_latest) costs, and no token changes what any other read promises.
///
/// # How long it counts
///
/// A token belongs to one *epoch* of its lanes: the life of the lane's counter in Redis. Once the epoch has
/// ended, [`get_after`](crate::Cache::get_after) is `get_latest`, which reflects the write too:
///
/// - A server that was restarted, replaced by a replica or by an empty one, or flushed, answers with
///   another epoch.
/// - A counter that was set back within its epoch, as by a snapshot that is restored into a running server,
///   would give the token's number to another event. The next publication finds its place taken in the journal, or
///   the next verification of an instance says that it has applied more, and either begins another epoch. What is left is
///   the time until then, and a counter that comes up again to where it was before an instance verifies
///   or hears of it (see PROTOCOL.md, "What it does not protect from"): within that time a read after a token is
///   what [`get`](crate::Cache::get) is, older by `max_staleness` at most. The same holds for an instance that
///   still listens to a primary which has been replaced.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{Instance, LocalBus, Settings, Token};
///
/// # let bus = LocalBus::default();
/// # async fn start(bus: &LocalBus) -> Result<unstale::Cache<u64, u64>, unstale::Error> {
/// #     let instance = Instance::start_on(bus, Settings::default()).await?;
/// #     instance.cache("prices").loader(|id: u64| async move { Ok(id * 10) }).build()
/// # }
/// let (here, there) = (start(&bus).await?, start(&bus).await?); // the same cache on two instances
///
/// let token = here.invalidate(&7).await?;
/// let cookie = token.to_string(); // "us1.1.0-8a3f5c9d01e2b-6"
///
/// let token: Token = cookie.parse()?;
/// assert_eq!(there.get_after(&7, &token).await?, Some(70));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[doc(alias = "session_consistency")]
#[doc(alias = "watermark")]
pub struct Token(Of);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Of {
    /// Ordered by lane, each once; no more than [`MOST_NAMED`]. With none, the number of lanes is 0.
    Named { lanes: u32, places: Vec<Place> },
    /// Everything that was published before the read.
    Latest,
}

/// How far a lane must be applied.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    lane: u32,
    /// Unknown where two epochs met, which have no order.
    position: Option<Position>,
}

/// What a token asks of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The token names nothing of the lane.
    Nothing,
    /// The lane is applied up to here.
    Applied(Position),
    /// Everything that was published to the lane before the read.
    Latest,
}

impl Token {
    /// Of one event, in one lane of so many.
    pub(crate) fn of(lanes: u32, lane: u32, position: Position) -> Self {
        let place = Place {
            lane,
            position: Some(position),
        };
        Self(Of::Named {
            lanes,
            places: vec![place],
        })
    }

    /// Returns the token of everything that was published before the read that uses it: with it
    /// [`get_after`](crate::Cache::get_after) is [`get_latest`](crate::Cache::get_latest).
    ///
    /// It is for a write whose token is unknown, such as one that ended as
    /// [`Unconfirmed`](crate::WriteError::Unconfirmed); [`merge`](Self::merge) results in it if two tokens
    /// cannot be joined.
    ///
    /// ```
    /// use unstale::Token;
    /// assert_eq!(Token::latest().to_string(), "us1.latest");
    /// ```
    #[must_use]
    pub fn latest() -> Self {
        Self(Of::Latest)
    }

    /// Adds what another token asks for: a read after both reflects both writes.
    ///
    /// Of two places in one lane the later one stays. If they are of two epochs, whose order is unknown, reads
    /// of that lane are [`get_latest`](crate::Cache::get_latest). If the tokens are of fleets with different
    /// numbers of lanes, or name more than 120 lanes, all reads are.
    ///
    /// ```
    /// use unstale::Token;
    /// # fn main() -> Result<(), unstale::InvalidToken> {
    /// let mut session = Token::default(); // of no write
    /// session.merge(&"us1.2.0-9f-1a".parse()?);
    /// session.merge(&"us1.2.0-9f-1b.1-3-7".parse()?);
    /// assert_eq!(session.to_string(), "us1.2.0-9f-1b.1-3-7");
    /// # Ok(())
    /// # }
    /// ```
    pub fn merge(&mut self, other: &Self) {
        let joined = match (&self.0, &other.0) {
            (_, Of::Named { lanes: 0, .. }) => return,
            (Of::Named { lanes: 0, .. }, other) => other.clone(),
            (
                Of::Named { lanes, places },
                Of::Named {
                    lanes: others,
                    places: more,
                },
            ) if lanes == others => join(*lanes, places, more),
            _ => Of::Latest,
        };
        self.0 = joined;
    }

    /// Returns the token with what another one asks for, as [`merge`](Self::merge) adds it.
    ///
    /// ```
    /// use unstale::Token;
    /// # fn main() -> Result<(), unstale::InvalidToken> {
    /// let (one, other): (Token, Token) = ("us1.2.0-9f-1a".parse()?, "us1.2.1-3-7".parse()?);
    /// assert_eq!(one.and(&other).to_string(), "us1.2.0-9f-1a.1-3-7");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.merge(other);
        self
    }

    /// What it asks of a lane, on an instance with so many of them.
    pub(crate) fn asks(&self, lane: u32, lanes: u32) -> Asks {
        match &self.0 {
            Of::Named { lanes: 0, .. } => Asks::Nothing,
            Of::Named { lanes: of, places } if *of == lanes => {
                match places.binary_search_by_key(&lane, |place| place.lane) {
                    Ok(found) => places[found].position.map_or(Asks::Latest, Asks::Applied),
                    Err(_) => Asks::Nothing,
                }
            }
            Of::Named { .. } | Of::Latest => Asks::Latest,
        }
    }
}

fn join(lanes: u32, places: &[Place], more: &[Place]) -> Of {
    let mut all: Vec<Place> = places.to_vec();
    for place in more {
        match all.binary_search_by_key(&place.lane, |place| place.lane) {
            Ok(found) => all[found].position = later(all[found].position, place.position),
            Err(free) => all.insert(free, *place),
        }
    }
    if all.len() > MOST_NAMED {
        return Of::Latest;
    }
    Of::Named { lanes, places: all }
}

/// The later one of two places in a lane; none where that is unknown.
fn later(one: Option<Position>, other: Option<Position>) -> Option<Position> {
    let (one, other) = (one?, other?);
    (one.epoch == other.epoch).then(|| Position {
        epoch: one.epoch,
        sequence: one.sequence.max(other.sequence),
    })
}

/// The token of no write: a read after it is [`get`](crate::Cache::get).
impl Default for Token {
    fn default() -> Self {
        Self(Of::Named {
            lanes: 0,
            places: Vec::new(),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}
