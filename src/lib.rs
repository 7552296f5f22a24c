//! Prometheus exporter for the telephony cost of Microsoft Teams.
//!
//! # Data flow
//!
//! ```text
//! tick → BillingPeriod → Window → Graph::pages → Row → Totals → Rendered → Publisher → Snapshot → watch → GET /metrics
//! ```
//!
//! A log (one row per call) adds a step: each day is aggregated separately, final days are kept in a ledger, and the output
//! is the sum of the ledger and the open days.
//!
//! Data flows in this direction only. The [`server`] cannot start a poll, a [`report`] does not know HTTP, [`graph`] does not
//! know money. The [`poller`] connects the parts: begin there to understand the program.
//!
//! # Guarantees
//!
//! - **A report is all or nothing.** The running totals of a poll are local to it, and an error drops them. So a published
//!   report is complete, and stays until the next complete one replaces it.
//! - **Figures and their billing period change in one step**, because they are in one [`snapshot`], together with the metrics
//!   of the poll that fetched them.
//! - **Money is exact until its sample is written.** [`money`] reads the JSON literal and adds without rounding in any order.
//!   Neither it nor a report with money has float arithmetic. A sum never has two currencies, because the currency is part
//!   of the key.
//! - **A state file is complete or is not used.** It is replaced in one step, and used only if its version, checksum and
//!   configuration match, see `storage`.
//! - **The bearer token goes to one origin.** A link to the next page that leaves the configured root is an error, and
//!   redirects are not followed.
//! - **A scrape does no I/O of its own and never waits for a poll.** Everything is rendered and compressed when it changes. A
//!   scrape clones references and writes the response.
//! - **Everything has a limit**: a constant with one sentence that gives the reason.
//! - **Time is passed in** as a [`period::Clock`]. Other code reads tokio's monotonic clock only.
//!
//! # Module dependencies
//!
//! `money`, `period`, `gzip` and `machine` use no other module. `secret_file` uses `machine` only, `graph` uses `secret_file`
//! only. `report` uses `graph`, `money`, `period` and `exposition`. `poller` uses these and `config`, `report_metrics`,
//! `secret_file`, `snapshot`, `storage` and `telemetry`. `server` uses `snapshot`, but not the modules that make the snapshot.
//! `daemon` and `main` connect everything.
//!
//! Only `graph` uses reqwest, only `server` hyper, only `config` clap. The `prometheus` crate is used by `telemetry` and by the
//! modules that write its families. The test `tests/integration/structure.rs` has the whole table and checks the code against
//! it.

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
