//! Bodies of `/metrics`, prepared when something changes, so that a request only clones references.

use std::sync::Arc;

use bytes::Bytes;
use prometheus::proto::MetricFamily;

use crate::exposition::{Family, Format, Samples, write_registry_family};
use crate::gzip::{Block, Deflated, Inflater, Member};

/// How a body is encoded on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// No encoding.
    Identity,
    /// One gzip member.
    Gzip,
}

/// A body: its length on the wire, and its parts in order.
#[derive(Debug)]
pub struct Body {
    /// Bytes on the wire, all parts together.
    pub length: u64,
    /// The parts in order.
    pub parts: Parts,
}

/// The parts of a body in order. A step of the iterator clones a reference, or inflates some KiB of a compressed part.
/// It inflates if a large body is requested without compression, because large bodies are kept compressed.
#[derive(Debug)]
pub struct Parts {
    all: Arc<[Part]>,
    next: usize,
    inflation: Option<Inflater>,
}

/// Families in the order of their names, each with its samples in the order of the tenants.
#[derive(Debug, Default)]
pub(super) struct Reports {
    families: Vec<(&'static Family, Vec<Samples>)>,
    /// The bodies, by format.
    bodies: [ReportsBody; 2],
}

/// Metrics of the exporter itself, by name, with their texts by format.
#[derive(Debug, Default)]
pub(super) struct SelfMetrics(Vec<(String, [Bytes; 2])>);

/// The complete bodies by format and encoding.
#[derive(Debug, Default)]
pub(super) struct Bodies([[EncodedBody; 2]; 2]);

/// The report families in one format, in both encodings.
#[derive(Clone, Debug, Default)]
struct ReportsBody {
    gzip: Member,
    identity: IdentityBody,
}

/// A body with [`Encoding::Identity`] under construction.
#[derive(Clone, Debug, Default)]
struct IdentityBody {
    parts: Vec<Part>,
    run: Vec<u8>,
}

/// A finished body.
#[derive(Clone, Debug, Default)]
struct EncodedBody {
    parts: Arc<[Part]>,
    length: u64,
}

#[derive(Clone, Debug)]
enum Part {
    Ready(Bytes),
    Deflated(Deflated),
}

impl Reports {
    pub(super) fn new(families: Vec<(&'static Family, Vec<Samples>)>) -> Self {
        let bodies = Format::ALL.map(|format| {
            let mut body = ReportsBody::default();
            for (family, samples) in &families {
                body.family(family, samples, format);
            }
            body.gzip.close_run();
            body.identity.close_run();
            body
        });
        Self { families, bodies }
    }
}

impl SelfMetrics {
    /// Renders the families. `started` is the start time of the counters as Unix time. Counters of the process have the
    /// start time of the process instead.
    pub(super) fn new(families: &[MetricFamily], started: f64) -> Self {
        let of_process = families
            .iter()
            .find(|family| family.name() == "process_start_time_seconds")
            .and_then(|family| Some(family.get_metric().first()?.get_gauge().get_value()));
        let render = |family: &MetricFamily, format| {
            let started = if family.name().starts_with("process_") {
                of_process
            } else {
                Some(started)
            };
            let mut text = Vec::new();
            write_registry_family(family, format, started, &mut text);
            Bytes::from(text)
        };
        let families = families.iter().map(|family| {
            let texts = Format::ALL.map(|format| render(family, format));
            (family.name().to_owned(), texts)
        });
        Self(families.collect())
    }

    fn texts(&self, format: Format) -> impl Iterator<Item = (&str, &[u8])> {
        let families = self.0.iter();
        families.map(move |(name, texts)| (name.as_str(), &texts[format as usize][..]))
    }
}

impl Bodies {
    pub(super) fn new(reports: &Reports, own: &SelfMetrics) -> Self {
        Self(Format::ALL.map(|format| {
            let mut body = reports.bodies[format as usize].clone();
            for (_, text) in own.texts(format) {
                body.text(text);
            }
            body.text(format.end().as_bytes());
            [
                body.identity.finish(),
                EncodedBody::ready(body.gzip.finish()),
            ]
        }))
    }

    pub(super) fn body(&self, format: Format, encoding: Encoding) -> Body {
        self.0[format as usize][encoding as usize].body()
    }
}

/// A body with only the families in `names`.
pub(super) fn filtered(
    reports: &Reports,
    own: &SelfMetrics,
    format: Format,
    encoding: Encoding,
    names: &[String],
) -> Body {
    let wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    let mut body = ReportsBody::default();
    for (family, samples) in reports
        .families
        .iter()
        .filter(|(family, _)| wanted(family.name))
    {
        body.family(family, samples, format);
    }
    for (_, text) in own.texts(format).filter(|(name, _)| wanted(name)) {
        body.text(text);
    }
    body.text(format.end().as_bytes());
    match encoding {
        Encoding::Identity => body.identity.finish().body(),
        Encoding::Gzip => EncodedBody::ready(body.gzip.finish()).body(),
    }
}

impl ReportsBody {
    fn family(&mut self, family: &Family, samples: &[Samples], format: Format) {
        let mut header = Vec::new();
        family.write_header(format, &mut header);
        self.text(&header);
        for block in samples.iter().map(|samples| samples.block(format)) {
            self.gzip.block(block);
            self.identity.block(block);
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.gzip.text(text);
        self.identity.text(text);
    }
}

impl IdentityBody {
    fn text(&mut self, text: &[u8]) {
        self.run.extend_from_slice(text);
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Short(text) => self.text(text),
            Block::Long { deflated, text } => {
                self.close_run();
                self.parts.push(match text.get() {
                    Some(text) => Part::Ready(text),
                    None => Part::Deflated(deflated.clone()),
                });
            }
        }
    }

    fn close_run(&mut self) {
        if !self.run.is_empty() {
            let run = std::mem::take(&mut self.run);
            self.parts.push(Part::Ready(run.into()));
        }
    }

    fn finish(mut self) -> EncodedBody {
        self.close_run();
        EncodedBody::new(self.parts)
    }
}

impl EncodedBody {
    fn new(parts: Vec<Part>) -> Self {
        let length = parts.iter().map(Part::length).sum();
        let parts = parts.into();
        Self { parts, length }
    }

    fn ready(parts: Vec<Bytes>) -> Self {
        Self::new(parts.into_iter().map(Part::Ready).collect())
    }

    fn body(&self) -> Body {
        Body {
            length: self.length,
            parts: Parts {
                all: Arc::clone(&self.parts),
                next: 0,
                inflation: None,
            },
        }
    }
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Ready(bytes) => bytes.len() as u64,
            Self::Deflated(deflated) => deflated.length,
        }
    }
}

impl Iterator for Parts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(inflated) = self.inflation.as_mut().and_then(Iterator::next) {
                return Some(inflated);
            }
            let part = self.all.get(self.next)?;
            self.next += 1;
            match part {
                Part::Ready(bytes) => return Some(bytes.clone()),
                Part::Deflated(deflated) => self.inflation = Some(Inflater::new(deflated)),
            }
        }
    }
}
