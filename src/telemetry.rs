//! Metrics about the exporter itself, in a registry of their own: no statics, so that tests run side by side.
//!
//! What is said of one report of one tenant is not here but goes with that report (`health`), so that it changes in the
//! same step as the numbers and costs nothing while it does not change.

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::graph::Tally;

/// The registry and what is in it.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    requests: IntCounterVec,
    retries: IntCounterVec,
    exposition_size: IntGauge,
    exposition_series: IntGauge,
}

impl Telemetry {
    /// A new registry, every label value that can occur present.
    ///
    /// # Panics
    /// Never: the names are valid and distinct.
    #[must_use]
    pub fn new() -> Self {
        let requests = counters(
            "teams_pstn_graph_requests_total",
            "Requests to Microsoft Graph by status code of the answer; none where there was no answer.",
            "code",
            Tally::CODES,
        );
        let retries = counters(
            "teams_pstn_graph_retries_total",
            "Requests to Microsoft Graph that repeated a failed one, by what had failed.",
            "reason",
            Tally::RETRY_REASONS,
        );
        let exposition_size = gauge(
            "teams_pstn_exposition_size_bytes",
            "Size of the report families, uncompressed. VictoriaMetrics refuses bodies above 16 MiB by default.",
        );
        let exposition_series = gauge(
            "teams_pstn_exposition_series",
            "Series of the report families.",
        );
        let build = IntGaugeVec::new(
            Opts::new(
                "teams_pstn_exporter_build_info",
                "Always 1; what is running is in the labels.",
            ),
            &["version", "revision", "rustc"],
        )
        .expect(VALID);
        build
            .with_label_values(&[crate::VERSION, crate::REVISION, crate::RUSTC])
            .set(1);
        let registry = Registry::new();
        let register = |collector| registry.register(collector).expect(VALID);
        register(Box::new(requests.clone()));
        register(Box::new(retries.clone()));
        register(Box::new(exposition_size.clone()));
        register(Box::new(exposition_series.clone()));
        register(Box::new(build));
        register(Box::new(ProcessCollector::for_self()));
        Self {
            registry,
            requests,
            retries,
            exposition_size,
            exposition_series,
        }
    }

    /// Adds what one poll has asked of Graph.
    pub(crate) fn add(&self, tally: &Tally) {
        for (code, requests) in tally.requests() {
            self.requests.with_label_values(&[code]).inc_by(requests);
        }
        for (reason, retries) in tally.retries() {
            self.retries.with_label_values(&[reason]).inc_by(retries);
        }
    }

    /// Size in bytes and number of series of the report families.
    pub(crate) fn set_exposition(&self, bytes: u64, series: u64) {
        self.exposition_size
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.exposition_series
            .set(i64::try_from(series).unwrap_or(i64::MAX));
    }

    /// Everything in the registry, sorted by name. Reads `/proc`.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

fn counters(name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect(VALID);
    for value in values {
        counters.with_label_values(&[value]);
    }
    counters
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect(VALID)
}

const VALID: &str = "the names of these metrics are valid and distinct";
