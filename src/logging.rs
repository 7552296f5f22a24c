//! The log: logfmt or JSON, a line an event, on standard error.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::args::{LogFormat, LogLevel};

/// Starts to log, for the rest of the process.
///
/// Only the exporter's own events: what its libraries have to say at these levels includes headers, and those include
/// tokens.
///
/// # Panics
/// Where something logs already.
pub fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let own = tracing_subscriber::filter::Targets::new().with_target("teams_pstn_exporter", level);
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Logfmt => {
            let layer = tracing_logfmt::builder()
                .layer()
                .with_writer(std::io::stderr);
            registry.with(layer.with_filter(own)).init();
        }
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(std::io::stderr);
            registry.with(layer.with_filter(own)).init();
        }
    }
}
