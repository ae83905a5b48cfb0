//! Where one RESP frame ends, and whether it delivers a message.

/// Longest frame that is put together before it is passed on; a longer one is not Redis talking.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// A message as a subscriber receives it.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    pub channel: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Push<'a> {
    /// The message in a whole frame: an array in RESP2, a push in RESP3.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let mut rest = frame;
        let (kind, items) = header(&mut rest)?.ok()?;
        if !matches!(kind, b'*' | b'>') || !(3..=4).contains(&items) {
            return None;
        }
        let name = bulk(&mut rest)?;
        let fits = match name {
            b"message" | b"smessage" => items == 3,
            b"pmessage" => items == 4,
            _ => false,
        };
        if !fits {
            return None;
        }
        if items == 4 {
            bulk(&mut rest)?;
        }
        Some(Self {
            channel: bulk(&mut rest)?,
            payload: bulk(&mut rest)?,
        })
    }
}

/// Something else than RESP: TLS, for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotResp;

/// The length of the frame that `bytes` begin with, `None` while it is not there as a whole.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, NotResp> {
    let mut rest = bytes;
    // Values that have to follow; an aggregate adds its items, so that nesting needs no stack.
    let mut missing = 1_i64;
    while missing > 0 {
        if bytes.len() > MAX_FRAME {
            return Err(NotResp);
        }
        let Some(head) = header(&mut rest) else {
            return Ok(None);
        };
        let (kind, count) = head?;
        missing -= 1;
        match kind {
            b'$' | b'!' | b'=' if count >= 0 => {
                let text = usize::try_from(count).map_err(|_| NotResp)? + 2;
                let Some(after) = rest.get(text..) else {
                    return Ok(None);
                };
                rest = after;
            }
            b'*' | b'~' | b'>' => missing += count.max(0),
            b'%' => missing += 2 * count.max(0),
            // Attributes precede the value they belong to.
            b'|' => missing += 2 * count.max(0) + 1,
            _ => {}
        }
    }
    Ok(Some(bytes.len() - rest.len()))
}

/// Takes a line off `rest`: its type and, of the types that have one, its count.
fn header(rest: &mut &[u8]) -> Option<Result<(u8, i64), NotResp>> {
    let kind = *rest.first()?;
    if !b"+-:_,#($!=*~>%|".contains(&kind) {
        return Some(Err(NotResp));
    }
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let text = &rest[1..end];
    *rest = &rest[end + 2..];
    if !b"$!=*~>%|".contains(&kind) {
        return Some(Ok((kind, 0)));
    }
    let count = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    // The limit keeps the sum of counts far from overflow.
    let count = count.filter(|&count: &i64| (-1..=MAX_FRAME as i64).contains(&count));
    Some(count.map(|count| (kind, count)).ok_or(NotResp))
}

/// Takes a bulk string off `rest`.
fn bulk<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (b'$', length) = header(rest)?.ok()? else {
        return None;
    };
    let length = usize::try_from(length).ok()?;
    let text = rest.get(..length)?;
    *rest = rest.get(length + 2..)?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: &[&[u8]] = &[
        b"+OK\r\n",
        b":12\r\n",
        b"_\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$0\r\n\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*0\r\n",
        b"*2\r\n*2\r\n:1\r\n$1\r\nx\r\n$-1\r\n",
        b"%1\r\n+a\r\n*1\r\n:1\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n",
        b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$1\r\np\r\n",
    ];

    #[test]
    fn a_frame_ends_where_it_ends_however_it_is_cut() {
        for frame in FRAMES {
            for cut in 0..frame.len() {
                assert_eq!(length(&frame[..cut]), Ok(None), "{frame:?} to {cut}");
            }
            let mut more = frame.to_vec();
            more.extend_from_slice(b"+next");
            assert_eq!(length(&more), Ok(Some(frame.len())), "{frame:?}");
        }
    }

    #[test]
    fn other_protocols_are_recognized() {
        assert_eq!(length(b"\x16\x03\x01"), Err(NotResp));
        assert_eq!(length(b"$x\r\n"), Err(NotResp));
        assert_eq!(length(b"*9999999999999\r\n"), Err(NotResp));
    }

    #[test]
    fn messages_are_distinguished_from_replies() {
        let push = Push::parse(FRAMES[11]).unwrap();
        assert_eq!((push.channel, push.payload), (&b"c"[..], &b"\r\n\r\n"[..]));
        let push = Push::parse(FRAMES[12]).unwrap();
        assert_eq!((push.channel, push.payload), (&b"c"[..], &b"p"[..]));
        assert!(
            FRAMES[..11]
                .iter()
                .all(|frame| Push::parse(frame).is_none())
        );
        assert!(Push::parse(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n").is_none());
    }
}
