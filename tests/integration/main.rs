//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

mod backfill;
mod check;
mod check_reports;
mod clock;
mod config;
mod contract;
mod credentials;
mod daemon;
mod decisions;
mod demo;
mod departments;
mod docs;
mod export;
mod export_failures;
mod exposition;
mod faults;
mod flags;
mod fleet;
mod fuzz;
mod golden;
mod healthcheck;
mod histories;
mod host_faults;
mod leftover_files;
mod logs;
mod matrix;
mod network;
mod odd_values;
mod open_days;
mod oracle;
mod page;
mod peers;
mod pools;
mod privacy;
mod program;
mod reloads_of_logs;
mod report_settings;
mod retry_requests;
mod security;
mod shards;
mod state_files;
mod storage;
mod structure;
mod suite;
mod supervised;
mod support;
mod throttling;
mod web;
