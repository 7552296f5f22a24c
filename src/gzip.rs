//! A gzip member that consists of separately compressed parts.
//!
//! A part is raw deflate that ends with a sync flush. It ends at a byte boundary, has no final block, and does not
//! refer to earlier text, so parts can be stored and combined in any order. An empty final block, the checksum and the
//! length end the member ([RFC 1951], [RFC 1952]). The checksum is combined from the checksums of the parts. Several
//! members in succession would be simpler, but `curl --compressed` silently drops all members after the first.
//!
//! [RFC 1951]: https://www.rfc-editor.org/rfc/rfc1951
//! [RFC 1952]: https://www.rfc-editor.org/rfc/rfc1952

use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use parking_lot::Mutex;

/// Finished text. Long text is compressed.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// Short text, compressed together with its neighbours when a body is assembled.
    Short(Bytes),
    /// Long text, compressed while it was written. The uncompressed text is kept too if it has at most
    /// [`BLOCK_TEXT_MAX`] bytes.
    Long { deflated: Deflated, text: KeptText },
}

/// The uncompressed text of a long block. `None` if it is too long, was dropped, or if the block was restored from a
/// file. All clones of a block share it, so dropping it in one clone frees its memory. The lock is held only while the
/// reference is cloned or taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptText(Arc<Mutex<Option<Bytes>>>);

impl KeptText {
    pub(crate) fn get(&self) -> Option<Bytes> {
        self.0.lock().clone()
    }
}

/// A part of a gzip member.
#[derive(Clone, Debug)]
pub(crate) struct Deflated {
    bytes: Bytes,
    /// Checksum of the uncompressed text.
    checksum: Hasher,
    /// Bytes of uncompressed text.
    pub(crate) length: u64,
}

/// Writes the text of a [`Block`]. Holds at most [`BLOCK_TEXT_MAX`] bytes of uncompressed text, plus a few times
/// [`CHUNK`] bytes.
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
            Self::Long { deflated, .. } => deflated.length,
        }
    }

    /// Bytes of uncompressed text that are kept in addition to the compressed text.
    pub(crate) fn kept_text(&self) -> u64 {
        match self {
            Self::Short(_) => 0,
            Self::Long { text, .. } => text.get().map_or(0, |text| text.len() as u64),
        }
    }

    /// Appends the uncompressed text to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Short(text) => out.extend_from_slice(text),
            Self::Long { deflated, text } => match text.get() {
                Some(text) => out.extend_from_slice(&text),
                None => Inflater::new(deflated).for_each(|chunk| out.extend_from_slice(&chunk)),
            },
        }
    }

    /// Returns the bytes for a state file and, if they are compressed, the checksum and the length of the uncompressed
    /// text.
    pub(crate) fn stored(&self) -> (&Bytes, Option<(u32, u64)>) {
        match self {
            Self::Short(text) => (text, None),
            Self::Long { deflated, .. } => {
                let checksum = deflated.checksum.clone().finalize();
                (&deflated.bytes, Some((checksum, deflated.length)))
            }
        }
    }

    /// Restores a block from a state file. Returns `None` if the arguments cannot be a result of [`Block::stored`].
    ///
    /// Inflates the whole block to check it, because a part that ends early or late would damage the parts after it in
    /// a body. Inflates in chunks and not beyond the stated length, so that a wrong file cannot exhaust the memory.
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
        // Reads to the last compressed byte, because bytes after the text would damage the parts that follow.
        while inflater.total_in() < bytes.len() as u64 || inflater.total_out() < length {
            let consumed = usize::try_from(inflater.total_in()).ok()?;
            let before = (inflater.total_in(), inflater.total_out());
            text.clear();
            let status = inflater
                .decompress_vec(&bytes[consumed..], &mut text, FlushDecompress::None)
                .ok()?;
            // A valid part has no final block, so the end of the stream is an error. So is a call without progress.
            let stands = (inflater.total_in(), inflater.total_out()) == before;
            if status == Status::StreamEnd || stands || inflater.total_out() > length {
                return None;
            }
            sum.update(&text);
        }
        // Appends an empty final block, which ends the stream only if the part ends between two deflate blocks. If it
        // ended inside a block, the parts that follow would be read as content of that block.
        let at_end = (inflater.total_in(), inflater.total_out());
        text.clear();
        let ended = inflater.decompress_vec(END_OF_STREAM, &mut text, FlushDecompress::None);
        let is_between = ended.is_ok_and(|status| status == Status::StreamEnd)
            && inflater.total_in() == at_end.0 + END_OF_STREAM.len() as u64
            && inflater.total_out() == at_end.1;
        let deflated = Deflated {
            bytes,
            checksum: sum.clone(),
            length,
        };
        (is_between && at_end.1 == length && sum.finalize() == checksum).then_some(Self::Long {
            deflated,
            text: KeptText::default(),
        })
    }

    /// Drops the uncompressed text of this block and its clones if there is compressed text.
    pub(crate) fn drop_text(&self) {
        if let Self::Long { text, .. } = self {
            // Frees the text after unlocking.
            let dropped = text.0.lock().take();
            drop(dropped);
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

    /// Appends a few lines, which `write` writes. Compresses the text if there are at least [`CHUNK`] bytes.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.chunk);
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
        Block::Long {
            deflated: self.deflater.expect("flushing made one").finish(),
            text: KeptText(Arc::new(Mutex::new(self.text.map(Bytes::from)))),
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
    /// Appends a short text. Successive short texts are compressed together.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.run.extend_from_slice(text);
        if self.run.len() >= CHUNK {
            self.close_run();
        }
    }

    pub(crate) fn block(&mut self, block: &Block) {
        match block {
            Block::Short(text) => self.text(text),
            Block::Long { deflated, .. } => {
                self.close_run();
                self.push(deflated);
            }
        }
    }

    /// Compresses the short texts that were appended last. Call this before the member is cloned. The clones then share
    /// the compressed text, and need not compress it again.
    pub(crate) fn close_run(&mut self) {
        if !self.run.is_empty() {
            let mut deflater = Deflater::new();
            deflater.write(&self.run);
            self.push(&deflater.finish());
            self.run.clear();
        }
    }

    fn push(&mut self, deflated: &Deflated) {
        self.parts.push(deflated.bytes.clone());
        self.checksum.combine(&deflated.checksum);
        self.length += deflated.length;
    }

    /// Ends the member and returns its parts in order.
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
    pub(crate) fn new(deflated: &Deflated) -> Self {
        Self {
            deflated: deflated.bytes.clone(),
            left: deflated.length,
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

    fn finish(mut self) -> Deflated {
        self.deflate(&[], FlushCompress::Sync);
        assert!(
            self.out.ends_with(SYNC_MARK),
            "a part must end with its sync flush, or the parts after it are lost"
        );
        self.out.shrink_to_fit();
        Deflated {
            bytes: self.out.into(),
            checksum: self.checksum,
            length: self.length,
        }
    }

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
                other => unreachable!("deflate of an unfinished stream returned {other:?}"),
            }
        }
    }
}

/// Bytes of text that are compressed or inflated at once. A larger number is not faster, and a smaller number needs
/// more calls.
const CHUNK: usize = 64 * 1024;

/// Minimum free bytes of the output buffer at each call. With fewer free bytes than the compressor's own buffer has
/// (85,196), a sync flush can be incomplete without an error.
const ROOM: usize = 128 * 1024;

/// End of a sync flush: an empty stored block.
const SYNC_MARK: &[u8] = &[0, 0, 0xff, 0xff];

/// Minimum bytes of text for which creating a compressor is worthwhile.
const LONG_MIN: usize = 16 * 1024;

/// Maximum bytes of uncompressed text that a block keeps, enough for a tenant with some thousand series. Longer text is
/// only kept compressed, to save memory. It is inflated, at over 1 GB/s, for each client without gzip.
const BLOCK_TEXT_MAX: usize = 1024 * 1024;

/// Header of the member: deflate, no file name, no time, unknown operating system.
const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty final deflate block with fixed Huffman codes.
const END_OF_STREAM: &[u8] = &[3, 0];

#[cfg(test)]
mod tests;
