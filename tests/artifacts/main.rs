//! What comes with the crate is true and works: README.md and the other documents, the programs, the
//! examples, deploy/ and dashboards/.

// What uses the crate cannot be in `testkit`, which its unit tests use, too.
#[path = "../support/mod.rs"]
mod support;

mod cli;
mod cost;
mod dashboards;
mod demo;
mod deploy;
mod documents;
mod examples;
mod layers;
mod map;
mod package;
mod pages;
mod plain;
mod python;
mod relay;
mod rustdoc;
mod servers;
mod spans;
mod stack;
mod ttl;
