//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

mod config;
mod exposition;
mod peers;
mod tools;
mod web;
