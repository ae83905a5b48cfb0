//! The program `unstale`: one subcommand, one module.

mod demo;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Coherent in-memory caches for fleets over Redis pub/sub.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a fleet that stays coherent while its connections are cut, beside a cache that has
    /// only a TTL.
    Demo(demo::Args),
}

/// Why a command could not be carried out; printed, with exit status 2.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
    };
    result.unwrap_or_else(|failure| {
        output::complain(&*failure);
        ExitCode::from(2)
    })
}
