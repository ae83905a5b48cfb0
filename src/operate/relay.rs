//! What `unstale relay` does, without its words.

mod repeats;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use self::repeats::Repeats;
use crate::event::{Op, What};
use crate::relay::postgres::Config;
use crate::relay::rules::Rules;
use crate::relay::rules::check::check;
use crate::relay::rules::example::{Shown, show};
use crate::relay::rules::sql::{Names, prepare};
use crate::relay::wal::Wal;
use crate::relay::{Duty, Note, run};
use crate::{Error, ErrorKind, Instance, Settings};

/// Largest file of rules: some ten thousand rules.
const LARGEST: u64 = 1 << 20;

/// A database, and the rules by which it is watched.
#[derive(Clone, Debug)]
pub struct SourceRelay(Wal);

/// What a relay tells of itself while it runs.
#[derive(Clone, Debug)]
pub enum RelayNews {
    /// It reads the log.
    Began,
    /// The log was lost and is opened again, because of this.
    Lost(String),
    /// Another relay of the source works, and this one waits.
    Waits,
    /// The database has given up a part of the log before it was read; every cache of the rules is dropped.
    GivenUp(String),
}

impl SourceRelay {
    /// Reads the rules, and how the database is reached. Asks neither the database nor Redis.
    ///
    /// # Errors
    ///
    /// `Settings`, with all that is wrong with the file, or with the URL.
    pub fn new(settings: &Settings, rules: Option<&Path>) -> Result<Self, Error> {
        let wrong = |why: String| Error::new(ErrorKind::Settings, why);
        let path = rules.or(settings.relay_rules.as_deref());
        let path = path.ok_or_else(|| {
            wrong("no file of rules: name one with --rules or UNSTALE_RELAY_RULES".to_owned())
        })?;
        let url = settings.relay_database_url.as_deref().ok_or_else(|| {
            wrong(
                "UNSTALE_RELAY_DATABASE_URL is not set: name the database, as in \
                 postgres://user:password@host:5432/database"
                    .to_owned(),
            )
        })?;
        let shown = path.display();
        let text =
            read(path).map_err(|why| wrong(format!("cannot read the rules in {shown}: {why}")))?;
        let rules = Rules::parse(&text)?;
        let config = Config::parse(url)
            .map_err(|error| wrong(format!("UNSTALE_RELAY_DATABASE_URL: {error}")))?;
        Ok(Self(Wal::new(config, rules, settings.relay_slot.clone())))
    }

    /// Returns the name by which caches name the source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.rules.source
    }

    /// Returns where the database is, without the login.
    #[must_use]
    pub fn place(&self) -> String {
        self.0.config.place()
    }

    /// Checks the rules against the database, and shows what each means.
    ///
    /// # Errors
    ///
    /// `Bus` where the database cannot be asked; `Settings` with all that is wrong, each with the SQL that corrects it.
    pub async fn check(&self) -> Result<String, Error> {
        let catalog = self.0.catalog().await?;
        check(&self.0.rules, &catalog)?;
        let mut text = String::new();
        for rule in show(&self.0.rules, &catalog) {
            describe(&mut text, &rule);
        }
        Ok(text)
    }

    /// Returns the SQL that makes all that the rules need, for this login role. Where the database can be asked, the
    /// replica identities are in it.
    pub async fn sql(&self, role: &str) -> String {
        let catalog = self.0.catalog().await.ok();
        let names = Names {
            role,
            ..Names::default()
        };
        prepare(&self.0.rules, catalog.as_ref(), names)
    }

    /// Relays until the end has come, or until an operator must act: then it returns why.
    pub async fn run(
        self,
        instance: &Instance,
        mut news: impl FnMut(RelayNews) + Send,
        end: impl Future<Output = ()>,
    ) -> Option<Error> {
        let all = self.0.rules.caches().into_iter().map(|(cache, format)| Op {
            cache,
            format,
            what: What::Cache,
        });
        let duty = Duty {
            source: self.0.rules.source.clone(),
            all: all.collect(),
        };
        let mut repeats = Repeats::default();
        let note = move |note: &Note| {
            news(match note {
                Note::Began => {
                    // What was lost after that is said, whatever it was before.
                    repeats = Repeats::default();
                    RelayNews::Began
                }
                Note::Lost(error) => match repeats.pass(error.to_string(), Instant::now()) {
                    Some(why) => RelayNews::Lost(why),
                    None => return,
                },
                Note::Waits => RelayNews::Waits,
                Note::GivenUp(what) => RelayNews::GivenUp(what.clone()),
            });
        };
        run(instance.member(), &duty, self.0, note, end).await
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(LARGEST + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

fn describe(text: &mut String, rule: &Shown) {
    let _ = writeln!(text, "{}", rule.rule);
    let _ = writeln!(text, "  publication      {}", rule.publication);
    for (table, identity) in &rule.tables {
        let _ = writeln!(text, "  table            {table}: {identity}");
    }
    for (column, kind) in &rule.columns {
        let _ = writeln!(text, "  column           {column} {kind}");
    }
    match &rule.key {
        Some(key) => {
            let parts = key.parts.join(", ");
            let _ = writeln!(
                text,
                "  example key      ({parts}), format {}, hash {:016x}",
                rule.format, key.hash
            );
        }
        None if rule.tags.is_empty() => {
            let _ = writeln!(text, "  every change     drops the whole cache");
        }
        None => {}
    }
    for tag in &rule.tags {
        let _ = writeln!(
            text,
            "  example tag      {}, hash {:016x}",
            tag.tag, tag.hash
        );
    }
}
