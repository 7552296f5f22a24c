//! Prometheus exporter for the telephony cost of Microsoft Teams.
//!
//! # Data flow
//!
//! ```text
//! tick → BillingPeriod → Window → Graph::pages → Row → Totals → Rendered → Publisher → Snapshot → watch → GET /metrics
//! ```
//!
//! A log (one row per call) adds a step: each day is aggregated separately. A ledger keeps the final days, which can no
//! longer change. The output is the sum of the ledger and the open days, which can still change.
//!
//! Data flows in this direction only. The [`server`] cannot start a poll, a [`report`] does not know HTTP, [`graph`] does not
//! know money. The `poller` connects the parts: begin there to understand the program.
//!
//! # Guarantees
//!
//! - **A report is all or nothing.** The running totals of a poll are local to the poll, and an error drops them. So a
//!   published report is complete, and stays until the next complete report replaces it.
//! - **Figures and their billing period change in one step**, because they are in one [`snapshot`], together with the metrics
//!   of the poll that fetched them.
//! - **Money is exact until its sample is written.** [`money`] reads the JSON literal and adds without rounding, so
//!   the order of the additions does not matter. Neither [`money`] nor a report with money uses floating-point
//!   arithmetic. A sum never mixes two currencies, because the currency is part of the key.
//! - **A state file is complete or is not used.** It is replaced in one step, and used only if its version, checksum and
//!   configuration match, see `storage`.
//! - **The bearer token goes to one origin.** A link to the next page that leaves the configured root is an error, and
//!   redirects are not followed.
//! - **A scrape reads no figures from disk and never waits for a poll.** Everything is rendered and compressed when it
//!   changes. A scrape clones references and writes the response. At most, it waits for a check of the web
//!   configuration files, and that wait is limited.
//! - **Everything has a limit.** Each limit is a constant, and the comment of the constant gives the reason.
//! - **A panic leaves shared values complete.** Every change under a lock is one assignment, or inserts a complete
//!   value. So the locks need no poisoning (`parking_lot` has none), and other threads go on.
//! - **Time is passed in** as a [`period::Clock`]. Other code reads tokio's monotonic clock only.
//!
//! # Module dependencies
//!
//! `tests/integration/structure.rs` reads this list and checks that each module uses exactly the modules in its sentence. It
//! also checks that files do not import each other in a circle, except that a file may use the items of the modules that
//! enclose it. `lib.rs` and `main.rs` are not checked.
//!
//! - `allocator`, `chain`, `closed_set`, `cores`, `gzip`, `machine`, `memory`, `money`, `period`, `systemd` and `yaml` use no
//!   other module.
//! - `secret_file` uses `machine`.
//! - `exposition` uses `gzip` and `money`.
//! - `graph` uses `chain`, `memory` and `secret_file`. It knows neither reports nor money.
//! - `report` uses `exposition`, `graph`, `memory`, `money` and `period`. It does not know HTTP.
//! - `telemetry` uses `graph`.
//! - `report_metrics` uses `exposition`, `graph`, `money`, `period`, `report` and `telemetry`.
//! - `snapshot` uses `exposition`, `gzip`, `period`, `report` and `telemetry`.
//! - `storage` uses `exposition`, `gzip`, `period`, `report`, `secret_file` and `snapshot`.
//! - `server` uses `chain`, `exposition`, `period`, `report`, `secret_file`, `snapshot` and `yaml`. It does not know the modules
//!   that make a snapshot, so it cannot start a poll.
//! - `config` uses `chain`, `graph`, `money`, `period`, `report`, `secret_file`, `server` and `yaml`. It
//!   converts settings into the types of these modules.
//! - `tenant` uses `config`, `graph`, `period`, `report`, `report_metrics` and `storage`. It provides the client and
//!   the settings with which a tenant is polled.
//! - `poller` uses `chain`, `config`, `exposition`, `graph`, `memory`, `period`, `report`, `report_metrics`, `secret_file`,
//!   `snapshot`, `storage`, `telemetry` and `tenant`. It connects the parts of a poll.
//! - `logging` uses `config` and `machine`.
//! - `signals` uses `logging` and `machine`.
//! - `healthcheck` uses `graph` and `server`.
//! - `pseudonym` uses `config` and `report`.
//! - `export` uses `chain`, `config`, `graph`, `logging`, `machine`, `memory`, `money`, `period`, `report`, `signals`, `storage`
//!   and `tenant`.
//! - `backfill` uses `config`, `export`, `exposition`, `graph`, `machine`, `memory`, `period`, `report`, `report_metrics` and
//!   `tenant`.
//! - `daemon` uses `chain`, `config`, `export`, `healthcheck`, `logging`, `machine`, `period`, `poller`, `pseudonym`, `server`,
//!   `signals`, `snapshot`, `systemd`, `telemetry` and `tenant`. It connects everything.
//! - `check` uses `chain`, `config`, `daemon`, `graph`, `memory`, `period`, `report`, `server`, `storage` and `tenant`.
//! - `demo` uses `config`, `daemon`, `period` and `report`.
//! - `program` uses `allocator`, `backfill`, `check`, `config`, `cores`, `daemon`, `demo`, `export`, `healthcheck`, `logging`,
//!   `machine`, `period`, `pseudonym`, `server`, `signals` and `systemd`. It runs the command that the flags name.
//! - `bench` uses `exposition`, `graph`, `gzip`, `report` and `snapshot`.
//! - `fuzz` uses `config`, `exposition`, `graph`, `memory`, `money`, `period`, `report`, `report_metrics`, `server` and `storage`.
//!
//! Some crates are used in one place only:
//!
//! - Only `graph` and `healthcheck` import `reqwest`.
//! - Only `server` imports `hyper`.
//! - Only `config` imports `clap`.
//! - Only `exposition`, `snapshot` and `telemetry` import `prometheus`.

#[macro_use]
mod closed_set;

mod chain;
pub mod config;

mod memory;
pub mod money;
pub mod period;
mod secret_file;
mod yaml;

pub mod graph;
pub mod report;
mod report_metrics;

pub mod exposition;
mod gzip;
pub mod snapshot;
mod storage;
pub mod telemetry;

mod poller;
pub mod server;
mod tenant;

pub mod backfill;
mod check;
pub mod daemon;
pub mod export;
mod healthcheck;
mod pseudonym;

pub mod allocator;
mod cores;
mod logging;
pub mod machine;
pub mod program;
pub mod signals;
pub mod systemd;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod fuzz;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Revision that the program was built from; `unknown` outside a repository.
pub const REVISION: &str = env!("TEAMS_PSTN_REVISION");

/// Compiler that the program was built with.
pub const RUSTC: &str = env!("TEAMS_PSTN_RUSTC");
