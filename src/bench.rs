//! Benchmark entry points for private functions, so that `benches/` can measure each step separately.
//!
//! For the benchmarks only: the library is not published, and this module is hidden from its documentation. It only
//! forwards calls, so the benchmarks measure the code that the daemon runs.

use bytes::Bytes;

use crate::exposition::{self, Samples};
use crate::graph::decode::decode;
use crate::gzip::{Block, BlockWriter, Member};
use crate::report::AggregatedReport;
use crate::report::row::Notes;
use crate::snapshot::Snapshot;

/// Reads the bytes of a page and adds its rows, as a poll does. Returns the number of rows.
///
/// # Panics
/// If the page is invalid. Benchmarks generate their pages, so an invalid page is a mistake in the benchmark.
pub fn add_page<R: AggregatedReport>(page: &[u8], totals: &mut R::Totals) -> u64 {
    each_row(page, |row: R::Row<'_>| {
        R::add(totals, row, &mut Notes::default()).expect("the benchmark makes valid rows");
    })
}

/// Reads a page and passes its rows to `add`. Returns the number of rows.
///
/// # Panics
/// If the page is invalid.
pub fn each_row<'t, Row: serde::Deserialize<'t>>(page: &'t [u8], mut add: impl FnMut(Row)) -> u64 {
    let mut rows = 0;
    let decoded = decode(page, 0, u64::MAX, &mut rows, |_, row| {
        add(row);
        Ok::<(), ()>(())
    });
    assert!(
        decoded.is_ok(),
        "the benchmark makes pages that can be read"
    );
    rows
}

/// Compresses each text separately, as the exporter compresses each metric family, and joins the blocks into one gzip
/// member.
pub fn member<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut member = Member::default();
    for text in texts {
        member.block(&block(text));
    }
    member.finish()
}

/// Prepares all response bodies for these samples, as the publisher does.
pub fn publish(samples: &[Samples]) -> Snapshot {
    Snapshot::with_samples(samples)
}

/// Writes the name and the labels of a sample.
pub fn write_series(name: &str, labels: &[u8], out: &mut Vec<u8>) {
    exposition::write_series(name, labels, out);
}

fn block(text: &[u8]) -> Block {
    let mut writer = BlockWriter::new();
    for lines in text.chunks(LINES) {
        writer.append(|out| out.extend_from_slice(lines));
    }
    writer.finish()
}

/// Bytes that the benchmark copies to the buffer at once. A report writes line by line, but so many small copies
/// would distort the measured time of compression.
const LINES: usize = 64 * 1024;
