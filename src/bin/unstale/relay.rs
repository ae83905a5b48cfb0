//! `unstale relay`: what PostgreSQL's log says was changed, whatever changed it.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use unstale::operate::{RelayNews, SourceRelay};
use unstale::{Error, ErrorKind, Instance, Settings};

use crate::Failure;
use crate::common;
use crate::output::{self, Output};

const HELP: &str = "\
The relay reads the database's own log and invalidates the rows that were
changed there, whatever changed them: a service, a batch job, or SQL by hand. A
cache that names the source in code (`.source(\"orders\")`) then serves no value
for longer than max_staleness after the commit that replaced it.

A file of rules maps the columns of a table to the keys of a cache:

  source = \"orders\"
  [[rule]]
  table = \"accounts\"
  cache = \"accounts\"
  key = [\"id\"]

The database needs wal_level = logical, a publication, and a role that may
replicate: --print-sql prints the SQL for them. Each start makes a temporary
replication slot, so that a relay leaves nothing behind. UNSTALE_RELAY_SLOT
names a permanent one. Two relays may run: one of them waits.

Examples:
  export UNSTALE_RELAY_DATABASE_URL=postgres://unstale_relay:password@db/shop
  unstale relay --rules rules.toml --print-sql | psql shop
  unstale relay --rules rules.toml --check
  unstale relay --rules rules.toml

Exit status: 0 ended by a signal, or the check found nothing wrong; 1 the
database or Redis does not answer, or Redis refuses; 2 wrong usage, settings or
rules, a login that the database refuses, or a database that lacks what the
rules need.";

/// Options of `unstale relay`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// File of the rules [default: UNSTALE_RELAY_RULES]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Show what each rule means and what the database lacks;
    /// change nothing
    #[arg(long, conflicts_with = "print_sql", verbatim_doc_comment)]
    check: bool,

    /// Print the SQL that prepares the database
    #[arg(long)]
    print_sql: bool,

    /// Login role for --print-sql
    #[arg(
        long,
        value_name = "NAME",
        default_value = "unstale_relay",
        requires = "print_sql"
    )]
    role: String,
}

/// Relays until it is ended.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.check || args.print_sql {
        let settings = Settings::from_env()?;
        let relay = SourceRelay::new(&settings, args.rules.as_deref())?;
        return common::block_on(look(relay, args));
    }
    let settings = common::settings()?;
    let relay = SourceRelay::new(&settings, args.rules.as_deref())?;
    common::block_on(relay_on(settings, relay))
}

async fn look(relay: SourceRelay, args: &Args) -> Result<ExitCode, Failure> {
    let text = match args.print_sql {
        true => relay.sql(&args.role).await,
        false => match relay.check().await {
            Ok(text) => text,
            Err(error) => return Ok(status(&error)),
        },
    };
    let mut output = Output::new();
    for line in text.lines() {
        output.line(line)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn relay_on(settings: Settings, relay: SourceRelay) -> Result<ExitCode, Failure> {
    // Wrong rules are reported before anything is published.
    if let Err(error) = relay.check().await
        && error.kind() == ErrorKind::Settings
    {
        return Ok(status(&error));
    }
    let instance = Instance::start(settings).await?;
    let mut output = Output::new();
    let (source, place) = (relay.source().to_owned(), relay.place());
    let mut written = Ok(());
    let news = |news: RelayNews| {
        let line = match news {
            RelayNews::Began => format!("relaying {source} from {place}"),
            RelayNews::Lost(why) => format!("the log of {source} is opened again: {why}"),
            RelayNews::Waits => format!("another relay of {source} works: waiting"),
            RelayNews::GivenUp(what) => {
                format!("a part of the log of {source} is lost, and its caches are dropped: {what}")
            }
        };
        if written.is_ok() {
            written = output.line(line);
        }
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let end = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    let why = relay.run(&instance, news, end).await;
    let _ = instance.shutdown().await;
    match why {
        Some(error) => Ok(status(&error)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Tells an error; which status the program ends with.
fn status(error: &Error) -> ExitCode {
    output::complain(error);
    match error.kind() {
        ErrorKind::Settings => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
