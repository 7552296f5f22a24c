//! What a response sends: bytes that exist already.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::connection::Turn;
use crate::snapshot;

/// The body of every response. Keeps its turn until hyper has taken all of it.
#[derive(Debug)]
pub(super) struct ResponseBody {
    parts: Content,
    /// Bytes that are still to come.
    length: u64,
    _turn: Turn,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Parts(snapshot::Parts),
}

impl ResponseBody {
    pub(super) fn whole(bytes: impl Into<Bytes>, turn: Turn) -> Self {
        let bytes = bytes.into();
        Self {
            length: bytes.len() as u64,
            parts: Content::Whole(bytes),
            _turn: turn,
        }
    }

    /// Sends nothing.
    pub(super) fn clear(&mut self) {
        self.parts = Content::Whole(Bytes::new());
        self.length = 0;
    }

    pub(super) fn prepared(body: snapshot::Body, turn: Turn) -> Self {
        Self {
            length: body.length,
            parts: Content::Parts(body.parts),
            _turn: turn,
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
        let part = match &mut self.parts {
            Content::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Content::Parts(parts) => parts.find(|part| !part.is_empty()),
        };
        Poll::Ready(part.map(|part| {
            self.length = self.length.saturating_sub(part.len() as u64);
            Ok(Frame::data(part))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
