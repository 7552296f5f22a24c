//! Prometheus exporter for the telephony cost of Microsoft Teams.

pub mod check;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod exposition;
pub mod graph;
mod gzip;
mod health;
pub mod logging;
pub mod signals;

pub mod money;
pub mod period;
pub mod poller;
pub mod pseudonym;
pub mod report;
pub mod server;
pub mod simulator;
pub mod snapshot;
pub mod telemetry;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Revision that the program was built from; `unknown` outside a repository.
pub const REVISION: &str = env!("TEAMS_PSTN_REVISION");

/// Compiler that the program was built with.
pub const RUSTC: &str = env!("TEAMS_PSTN_RUSTC");
