//! Prometheus exporter for the telephony cost of Microsoft Teams.
//!
//! # The line
//!
//! ```text
//! tick → BillingPeriod → Window → Graph::pages → Row → Totals → Rendered → Publisher → Snapshot → watch → GET /metrics
//! ```
//!
//! A log, which has a row for each call, takes one turn more: its days are folded one by one, those that cannot change any
//! more are kept in a ledger, and what is rendered is the sum of them and the open ones.
//!
//! Nothing flows back. The [`server`] cannot start a poll, a [`report`] cannot see HTTP, [`graph`] cannot see money. The
//! [`poller`] is the only place where the parts meet; whoever has read it and this page can explain the program.
//!
//! # What always holds
//!
//! - **Half a report has no name.** A report's totals are a local value of one poll; dropping it on an error is the
//!   rollback. What is published is complete, and stays until the next complete one replaces it.
//! - **Numbers and the period they belong to change in one step**, because they are in one [`snapshot`], together with
//!   what is said about the poll that brought them.
//! - **Money is exact until its sample is written.** [`money`] reads the JSON literal, adds without rounding in any
//!   order, and no float arithmetic is compiled in it or in a report that has money. Currencies never meet in a sum, as the currency is
//!   part of the key.
//! - **What survives a restart is whole or is not used.** A state file is replaced in one step, and believed only where its
//!   version, checksum and configuration are right; see `storage`.
//! - **The bearer token goes to one origin.** A link to the next page leads to the configured root or nowhere; redirects
//!   are not followed.
//! - **A scrape does no I/O and waits for nobody.** Everything is rendered and compressed when it changes; a scrape
//!   clones references and writes.
//! - **Everything has a limit**, a constant with one sentence why.
//! - **Time is passed in** as a [`period::Clock`]; only tokio's monotonic clock is read elsewhere.
//!
//! # Who may know whom
//!
//! `money`, `period`, `gzip` and `machine` know no sibling, `secret_file` knows `machine` only, and `graph` knows `secret_file` only. `report` knows
//! `graph`, `money`, `period` and `exposition`; `poller` knows these and `config`, `report_metrics`, `secret_file`, `snapshot`, `storage` and
//! `telemetry`; `server` knows what it serves, `snapshot`, and not who made it; `daemon` and `main` put it together. reqwest
//! is used under `graph` only, hyper in `server`, clap in `config`, the `prometheus` crate in `telemetry` and
//! where its families are written.
//! A test holds the code against the whole table, `tests/integration/structure.rs`.

pub mod config;

pub mod money;
pub mod period;
mod secret_file;

pub mod graph;
pub mod report;
mod report_metrics;

pub mod exposition;
mod gzip;
pub mod snapshot;
mod storage;
pub mod telemetry;

pub mod poller;
pub mod server;

pub mod check;
pub mod daemon;
pub mod healthcheck;
pub mod pseudonym;

pub mod allocator;
pub mod cores;
pub mod logging;
pub mod machine;
pub mod signals;
pub mod systemd;

#[doc(hidden)]
pub mod bench;
#[cfg(feature = "demo")]
pub mod demo;
#[doc(hidden)]
pub mod fuzz;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Revision that the program was built from; `unknown` outside a repository.
pub const REVISION: &str = env!("TEAMS_PSTN_REVISION");

/// Compiler that the program was built with.
pub const RUSTC: &str = env!("TEAMS_PSTN_RUSTC");
