//! The file of rules: TOML, read so that one error lists every mistake.

mod parts;
mod table;

use toml::de::{DeTable, DeValue};

use super::problems::Problems;
use super::read::{Fields, Value, line_of};
use super::{Rule, Rules, TableName, format_of_columns};
use crate::error::Error;
use crate::relay::rules::encode::FORMAT;
use crate::settings::check_cache_name;
use parts::{KEY_EXAMPLE, TAGS_EXAMPLE, key, tags};

const FILE_FIELDS: [&str; 3] = ["source", "publication", "rule"];
const RULE_FIELDS: [&str; 6] = ["table", "cache", "key", "tags", "all", "format"];

/// Longest name that PostgreSQL keeps, in bytes.
const LONGEST_NAME: usize = 63;

/// Longest source: `unstale_` and the source name the publication, the role and the slot.
const LONGEST_SOURCE: usize = 48;

impl Rules {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// `Settings`, with every mistake of the file, each with its line and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut problems = Problems::default();
        let (file, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            problems.report("not TOML", format!("line {line}: {}", error.message()));
        }
        // What follows a broken line may be anything.
        if errors.is_empty() {
            let rules = read(text, file.get_ref(), &mut problems);
            if problems.is_empty()
                && let Some(rules) = rules
            {
                return Ok(rules);
            }
        }
        Err(problems.into_error("the rules have"))
    }
}

fn read(text: &str, table: &DeTable<'_>, problems: &mut Problems) -> Option<Rules> {
    let file = Fields::new(text, table, "the file".to_owned());
    file.only(&FILE_FIELDS, problems);
    let source = file.needed("source", r#"source = "orders""#, problems);
    if let Some(source) = source
        && !is_source(source)
    {
        let why = format!(
            "must be 1 to {LONGEST_SOURCE} of a-z, 0-9, `_` and `-`, and begin with a letter"
        );
        file.blame_name("source", &why, problems);
    }
    let publication = file.text("publication", problems);
    if publication.is_some_and(|name| name.len() > LONGEST_NAME) {
        let why = format!("is longer than the {LONGEST_NAME} bytes of PostgreSQL's names");
        file.blame_name("publication", &why, problems);
    }
    if file.get("rule").is_none() {
        file.lack(
            "no rule: at least one [[rule]] with table, cache and key",
            problems,
        );
    }
    let mut drafts: Vec<Draft> = Vec::new();
    for (n, value) in file
        .list("rule", "[[rule]]", problems)
        .into_iter()
        .enumerate()
    {
        drafts.extend(rule(text, n + 1, value, problems));
    }
    twins(&drafts, problems);
    formats(&mut drafts, problems);
    let source = source?;
    Some(Rules {
        source: source.to_owned(),
        publication: publication.map_or_else(|| format!("unstale_{source}"), str::to_owned),
        rules: drafts.into_iter().map(|draft| draft.rule).collect(),
    })
}

fn is_source(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=LONGEST_SOURCE).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain)
}

/// A rule whose format is not known yet.
struct Draft {
    rule: Rule,
    /// What the rule says, or what follows from its key.
    format: Option<u32>,
}

fn rule(text: &str, number: usize, value: &Value<'_>, problems: &mut Problems) -> Option<Draft> {
    let line = line_of(text, value.span().start);
    let place = format!("rule {number} (line {line})");
    let DeValue::Table(table) = value.get_ref() else {
        problems.report(&place, "must be a table: [[rule]]");
        return None;
    };
    let fields = Fields::new(text, table, place);
    fields.only(&RULE_FIELDS, problems);
    let table = fields.needed("table", r#"table = "public.accounts""#, problems);
    let name = table.and_then(TableName::parse);
    if table.is_some() && name.is_none() {
        let why = "must be a table or schema.table, as in \"public.accounts\"; a name with a dot in double \
                   quotes";
        fields.blame_name("table", why, problems);
    }
    let cache = fields.needed("cache", r#"cache = "accounts""#, problems);
    if let Some(Err(why)) = cache.map(check_cache_name) {
        fields.blame_name("cache", &format!("is not valid: {why}"), problems);
    }
    let key = key(&fields, problems);
    let tags = tags(&fields, problems);
    let all = fields.flag("all", problems);
    let names_none = fields.get("key").is_none() && fields.get("tags").is_none();
    if all && !names_none {
        fields.lack(
            "all = true drops the whole cache: leave out key and tags, or all",
            problems,
        );
    } else if names_none && !all {
        let why = format!("drops nothing: needs {KEY_EXAMPLE}, {TAGS_EXAMPLE} or all = true");
        fields.lack(&why, problems);
    }
    let format = fields.number("format", problems);
    let format = format.or_else(|| (!key.is_empty()).then(|| format_of_columns(&key)));
    let rule = Rule {
        number,
        line,
        table: name?,
        cache: cache?.to_owned(),
        key,
        tags,
        all,
        format: FORMAT,
    };
    Some(Draft { rule, format })
}

/// A rule that says the same as an earlier one was meant to say something else.
fn twins(drafts: &[Draft], problems: &mut Problems) {
    for (n, draft) in drafts.iter().enumerate() {
        let rule = &draft.rule;
        let same = |other: &&Draft| {
            let other = &other.rule;
            (
                &other.table,
                &other.cache,
                &other.key,
                &other.tags,
                other.all,
            ) == (&rule.table, &rule.cache, &rule.key, &rule.tags, rule.all)
        };
        if let Some(first) = drafts.iter().take(n).find(same) {
            let number = first.rule.number;
            problems.report(
                &rule.place(),
                format!("is the same as rule {number}: leave one out"),
            );
        }
    }
}

/// Gives the rules of a cache one format: what one of them says or what follows from its key.
fn formats(drafts: &mut [Draft], problems: &mut Problems) {
    let known: Vec<(String, u32, usize)> = drafts
        .iter()
        .filter_map(|draft| Some((draft.rule.cache.clone(), draft.format?, draft.rule.number)))
        .collect();
    for draft in drafts {
        let first = known.iter().find(|(cache, ..)| *cache == draft.rule.cache);
        let Some((_, format, number)) = first else {
            continue;
        };
        if let Some(own) = draft.format
            && own != *format
        {
            let what = format!(
                "keys of format {own}, and rule {number} has keys of format {format} for the same \
                 cache: give both the key's columns in the same number and order, or format = \
                 Key::FORMAT of the cache's key type"
            );
            problems.report(&draft.rule.place(), what);
        }
        draft.rule.format = *format;
    }
}

#[cfg(test)]
mod tests;
