//! A body that is sent while it comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// A body of known size whose chunks come from a request.
pub(super) struct Chunks {
    pub(super) chunks: mpsc::Receiver<Result<Bytes, std::io::Error>>,
    pub(super) left_bytes: u64,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let chunk = match ready!(self.chunks.poll_recv(context)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None if self.left_bytes == 0 => return Poll::Ready(None),
            None => return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
        };
        let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.left_bytes = match self.left_bytes.checked_sub(size) {
            Some(left) => left,
            None => return Poll::Ready(Some(Err(std::io::ErrorKind::FileTooLarge.into()))),
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}
