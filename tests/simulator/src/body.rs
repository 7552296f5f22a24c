//! Bodies of responses, including ones that stall, arrive slowly, are cut off or never end.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compress, Compression, FlushCompress};
use hyper::body::Frame;
use tokio::time::Sleep;

/// A body of unknown length, so that it is sent in chunks as Graph does: a few steps, taken one by one.
#[derive(Default)]
pub(super) struct Body {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
}

enum Step {
    Data(Bytes),
    Repeat(Bytes, u64),
    Pause(Duration),
    /// Yields, so that the connection sends its buffer.
    Flush,
    Stall,
    Cut,
}

impl Body {
    pub(super) fn whole(bytes: Vec<u8>) -> Self {
        Self::default().then(Step::Data(bytes.into()))
    }

    pub(super) fn stalling(bytes: &[u8]) -> Self {
        let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
        Self::default().then(Step::Data(half)).then(Step::Stall)
    }

    pub(super) fn cut(bytes: &[u8]) -> Self {
        let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
        Self::default()
            .then(Step::Data(half))
            .then(Step::Flush)
            .then(Step::Cut)
    }

    pub(super) fn dripping(bytes: &[u8], piece: usize, pause: Duration) -> Self {
        let mut body = Self::default();
        for piece in bytes.chunks(piece.max(1)) {
            body = body
                .then(Step::Pause(pause))
                .then(Step::Data(Bytes::copy_from_slice(piece)));
        }
        body
    }

    /// A JSON object with a long field before all others.
    pub(super) fn huge(object: &[u8], length: u64) -> Self {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let rest = usize::try_from(length % PIECE as u64).expect("less than a piece");
        let mut end = vec![b'x'; rest];
        end.extend_from_slice(b"\",");
        end.extend_from_slice(object.strip_prefix(b"{").unwrap_or(object));
        Self::default()
            .then(Step::Data(Bytes::from_static(b"{\"padding\":\"")))
            .then(Step::Repeat(piece, length / PIECE as u64))
            .then(Step::Data(end.into()))
    }

    /// Gzip of a page without rows, with white space between its brackets.
    ///
    /// A full flush resets the compressor, so one compressed piece can be sent repeatedly. A bomb of any size needs no more
    /// memory and time than a small one.
    pub(super) fn gzip_bomb(length: u64) -> Self {
        let blank = vec![b' '; PIECE];
        let times = length.div_ceil(PIECE as u64);
        let (begin, end) = (b"{\"value\":[".as_slice(), b"]}".as_slice());
        let mut sum = crc32fast::Hasher::new();
        sum.update(begin);
        let mut piece_sum = crc32fast::Hasher::new();
        piece_sum.update(&blank);
        for _ in 0..times {
            sum.combine(&piece_sum);
        }
        sum.update(end);
        let size = begin.len() as u64 + times * PIECE as u64 + end.len() as u64;
        let mut head = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
        head.extend(flushed(begin));
        let mut tail = finished(end);
        tail.extend_from_slice(&sum.finalize().to_le_bytes());
        tail.extend_from_slice(&size.to_le_bytes()[..4]);
        Self::default()
            .then(Step::Data(head.into()))
            .then(Step::Repeat(flushed(&blank).into(), times))
            .then(Step::Data(tail.into()))
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Repeat(_, 0)) => {}
                Some(Step::Repeat(data, times)) => {
                    self.steps.push_front(Step::Repeat(data.clone(), times - 1));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Step::Pause(pause)) => {
                    self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
                }
                Some(Step::Flush) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Stall) => {
                    // No waker: only the end of the connection ends this.
                    self.steps.push_front(Step::Stall);
                    return Poll::Pending;
                }
                Some(Step::Cut) => {
                    return Poll::Ready(Some(Err(io::Error::other("a body was to be cut"))));
                }
            }
        }
    }
}

/// Gzip like that of a server, fast rather than small.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// Deflate blocks that end on a byte and refer to nothing outside.
fn flushed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    Compress::new(Compression::best(), false)
        .compress_vec(bytes, &mut out, FlushCompress::Full)
        .expect("memory takes all");
    out
}

fn finished(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_bomb_is_sound_gzip_of_a_page_without_rows() {
        let bytes = Body::gzip_bomb(1_000_000)
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert!(bytes.len() < 10_000, "{}", bytes.len());
        let mut page = String::new();
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_string(&mut page)
            .unwrap();
        assert!(page.len() > 1_000_000);
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        assert_eq!(page, serde_json::json!({"value": []}));
    }

    #[tokio::test]
    async fn a_huge_page_is_as_huge_as_asked_for() {
        let bytes = Body::huge(b"{\"value\":[]}", 200_001)
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let page: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(page["padding"].as_str().unwrap().len(), 200_001);
        assert_eq!(page["value"], serde_json::json!([]));
    }
}
