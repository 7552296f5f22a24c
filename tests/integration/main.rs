//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests: what cannot be set up has failed"
)]

mod check;
mod config;
mod credentials;
mod exporter;
mod exposition;
mod fleet;
mod network;
mod tools;
