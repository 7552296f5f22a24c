//! All that several tests use: daemon, program, HTTP, metrics, files, and what runs beside them.

mod certificates;
mod daemon;
mod files;
mod graph;
mod http;
mod log;
mod metrics;
mod program;
mod tools;

pub(crate) use certificates::tls_acceptor;
pub(crate) use daemon::{Exporter, INTERVAL, NOW, Setup, Time, budget, config, reports};
pub(crate) use files::{Folder, SECRET_FILE, yaml};
pub(crate) use graph::{CLIENT, NAMES, SECRET, TENANT, people, row, simulator, tenant};
pub(crate) use http::{Answer, ask, exchange, request};
pub(crate) use log::Log;
pub(crate) use metrics::{Metrics, Sample};
pub(crate) use program::{
    ANY_PORT, ENVIRONMENT, PATIENCE, PROGRAM, Program, address_in, check, run, scrape,
    scrape_until, signal,
};
pub(crate) use tools::{promtool, skip, tool};
