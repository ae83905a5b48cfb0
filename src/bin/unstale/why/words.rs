//! What `unstale why` says: sentences of 80 columns, or one JSON object with the same facts.

use serde_json::{Value, json};
use unstale::Settings;
use unstale::operate::{self, Answer, By, Found, Member, Question};

use crate::common::{count, short, time};

/// Columns of a line.
const WIDTH: usize = 80;

/// Events, and members, that are listed: a screen of them.
const SHOWN: usize = 10;

/// The answer in sentences.
pub(super) fn lines(question: &Question, answer: &Answer, settings: &Settings) -> Vec<String> {
    let mut text = Text::default();
    text.say(place(question, answer, settings));
    text.say(reach(answer));
    text.blank();
    events(&mut text, question, answer);
    text.blank();
    members(&mut text, question, answer);
    text.0
}

/// Where the key belongs, and where its lane stands.
fn place(question: &Question, answer: &Answer, settings: &Settings) -> String {
    let lanes = match answer.lanes {
        Some(lanes) => format!("the fleet has {}", count(lanes as usize, "lane")),
        None => format!(
            "no instance has said how many there are, UNSTALE_LANES says {}",
            settings.lanes
        ),
    };
    let stands = match answer.head {
        Some((epoch, sequence)) => {
            format!("The lane stands at sequence {sequence} in epoch {epoch:x}.")
        }
        None => "The lane has had no event and no epoch yet.".to_owned(),
    };
    let moved = if answer.reach.moved {
        " Another epoch began while its journal was read: run the command again."
    } else {
        ""
    };
    format!(
        "The key of {} has the hash {}. It belongs to lane {}; {lanes}. {stands}{moved}",
        question.cache,
        hash(question.key),
        answer.lane
    )
}

/// How far the journal reaches back.
fn reach(answer: &Answer) -> String {
    let reach = &answer.reach;
    let text = match (reach.ends, reach.whole) {
        _ if answer.head.is_none() => return String::new(),
        (None, true) => {
            "Its journal is empty: nothing was published since the epoch began, or the fleet runs \
             with UNSTALE_JOURNAL=0."
                .to_owned()
        }
        (None, false) => {
            "Its journal is gone: it no longer reaches any event of this epoch, and whether one \
             dropped the key cannot be said."
                .to_owned()
        }
        (Some((oldest, _)), true) => format!(
            "Its journal has {}, from sequence {oldest} on: all since the epoch began. A new epoch \
             begins with an empty journal, and makes every instance drop the lane.",
            events_of(reach.events)
        ),
        (Some((oldest, _)), false) => format!(
            "Its journal has {}, from sequence {oldest} on. It no longer reaches what came before: \
             whether an earlier event dropped the key cannot be said.",
            events_of(reach.events)
        ),
    };
    let missing = match reach.missing {
        0 => String::new(),
        missing => format!(
            " It lacks {} of those that came after: they were published with UNSTALE_JOURNAL=0, or \
             removed.",
            events_of(missing)
        ),
    };
    format!("{text}{missing} It keeps no times, only the order.")
}

/// Which events drop the key.
fn events(text: &mut Text, question: &Question, answer: &Answer) {
    let all = answer.earlier + answer.found.len() as u64;
    let tags = match question.tags.len() {
        0 => {
            "the key, its whole cache or its whole lane. No --tag was given: tags were not looked for"
        }
        1 => "the key, the tag, its whole cache or its whole lane",
        _ => "the key, one of the tags, its whole cache or its whole lane",
    };
    if all == 0 {
        text.say(format!(
            "No event in the journal names {tags}. If the source has got another value since its \
             oldest event, the writer did not invalidate it."
        ));
    } else {
        let verb = if all == 1 { "drops" } else { "drop" };
        text.say(format!(
            "{} in the journal {verb} the key, of {} that name {} in any lane. The latest first:",
            events_of(all),
            answer.of_cache,
            question.cache
        ));
    }
    for found in answer.found.iter().rev().take(SHOWN) {
        text.item(event(found, answer));
    }
    if let Some(more) = all.checked_sub(SHOWN as u64).filter(|more| *more > 0) {
        text.item(format!("and {more} earlier; --json has more of them"));
    }
    if answer.strays.is_empty() {
        return;
    }
    text.say(format!(
        "In lanes that are not its own the key is named by {}: a writer has another number of lanes \
         than the fleet. No verification repairs such an event where it was lost. The latest first:",
        events_of(answer.strays.len() as u64)
    ));
    for found in answer.strays.iter().rev().take(SHOWN) {
        text.item(event(found, answer));
    }
}

fn event(found: &Found, answer: &Answer) -> String {
    let lane = if found.lane == answer.lane {
        String::new()
    } else {
        format!(" of lane {}", found.lane)
    };
    let names = match &found.by[..] {
        [By::Unreadable(why)] => format!(
            "cannot be read with these settings ({why}). An instance that cannot read it drops the \
             whole lane"
        ),
        by => {
            let by: Vec<_> = by.iter().map(reason).collect();
            format!("names {}", by.join(" and "))
        }
    };
    let origin = match found.origin {
        Some(id) => {
            let there = match answer.members.get(&id) {
                Some(member) if member.alive => "a member now",
                Some(_) => "a member that is silent now",
                None => "no member now: it has ended, or only publishes",
            };
            format!("Instance {} published it, {there}.", short(id))
        }
        None if matches!(found.by[..], [By::Unreadable(_)]) => String::new(),
        None => {
            "It has no origin: a peer published it for a writer that had died, or a program in \
                 another language did."
                .to_owned()
        }
    };
    let behind = behind(found, answer).map_or_else(String::new, |behind| match behind {
        0 => ", the latest of the lane,".to_owned(),
        behind => format!(", {} before the latest,", events_of(behind)),
    });
    format!(
        "sequence {}{lane}{behind} {names}. {origin}",
        found.sequence
    )
}

/// How many events the key's lane has had since.
fn behind(found: &Found, answer: &Answer) -> Option<u64> {
    let (_, latest) = answer.head.filter(|_| found.lane == answer.lane)?;
    Some(latest.saturating_sub(found.sequence))
}

fn reason(by: &By) -> String {
    match by {
        By::Key => "the key".to_owned(),
        By::Tag(tag) => format!("the tag {}", hash(*tag)),
        By::Cache => "the whole cache".to_owned(),
        By::Lane => "everything of the lane".to_owned(),
        By::Format(format) => format!(
            "keys of format {format}, so that an instance with another one drops the whole cache"
        ),
        By::Unreadable(why) => why.clone(),
    }
}

/// Who is there.
fn members(text: &mut Text, question: &Question, answer: &Answer) {
    let there = answer.members.values().filter(|member| member.alive);
    let there = there.count();
    text.say(match there {
        0 => "No member is there now.".to_owned(),
        1 => "1 member is there now:".to_owned(),
        there => format!("{there} members are there now:"),
    });
    let mut members: Vec<_> = answer.members.iter().collect();
    members.sort_by_key(|(id, member)| (!member.alive, **id));
    for (id, member) in members.iter().take(SHOWN) {
        text.item(format!(
            "{} {}",
            short(**id),
            state(member, &question.cache)
        ));
    }
    if let Some(more) = members.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.item(format!("and {more} more; --json has them all"));
    }
    if answer.formats.len() > 1 {
        text.say(format!(
            "The members have {} with {} formats of keys: what one of them publishes, the others take \
             for the whole cache.",
            question.cache,
            answer.formats.len()
        ));
    }
    if answer.of_other_keys > 0 {
        text.say(format!(
            "{} of them sign otherwise than UNSTALE_SIGNING_KEY says: what cannot be read here may be \
             readable there, and the other way round.",
            answer.of_other_keys
        ));
    }
}

fn state(member: &Member, cache: &str) -> String {
    if !member.alive {
        return format!("is silent for {}: dead", time(member.silent));
    }
    let has = match member.has_cache {
        Some(true) => format!("has {cache}"),
        Some(false) => format!("has no cache {cache}"),
        None => "has not said which caches it has".to_owned(),
    };
    format!("{has}, and was heard of {} ago", time(member.silent))
}

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

fn hash(hash: u64) -> String {
    format!("{hash:016x}")
}

fn events_of(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "event")
}

/// Lines of [`WIDTH`] columns at most, where no word is longer.
#[derive(Default)]
struct Text(Vec<String>);

impl Text {
    fn say(&mut self, text: impl AsRef<str>) {
        self.wrap("", "", text.as_ref());
    }

    fn item(&mut self, text: impl AsRef<str>) {
        self.wrap("- ", "  ", text.as_ref());
    }

    fn blank(&mut self) {
        self.0.push(String::new());
    }

    fn wrap(&mut self, first: &str, then: &str, text: &str) {
        let mut line = first.to_owned();
        let mut begins = true;
        for word in text.split_whitespace() {
            if !begins && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.0.push(std::mem::replace(&mut line, then.to_owned()));
                begins = true;
            }
            if !begins {
                line.push(' ');
            }
            line.push_str(word);
            begins = false;
        }
        if !begins {
            self.0.push(line);
        }
    }
}
