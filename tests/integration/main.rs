//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

mod check;
mod config;
mod exporter;
mod exposition;
mod tools;
