//! Tests of the whole program over real HTTP, and against the programs that read what it writes.

mod config;
mod exposition;
mod tools;
