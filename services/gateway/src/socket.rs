//! A connection to an upstream that tells the truth: awc takes an end of the stream for the end of a chunked body, and
//! throws an answer away that comes before the whole request was sent. Pooling and HTTP are awc's.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Connector, ConnectorService};
use actix_web::{
    dev::Service,
    http::Uri,
    rt::net::{ActixStream, Ready, TcpStream},
};
use bytes::{Buf, Bytes};
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of an early answer is kept; a problem document fits many times.
const EARLY_BYTES: usize = 16 * 1024;

/// Opens such connections.
#[derive(Clone)]
pub struct Dial(ConnectorService);

impl Dial {
    /// Opens them by the system's resolver.
    pub fn new() -> Self {
        Self(Connector::default().service())
    }
}

impl Service<ConnectInfo<Uri>> for Dial {
    type Response = Connection<Uri, Socket>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, to: ConnectInfo<Uri>) -> Self::Future {
        let dialing = self.0.call(to);
        Box::pin(async move {
            let (stream, request) = dialing.await?.into_parts();
            // A head and a body's first chunk are two writes; the second must not wait for the first one's ACK.
            stream.set_nodelay(true).map_err(ConnectError::Io)?;
            Ok(Connection::new(request, Socket { stream, early: Bytes::new(), deaf: false }))
        })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// What came while the request was still being sent.
    early: Bytes,
    /// The upstream answered and then stopped listening: the rest of the request goes nowhere, the answer is read.
    deaf: bool,
}

impl Socket {
    fn listen(&mut self, cx: &mut Context<'_>) {
        if self.early.is_empty() {
            let mut space = [0; EARLY_BYTES];
            let mut buffer = ReadBuf::new(&mut space);
            // Errors and the end are met again by whoever reads or writes next.
            if matches!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer), Poll::Ready(Ok(()))) {
                self.early = Bytes::copy_from_slice(buffer.filled());
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let length = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            // Every answer tells its length, so that an end is always a break.
            Poll::Ready(Ok(())) if buffer.filled().len() == before => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            polled => polled,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.listen(cx);
        if this.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut this.stream).poll_write(cx, bytes) {
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                ) && this.early.has_remaining() =>
            {
                this.deaf = true;
                Poll::Ready(Ok(bytes.len()))
            }
            polled => polled,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl ActixStream for Socket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.poll_read_ready(cx).map_ok(|()| Ready::READABLE)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.poll_write_ready(cx).map_ok(|()| Ready::WRITABLE)
    }
}
