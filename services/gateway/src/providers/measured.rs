//! The body of an answer of a service provider's: its bytes are counted, and whether it was sent whole.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    http::StatusCode,
};
use bytes::Bytes;

use super::provider::Call;

/// A body that is counted.
pub struct Measured {
    body: BoxBody,
    left_bytes: Option<u64>,
    fine: bool,
    call: Call,
}

impl Measured {
    /// Counts `body` for `call`.
    pub fn new(body: BoxBody, status: StatusCode, is_head: bool, mut call: Call) -> Self {
        let fine = !status.is_server_error();
        let left_bytes = match body.size() {
            _ if is_head => Some(0),
            BodySize::None => Some(0),
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
        // Nobody may ask for a body that is empty.
        if fine && left_bytes == Some(0) {
            call.succeeded();
        }
        Self { body, left_bytes, fine, call }
    }
}

impl MessageBody for Measured {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_next(cx);
        let whole = match &polled {
            Poll::Ready(Some(Ok(chunk))) => {
                this.call.sent(chunk.len());
                let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                this.left_bytes = this.left_bytes.map(|left| left.saturating_sub(length));
                // With the last byte nobody asks again.
                this.left_bytes == Some(0)
            }
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if whole && this.fine {
            this.call.succeeded();
        }
        polled
    }
}
