//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

#![expect(
    clippy::unwrap_used,
    reason = "as in tests, so in what they share: where it panics is all there is to say"
)]

mod config;
mod contract;
mod daemon;
mod exposition;
mod faults;
mod golden;
mod harness;
mod privacy;
mod program;
mod tools;
