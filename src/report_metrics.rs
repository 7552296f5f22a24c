//! Metrics about each report of each tenant: success, time, size and failures of polls.
//!
//! They are rendered with the report that they describe, and published in the same step.

use chrono::{DateTime, Utc};

use crate::exposition::{Family, FamilyWriter, Samples, label_block};
use crate::graph::FailureReason;
use crate::money::{Sum, write_float};
use crate::period::BillingPeriod;
use crate::report::{ReportKind, allocation};
use crate::telemetry::unix_seconds;

/// Counters and times of the polls of one report. They begin when the process starts or when a reload adds the tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportMetrics {
    /// Start time of the counters.
    pub(crate) started: DateTime<Utc>,
    pub(crate) up: bool,
    pub(crate) polls: u64,
    pub(crate) failures: [u64; FailureReason::ALL.len()],
    pub(crate) last_attempt: Option<DateTime<Utc>>,
    pub(crate) last_success: Option<DateTime<Utc>>,
    /// Duration of the newest poll, in seconds.
    pub(crate) duration_seconds: f64,
    /// Number of rows of the newest complete report. The fields below are about that report too.
    pub(crate) rows: u64,
    pub(crate) pages: u64,
    pub(crate) aggregated: u64,
    /// Number of final days. `None` if the report is not a log.
    pub(crate) final_windows: Option<u64>,
    /// Number of rows that are not counted, because their time is outside the billing period and far from the requested
    /// window. `None` if the report is not a log.
    pub(crate) unplaced: Option<u64>,
    /// Time of the newest call, message or event.
    pub(crate) newest_row: Option<DateTime<Utc>>,
}

static UP: Family = Family::gauge(
    "teams_pstn_report_up",
    "1 if the last poll of the report succeeded, otherwise 0.",
);

static LAST_SUCCESS: Family = Family::gauge(
    "teams_pstn_report_last_success_timestamp_seconds",
    "When the newest complete report was requested, as Unix time; 0 before the first.",
);

static LAST_ATTEMPT: Family = Family::gauge(
    "teams_pstn_report_last_attempt_timestamp_seconds",
    "When the last poll of the report began, as Unix time; 0 before the first.",
);

static DURATION: Family = Family::gauge(
    "teams_pstn_report_duration_seconds",
    "Duration of the last poll of the report, retries included.",
);

static ROWS: Family = Family::gauge(
    "teams_pstn_report_rows",
    "Rows in the newest complete report.",
);

static PAGES: Family = Family::gauge(
    "teams_pstn_report_pages",
    "Pages requested for the newest complete report.",
);

static AGGREGATED: Family = Family::gauge(
    "teams_pstn_report_aggregated_series",
    "Label combinations of the newest complete report that were aggregated into user=\"__other__\" to stay within labels.max_series.",
);

static FINAL_WINDOWS: Family = Family::gauge(
    "teams_pstn_report_final_windows",
    "Days of the billing period that can no longer change. They are kept as totals and not fetched again. Logs only.",
);

static NEWEST_ROW: Family = Family::gauge(
    "teams_pstn_report_newest_row_timestamp_seconds",
    "Time of the newest call, message or event of the newest complete report, as Unix time. It shows how far the data of the \
     source reach. Absent if the report has no times.",
);

static UNPLACED_ROWS: Family = Family::gauge(
    "teams_pstn_report_unplaced_rows",
    "Rows of the newest complete report that are not counted, because their time is outside the billing period and far from \
     the requested window; logs only.",
);

static POLLS: Family = Family::counter(
    "teams_pstn_report_polls_total",
    "Polls of the report, failed ones included.",
);

static FAILURES: Family = Family::counter(
    "teams_pstn_report_failures_total",
    "Failed polls of the report by reason.",
);

static PERIOD_START: Family = Family::gauge(
    "teams_pstn_billing_period_start_timestamp_seconds",
    "Start of the billing period that the report's figures belong to, as Unix time, inclusive.",
);

static PERIOD_END: Family = Family::gauge(
    "teams_pstn_billing_period_end_timestamp_seconds",
    "End of the billing period that the report's figures belong to, as Unix time, exclusive.",
);

static TOKEN_EXPIRY: Family = Family::gauge(
    "teams_pstn_token_expiry_timestamp_seconds",
    "When the current access token expires, as Unix time; absent while there is none.",
);

static CREDENTIAL_EXPIRY: Family = Family::gauge(
    "teams_pstn_credential_expiry_timestamp_seconds",
    "When the credential expires, as Unix time: the end of the certificate, or the expiry of the secret that the \
     configuration states.",
);

/// The families with the billing period of a report.
const PERIOD_FAMILIES: [&Family; 2] = [&PERIOD_START, &PERIOD_END];

/// Finds the family with this name. Returns `None` if the state file of the report cannot have samples of it.
pub(crate) fn family(report: ReportKind, name: &str) -> Option<&'static Family> {
    report
        .info()
        .families()
        .chain(allocation::FAMILIES)
        .chain(PERIOD_FAMILIES)
        .find(|family| family.name == name)
}

impl ReportMetrics {
    pub(crate) fn samples(&self, tenant: Option<&str>, report: ReportKind) -> Vec<Samples> {
        let labels = labels(tenant, Some(report));
        let mut samples = Vec::new();
        let mut gauge = |family: &'static Family, write: &dyn Fn(&mut Vec<u8>)| {
            samples.extend(single(family, &labels, write));
        };
        gauge(&UP, &|out| out.push(if self.up { b'1' } else { b'0' }));
        gauge(&LAST_SUCCESS, &|out| {
            write_time(self.last_success.unwrap_or_default(), out);
        });
        gauge(&LAST_ATTEMPT, &|out| {
            write_time(self.last_attempt.unwrap_or_default(), out);
        });
        gauge(&DURATION, &|out| write_float(self.duration_seconds, out));
        gauge(&ROWS, &|out| write_count(self.rows, out));
        gauge(&PAGES, &|out| write_count(self.pages, out));
        gauge(&AGGREGATED, &|out| write_count(self.aggregated, out));
        if let Some(days) = self.final_windows {
            gauge(&FINAL_WINDOWS, &|out| write_count(days, out));
        }
        if let Some(rows) = self.unplaced {
            gauge(&UNPLACED_ROWS, &|out| write_count(rows, out));
        }
        let started = unix_seconds(self.started);
        if let Some(time) = self.newest_row {
            gauge(&NEWEST_ROW, &|out| write_time(time, out));
        }
        let mut polls = FamilyWriter::counters(&[&POLLS], started);
        polls.sample(&labels, |_, out| write_count(self.polls, out));
        samples.extend(polls.finish());
        samples.extend(self.failures(tenant, report, started));
        samples
    }

    fn failures(
        &self,
        tenant: Option<&str>,
        report: ReportKind,
        started: f64,
    ) -> impl Iterator<Item = Samples> {
        let mut writer = FamilyWriter::counters(&[&FAILURES], started);
        for (reason, count) in FailureReason::ALL.iter().zip(self.failures) {
            let labels = label_block([
                ("reason", Some(reason.as_str())),
                ("report", Some(report.as_str())),
                ("tenant", tenant),
            ]);
            writer.sample(&labels, |_, out| write_count(count, out));
        }
        writer.finish()
    }
}

/// Samples of the billing period of a report.
pub(crate) fn period_samples(
    tenant: Option<&str>,
    report: ReportKind,
    period: BillingPeriod,
) -> Vec<Samples> {
    let labels = labels(tenant, Some(report));
    let start = single(&PERIOD_START, &labels, &|out| {
        write_time(period.start(), out);
    });
    start
        .into_iter()
        .chain(single(&PERIOD_END, &labels, &|out| {
            write_time(period.end(), out);
        }))
        .collect()
}

/// Samples with the expiry of a tenant's access token and credential, if the expiry is known.
pub(crate) fn expiry_samples(
    tenant: Option<&str>,
    token: Option<DateTime<Utc>>,
    credential: Option<DateTime<Utc>>,
) -> Vec<Samples> {
    let labels = labels(tenant, None);
    [(&TOKEN_EXPIRY, token), (&CREDENTIAL_EXPIRY, credential)]
        .into_iter()
        .filter_map(|(family, time)| {
            time.map(|time| single(family, &labels, &|out| write_time(time, out)))
        })
        .flatten()
        .collect()
}

fn single(family: &'static Family, labels: &[u8], write: &dyn Fn(&mut Vec<u8>)) -> Vec<Samples> {
    let mut writer = FamilyWriter::new(&[family]);
    writer.sample(labels, |_, out| write(out));
    writer.finish().collect()
}

fn labels(tenant: Option<&str>, report: Option<ReportKind>) -> Vec<u8> {
    label_block([
        ("report", report.map(ReportKind::as_str)),
        ("tenant", tenant),
    ])
}

/// Writes a Unix time with milliseconds, without trailing zeros.
fn write_time(time: DateTime<Utc>, out: &mut Vec<u8>) {
    let millis = rust_decimal::Decimal::from_i128_with_scale(time.timestamp_millis().into(), 3);
    Sum::from(crate::money::Amount::from(millis)).write_sample(out);
}

fn write_count(count: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(count.to_string().as_bytes());
}
