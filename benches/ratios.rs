//! The gates of the target table that need no second process, as ratios: both sides in turn, round by round, medians.
//!
//! `cargo bench --profile dist --bench ratios`; without `--bench`, as in `cargo test --all-targets`, one small round. Time is CPU time of
//! the thread, so that other work on the machine moves it little.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod support;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use prometheus::Encoder as _;
use prometheus_client::metrics::family::Family as ClientFamily;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rust_decimal::Decimal;
use serde::Deserialize as _;
use serde::de::IgnoredAny;
use teams_pstn_exporter::bench::{add_page, each_row, member, publish, write_series};
use teams_pstn_exporter::exposition::{Family, Format, write_label};
use teams_pstn_exporter::money::{Amount, Sum};
use teams_pstn_exporter::report::AggregatedReport;
use teams_pstn_exporter::report::dialout::{Dialout, Row, RowTable};

use support::{cpu, pages, with_context};

fn main() {
    let (rows, rounds) = if std::env::args().any(|argument| argument == "--bench") {
        (200_000, ROUNDS)
    } else {
        (2_000, 1)
    };
    let pages = pages(rows);
    decode(&pages[..pages.len().min(50)], rounds);
    let text = whole_poll(&pages, rounds);
    compress(&text, rounds);
    render(rows, rounds.min(5));
}

/// A page against the same page with nothing kept of it.
fn decode(pages: &[String], rounds: usize) {
    let rows = pages.len() * support::PAGE;
    let medians = interleaved(
        rounds * 3,
        &mut [
            &mut || {
                for page in pages {
                    let mut json = serde_json::Deserializer::from_str(page);
                    black_box(IgnoredAny::deserialize(&mut json).expect("a page"));
                }
            },
            &mut || {
                for page in pages {
                    black_box(each_row(page.as_bytes(), |row: Row<'_>| {
                        black_box(&row);
                    }));
                }
            },
        ],
    );
    report("decode a page", &medians, rows, "row", 1.6);
}

/// Bytes of 200 pages to a published snapshot.
fn whole_poll(pages: &[String], rounds: usize) -> Vec<u8> {
    let rows = pages
        .iter()
        .map(|page| page.matches("userId").count())
        .sum();
    let mut steps: [Vec<Duration>; 4] = Default::default();
    for _ in 0..=rounds {
        let bytes: Vec<Vec<u8>> = pages.iter().map(|page| page.clone().into_bytes()).collect();
        let mut totals = RowTable::default();
        let (added, ()) = timed(|| {
            for page in bytes {
                add_page::<Dialout>(&page, &mut totals);
            }
        });
        let (rendered, report) = timed(|| with_context(|context| Dialout::render(totals, context)));
        let (published, snapshot) = timed(|| publish(&report.samples));
        drop(black_box(snapshot));
        for (step, time) in
            steps
                .iter_mut()
                .zip([added, rendered, published, added + rendered + published])
        {
            step.push(time);
        }
    }
    let totals = totals(pages);
    let mut text = Vec::new();
    for samples in with_context(|context| Dialout::render(totals, context)).samples {
        samples.write(Format::Text, &mut text);
    }
    for (name, mut step) in [
        "decode and add",
        "render and compress",
        "publish",
        "whole poll",
    ]
    .into_iter()
    .zip(steps)
    {
        println!("{name:32} {:8.0} ns/row", per(median(&mut step), rows));
    }
    text
}

fn totals(pages: &[String]) -> RowTable {
    let mut totals = RowTable::default();
    for page in pages {
        add_page::<Dialout>(page.as_bytes(), &mut totals);
    }
    totals
}

/// Parts compressed on their own and stitched against the library on all of it at once.
fn compress(text: &[u8], rounds: usize) {
    let mut sizes = [0, 0];
    let [whole_size, stitched_size] = &mut sizes;
    let third = text.len().div_ceil(3);
    let medians = interleaved(
        rounds,
        &mut [
            &mut || {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).expect("memory takes all");
                *whole_size = black_box(encoder.finish().expect("memory takes all")).len();
            },
            &mut || {
                *stitched_size = black_box(member(text.chunks(third)))
                    .iter()
                    .map(Bytes::len)
                    .sum();
            },
        ],
    );
    report("compress", &medians, text.len(), "byte", 1.05);
    println!(
        "{:32} {:.3} × the bytes (target ≤ 1.05); {:.1} : 1",
        "",
        ratio(sizes[1], sizes[0]),
        ratio(text.len(), sizes[1])
    );
}

/// Rows that are in memory to text, by our writer without compression, by the crates, and by Python.
fn render(rows: usize, rounds: usize) {
    let rows: Vec<Line> = (0..rows).map(Line::new).collect();
    let series = rows.len() * 3;
    let text = prometheus_crate(&rows);
    println!(
        "{:32} {} bytes of text, {} series",
        "render",
        text.len(),
        series
    );
    let [copy, ours, crates, client] = interleaved(
        rounds,
        &mut [
            &mut || drop(black_box(text.clone())),
            &mut || drop(black_box(ours(&rows))),
            &mut || drop(black_box(prometheus_crate(&rows))),
            &mut || drop(black_box(prometheus_client(&rows))),
        ],
    );
    report(
        "render, × memcpy to fresh memory",
        &[copy, ours],
        series,
        "series",
        1.7,
    );
    faster("render, than prometheus", ours, crates, series, 30.0);
    faster("render, than prometheus-client", ours, client, series, 10.0);
    let python = std::process::Command::new("/usr/bin/python3")
        .args(["-c", PYTHON, &rows.len().to_string()])
        .output();
    match python {
        Ok(output) if output.status.success() => {
            let seconds: f64 = String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse()
                .expect("the script prints seconds");
            faster(
                "render, than Python",
                ours,
                Duration::from_secs_f64(seconds),
                series,
                60.0,
            );
        }
        _ => println!(
            "{:32} python3-prometheus-client is not installed",
            "render, than Python"
        ),
    }
}

/// A row of a report, as a client library has it.
struct Line {
    labels: [String; 4],
    charge: Decimal,
    calls: i64,
    seconds: i64,
}

impl Line {
    fn new(number: usize) -> Self {
        let n = i64::try_from(number).expect("a few hundred thousand");
        Self {
            labels: [
                ["EUR", "USD"][number % 2].to_owned(),
                ["Domestic", "International"][number / 2 % 2].to_owned(),
                ["US", "GB", "DE"][number % 3].to_owned(),
                format!("some.body{number:07}@contoso.com"),
            ],
            charge: Decimal::new(n * 7_919 % 1_000_003, 4),
            calls: 1 + n % 89,
            seconds: 60 + n * 31 % 50_021,
        }
    }
}

static FAMILIES: [Family; 3] = [
    Family::gauge("teams_pstn_dialout_charge", "Charge."),
    Family::gauge("teams_pstn_dialout_calls", "Calls."),
    Family::gauge("teams_pstn_dialout_call_seconds", "Seconds."),
];

const LABELS: [&str; 4] = ["currency", "destination_context", "usage_location", "user"];

/// As a report does it: the labels once, a column for each family, and a chunk that is written again once it is full,
/// as its text is in the compressor by then.
fn ours(rows: &[Line]) -> [Vec<u8>; 3] {
    let mut columns: [Vec<u8>; 3] = std::array::from_fn(|_| Vec::with_capacity(2 * CHUNK));
    let mut labels = Vec::new();
    for row in rows {
        labels.clear();
        for (name, value) in LABELS.iter().zip(&row.labels) {
            write_label(name, value, &mut labels);
        }
        let values = [
            Sum::from(Amount::from(row.charge)),
            Sum::from(row.calls),
            Sum::from(row.seconds),
        ];
        for ((column, family), value) in columns.iter_mut().zip(&FAMILIES).zip(values) {
            if column.len() >= CHUNK {
                black_box(&column);
                column.clear();
            }
            write_series(family.name, &labels, column);
            value.write_sample(column);
            column.push(b'\n');
        }
    }
    columns
}

/// As in the compressor.
const CHUNK: usize = 64 * 1024;

fn prometheus_crate(rows: &[Line]) -> Vec<u8> {
    let registry = prometheus::Registry::new();
    let gauges = FAMILIES.each_ref().map(|family| {
        let gauge =
            prometheus::GaugeVec::new(prometheus::Opts::new(family.name, family.help), &LABELS)
                .expect("the names are good");
        registry
            .register(Box::new(gauge.clone()))
            .expect("the names differ");
        gauge
    });
    for row in rows {
        for (gauge, value) in gauges.iter().zip(row.floats()) {
            gauge.with_label_values(&row.labels).set(value);
        }
    }
    let mut out = Vec::new();
    prometheus::TextEncoder::new()
        .encode(&registry.gather(), &mut out)
        .expect("memory takes all");
    out
}

fn prometheus_client(rows: &[Line]) -> String {
    type Gauges = ClientFamily<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>;
    let mut registry = Registry::default();
    let gauges: [Gauges; 3] = std::array::from_fn(|_| Gauges::default());
    for (gauge, family) in gauges.iter().zip(&FAMILIES) {
        registry.register(family.name, family.help, gauge.clone());
    }
    for row in rows {
        for (gauge, value) in gauges.iter().zip(row.floats()) {
            let labels = LABELS.into_iter().zip(row.labels.iter().cloned()).collect();
            gauge.get_or_create(&labels).set(value);
        }
    }
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, &registry).expect("memory takes all");
    out
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "the crates know only floats")]
    fn floats(&self) -> [f64; 3] {
        let charge = self
            .charge
            .to_string()
            .parse()
            .expect("a decimal is a float literal");
        [charge, self.calls as f64, self.seconds as f64]
    }
}

/// The same with Python's client, as its manual has it for values from elsewhere: a collector, asked once.
const PYTHON: &str = r#"
import sys, time
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
rows = [(["EUR" if n % 2 == 0 else "USD", ["Domestic", "International"][n // 2 % 2], ["US", "GB", "DE"][n % 3],
          f"some.body{n:07}@contoso.com"], (n * 7919 % 1000003 / 1e4, 1 + n % 89, 60 + n * 31 % 50021)) for n in range(int(sys.argv[1]))]
class Collector:
    def collect(self):
        for index, name in enumerate(["charge", "calls", "call_seconds"]):
            family = GaugeMetricFamily("teams_pstn_dialout_" + name, name, labels=["currency", "destination_context", "usage_location", "user"])
            for labels, values in rows:
                family.add_metric(labels, values[index])
            yield family
registry = CollectorRegistry(auto_describe=False)
begun = time.process_time()
registry.register(Collector())
generate_latest(registry)
print(time.process_time() - begun)
"#;

/// The CPU time of this thread for `work`, and the result of `work`.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = cpu();
    let made = work();
    (cpu().saturating_sub(start), made)
}

/// Medians of variants that take turns.
fn interleaved<const N: usize>(
    rounds: usize,
    variants: &mut [&mut dyn FnMut(); N],
) -> [Duration; N] {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        for (variant, times) in variants.iter_mut().zip(&mut times) {
            times.push(timed(variant).0);
        }
    }
    times.map(|mut times| median(&mut times))
}

fn report(name: &str, [base, ours]: &[Duration; 2], count: usize, of: &str, max: f64) {
    let ratio = ours.as_secs_f64() / base.as_secs_f64();
    println!(
        "{name:32} {:8.1} ns/{of}, base {:8.1}: {ratio:.2} × (target ≤ {max})",
        per(*ours, count),
        per(*base, count)
    );
}

fn faster(name: &str, ours: Duration, theirs: Duration, count: usize, min: f64) {
    println!(
        "{name:32} {:8.1} ns/series, theirs {:8.1}: {:.0} × faster (target ≥ {min})",
        per(ours, count),
        per(theirs, count),
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(one: usize, other: usize) -> f64 {
    one as f64 / other as f64
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}

/// As the issue asks: medians of at least five.
const ROUNDS: usize = 7;
