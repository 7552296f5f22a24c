//! Response bodies. All bytes of a body exist before the response begins.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::RequestGuard;
use crate::snapshot;

/// The body of any response. Its guard counts the request as open until hyper has the whole body.
pub(super) struct ResponseBody {
    /// Rest of the part that is being sent.
    part: Bytes,
    /// The parts after the current one.
    parts: Option<snapshot::Parts>,
    /// Number of bytes that are not sent yet.
    length: u64,
    guard: RequestGuard,
}

impl ResponseBody {
    pub(super) fn whole(bytes: impl Into<Bytes>, guard: RequestGuard) -> Self {
        let part = bytes.into();
        guard.step();
        Self {
            length: part.len() as u64,
            part,
            parts: None,
            guard,
        }
    }

    pub(super) fn prepared(body: snapshot::Body, guard: RequestGuard) -> Self {
        guard.step();
        Self {
            length: body.length,
            part: Bytes::new(),
            parts: Some(body.parts),
            guard,
        }
    }

    pub(super) fn clear(&mut self) {
        (self.part, self.parts, self.length) = (Bytes::new(), None, 0);
    }

    /// Returns the size of the next frame of a part. Over HTTP/2 frames are small, so that each frame shows progress.
    /// The last byte is a frame of its own. hyper takes a frame as soon as the client has room for one byte. Without
    /// this extra frame, a response would seem complete before the client has room for all of it.
    fn frame_size(&self) -> usize {
        let size = self.part.len();
        if !self.guard.is_http2() {
            return size;
        }
        let size = size.min(FRAME_MAX);
        if size > 1 && size as u64 == self.length {
            size - 1
        } else {
            size
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.guard.step();
        if self.part.is_empty() {
            let next = self.parts.as_mut();
            match next.and_then(|parts| parts.find(|part| !part.is_empty())) {
                Some(part) => self.part = part,
                None => return Poll::Ready(None),
            }
        }
        let size = self.frame_size();
        let frame = self.part.split_to(size);
        self.length = self.length.saturating_sub(size as u64);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// Maximum bytes of a frame over HTTP/2. It is the default limit of the protocol.
const FRAME_MAX: usize = 16 * 1024;
