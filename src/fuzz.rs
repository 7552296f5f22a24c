//! Fuzz entry points for every parser of untrusted input. Each takes any bytes and panics if an invariant is violated.
//!
//! Only the targets in `tests/fuzz` and ordinary tests call these functions. The tests run them for a limited time. The
//! library is not published, and its documentation hides this module.

mod lines;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::Config;
use crate::exposition::negotiate::accepts_gzip;
use crate::exposition::{Family, Format};
use crate::graph::address::{NextLink, RootUrl};
use crate::graph::decode::{Stop, decode};
use crate::graph::retry::retry_after;
use crate::memory::MemoryPool;
use crate::money::Amount;
use crate::period::{BillingPeriod, CycleDay};
use crate::report::allocation::Allocation;
use crate::report::budget::Budget;
use crate::report::call_log::CallLog;
use crate::report::labels::{RenderContext, RetainedSeries, UserLabel};
use crate::report::log::{self, AggregationContext, AnyLog, LogAggregator, SeenRows};
use crate::report::row::Notes;
use crate::report::{AggregatedReport, Log, Rendered, Report, ReportKind, Visitor};
use crate::report_metrics;
use crate::server::web_config::WebConfig;
use crate::storage::{self, Identity, SavedState};

/// Parses the bytes as a page of every report in turn. An accepted page must be JSON, and its output must be valid
/// lines of the text format, whatever characters the names have. Each row must be counted or be an error.
pub fn page(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for report in ReportKind::ALL {
        report.visit(Page(text));
    }
}

/// Text that may be a page of any report.
struct Page<'t>(&'t str);

/// Resolves each line as a link to the next page. An accepted link must have the origin of the root URL.
pub fn next_link(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for root in ["https://graph.microsoft.com", "http://127.0.0.1:8080/graph"] {
        let root: RootUrl = root.parse().expect("a root");
        let origin = root.report("beta", "x").url().origin();
        for link in text.lines() {
            if let Ok(link) = NextLink::resolve(&root, link) {
                let url = link.url();
                assert_eq!(url.origin(), origin, "{url}");
                assert_eq!(url.username(), "", "{url}");
                assert_eq!(url.password(), None, "{url}");
                // Parsing the URL again, as the request does, must give the same URL.
                assert_eq!(url::Url::parse(url.as_str()).as_ref(), Ok(url));
            }
        }
    }
}

/// Parses a configuration file. The message of each error must be one line.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(errors) = Config::understand(text, Path::new(NOWHERE)) {
        assert!(errors.len() > 0);
        assert_eq!(errors.to_string().lines().count(), errors.len(), "{errors}");
    }
}

/// Parses a web configuration file.
pub fn web_configuration(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        // The only invariant is that the parser does not panic.
        drop(WebConfig::check_text(text, Path::new(NOWHERE)));
    }
}

/// Parses each line as the headers `Accept`, `Accept-Encoding` and `Retry-After`. `Accept` must always give a format,
/// and `Retry-After` must not give a time if it has no digits.
pub fn headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (format, content_type) = Format::negotiate(text.lines());
    let is_open_metrics = content_type.starts_with("application/openmetrics-text");
    assert_eq!(format == Format::OpenMetrics, is_open_metrics);
    accepts_gzip(text.lines());
    for value in text.lines() {
        let wait = retry_after(value, chrono::DateTime::UNIX_EPOCH);
        let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
        assert!(wait.is_none() || has_digit, "{value:?}");
    }
}

/// Adds the first line and the right checksum to the bytes, and reads them as a state file. An accepted file must have
/// the same content when it is written and read again, and its figures must be valid exposition text. Returns true if
/// the file was accepted.
pub fn state(bytes: &[u8]) -> bool {
    let file = with_checksum([b"teams-pstn-exporter state 2\n", bytes].concat());
    let identity = Identity {
        naming: "naming".to_owned(),
        shows_names: true,
        numbers: "numbers".to_owned(),
        columns: Vec::new(),
    };
    let read = |file: Vec<u8>| storage::decode(&file.into(), &identity, family);
    // Without the added line and checksum, the bytes must be rejected.
    assert!(read(bytes.to_vec()).is_err());
    let Ok(saved) = read(file) else {
        return false;
    };
    let write = |saved: &SavedState| {
        let mut out = Vec::new();
        storage::encode(saved, &identity, &mut out).expect("writing to memory does not fail");
        out
    };
    let written = write(&saved);
    let again = read(written.clone()).expect("what was written is read");
    assert_eq!(write(&again), written);
    for samples in &saved.current {
        samples.write(Format::OpenMetrics, &mut Vec::new());
    }
    let context = render_context();
    let totals = saved
        .ledgers
        .clone()
        .of(context.period, context.allocation)
        .totals();
    let totals = Arc::unwrap_or_clone(totals);
    each_line(&totals.render(&CallLog::INFO, &context));
    true
}

/// Appends the SHA-256 of the file.
fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let sum = ring::digest::digest(&ring::digest::SHA256, &file);
    file.extend_from_slice(sum.as_ref());
    file
}

fn family(name: &str) -> Option<&'static Family> {
    [ReportKind::Dialout, ReportKind::CallLog]
        .into_iter()
        .find_map(|report| report_metrics::family(report, name))
}

impl Visitor for Page<'_> {
    type Output = ();

    fn aggregated<R: AggregatedReport>(self) {
        let mut totals = R::Totals::default();
        if is_whole(self.0, |row: R::Row<'_>| {
            R::add(&mut totals, row, &mut Notes::default()).is_ok()
        }) {
            each_line(&R::render(totals, &render_context()));
        }
    }

    fn log<L: Log>(self) {
        let period = period();
        let memory = MemoryPool::for_process(None).for_report();
        let aggregation = AggregationContext {
            user_label: &UserLabel::Upn,
            allocation: &ALLOCATION,
            period,
            seen: &SeenRows::new(&memory),
            memory: &memory,
        };
        let window = period
            .windows(period.end(), log::DAY)
            .next()
            .expect("a first day");
        let mut aggregator = LogAggregator::new(AnyLog::of::<L>(), window, aggregation);
        if is_whole(self.0, |row: L::Row<'_>| {
            L::record(&row, &mut Notes::default())
                .is_ok_and(|record| aggregator.add(&record).is_ok())
        }) {
            each_line(&aggregator.totals.render(&L::INFO, &render_context()));
        }
    }
}

/// Returns whether the whole page can be read and counted.
fn is_whole<'t, Row: Deserialize<'t>>(text: &'t str, mut add: impl FnMut(Row) -> bool) -> bool {
    let mut rows = 0;
    let mut numbers = 0..;
    let decoded = decode(text.as_bytes(), 0, ROWS_MAX, &mut rows, |number, row| {
        assert_eq!(Some(number - 1), numbers.next(), "rows are counted on");
        if add(row) { Ok(()) } else { Err(()) }
    });
    match decoded {
        Ok(_) => {
            // Replaces control characters. The decoder accepts them in displayed text, but JSON does not permit them.
            let text = text.replace(char::is_control, " ");
            assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok(), "JSON");
            assert!(rows <= ROWS_MAX);
            true
        }
        Err(Stop::RowLimit) => {
            assert_eq!(rows, ROWS_MAX);
            false
        }
        Err(Stop::Json { .. } | Stop::Error(_) | Stop::Callback(())) => false,
    }
}

/// Checks that every line of the output is valid, and that there are as many lines as the output states.
fn each_line(rendered: &Rendered) {
    for samples in rendered.samples.iter().chain(&rendered.closing) {
        let mut text = Vec::new();
        samples.block.write(&mut text);
        let count = lines::samples(samples.family.name, &text);
        assert_eq!(
            count,
            Some(samples.count),
            "{}",
            String::from_utf8_lossy(&text)
        );
    }
}

fn render_context() -> RenderContext<'static> {
    static RETAINED: LazyLock<RetainedSeries> = LazyLock::new(RetainedSeries::default);
    RenderContext {
        tenant: Some("a \"tenant\"\n"),
        period: period(),
        user_label: &UserLabel::Upn,
        series_max: 3,
        allocation: &ALLOCATION,
        retained: &RETAINED,
    }
}

/// A budget that covers all rows in one currency. Its name has special characters, like the name of the tenant.
static ALLOCATION: LazyLock<Allocation> = LazyLock::new(|| Allocation {
    budgets: vec![Budget {
        thresholds: Vec::new(),
        ..Budget::new(
            "a \"budget\"\n",
            Amount::from_json("12.83").expect("an amount"),
        )
    }],
    pools: Vec::new(),
    departments: None,
});

/// Returns the billing period of the example rows in Microsoft's documentation.
fn period() -> BillingPeriod {
    let time = "2026-11-21T12:00:00Z".parse().expect("a time");
    BillingPeriod::containing(time, CycleDay::default())
}

/// Row limit, small enough for a fuzzer to reach it.
const ROWS_MAX: u64 = 5;

/// Base folder of relative paths in a fuzzed configuration file. The folder does not exist.
const NOWHERE: &str = "/nonexistent";

#[cfg(test)]
mod tests {
    use super::*;

    /// With another fingerprint, the spend in the seeds would be dropped, and no fuzzer would reach the code for it.
    #[test]
    fn the_seeds_have_the_fingerprint_of_the_allocation() {
        let of = format!("\"allocation\":\"{}\"", ALLOCATION.fingerprint());
        for seed in [
            include_str!("../tests/fuzz/seeds/state/calls"),
            include_str!("../tests/fuzz/seeds/state/dialout"),
        ] {
            let all = seed.matches("\"allocation\":\"").count();
            assert!(all > 0);
            assert_eq!(seed.matches(&of).count(), all, "{of}");
        }
    }
}
