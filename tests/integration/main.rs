//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

mod check;
mod config;
mod credentials;
mod exporter;
mod exposition;
mod fleet;
mod network;
mod tools;
