//! A service with a coherent cache: accounts in SQLite or PostgreSQL, read through `unstale`.
//!
//! Start it twice with one database and one Redis, write on one, read on the other:
//!
//! ```sh
//! export UNSTALE_REDIS_URL=redis://127.0.0.1:6379
//! cargo run --example accounts -- --listen 127.0.0.1:8080 &
//! cargo run --example accounts -- --listen 127.0.0.1:8081 &
//! curl -X PUT localhost:8080/accounts/7 --json '{"name": "Ada", "balance": 1250}'
//! curl -i localhost:8081/accounts/7      # x-cache: miss
//! curl -i localhost:8081/accounts/7      # x-cache: hit
//! curl localhost:8081/accounts/7/explain # why the next read is a hit
//! ```
//!
//! With `--database postgres://USER:PASSWORD@HOST/NAME` the rows are in PostgreSQL. What other programs change
//! there is fresh as well, with `unstale relay` and the name of its source: `--source accounts`. See
//! docs/relay.md.
//!
//! It has neither logins nor limits for slow clients: put a proxy in front of it that has.
//!
//! - `main.rs` starts and stops everything in the right order;
//! - `routes.rs` is the HTTP side: what each outcome of a read or a write means to a client;
//! - `database.rs` is the source of truth, `database/sqlite.rs` or `database/postgres.rs`;
//! - `load.rs` is no part of the service: with `--load` the program asks instances instead of being
//!   one.

mod database;
mod load;
mod routes;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use unstale::{BoxError, Instance, Settings};

use database::{Account, Database, Place};
use load::Load;
use routes::App;

/// Longest wait for requests that are still running when the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What is logged unless RUST_LOG says otherwise. fred, the client of Redis under `unstale`, logs each
/// lost connection in its own words; `unstale` says it in the words of an operator.
const LOGS: &str = "info,fred=off";

const HELP: &str = "\
Serves accounts over HTTP from SQLite or PostgreSQL, with a cache that stays coherent over Redis.

Usage: accounts [--listen ADDRESS] [--database FILE|URL] [--source NAME]
       accounts --load URL... [--rate NUMBER]

  --listen ADDRESS   where to serve HTTP [default: 127.0.0.1:8080]
  --database FILE    the SQLite database, which several processes may share [default: DATABASE_URL if
                     that is set, where others do not see the password, else accounts.db]
  --database URL     a PostgreSQL database, as in postgres://user:password@127.0.0.1:5432/shop
  --source NAME      what `unstale relay` calls that database: what is served is then bounded from the
                     commit, whatever wrote; without a relay each value is loaded again after
                     UNSTALE_MAX_STALENESS
  --load URL         ask the instance there instead of being one, as in http://127.0.0.1:8080;
                     once for each instance
  --rate NUMBER      requests a second to all of them together [default: 400]
  --help             this text

Everything else is set by variables: UNSTALE_REDIS_URL, UNSTALE_TTL and so on; RUST_LOG for logs.
";

#[tokio::main]
async fn main() -> ExitCode {
    let logs = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGS));
    tracing_subscriber::fmt()
        .with_env_filter(logs)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match Flags::parse(std::env::args().skip(1)) {
        Ok(None) => match std::io::stdout().write_all(HELP.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Some(flags)) => {
            let result = if flags.load.targets.is_empty() {
                run(flags).await
            } else {
                ask(flags.load).await
            };
            match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.exit(),
            }
        }
        Err(error) => Failure::Setup(error.into()).exit(),
    }
}

/// Starts in the order in which each part needs the one before, and stops in the reverse.
async fn run(flags: Flags) -> Result<(), Failure> {
    // First of all, so that no signal is lost while the rest starts.
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::run)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::run)?;

    let settings = Settings::from_env().map_err(Failure::setup)?;
    let place: Place = flags
        .database
        .parse()
        .map_err(|error: String| Failure::Setup(error.into()))?;
    let database = Database::open(place).await.map_err(Failure::run)?;
    let listener = TcpListener::bind(flags.listen)
        .await
        .map_err(Failure::run)?;
    let instance = Instance::start(settings).await.map_err(Failure::setup)?;
    let loader = database.clone();
    let mut accounts = instance.cache::<u64, Arc<Account>>("accounts");
    if let Some(source) = flags.source {
        accounts = accounts.source(source);
    }
    let accounts = accounts
        .loader(move |id| {
            let database = loader.clone();
            async move { Ok(database.account(id).await?) }
        })
        // What counts as stale, for an operator who sets UNSTALE_AUDIT.
        .audit(|served, source| served == source)
        .build()
        .map_err(Failure::setup)?;

    let (stop, stopping) = watch::channel(false);
    let app = App {
        accounts,
        database,
        instance: instance.clone(),
        stopping,
    };
    let mut stopped = app.stopping.clone();
    let address = listener.local_addr().map_err(Failure::run)?;
    tracing::info!(%address, "listening");
    let server = axum::serve(listener, routes::router(app)).with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stopping| *stopping).await;
    });
    let mut server = pin!(server.into_future());

    tokio::select! {
        result = &mut server => return result.map_err(Failure::run),
        _ = terminate.recv() => tracing::info!("asked to terminate"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
    stop.send_replace(true); // `/readyz` says 503 from here on, and no new connection is taken
    tokio::select! {
        drained = tokio::time::timeout(DRAIN, server) => if drained.is_err() {
            tracing::warn!("some requests did not end within {DRAIN:?}");
        },
        _ = terminate.recv() => tracing::warn!("asked again: requests are not waited for"),
        _ = interrupt.recv() => tracing::warn!("asked again: requests are not waited for"),
    }
    // Last: requests that were still running may have had something to publish.
    if let Err(error) = instance.shutdown().await {
        tracing::warn!(%error, "not everything could be published");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Asks instances until a signal stops it.
async fn ask(load: Load) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::run)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::run)?;
    tracing::info!(targets = ?load.targets, rate = load.rate, "asking");
    tokio::select! {
        result = load.run() => result.map_err(Failure::run),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Where to listen and what to serve, or whom to ask; everything else is the environment's.
struct Flags {
    listen: SocketAddr,
    /// A file, or a URL.
    database: String,
    source: Option<String>,
    load: Load,
}

impl Flags {
    /// `None` asks for help.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut flags = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database: std::env::var("DATABASE_URL").unwrap_or_else(|_| "accounts.db".to_string()),
            source: None,
            load: Load {
                targets: Vec::new(),
                rate: 400,
            },
        };
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.to_string())),
                None => (arg, None),
            };
            let mut value = || {
                let value = value.clone().or_else(|| args.next());
                value.ok_or_else(|| format!("{name} needs a value; see --help"))
            };
            match name.as_str() {
                "--listen" => {
                    flags.listen = value()?.parse().map_err(|_| {
                        "--listen needs an address and a port, as in 127.0.0.1:8080".to_string()
                    })?;
                }
                "--database" => flags.database = value()?,
                "--source" => flags.source = Some(value()?),
                "--load" => {
                    let url = value()?.trim_end_matches('/').to_string();
                    if !url.starts_with("http://") {
                        return Err("--load needs a URL, as in http://127.0.0.1:8080".to_string());
                    }
                    flags.load.targets.push(url);
                }
                "--rate" => {
                    flags.load.rate = value()?.parse().map_err(|_| {
                        "--rate needs a number of requests a second, as in 400".to_string()
                    })?;
                }
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{name} is not a flag; see --help")),
            }
        }
        Ok(Some(flags))
    }
}

/// Why the process ends, as its exit status tells it.
enum Failure {
    /// A flag or a setting must be changed: 2.
    Setup(BoxError),
    /// Anything else: 1.
    Run(BoxError),
}

impl Failure {
    fn setup(error: unstale::Error) -> Self {
        Self::Setup(error.into())
    }

    fn run(error: impl Into<BoxError>) -> Self {
        Self::Run(error.into())
    }

    /// Standard error rather than the log, which RUST_LOG may have turned off.
    fn exit(self) -> ExitCode {
        let (error, status) = match self {
            Self::Setup(error) => (error, 2),
            Self::Run(error) => (error, 1),
        };
        eprintln!("accounts: {error}");
        ExitCode::from(status)
    }
}
