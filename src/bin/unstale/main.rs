//! The program `unstale`: one subcommand, one module.

mod colour;
mod common;
mod demo;
mod doctor;
mod invalidate;
mod output;
#[cfg(feature = "relay")]
mod relay;
mod scrape;
mod settings;
mod status;
mod tail;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const HELP: &str = "\
Configured by the variables of the service itself: take its environment over, and this program \
talks to the same Redis, namespace and lanes. `unstale settings` lists them.

Examples:
  unstale demo                         nothing to install: a fleet, a cut, and what comes of it
  export UNSTALE_REDIS_URL=redis://user:password@cache.internal:6379 UNSTALE_NAMESPACE=shop
  unstale doctor                       before a deployment: is this Redis fit, may this user work?
  unstale status                       who is there, and how much is going on?
  unstale tail --cache accounts        watch invalidations as they happen
  unstale invalidate accounts 42       row 42 was changed by hand: every instance drops it
  unstale why accounts 42              which events dropped row 42, and who published them?

Exit status: 0 done and well, 1 failed (or unhealthy), 2 wrong usage or settings.";

/// Coherent in-memory caches for fleets over Redis pub/sub.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a fleet that stays coherent while its connections are cut, beside a cache that has
    /// only a TTL.
    Demo(demo::Args),
    /// Lists every setting with its default and present value, and refuses what a start would.
    Settings(settings::Args),
    /// Tells every instance to drop keys, tags or a whole cache.
    Invalidate(invalidate::Args),
    /// Shows events as they happen.
    Tail(tail::Args),
    /// Shows the instances, the lanes and how much is going on.
    Status(status::Args),
    /// Says which events drop a key, which instance published each, and where its lane stands.
    Why(why::Args),
    /// Invalidates what PostgreSQL's log says was changed, whatever changed it.
    #[cfg(feature = "relay")]
    Relay(relay::Args),
    /// Examines Redis, the user's rights and the settings, and says what to do.
    Doctor(doctor::Args),
}

/// Why a command could not be carried out; printed, with exit status 2.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Settings(args) => settings::run(&args),
        Command::Invalidate(args) => invalidate::run(args),
        Command::Tail(args) => tail::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Why(args) => why::run(&args),
        #[cfg(feature = "relay")]
        Command::Relay(args) => relay::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    result.unwrap_or_else(|failure| {
        output::complain(&*failure);
        // What was asked for is right, and cannot be written.
        if failure.is::<std::io::Error>() {
            return ExitCode::FAILURE;
        }
        ExitCode::from(2)
    })
}
