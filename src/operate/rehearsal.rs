//! What an instance does, done once in a namespace of its own, and removed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::access::{Access, READY, connect};
use crate::bus::tier::{Fetch, Found, Head, Name, Put, Stored, Subject};
use crate::bus::{Bus, BusEvent, Intent, IntentId, Known, Mark, Position, StillOpen};
use crate::{Error, ErrorKind, Settings};

/// Lanes that are tried at most: enough to meet every primary of a cluster of some nodes.
const LANES: u32 = 16;

/// What the value is called.
const NAME: Name = *b"doctordoctordoctordoct";

/// How long the value in Redis lives, in milliseconds: it is read back at once.
const LIFE: u64 = 10_000;

/// Verifies, announces, publishes, listens, reads the journal, stores a value and reads it back, as an
/// instance does with these settings, in a namespace below theirs.
///
/// # Errors
///
/// The first that an instance would meet, with the step in front.
pub async fn rehearse(settings: &Settings) -> Result<(), Error> {
    let mut own = settings.clone();
    own.namespace = format!("{}:doctor-{:08x}", settings.namespace, fastrand::u32(..));
    own.lanes = settings.lanes.min(LANES);
    let mut access = Access::open(&own).await?;
    let mut result = Ok(());
    for lane in 0..access.lanes {
        if result.is_ok() {
            result = try_lane(&mut access, lane).await;
        }
    }
    access.bus.close(StillOpen::default()).await;
    let cleaned = connect(&own).await?.forget(own.lanes, &NAME).await;
    result.and(cleaned.map_err(|error| in_step("remove", &error)))
}

async fn try_lane(access: &mut Access, lane: u32) -> Result<(), Error> {
    let bus = access.bus.clone();
    bus.share();
    let step = |name| move |error: Error| in_step(name, &error);
    let verified = bus.verify_from(lane, Known::default()).await;
    verified.map_err(step("verify"))?;
    let id: IntentId = (u128::from(access.id) << 64 | 1).to_be_bytes();
    let intent = Intent {
        id,
        deadline: Duration::from_secs(1),
        payload: Bytes::new(),
    };
    let announced = bus.announce(lane, vec![intent]).await;
    announced.map_err(step("announce"))?;
    let published = bus.publish(lane, Bytes::new(), vec![id]).await;
    let position = published.map_err(step("publish"))?;
    let heard = timeout(READY, hear(access, lane, position)).await;
    if !matches!(heard, Ok(true)) {
        let error = Error::new(ErrorKind::Bus, "the published event did not arrive");
        return Err(in_step("listen", &error));
    }
    let mark = Mark {
        source: "doctor".to_owned(),
        at: None,
        lease: None,
    };
    bus.mark(lane, mark).await.map_err(step("mark"))?;
    let page = bus.journal(lane, position.sequence - 1).await;
    page.map_err(step("journal"))?;
    try_tier(access, lane).await
}

/// Waits for the event; `false` where the bus has ended.
async fn hear(access: &mut Access, lane: u32, published: Position) -> bool {
    while let Some(event) = access.events.recv().await {
        if matches!(event, BusEvent::Message { lane: at, position, .. } if (at, position) == (lane, published))
        {
            return true;
        }
    }
    false
}

async fn try_tier(access: &Access, lane: u32) -> Result<(), Error> {
    let (bus, name) = (&access.bus, NAME);
    let subject = Subject {
        cache: 0,
        format: 0,
        hash: 0,
    };
    let fetch = Fetch {
        name,
        subject,
        part: 1_000,
        margin: 0,
        claim: None,
    };
    let step = |name| move |error: Error| in_step(name, &error);
    let empty = bus.fetch(lane, fetch).await.map_err(step("fetch"))?;
    let head = Head {
        position: empty.head,
        born: empty.now,
        expires: empty.now + LIFE,
        digest: [0; 16],
        mac: [0; 16],
        tags: Box::default(),
    };
    let put = Put {
        name,
        subject,
        head,
        body: Some(Bytes::from_static(b"doctor")),
        forget: empty.now + LIFE,
        claim: None,
    };
    let stored = bus.put(lane, put).await.map_err(step("store"))?;
    let found = bus.fetch(lane, fetch).await.map_err(step("fetch"))?.found;
    if stored == Stored::Written && matches!(found, Found::Value(_)) {
        return Ok(());
    }
    let message = format!("a value that was stored ({stored:?}) was not found again");
    Err(in_step("shared tier", &Error::new(ErrorKind::Bus, message)))
}

fn in_step(step: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("{step}: {error}"))
}
