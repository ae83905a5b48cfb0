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
mod text;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const HELP: &str = "\
The program takes the same UNSTALE_* variables as your service: run it with the
service's environment. `unstale settings` lists the variables. An instance is
one process of a service; a fleet is all instances with the same namespace.

Examples:
  unstale demo                      see it work; needs nothing installed
  export UNSTALE_REDIS_URL=redis://user:password@cache.internal:6379
  export UNSTALE_NAMESPACE=shop
  unstale doctor                    before a deployment: is this Redis fit?
  unstale status                    which instances are there, and how busy?
  unstale tail --cache accounts     watch invalidations as they happen
  unstale invalidate accounts 42    row 42 was changed by hand: drop it
  unstale why accounts 42           what dropped row 42, and who published that?

Exit status: 0 success, 1 failed or unhealthy, 2 wrong usage or settings.";

/// Coherent in-memory caches for fleets over Redis pub/sub.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a fleet while its connections fail, and check every read
    Demo(demo::Args),
    /// List every setting with its value, or say which ones are wrong
    Settings(settings::Args),
    /// Make every instance drop keys, tags or a whole cache
    Invalidate(invalidate::Args),
    /// Show invalidations as they happen
    Tail(tail::Args),
    /// Show the instances of the fleet and how many events they publish
    Status(status::Args),
    /// Show which events dropped a key, and who published them
    Why(why::Args),
    /// Invalidate what PostgreSQL's log says was changed
    #[cfg(feature = "relay")]
    Relay(relay::Args),
    /// Check Redis, the rights and the settings, and say what to fix
    Doctor(doctor::Args),
}

/// Why a command could not be carried out. It is printed, with exit status 2.
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
        // The command was right, but its output cannot be written.
        if failure.is::<std::io::Error>() {
            return ExitCode::FAILURE;
        }
        ExitCode::from(2)
    })
}
