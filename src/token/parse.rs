//! A token as text: `us1.<lanes>`, and for each lane `.<lane>-<epoch>-<sequence>`, in hexadecimal.
//!
//! A lane alone asks for the latest of that lane, `us1.latest` for that of all, and `us1.0` for nothing.

use std::fmt;
use std::str::FromStr;

use super::{MOST_NAMED, Of, Place, Token};
use crate::bus::Position;
use crate::foreign::MOST_LANES;

/// What every token begins with; the number is the version.
const BEGINS: &str = "us1.";

const LATEST: &str = "latest";

/// The maximum length of a token in bytes; a cookie may be longer.
const LONGEST: usize = 4_096;

/// Epochs are below it, see PROTOCOL.md.
const EPOCHS: u64 = 1 << 52;

/// Sequences are below it, see PROTOCOL.md.
const SEQUENCES: u64 = 1 << 53;

/// The error of a text that is no [`Token`]: it says what is wrong and what a token looks like, and does not
/// repeat the text.
///
/// If the text comes from a client, read without a token, or with [`Token::latest`].
///
/// # Examples
///
/// ```
/// use unstale::{InvalidToken, Token};
///
/// let error: InvalidToken = "us1.1.0-9f".parse::<Token>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "not a token: one of its places is neither a lane nor a lane, an epoch and a sequence; a token looks like \
///      us1.4.2-9f03-1a6: version, number of lanes, and places of lane, epoch and sequence in lower-case hexadecimal"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidToken(&'static str);

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not a token: {}; a token looks like us1.4.2-9f03-1a6: version, number of lanes, and places of lane, \
             epoch and sequence in lower-case hexadecimal",
            self.0
        )
    }
}

impl std::error::Error for InvalidToken {}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BEGINS)?;
        let Of::Named { lanes, places } = &self.0 else {
            return f.write_str(LATEST);
        };
        write!(f, "{lanes:x}")?;
        for Place { lane, position } in places {
            write!(f, ".{lane:x}")?;
            if let Some(Position { epoch, sequence }) = position {
                write!(f, "-{epoch:x}-{sequence:x}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if text.len() > LONGEST {
            return Err(InvalidToken("it is longer than 4096 bytes"));
        }
        let Some(rest) = text.strip_prefix(BEGINS) else {
            return Err(InvalidToken("it does not begin with `us1.`"));
        };
        if rest == LATEST {
            return Ok(Self::latest());
        }
        let mut parts = rest.split('.');
        let lanes = parts.next().and_then(number);
        let lanes = lanes.filter(|lanes| *lanes <= u64::from(MOST_LANES));
        let lanes = lanes.ok_or(InvalidToken("its number of lanes is not from 0 to 400"))?;
        let mut places: Vec<Place> = Vec::new();
        for part in parts {
            let place = place(part, lanes)?;
            if places.last().is_some_and(|last| last.lane >= place.lane) {
                return Err(InvalidToken("its lanes are not in ascending order"));
            }
            places.push(place);
        }
        if places.len() > MOST_NAMED {
            return Err(InvalidToken("it names more than 120 lanes"));
        }
        if places.is_empty() != (lanes == 0) {
            return Err(InvalidToken("it has a number of lanes and names no lane"));
        }
        let lanes = lanes as u32;
        Ok(Self(Of::Named { lanes, places }))
    }
}

fn place(part: &str, lanes: u64) -> Result<Place, InvalidToken> {
    let mut numbers = part.split('-');
    let lane = numbers.next().and_then(number);
    let position = match (numbers.next(), numbers.next(), numbers.next()) {
        (None, ..) => None,
        (Some(epoch), Some(sequence), None) => Some((epoch, sequence)),
        _ => {
            let wrong = "one of its places is neither a lane nor a lane, an epoch and a sequence";
            return Err(InvalidToken(wrong));
        }
    };
    let lane = lane.filter(|lane| *lane < lanes);
    let lane = lane.ok_or(InvalidToken(
        "one of its lanes is not below the number of lanes",
    ))?;
    let position = position.map(|(epoch, sequence)| {
        let epoch = number(epoch).filter(|epoch| (1..EPOCHS).contains(epoch));
        let epoch = epoch.ok_or(InvalidToken(
            "one of its epochs is not from 1 to fffffffffffff",
        ))?;
        let sequence = number(sequence).filter(|sequence| *sequence < SEQUENCES);
        let wrong = InvalidToken("one of its sequences is not from 0 to 1fffffffffffff");
        let sequence = sequence.ok_or(wrong)?;
        Ok(Position { epoch, sequence })
    });
    Ok(Place {
        lane: lane as u32,
        position: position.transpose()?,
    })
}

/// A number as `Display` writes it, and no other: each token has one text.
fn number(text: &str) -> Option<u64> {
    let digits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let canonical = text == "0" || !text.starts_with('0');
    let fits = (1..=14).contains(&text.len()) && canonical && text.bytes().all(digits);
    fits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
