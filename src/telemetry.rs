//! Metrics about the exporter itself. Their registry is not static, so that tests can run in parallel.
//!
//! Metrics about one report of one tenant are in `report_metrics`. The exporter publishes them together with the
//! figures of the report, and renders them only when they change.

use chrono::{DateTime, Utc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::graph::retry::RetryReason;
use crate::graph::stats::{REQUEST_CODES, RequestStats};

/// The registry and its metrics.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    /// The Unix time at which the counters in the registry started.
    pub(crate) started: f64,
    requests: IntCounterVec,
    retries: IntCounterVec,
    storage: IntCounterVec,
    exposition_size: IntGauge,
    exposition_series: IntGauge,
    reload_successful: IntGauge,
    reload_time: Gauge,
}

closed_set! {
    /// Outcome of writing or reading a state file.
    StorageOutcome {
        /// Written completely.
        Written = "written",
        /// Not written; the previous file stays.
        WriteFailed = "write_failed",
        /// Read at the start and served.
        Restored = "restored",
        /// Found at the start, but unreadable or invalid.
        Rejected = "rejected",
    }
}

impl Telemetry {
    /// Returns a registry in which every possible label value has a series. `now` is the start time of its counters.
    pub fn new(now: DateTime<Utc>) -> Self {
        let registry = Registry::new();
        let register = |collector| registry.register(collector).expect(VALID);
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect(VALID);
            for value in values {
                counters.with_label_values(&[value]);
            }
            register(Box::new(counters.clone()));
            counters
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect(VALID);
            register(Box::new(gauge.clone()));
            gauge
        };
        let reload_time = Gauge::new(
            "teams_pstn_config_last_reload_success_timestamp_seconds",
            "When the current configuration was read, as Unix time.",
        )
        .expect(VALID);
        register(Box::new(reload_time.clone()));
        let build = IntGaugeVec::new(
            Opts::new(
                "teams_pstn_exporter_build_info",
                "Always 1; the labels have the version, the revision and the compiler.",
            ),
            &["version", "revision", "rustc"],
        )
        .expect(VALID);
        build
            .with_label_values(&[crate::VERSION, crate::REVISION, crate::RUSTC])
            .set(1);
        register(Box::new(build));
        register(Box::new(ProcessCollector::for_self()));
        Self {
            started: unix_seconds(now),
            requests: counters(
                "teams_pstn_graph_requests_total",
                "Requests to Microsoft Graph by status code of the response; none if there was no response.",
                "code",
                &REQUEST_CODES,
            ),
            retries: counters(
                "teams_pstn_graph_retries_total",
                "Retried requests to Microsoft Graph, by the reason of the preceding failure.",
                "reason",
                &RetryReason::ALL.map(RetryReason::as_str),
            ),
            storage: counters(
                "teams_pstn_storage_files_total",
                "State file operations by outcome; all 0 if storage.path is not set.",
                "outcome",
                &StorageOutcome::ALL.map(StorageOutcome::as_str),
            ),
            exposition_size: gauge(
                "teams_pstn_exposition_size_bytes",
                "Size of the report metrics, uncompressed. VictoriaMetrics refuses bodies above 16 MiB by default.",
            ),
            exposition_series: gauge(
                "teams_pstn_exposition_series",
                "Number of series of the report metrics.",
            ),
            reload_successful: gauge(
                "teams_pstn_config_last_reload_successful",
                "1 if the last reload of the configuration succeeded, 0 if it failed.",
            ),
            reload_time,
            registry,
        }
    }

    /// Counts one outcome of writing or reading a state file.
    pub(crate) fn count_storage(&self, outcome: StorageOutcome) {
        self.storage.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Adds the request counts of one poll.
    pub(crate) fn add(&self, stats: &RequestStats) {
        for (code, count) in stats.requests() {
            self.requests.with_label_values(&[code]).inc_by(count);
        }
        for reason in RetryReason::ALL {
            self.retries
                .with_label_values(&[reason.as_str()])
                .inc_by(stats.retries(reason));
        }
    }

    pub(crate) fn set_reload(&self, successful: bool, now: DateTime<Utc>) {
        self.reload_successful.set(successful.into());
        if successful {
            self.reload_time.set(unix_seconds(now));
        }
    }

    /// Records the size in bytes and the number of series of the report metrics.
    pub(crate) fn set_exposition(&self, bytes: u64, series: u64) {
        self.exposition_size
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.exposition_series
            .set(i64::try_from(series).unwrap_or(i64::MAX));
    }

    /// Returns all metrics in the registry, sorted by name. Reads `/proc`.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

/// Returns the Unix time in seconds, with milliseconds as decimals.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of Unix time stay below 2⁵³"
)]
pub(crate) fn unix_seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1e3
}

const VALID: &str = "the names of these metrics are valid and distinct";
