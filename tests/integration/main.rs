//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

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
