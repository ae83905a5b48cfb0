//! What `unstale why` says in sentences.

use unstale::Settings;
use unstale::operate::{Answer, By, Found, Member, Question};

use super::facts::{behind, hash};
use crate::common::{count, short, time};
use crate::text::Text;

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
    text.into_lines()
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
    format!("{text}{missing} A journal keeps no times, only the order.")
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

fn events_of(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "event")
}
