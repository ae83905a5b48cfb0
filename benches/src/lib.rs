//! What the crate costs, measured beside what does less or does it otherwise.
//!
//! ```text
//! make bench                                          everything; ends with one table of goals
//! cargo run --release --bin hit [-- --json]           one subject, from this folder
//! ```
//!
//! One program a subject. Contenders are interleaved within one run and repeated, and the medians
//! are quoted with their range: times depend on the machine and on what else it does, ratios within
//! one run hardly do. Threads are judged by the CPU time they used where that is what counts, so
//! that a busy neighbour does not show.
//!
//! Built with Cargo's own release profile, as a service is that sets nothing: no LTO.

mod fleet;
mod process;
mod report;
mod samples;
mod server;
mod workload;

pub use fleet::{metric, record_metrics, settings, until};
pub use process::{Allocations, Counting, cpu_of, cpu_of_thread, own_cpu, this_thread, thread_cpu};
pub use report::{Goal, Report, Table};
pub use samples::{Samples, interleaved};
pub use server::{Server, Stats};
pub use workload::{Workload, keys};
