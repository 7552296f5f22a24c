//! The two formats against those who read them: the `prometheus` crate's own encoder, promtool, and Python's OpenMetrics
//! parser, which is strict.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use prometheus::core::Collector as _;
use prometheus::{CounterVec, Encoder as _, GaugeVec, Opts, TextEncoder, proto::MetricFamily};
use teams_pstn_exporter::exposition::{
    Family, FamilyWriter, Format, write_label, write_registry_family,
};

use crate::support::{promtool, tool};

/// As many as the issue asks for.
const FAMILIES: u64 = 10_000;

#[test]
fn ten_thousand_families_agree_with_the_crate() {
    for seed in 0..FAMILIES {
        let family = family(seed);
        let mut expected = Vec::new();
        TextEncoder::new()
            .encode(std::slice::from_ref(&family), &mut expected)
            .unwrap();
        let mut written = Vec::new();
        write_registry_family(&family, Format::Text, None, &mut written);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            String::from_utf8(expected).unwrap(),
            "seed {seed}"
        );
    }
}

#[test]
fn writer_agrees_with_the_crate() {
    static CHARGE: Family = Family::gauge("charge", "Charge, \\ and\nso on.");
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let gauges =
            GaugeVec::new(Opts::new(CHARGE.name, CHARGE.help), &["currency", "user"]).unwrap();
        let mut rows: Vec<(String, String, i32)> = (0..random.usize(1..20))
            .map(|_| (text(&mut random), text(&mut random), random.i32(..)))
            .collect();
        rows.sort();
        // The crate tells label sets apart by a hash of their concatenated values, so ("", "%") and ("%", "") are one
        // to it: a reason more to write reports without it, and one for the oracle to be asked of nothing else.
        let mut seen = HashSet::new();
        rows.retain(|(currency, user, _)| seen.insert(format!("{currency}{user}")));
        let mut writer = FamilyWriter::new(&[&CHARGE]);
        for (currency, user, value) in &rows {
            gauges
                .with_label_values(&[currency, user])
                .set(f64::from(*value));
            let mut labels = Vec::new();
            write_label("currency", currency, &mut labels);
            write_label("user", user, &mut labels);
            writer.sample(&labels, |_, out| write!(out, "{value}").unwrap());
        }
        let mut written = Vec::new();
        writer
            .finish()
            .for_each(|samples| samples.write(Format::Text, &mut written));
        let registry = prometheus::Registry::new();
        registry.register(Box::new(gauges)).unwrap();
        let mut expected = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut expected)
            .unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            String::from_utf8(expected).unwrap(),
            "seed {seed}"
        );
    }
}

#[test]
fn promtool_accepts_the_text_format() {
    let body = String::from_utf8(body(Format::Text)).unwrap();
    promtool(&body);
}

#[test]
fn pythons_strict_parser_reads_every_sample() {
    let Some(python) = tool("/usr/bin/python3") else {
        return;
    };
    let mut child = Command::new(python)
        .args(["-c", READ_BACK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&body(Format::OpenMetrics)).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let mut expected = String::new();
    for seed in 0..FAMILIES {
        let family = family(seed);
        for metric in family.get_metric() {
            let name = family.name();
            let samples = match family.get_field_type() {
                prometheus::proto::MetricType::COUNTER => vec![
                    (name.to_owned(), metric.get_counter().get_value()),
                    (name.replace("_total", "_created"), STARTED),
                ],
                _ => vec![(name.to_owned(), metric.get_gauge().get_value())],
            };
            for (name, value) in samples {
                write!(expected, "{name} {:016x}", (value + 0.0).to_bits()).unwrap();
                for label in metric.get_label() {
                    write!(expected, " {}={}", label.name(), hexadecimal(label.value())).unwrap();
                }
                expected.push('\n');
            }
        }
    }
    let read = String::from_utf8(output.stdout).unwrap();
    for (read, expected) in read.lines().zip(expected.lines()) {
        assert_eq!(read, expected);
    }
    assert_eq!(read.lines().count(), expected.lines().count());
}

/// Prints every sample as the test expects it: name, bits of the value, labels with their values in hexadecimal. A zero
/// loses its sign, as the parser reads it as an integer.
const READ_BACK: &str = r#"
import struct, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.buffer.read().decode()):
    for sample in family.samples:
        bits = struct.unpack(">Q", struct.pack(">d", sample.value))[0]
        labels = "".join(f" {name}={value.encode().hex()}" for name, value in sorted(sample.labels.items()))
        print(f"{sample.name} {bits:016x}{labels}")
"#;

/// When the counters started.
const STARTED: f64 = 1_796_000_000.5;

fn body(format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    for seed in 0..FAMILIES {
        write_registry_family(&family(seed), format, Some(STARTED), &mut out);
    }
    if format == Format::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
    out
}

/// A random family: a gauge, or now and then a counter. Its name, help and labels are valid; its label values and
/// numbers are as bad as they come.
fn family(seed: u64) -> MetricFamily {
    let mut random = fastrand::Rng::with_seed(seed);
    let help = format!("Help {}.", text(&mut random));
    let labels: &[&str] = [&[][..], &["user"], &["currency", "tenant", "user"]][random.usize(..3)];
    let rows: Vec<(Vec<String>, f64)> = (0..if labels.is_empty() {
        1
    } else {
        random.usize(1..5)
    })
        .map(|_| {
            (
                labels.iter().map(|_| text(&mut random)).collect(),
                number(&mut random),
            )
        })
        .collect();
    if seed.is_multiple_of(5) {
        let counters =
            CounterVec::new(Opts::new(format!("family_{seed}_total"), help), labels).unwrap();
        for (values, value) in &rows {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            counters.with_label_values(&values).inc_by(value.abs());
        }
        counters.collect().remove(0)
    } else {
        let gauges = GaugeVec::new(Opts::new(format!("family_{seed}"), help), labels).unwrap();
        for (values, value) in &rows {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            gauges.with_label_values(&values).set(*value);
        }
        gauges.collect().remove(0)
    }
}

fn text(random: &mut fastrand::Rng) -> String {
    const PIECES: &[&str] = &[
        "ann",
        "O'Neil",
        "\"",
        "\\",
        "\n",
        "🦀",
        "שלום",
        "\u{202e}",
        "é",
        " ",
        "{a=\"b\"}",
        "#",
        ",",
        "=",
        "\t",
        "\u{0}",
        "日本",
        "%",
    ];
    (0..random.usize(..6))
        .map(|_| PIECES[random.usize(..PIECES.len())])
        .collect()
}

fn number(random: &mut fastrand::Rng) -> f64 {
    const EXTREMES: &[f64] = &[
        0.0,
        -0.0,
        1.0,
        0.1,
        1e-7,
        1e21,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        123_456_789_012_345.67,
        9_007_199_254_740_993.0,
    ];
    match random.usize(..3) {
        0 => EXTREMES[random.usize(..EXTREMES.len())],
        1 => f64::from(random.i32(..)) / 100.0,
        _ => Some(f64::from_bits(random.u64(..)))
            .filter(|float| float.is_finite())
            .unwrap_or_default(),
    }
}

fn hexadecimal(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}
