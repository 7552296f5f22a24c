//! The gates of the target table that need no second process, as ratios: both sides in turn, round by round, medians.
//!
//! `cargo bench --bench ratios`; without `--bench`, as in `cargo test --all-targets`, one small round. Time is CPU time of
//! the thread, so that other work on the machine moves it little.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod support;

use std::hint::black_box;
use std::time::Duration;

use flate2::write::GzEncoder;
use prometheus::Encoder as _;
use serde::Deserialize as _;
use serde::de::IgnoredAny;
use teams_pstn_exporter::bench::{add_page, each_row, member, publish};
use teams_pstn_exporter::exposition::{Family, Format, Sheet, write_label};
use teams_pstn_exporter::report::Report;
use teams_pstn_exporter::report::dialout::{Dialout, Row, Totals};
use teams_pstn_exporter::snapshot::Encoding;

use support::{pages, timed, with_view};

fn main() {
    let (rows, rounds) = if std::env::args().any(|argument| argument == "--bench") {
        (200_000, ROUNDS)
    } else {
        (2_000, 1)
    };
    let pages = pages(rows);
    decode(&pages[..pages.len().min(50)], rounds);
    whole_poll(&pages, rounds);
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
                    black_box(each_row(page, |row: Row<'_>| {
                        black_box(&row);
                    }));
                }
            },
        ],
    );
    report("decode a page", &medians, rows, "row", 1.6);
}

/// Bytes of 200 pages to a published snapshot.
fn whole_poll(pages: &[String], rounds: usize) {
    let rows = pages
        .iter()
        .map(|page| page.matches("userId").count())
        .sum();
    let mut steps: [Vec<Duration>; 4] = Default::default();
    for _ in 0..=rounds {
        let bytes: Vec<Vec<u8>> = pages.iter().map(|page| page.clone().into_bytes()).collect();
        let mut totals = Totals::default();
        let (added, ()) = timed(|| {
            for page in bytes {
                add_page::<Dialout>(page, &mut totals);
            }
        });
        let (rendered, report) = timed(|| with_view(|view| Dialout::render(totals, view)));
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
