//! One gzip member made of parts that were compressed on their own.
//!
//! A part is raw deflate that ends with a sync flush: aligned to a byte, not final, and without a reference to what
//! came before it. So parts can be kept and put together in any order, and the member is closed by an empty final
//! block, the checksum (combined from those of the parts) and the length ([RFC 1951], [RFC 1952]). Several members
//! one after another would be simpler, but `curl --compressed` silently drops all but the first.
//!
//! [RFC 1951]: https://www.rfc-editor.org/rfc/rfc1951
//! [RFC 1952]: https://www.rfc-editor.org/rfc/rfc1952

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Finished text, compressed if it is long enough for its own part.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// Short text, compressed together with its neighbours when a body is assembled.
    Short(Bytes),
    /// Long text, compressed while it was written. The text itself is kept only up to [`BLOCK_TEXT_MAX`].
    Long {
        deflated: Bytes,
        checksum: Hasher,
        length: u64,
        text: Option<Bytes>,
    },
}

/// Writes the text of a [`Block`], never holding more of it than [`BLOCK_TEXT_MAX`] and [`CHUNK`].
pub(crate) struct BlockWriter {
    chunk: Vec<u8>,
    text: Option<Vec<u8>>,
    deflater: Option<Deflater>,
}

/// A gzip member that is being assembled.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    parts: Vec<Bytes>,
    run: Vec<u8>,
    checksum: Hasher,
    length: u64,
}

/// Inflates a long block a few KiB at a time, for the rare client that wants a large body uncompressed.
#[derive(Debug)]
pub(crate) struct Inflater {
    deflated: Bytes,
    left: u64,
    decompress: Box<Decompress>,
}

struct Deflater {
    compress: Compress,
    out: Vec<u8>,
    checksum: Hasher,
    length: u64,
}

impl Block {
    /// Bytes of text.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Short(text) => text.len() as u64,
            Self::Long { length, .. } => *length,
        }
    }

    /// Bytes of text that are kept beside a compressed form.
    pub(crate) fn kept_text(&self) -> u64 {
        match self {
            Self::Long {
                text: Some(text), ..
            } => text.len() as u64,
            _ => 0,
        }
    }

    /// Appends the text.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Short(text)
            | Self::Long {
                text: Some(text), ..
            } => out.extend_from_slice(text),
            Self::Long {
                deflated,
                length,
                text: None,
                ..
            } => {
                Inflater::new(deflated.clone(), *length)
                    .for_each(|chunk| out.extend_from_slice(&chunk));
            }
        }
    }

    /// The bytes for a state file. If they are compressed, also the checksum and length of the text.
    pub(crate) fn stored(&self) -> (&Bytes, Option<(u32, u64)>) {
        match self {
            Self::Short(text) => (text, None),
            Self::Long {
                deflated,
                checksum,
                length,
                ..
            } => (deflated, Some((checksum.clone().finalize(), *length))),
        }
    }

    /// The block that another process stored. Returns `None` if these are not the bytes, checksum and length that
    /// [`Block::stored`] returned.
    ///
    /// Inflates all of it, in pieces and not beyond the stated length: a part that ends early or late would damage the
    /// parts that follow it in a body.
    pub(crate) fn restored(bytes: Bytes, deflated: Option<(u32, u64)>) -> Option<Self> {
        let Some((checksum, length)) = deflated else {
            return (bytes.len() < LONG_MIN).then_some(Self::Short(bytes));
        };
        if !bytes.ends_with(SYNC_MARK) || bytes.len() as u64 > length {
            return None;
        }
        let mut sum = Hasher::new();
        let mut inflater = Decompress::new(false);
        let mut text = Vec::with_capacity(CHUNK);
        // To the last byte: bytes after the text would damage the parts that follow.
        while inflater.total_in() < bytes.len() as u64 || inflater.total_out() < length {
            let consumed = usize::try_from(inflater.total_in()).ok()?;
            let before = (inflater.total_in(), inflater.total_out());
            text.clear();
            let status = inflater
                .decompress_vec(&bytes[consumed..], &mut text, FlushDecompress::None)
                .ok()?;
            // A part is not final, so its stream never ends; and each call makes progress.
            let stands = (inflater.total_in(), inflater.total_out()) == before;
            if status == Status::StreamEnd || stands || inflater.total_out() > length {
                return None;
            }
            sum.update(&text);
        }
        // Between two deflate blocks, an empty final block ends the stream. Inside a block, the parts that follow would be
        // read as its content.
        let at_end = (inflater.total_in(), inflater.total_out());
        text.clear();
        let ended = inflater.decompress_vec(END_OF_STREAM, &mut text, FlushDecompress::None);
        let is_between = ended.is_ok_and(|status| status == Status::StreamEnd)
            && inflater.total_in() == at_end.0 + END_OF_STREAM.len() as u64
            && inflater.total_out() == at_end.1;
        (is_between && at_end.1 == length && sum.clone().finalize() == checksum).then_some(
            Self::Long {
                deflated: bytes,
                checksum: Hasher::new_with_initial_len(checksum, length),
                length,
                text: None,
            },
        )
    }

    /// Drops the text if there is a compressed form.
    pub(crate) fn drop_text(&mut self) {
        if let Self::Long { text, .. } = self {
            *text = None;
        }
    }
}

impl BlockWriter {
    pub(crate) fn new() -> Self {
        Self {
            chunk: Vec::new(),
            text: Some(Vec::new()),
            deflater: None,
        }
    }

    /// Buffer to which text is appended. Call [`Self::flush_if_full`] after each line or so.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.chunk
    }

    /// Compresses the buffer if it has a whole chunk.
    pub(crate) fn flush_if_full(&mut self) {
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    pub(crate) fn finish(mut self) -> Block {
        if self.deflater.is_none() && self.chunk.len() < LONG_MIN {
            self.chunk.shrink_to_fit();
            return Block::Short(self.chunk.into());
        }
        self.flush();
        let (deflated, checksum, length) = self.deflater.expect("flushing made one").finish();
        Block::Long {
            deflated,
            checksum,
            length,
            text: self.text.map(Bytes::from),
        }
    }

    fn flush(&mut self) {
        self.deflater
            .get_or_insert_with(Deflater::new)
            .write(&self.chunk);
        if let Some(text) = &mut self.text {
            text.extend_from_slice(&self.chunk);
        }
        self.text.take_if(|text| text.len() > BLOCK_TEXT_MAX);
        self.chunk.clear();
    }
}

impl Default for Member {
    fn default() -> Self {
        Self {
            parts: vec![Bytes::from_static(HEADER)],
            run: Vec::new(),
            checksum: Hasher::new(),
            length: 0,
        }
    }
}

impl Member {
    /// Appends text, to be compressed together with the short texts beside it.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.run.extend_from_slice(text);
        if self.run.len() >= CHUNK {
            self.close_run();
        }
    }

    /// Appends a block.
    pub(crate) fn block(&mut self, block: &Block) {
        match block {
            Block::Short(text) => self.text(text),
            Block::Long {
                deflated,
                checksum,
                length,
                ..
            } => {
                self.close_run();
                self.parts.push(deflated.clone());
                self.checksum.combine(checksum);
                self.length += length;
            }
        }
    }

    /// Compresses what has gathered, so that a copy of this member shares all of its parts.
    pub(crate) fn close_run(&mut self) {
        if !self.run.is_empty() {
            let mut deflater = Deflater::new();
            deflater.write(&self.run);
            let (deflated, checksum, length) = deflater.finish();
            self.parts.push(deflated);
            self.checksum.combine(&checksum);
            self.length += length;
            self.run.clear();
        }
    }

    /// The parts of the whole member, in order.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.close_run();
        let mut trailer = Vec::with_capacity(END_OF_STREAM.len() + 8);
        trailer.extend_from_slice(END_OF_STREAM);
        trailer.extend_from_slice(&self.checksum.finalize().to_le_bytes());
        let length = u32::try_from(self.length % (1 << 32)).expect("the remainder of 2³²");
        trailer.extend_from_slice(&length.to_le_bytes());
        self.parts.push(trailer.into());
        self.parts
    }
}

impl Inflater {
    pub(crate) fn new(deflated: Bytes, length: u64) -> Self {
        Self {
            deflated,
            left: length,
            decompress: Box::new(Decompress::new(false)),
        }
    }
}

impl Iterator for Inflater {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let mut text = Vec::with_capacity(CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK)));
        while text.len() < text.capacity() {
            let consumed =
                usize::try_from(self.decompress.total_in()).expect("an offset into memory");
            self.decompress
                .decompress_vec(&self.deflated[consumed..], &mut text, FlushDecompress::None)
                .expect("deflated by this process");
        }
        self.left -= text.len() as u64;
        Some(text.into())
    }
}

impl Deflater {
    fn new() -> Self {
        Self {
            compress: Compress::new(Compression::fast(), false),
            out: Vec::new(),
            checksum: Hasher::new(),
            length: 0,
        }
    }

    fn write(&mut self, text: &[u8]) {
        self.checksum.update(text);
        self.length += text.len() as u64;
        self.deflate(text, FlushCompress::None);
    }

    fn finish(mut self) -> (Bytes, Hasher, u64) {
        self.deflate(&[], FlushCompress::Sync);
        assert!(
            self.out.ends_with(SYNC_MARK),
            "a part ends with its sync flush, or the parts behind it are lost"
        );
        self.out.shrink_to_fit();
        (self.out.into(), self.checksum, self.length)
    }

    /// Takes all of `text`.
    fn deflate(&mut self, text: &[u8], flush: FlushCompress) {
        let start = self.compress.total_in();
        loop {
            self.out.reserve(ROOM);
            let consumed =
                usize::try_from(self.compress.total_in() - start).expect("within the text");
            match self
                .compress
                .compress_vec(&text[consumed..], &mut self.out, flush)
            {
                Ok(Status::Ok | Status::BufError)
                    if self.compress.total_in() - start == text.len() as u64 =>
                {
                    return;
                }
                Ok(Status::Ok | Status::BufError) => {}
                other => unreachable!("raw deflate of a stream that is not ended never {other:?}"),
            }
        }
    }
}

/// Bytes of text that are compressed or inflated at once. A larger number is not faster, a smaller one needs more
/// calls.
const CHUNK: usize = 64 * 1024;

/// Free bytes of output at each call. If fewer than the compressor's own buffer of 85,196 bytes are free, a sync flush
/// can return incomplete, without an error.
const ROOM: usize = 128 * 1024;

/// End of a sync flush: an empty stored block.
const SYNC_MARK: &[u8] = &[0, 0, 0xff, 0xff];

/// Minimum bytes of text that are worth the state of their own compressor.
const LONG_MIN: usize = 16 * 1024;

/// Text kept beside its compressed form, per block: enough for a tenant of some thousand series. Above the limit, a
/// client that asks for identity costs an inflation at over 1 GB/s, and other clients cost no memory.
const BLOCK_TEXT_MAX: usize = 1024 * 1024;

/// Deflate, no name, no time, unknown operating system.
const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty final block with fixed codes.
const END_OF_STREAM: &[u8] = &[3, 0];

#[cfg(test)]
mod tests;
