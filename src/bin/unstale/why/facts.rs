//! What `unstale why` says as one JSON object, and what its sentences share with that.

use serde_json::{Value, json};
use unstale::Settings;
use unstale::operate::{self, Answer, By, Found, Member, Question};

use crate::common::short;

/// The answer as one object. Keys and tags are hashes, as in events.
pub(super) fn json(question: &Question, answer: &Answer, settings: &Settings) -> Value {
    let epoch = answer.head.map(|(epoch, _)| format!("{epoch:x}"));
    let event = |found: &Found| {
        let alive = found.origin.map(|id| answer.members.get(&id));
        let own = found.lane == answer.lane;
        json!({
            "lane": found.lane,
            "epoch": if own { epoch.clone() } else { None },
            "sequence": found.sequence,
            "events_since": behind(found, answer),
            "origin": found.origin.map(short),
            "origin_is_member": alive.map(|member| member.is_some_and(|member| member.alive)),
            "by": found.by.iter().map(cause).collect::<Vec<_>>(),
        })
    };
    let member = |(id, member): (&u64, &Member)| {
        json!({
            "id": short(*id),
            "silent_seconds": member.silent.as_secs_f64(),
            "alive": member.alive,
            "has_cache": member.has_cache,
        })
    };
    let reach = &answer.reach;
    json!({
        "namespace": settings.namespace,
        "cache": question.cache,
        "cache_known": answer.knows_cache(),
        "key_hash": hash(question.key),
        "tag_hashes": question.tags.iter().map(|tag| hash(*tag)).collect::<Vec<_>>(),
        "formats": answer.formats,
        "lanes": answer.lanes,
        "lane": answer.lane,
        "epoch": epoch.clone(),
        "sequence": answer.head.map(|(_, sequence)| sequence),
        "journal": {
            "events": reach.events,
            "oldest": reach.ends.map(|(oldest, _)| oldest),
            "latest": reach.ends.map(|(_, latest)| latest),
            "whole_epoch": reach.whole,
            "missing": reach.missing,
            "epoch_changed": reach.moved,
            "has_times": false,
        },
        "events": answer.found.iter().map(event).collect::<Vec<_>>(),
        "earlier_events": answer.earlier,
        "in_other_lanes": answer.strays.iter().map(event).collect::<Vec<_>>(),
        "events_of_cache": answer.of_cache,
        "members": answer.members.iter().map(member).collect::<Vec<_>>(),
        "of_other_keys": answer.of_other_keys,
    })
}

fn cause(by: &By) -> Value {
    match by {
        By::Key => json!({"kind": "key"}),
        By::Tag(tag) => json!({"kind": "tag", "hash": hash(*tag)}),
        By::Cache => json!({"kind": "cache"}),
        By::Lane => json!({"kind": "lane"}),
        By::Format(format) => json!({"kind": "format", "format": format}),
        By::Unreadable(why) => json!({"kind": "unreadable", "why": operate::shown(why)}),
    }
}

/// A hash as events show it.
pub(super) fn hash(hash: u64) -> String {
    format!("{hash:016x}")
}

/// How many events the key's lane has had since.
pub(super) fn behind(found: &Found, answer: &Answer) -> Option<u64> {
    let (_, latest) = answer.head.filter(|_| found.lane == answer.lane)?;
    Some(latest.saturating_sub(found.sequence))
}
