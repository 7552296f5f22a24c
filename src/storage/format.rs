//! The format of a state file: a line with the version, a line of JSON, the texts that are served, and the SHA-256 of
//! all preceding bytes.
//!
//! ```text
//! teams-pstn-exporter state 2 {"naming":"…","numbers":"…","columns":[…],"state":{…}} <the texts of the families, long
//! ones compressed, in the order in which the state lists them> <32 bytes>
//! ```
//!
//! In every version of the format, the line of JSON begins with the kind of the user labels, and the checksum comes
//! last. So a later version can read which user labels a file has.
//!
//! A file with the right checksum is trusted: this module does not check the correctness of its numbers and texts.

use std::io::{self, Write};

use bytes::Bytes;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::{BYTES_MAX, Identity, SavedState};
use crate::exposition::{Family, Samples};
use crate::gzip::Block;

/// Reasons to reject a state file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejected {
    #[error("it is not a state file of this program")]
    Foreign,
    #[error("it was written by a newer version of this program")]
    Newer,
    #[error("it is damaged: its checksum is not that of its content")]
    Torn,
    #[error("its user labels differ from the current setting of labels.user")]
    OtherNames,
    #[error(
        "it belongs to another configuration: another tenant, name of the tenant, cloud, URL or cycle day"
    )]
    OtherConfiguration,
    #[error("its labels or columns are not those of this version of the program")]
    OtherColumns,
    #[error("it is longer than any state file of this program")]
    TooLong,
    #[error("it is not a regular file")]
    NoFile,
    #[error("it belongs to user {owner}, and this program runs as user {user}")]
    OtherOwner { owner: u32, user: u32 },
    #[error("other users may write to it")]
    Writable,
    #[error("it was written by an older version of this program")]
    Older,
    #[error("its content is inconsistent: {0}")]
    Malformed(String),
}

/// The line of JSON.
#[derive(Serialize, Deserialize)]
struct Header {
    naming: String,
    numbers: String,
    columns: Vec<String>,
    state: SavedState<Stored>,
}

/// Description of the text of one family. The texts follow the header.
#[derive(Serialize, Deserialize)]
struct Stored {
    family: String,
    count: u64,
    /// Number of bytes of the text in the file.
    bytes: u64,
    /// Checksum and length of the text, if it is compressed.
    deflated: Option<(u32, u64)>,
}

/// Writes a state file.
///
/// # Errors
/// If `out` returns an error, or if the file would be longer than the limit for reading.
pub(crate) fn encode(saved: &SavedState, identity: &Identity, out: impl Write) -> io::Result<()> {
    encode_within(BYTES_MAX, saved, identity, out)
}

/// Writes a state file like [`encode`], with `bytes_max` as the limit of its length.
pub(super) fn encode_within(
    bytes_max: u64,
    saved: &SavedState,
    identity: &Identity,
    out: impl Write,
) -> io::Result<()> {
    let mut out = HashingWriter {
        out: io::BufWriter::new(out),
        left: bytes_max.saturating_sub(SUM as u64),
        sum: digest::Context::new(&digest::SHA256),
    };
    let mut texts = Vec::new();
    let state = saved.clone().with_samples(|samples| {
        let (text, deflated) = samples.block.stored();
        texts.push(text.clone());
        io::Result::Ok(Stored {
            family: samples.family.name.to_owned(),
            count: samples.count,
            bytes: text.len() as u64,
            deflated,
        })
    })?;
    let header = Header {
        naming: identity.naming.clone(),
        numbers: identity.numbers.clone(),
        columns: identity.columns.clone(),
        state,
    };
    writeln!(out, "{MAGIC}{VERSION}")?;
    serde_json::to_writer(&mut out, &header)?;
    out.write_all(b"\n")?;
    for text in texts {
        out.write_all(&text)?;
    }
    let HashingWriter { mut out, sum, .. } = out;
    out.write_all(sum.finish().as_ref())?;
    out.flush()
}

/// Reads a state file. `family` finds a metric family by its name.
pub(crate) fn decode(
    bytes: &Bytes,
    identity: &Identity,
    family: impl Fn(&str) -> Option<&'static Family>,
) -> Result<SavedState, Rejected> {
    let start = check_version(bytes)?;
    if !is_whole(bytes) {
        return Err(Rejected::Torn);
    }
    let mut rest = bytes.slice(start..bytes.len() - SUM);
    let line = rest.iter().position(|&byte| byte == b'\n');
    let line = rest.split_to(line.ok_or(Rejected::Torn)?);
    let malformed = |what: &str| Rejected::Malformed(what.to_owned());
    let header: Header =
        serde_json::from_slice(&line).map_err(|error| malformed(&error.to_string()))?;
    if header.naming != identity.naming {
        return Err(Rejected::OtherNames);
    }
    if header.numbers != identity.numbers {
        return Err(Rejected::OtherConfiguration);
    }
    if header.columns != identity.columns {
        return Err(Rejected::OtherColumns);
    }
    let mut texts = rest.slice(1..);
    let mut text_left = TEXT_MAX;
    header.state.with_samples(|stored| {
        let family = family(&stored.family)
            .ok_or_else(|| malformed("a family does not belong to the report"))?;
        let length = usize::try_from(stored.bytes).ok();
        let length = length
            .filter(|&length| length <= texts.len())
            .ok_or_else(|| malformed("a text is longer than the file"))?;
        let inflated = stored.deflated.map_or(stored.bytes, |(_, length)| length);
        text_left = text_left
            .checked_sub(inflated)
            .ok_or_else(|| malformed("it has more text than any report"))?;
        let block = Block::restored(texts.split_to(length), stored.deflated)
            .ok_or_else(|| malformed("a text does not match its length or checksum"))?;
        Ok(Samples {
            family,
            block,
            open_metrics: None,
            count: stored.count,
        })
    })
}

/// Checks the version in the first line of a file that begins with `head`. Returns the position after this line.
pub(super) fn check_version(head: &[u8]) -> Result<usize, Rejected> {
    let rest = head
        .strip_prefix(MAGIC.as_bytes())
        .ok_or(Rejected::Foreign)?;
    let end = rest.iter().position(|&byte| byte == b'\n');
    let end = end.ok_or(Rejected::Torn)?;
    let version = std::str::from_utf8(&rest[..end]).unwrap_or_default();
    match version.parse::<u32>() {
        Err(_) | Ok(0) => Err(Rejected::Torn),
        Ok(version) if version > VERSION => Err(Rejected::Newer),
        Ok(version) if version < VERSION => Err(Rejected::Older),
        Ok(_) => Ok(MAGIC.len() + end + 1),
    }
}

/// Returns the kind of the user labels that a file of any version states.
pub(super) fn naming(bytes: &[u8]) -> Option<String> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let value = rest[end + 1..].strip_prefix(NAMING)?;
    let mut values = serde_json::Deserializer::from_slice(value).into_iter();
    values.next()?.ok()
}

/// Returns true if a file ends with the checksum of all bytes before it.
fn is_whole(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<SUM>()
        .is_some_and(|(summed, sum)| digest::digest(&digest::SHA256, summed).as_ref() == sum)
}

/// A writer that hashes its bytes and limits their number.
struct HashingWriter<W> {
    out: W,
    /// Number of bytes that can still be written.
    left: u64,
    sum: digest::Context,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(too_long());
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn too_long() -> io::Error {
    let mib = BYTES_MAX >> 20;
    let message = format!(
        "it would be longer than {mib} MiB, the limit of state files; lower labels.max_series"
    );
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

/// The first bytes of a state file.
const MAGIC: &str = "teams-pstn-exporter state ";

/// The first bytes of the line of JSON.
const NAMING: &[u8] = b"{\"naming\":";

/// The version of the format. A file of another version is set aside under a name that no version reads. So a downgrade
/// followed by an upgrade loses the content of the file.
const VERSION: u32 = 2;

/// Number of bytes of the checksum.
pub(super) const SUM: usize = 32;

/// Maximum bytes of inflated text in a file: eight times the text of a report with 600,000 series. Inflating so much
/// takes a few seconds. Without the limit, a hostile file of 256 MiB could inflate to a thousand times its size.
const TEXT_MAX: u64 = 2 << 30;
