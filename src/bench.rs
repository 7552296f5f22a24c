//! Doors for `benches/` to steps that are private, so that each can be measured by itself.
//!
//! Not for anyone else: the library is not published, and this module is hidden from its documentation. It only passes
//! on; what is measured is what the daemon runs.

use bytes::Bytes;

use crate::exposition::{self, Samples};
use crate::graph::decode::decode;
use crate::gzip::{Block, BlockWriter, Member};
use crate::report::Report;
use crate::report::row::Notes;
use crate::snapshot::Snapshot;

/// Reads the bytes of a page and adds its rows, as a poll does. Returns how many rows it has.
///
/// # Panics
/// Where the page is not one: a bench makes its own.
pub fn add_page<R: Report>(page: Vec<u8>, totals: &mut R::Totals) -> u64 {
    let page = String::from_utf8(page).expect("a bench makes UTF-8");
    each_row(&page, |row: R::Row<'_>| {
        R::add(totals, row, &mut Notes::default()).expect("a bench makes rows that count");
    })
}

/// Reads a page and hands on its rows. Returns how many there are.
///
/// # Panics
/// Where the page is not one.
pub fn each_row<'t, Row: serde::Deserialize<'t>>(page: &'t str, mut add: impl FnMut(Row)) -> u64 {
    let mut rows = 0;
    let decoded = decode(page.as_bytes(), 0, u64::MAX, &mut rows, |_, row| {
        add(row);
        Ok::<(), ()>(())
    });
    assert!(decoded.is_ok(), "a bench makes pages that can be read");
    rows
}

/// Compresses each text as a part of its own, as families are, and puts them together into one gzip member.
pub fn member<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut member = Member::new();
    for text in texts {
        member.block(&block(text));
    }
    member.finish()
}

/// All bodies of these samples, as the publisher prepares them.
pub fn publish(samples: &[Samples]) -> Snapshot {
    Snapshot::of(samples)
}

/// Writes the name and the labels of a sample.
pub fn write_series(name: &str, labels: &[u8], out: &mut Vec<u8>) {
    exposition::write_series(name, labels, out);
}

fn block(text: &[u8]) -> Block {
    let mut writer = BlockWriter::new();
    for lines in text.chunks(LINES) {
        writer.buffer().extend_from_slice(lines);
        writer.flush_if_full();
    }
    writer.finish()
}

/// Bytes written between two looks at how much has gathered. A report looks after each line; here the text is written
/// already, and copying it in small pieces would be counted as compressing it.
const LINES: usize = 64 * 1024;
