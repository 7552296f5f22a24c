//! The series of past days, and their output.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::args::BackfillArgs;
use crate::export::{ExportError, Output};
use crate::exposition::{Family, Format, Samples, write_label};
use crate::memory::{MemoryError, Reservation};
use crate::period::Window;

/// The values of each series, day by day.
pub(super) struct History {
    families: BTreeMap<&'static Family, BTreeMap<String, Vec<Run>>>,
    /// Bytes of memory that the series take.
    bytes: usize,
    memory: Reservation,
}

/// Consecutive days on which one series has the same value.
struct Run {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    value: String,
}

impl History {
    pub(super) fn new(memory: Reservation) -> Self {
        let families = BTreeMap::new();
        Self {
            families,
            bytes: 0,
            memory,
        }
    }

    /// Adds the samples of a day. Days must be added in order.
    pub(super) fn add(&mut self, day: Window, samples: &Samples) -> Result<(), MemoryError> {
        let mut text = Vec::new();
        samples.block(Format::OpenMetrics).write(&mut text);
        let text = String::from_utf8(text).expect("samples are text");
        let family = self.families.entry(samples.family).or_default();
        for line in text.lines() {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            let runs = if let Some(runs) = family.get_mut(name) {
                runs
            } else {
                self.bytes += name.len() + size_of::<(String, Vec<Run>)>();
                family.entry(name.to_owned()).or_default()
            };
            match runs.last_mut() {
                Some(last) if last.end == day.start() && last.value == value => {
                    last.end = day.end();
                }
                _ => {
                    self.bytes += value.len() + size_of::<Run>();
                    runs.push(Run {
                        start: day.start(),
                        end: day.end(),
                        value: value.to_owned(),
                    });
                }
            }
        }
        self.memory.resize(self.bytes)
    }

    pub(super) fn series(&self) -> usize {
        self.families.values().map(BTreeMap::len).sum()
    }

    /// Writes the samples up to `last`, with the labels that the flags add.
    pub(super) fn write(
        &self,
        args: &BackfillArgs,
        last: DateTime<Utc>,
        output: &mut Output,
    ) -> Result<(), ExportError> {
        let mut more = Vec::new();
        for (name, value) in &args.labels {
            write_label(name, value, &mut more);
        }
        let step = usize::try_from(args.step.as_secs()).expect("at most a day");
        let more = String::from_utf8(more).expect("labels are text");
        let mut text = Vec::new();
        for (family, series) in &self.families {
            family.write_header(Format::OpenMetrics, &mut text);
            for (name, runs) in series {
                let name = with_labels(name, &more);
                for Run { start, end, value } in runs {
                    let end = (*end).min(last + TimeDelta::seconds(1));
                    let times = (start.timestamp()..end.timestamp()).step_by(step);
                    for time in times {
                        text.extend_from_slice(format!("{name} {value} {time}\n").as_bytes());
                    }
                    output.write(&text)?;
                    text.clear();
                }
            }
        }
        text.extend_from_slice(Format::OpenMetrics.end().as_bytes());
        output.write(&text)
    }
}

/// Returns the series with the labels `more` added.
fn with_labels(series: &str, more: &str) -> String {
    match series.strip_suffix('}') {
        _ if more.is_empty() => series.to_owned(),
        Some(labelled) => format!("{labelled},{more}}}"),
        None => format!("{series}{{{more}}}"),
    }
}
