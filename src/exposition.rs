//! The text formats of Prometheus. Only this module knows them.
//!
//! Text 0.0.4 and OpenMetrics 1.0.0 have different headers, and the body ends differently. Samples of gauges are the
//! same in both formats, so a [`FamilyWriter`] writes them once. In OpenMetrics, a counter also has a start time.
//! [`write_registry_family`] writes the exporter's own metrics from a registry of the `prometheus` crate.
//!
//! This module does not sort or compress, and does not know the meaning of a family.
//!
//! Formats: <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.

pub(crate) mod negotiate;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::gzip::{Block, BlockWriter};
use crate::money::{Sum, write_float};

/// A text format that a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// A family of gauges or of counters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// Full name. The name of a counter ends in `_total`.
    pub name: &'static str,
    /// HELP text.
    pub help: &'static str,
    /// True for a counter, false for a gauge.
    pub counter: bool,
}

/// Writer of several families with the same labels. It escapes the labels of a sample once for all families.
pub struct FamilyWriter {
    columns: Vec<Column>,
    count: u64,
    /// Unix time at which the counters started.
    started: Option<f64>,
}

struct Column {
    family: &'static Family,
    block: BlockWriter,
    /// The samples in OpenMetrics, each followed by a sample `_created` with the start time. `None` if it is unknown.
    open_metrics: Option<BlockWriter>,
}

/// The finished samples of a family.
#[derive(Clone, Debug)]
pub struct Samples {
    pub(crate) family: &'static Family,
    pub(crate) block: Block,
    /// The samples in OpenMetrics, if they differ from `block`. Only counters with a known start time differ.
    pub(crate) open_metrics: Option<Block>,
    /// Number of samples.
    pub(crate) count: u64,
}

impl Format {
    /// Both formats, in the order of their discriminants.
    pub(crate) const ALL: [Self; 2] = [Self::Text, Self::OpenMetrics];

    /// Last line of a body, if the format has one.
    pub(crate) const fn end(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }
}

impl Family {
    /// A family of gauges.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            counter: false,
        }
    }

    /// A family of counters. The name ends in `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            counter: true,
        }
    }

    pub(crate) fn write_header(&self, format: Format, out: &mut Vec<u8>) {
        write_header(
            self.name,
            self.help,
            if self.counter { "counter" } else { "gauge" },
            format,
            out,
        );
    }
}

impl FamilyWriter {
    /// A writer with a column for each family.
    pub fn new(families: &[&'static Family]) -> Self {
        Self::started_at(None, families)
    }

    /// A writer for counters that all started at the Unix time `at`.
    pub(crate) fn counters(families: &[&'static Family], at: f64) -> Self {
        Self::started_at(Some(at), families)
    }

    fn started_at(started: Option<f64>, families: &[&'static Family]) -> Self {
        let column = |&family: &&'static Family| Column {
            family,
            block: BlockWriter::new(),
            open_metrics: started.map(|_| BlockWriter::new()),
        };
        Self {
            columns: families.iter().map(column).collect(),
            count: 0,
            started,
        }
    }

    /// Adds a sample with the same `labels` to each family. The caller writes the labels with [`write_label`]. The call
    /// `value(index, out)` appends the value for the family at `index`.
    pub fn sample(&mut self, labels: &[u8], mut value: impl FnMut(usize, &mut Vec<u8>)) {
        for (index, column) in self.columns.iter_mut().enumerate() {
            let name = column.family.name;
            let mut write = |out: &mut Vec<u8>| {
                write_series(name, labels, out);
                value(index, out);
                out.push(b'\n');
            };
            column.block.append(&mut write);
            if let Some((block, at)) = column.open_metrics.as_mut().zip(self.started) {
                block.append(|out| {
                    write(out);
                    write_created(name, labels, at, out);
                });
            }
        }
        self.count += 1;
    }

    /// Returns the finished samples of each family.
    pub fn finish(self) -> impl Iterator<Item = Samples> {
        let count = self.count;
        self.columns.into_iter().map(move |column| Samples {
            family: column.family,
            block: column.block.finish(),
            open_metrics: column.open_metrics.map(BlockWriter::finish),
            count,
        })
    }
}

/// The samples of a family of gauges, each with its labels and value. `None` if there are none.
pub(crate) fn gauges(
    family: &'static Family,
    samples: impl IntoIterator<Item = (Vec<u8>, Sum)>,
) -> Option<Samples> {
    let mut writer = FamilyWriter::new(&[family]);
    for (labels, value) in samples {
        writer.sample(&labels, |_, out| value.write_sample(out));
    }
    writer.finish().find(|samples| samples.count > 0)
}

impl Samples {
    /// Writes the header and the samples of the family in this format.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        self.family.write_header(format, out);
        self.block(format).write(out);
    }

    pub(crate) fn block(&self, format: Format) -> &Block {
        match (format, &self.open_metrics) {
            (Format::OpenMetrics, Some(block)) => block,
            _ => &self.block,
        }
    }
}

/// Appends `name="value"` to a block of labels.
pub fn write_label(name: &str, value: &str, labels: &mut Vec<u8>) {
    if !labels.is_empty() {
        labels.push(b',');
    }
    labels.extend_from_slice(name.as_bytes());
    labels.extend_from_slice(b"=\"");
    write_escaped(value, true, labels);
    labels.push(b'"');
}

/// A block of labels, which must be sorted by name. Leaves out labels without a value, such as the label `tenant` if
/// tenants have no names.
pub(crate) fn label_block<'l>(
    labels: impl IntoIterator<Item = (&'l str, Option<&'l str>)>,
) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in labels {
        if let Some(value) = value {
            write_label(name, value, &mut block);
        }
    }
    block
}

/// Writes the header and the samples of a family of counters or gauges from a registry. The name of a counter ends in
/// `_total`. In OpenMetrics, a counter also has the start time `started` (Unix time), if that is given.
///
/// # Panics
/// If the family has another type. The exporter registers only counters and gauges.
pub fn write_registry_family(
    family: &MetricFamily,
    format: Format,
    started: Option<f64>,
    out: &mut Vec<u8>,
) {
    let name = family.name();
    let (kind, value): (_, fn(&Metric) -> f64) = match family.get_field_type() {
        MetricType::COUNTER => ("counter", |metric| metric.get_counter().get_value()),
        MetricType::GAUGE => ("gauge", |metric| metric.get_gauge().get_value()),
        other => unreachable!("the exporter registers no {other:?}"),
    };
    write_header(name, family.help(), kind, format, out);
    for metric in family.get_metric() {
        let mut labels = Vec::new();
        for pair in metric.get_label() {
            write_label(pair.name(), pair.value(), &mut labels);
        }
        write_series(name, &labels, out);
        write_float(value(metric), out);
        out.push(b'\n');
        if let ("counter", Format::OpenMetrics, Some(at)) = (kind, format, started) {
            write_created(name, &labels, at, out);
        }
    }
}

pub(crate) fn write_series(name: &str, labels: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if !labels.is_empty() {
        out.push(b'{');
        out.extend_from_slice(labels);
        out.push(b'}');
    }
    out.push(b' ');
}

/// Writes the OpenMetrics sample with the start time of a counter; see
/// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md#counter-1>.
fn write_created(name: &str, labels: &[u8], at: f64, out: &mut Vec<u8>) {
    let name = name.strip_suffix("_total").unwrap_or(name);
    write_series(&format!("{name}_created"), labels, out);
    write_float(at, out);
    out.push(b'\n');
}

fn write_header(name: &str, help: &str, kind: &str, format: Format, out: &mut Vec<u8>) {
    let is_open_metrics = format == Format::OpenMetrics;
    let name = match kind {
        "counter" if is_open_metrics => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let mut escaped = Vec::new();
    write_escaped(help, is_open_metrics, &mut escaped);
    let help = ("HELP", &escaped[..]);
    let kind = ("TYPE", kind.as_bytes());
    let unit = unit(name).filter(|_| is_open_metrics).unwrap_or_default();
    let lines = match format {
        Format::Text => [help, kind, ("", b"")],
        Format::OpenMetrics => [kind, ("UNIT", unit.as_bytes()), help],
    };
    for (keyword, text) in lines {
        if !text.is_empty() {
            out.extend_from_slice(format!("# {keyword} {name} ").as_bytes());
            out.extend_from_slice(text);
            out.push(b'\n');
        }
    }
}

/// The unit at the end of a name. A family of money has none: its currency varies by label, and OpenMetrics allows one
/// unit per family.
fn unit(name: &str) -> Option<&'static str> {
    ["seconds", "bytes"].into_iter().find(|unit| {
        name.strip_suffix(unit)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('_'))
    })
}

/// Escapes backslash and newline, and the double quote if `quotes` is true.
fn write_escaped(text: &str, quotes: bool, out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n') || (quotes && *byte == b'"');
    let mut rest = text.as_bytes();
    // Few texts have a special byte, so the whole text is tested first. The test takes a few vector instructions,
    // whereas a search for the first special byte takes a branch for each byte.
    if !rest.iter().fold(false, |found, byte| found | special(byte)) {
        out.extend_from_slice(rest);
        return;
    }
    while let Some(position) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..position]);
        out.push(b'\\');
        out.push(if rest[position] == b'\n' {
            b'n'
        } else {
            rest[position]
        });
        rest = &rest[position + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    static CHARGE: Family = Family::gauge("charge", "Charge \\ in \"what\"\never.");
    static CALLS: Family = Family::gauge("call_seconds", "Seconds.");
    static POLLS: Family = Family::counter("polls_total", "Polls.");

    #[test]
    fn headers_by_table() {
        let check = |family: &Family, format: Format, expected: &str| {
            let mut out = Vec::new();
            family.write_header(format, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(
            &CHARGE,
            Format::Text,
            "# HELP charge Charge \\\\ in \"what\"\\never.\n# TYPE charge gauge\n",
        );
        check(
            &CHARGE,
            Format::OpenMetrics,
            "# TYPE charge gauge\n# HELP charge Charge \\\\ in \\\"what\\\"\\never.\n",
        );
        check(
            &CALLS,
            Format::OpenMetrics,
            "# TYPE call_seconds gauge\n# UNIT call_seconds seconds\n# HELP call_seconds Seconds.\n",
        );
        check(
            &POLLS,
            Format::Text,
            "# HELP polls_total Polls.\n# TYPE polls_total counter\n",
        );
        check(
            &POLLS,
            Format::OpenMetrics,
            "# TYPE polls counter\n# HELP polls Polls.\n",
        );
    }

    #[test]
    fn rows_of_a_sheet() {
        let mut writer = FamilyWriter::new(&[&CHARGE, &CALLS]);
        writer.sample(b"", |index, out| {
            out.push(b'0' + u8::try_from(index).unwrap());
        });
        let mut labels = Vec::new();
        write_label("currency", "EUR", &mut labels);
        write_label("user", "a\"b\\c\nd 🦀", &mut labels);
        writer.sample(&labels, |_, out| out.extend_from_slice(b"2.5"));
        let texts: Vec<String> = writer
            .finish()
            .map(|samples| match samples.block {
                Block::Short(text) => String::from_utf8(text.to_vec()).unwrap(),
                Block::Long { .. } => panic!("too short for that"),
            })
            .collect();
        let labelled = r#"{currency="EUR",user="a\"b\\c\nd 🦀"} 2.5"#;
        assert_eq!(
            texts,
            [
                format!("charge 0\ncharge{labelled}\n"),
                format!("call_seconds 1\ncall_seconds{labelled}\n"),
            ]
        );
    }

    #[test]
    fn counters_have_their_start_in_open_metrics_only() {
        let mut writer = FamilyWriter::counters(&[&POLLS], 1_796_000_000.5);
        let mut labels = Vec::new();
        write_label("report", "sms", &mut labels);
        writer.sample(&labels, |_, out| out.push(b'7'));
        writer.sample(b"", |_, out| out.push(b'8'));
        let samples: Vec<Samples> = writer.finish().collect();
        let registry = prometheus::Registry::new();
        let counter = prometheus::IntCounter::new("polls_total", "Polls.").unwrap();
        counter.inc_by(8);
        registry.register(Box::new(counter)).unwrap();
        for (format, expected) in [
            (
                Format::Text,
                "# HELP polls_total Polls.\n# TYPE polls_total counter\npolls_total{report=\"sms\"} 7\npolls_total 8\n",
            ),
            (
                Format::OpenMetrics,
                "# TYPE polls counter\n# HELP polls Polls.\npolls_total{report=\"sms\"} 7\npolls_created{report=\"sms\"} 1796000000.5\n\
                 polls_total 8\npolls_created 1796000000.5\n",
            ),
        ] {
            let mut out = Vec::new();
            samples[0].write(format, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            let mut out = Vec::new();
            write_registry_family(
                &registry.gather()[0],
                format,
                Some(1_796_000_000.5),
                &mut out,
            );
            let expected = expected.lines().filter(|line| !line.contains("sms"));
            assert!(String::from_utf8(out).unwrap().lines().eq(expected));
        }
    }

    #[test]
    fn units_by_table() {
        for (name, expected) in [
            ("a_seconds", Some("seconds")),
            ("a_bytes", Some("bytes")),
            ("seconds", None),
            ("_seconds", None),
            ("calls", None),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }
}
