//! Criterion benches of each step from the bytes of a page to the published body; `cargo bench --profile dist --bench stages`.
//!
//! Each stage is measured in CPU time of the thread, so other work on the machine has little effect. The gates, which
//! are ratios, are in `ratios`.

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use serde::Deserialize as _;
use serde::de::IgnoredAny;
use teams_pstn_exporter::bench::{add_page, each_row, member, publish};
use teams_pstn_exporter::exposition::Format;
use teams_pstn_exporter::report::AggregatedReport;
use teams_pstn_exporter::report::dialout::{Dialout, Row, RowTable};

use support::{cpu, pages, with_context};

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(10)
        .configure_from_args();
    decode(&mut criterion);
    aggregate_and_render(&mut criterion);
    compress(&mut criterion);
    whole_poll(&mut criterion);
    criterion.final_summary();
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let page = pages(support::PAGE).remove(0);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("nothing kept", |bencher| {
        bencher.iter(|| {
            let mut json = serde_json::Deserializer::from_str(&page);
            IgnoredAny::deserialize(&mut json).expect("a page")
        });
    });
    group.bench_function("rows", |bencher| {
        bencher.iter(|| {
            each_row(page.as_bytes(), |row: Row<'_>| {
                black_box(&row);
            })
        });
    });
    group.bench_function("rows added up", |bencher| {
        bencher.iter_batched(
            || page.clone().into_bytes(),
            |page| {
                let mut totals = RowTable::default();
                add_page::<Dialout>(&page, &mut totals);
                totals
            },
            BatchSize::LargeInput,
        );
    });
}

fn aggregate_and_render(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("aggregate, render and compress");
    for rows in SIZES {
        let pages = pages(rows);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter_batched(
                || totals(&pages),
                |totals| with_context(|context| Dialout::render(totals, context)),
                BatchSize::PerIteration,
            );
        });
    }
}

fn compress(criterion: &mut Criterion<CpuTime>) {
    let rendered = with_context(|context| Dialout::render(totals(&pages(50_000)), context));
    let mut text = Vec::new();
    for samples in &rendered.samples {
        samples.write(Format::Text, &mut text);
    }
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("stitched", |bencher| {
        bencher.iter(|| member(text.chunks(text.len().div_ceil(3))));
    });
}

fn whole_poll(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("whole poll");
    for rows in SIZES {
        let pages = pages(rows);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter_batched(
                || pages.clone(),
                |pages| {
                    let mut totals = RowTable::default();
                    for page in pages {
                        add_page::<Dialout>(page.as_bytes(), &mut totals);
                    }
                    let report = with_context(|context| Dialout::render(totals, context));
                    publish(&report.samples)
                },
                BatchSize::PerIteration,
            );
        });
    }
}

fn totals(pages: &[String]) -> RowTable {
    let mut totals = RowTable::default();
    for page in pages {
        add_page::<Dialout>(page.as_bytes(), &mut totals);
    }
    totals
}

const SIZES: [usize; 2] = [1_000, 200_000];

/// Criterion's wall clock replaced by the thread's CPU time.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
