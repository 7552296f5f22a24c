//! Prometheus exporter for the telephony cost of Microsoft Teams.

pub mod config;
pub mod demo;
pub mod exposition;
pub mod graph;
pub mod money;
pub mod period;
pub mod poller;
pub mod report;
pub mod server;
pub mod simulator;
pub mod snapshot;
pub mod telemetry;
