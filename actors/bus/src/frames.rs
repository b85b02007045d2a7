//! Room for frames that are larger than was agreed: a header frame may have as many bytes as its publisher agreed on with the broker, and the broker
//! adds headers of its own (`x-death`) without splitting it. lapin ends a connection on which such a frame arrives, and the message that it is
//! of would end every next one as well. So who reads is told a larger limit than the broker's, and the broker hears its own.
//!
//! Only the handshake is looked at (AMQP 0.9.1, sections 4.2.3 and 1.4.2.5): `connection.tune` on its way in, `connection.tune-ok` on its way out.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, Tokio,
    traits::{Reactor, RuntimeKit},
    util::RuntimeParts,
};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::{AsyncTcpStream, runtime::default_runtime};

/// How much the broker may add to a frame of a publisher's: its own headers, for each queue that a message died in.
const ROOM_BYTES: u32 = 64 * 1024;
/// No frame is larger, whatever the broker allows or does not limit: lapin has room for 32 of them, twice.
const LARGEST_BYTES: u32 = 4 * 1024 * 1024;
/// What stands before a frame's payload, and all that is not payload.
const HEAD: usize = 7;
const OVERHEAD: usize = 8;
/// No frame of the handshake is larger; what is, is none, and passes untouched.
const MOST: usize = 64 * 1024;
/// How a connection begins on its way out.
const PROTOCOL: &[u8] = b"AMQP";
/// `connection.tune` and `connection.tune-ok`: class and method.
const TUNE: [u8; 4] = [0, 10, 0, 30];
const TUNE_OK: [u8; 4] = [0, 10, 0, 31];
/// Where both say the largest frame, after class, method and the number of channels.
const FRAME_MAX_AT: usize = HEAD + 4 + 2;

type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// The runtime of a connection whose frames have room.
pub type Kit = RuntimeParts<Tokio, Roomy>;

/// Tokio's reactor, whose streams tell lapin of the larger limit.
#[derive(Debug, Clone)]
pub struct Roomy(Tokio, Limit);

/// The largest frame of the broker, as it was said last; 0 is no limit. Clones share it.
#[derive(Debug, Clone)]
pub struct Limit(Arc<AtomicU32>);

impl Default for Limit {
    /// RabbitMQ's own default.
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(128 * 1024)))
    }
}

impl Limit {
    /// What lapin is told of it.
    pub fn with_room(&self) -> u32 {
        with_room(self.0.load(Ordering::Relaxed))
    }
}

/// The stream to the broker, TLS and all.
pub struct FrameRoom {
    socket: Socket,
    incoming: Handshake,
    outgoing: Handshake,
    /// What the broker said, if it has a limit.
    told: Option<u32>,
    /// For the next connection.
    limit: Limit,
}

/// One direction until its frame has passed: bytes that are no whole frame yet, and bytes that go on.
#[derive(Debug, Default)]
struct Handshake {
    is_over: bool,
    gathered: Vec<u8>,
    ready: Vec<u8>,
}

/// The runtime to open such a connection on; call it on the main runtime.
pub fn runtime(limit: &Limit) -> Runtime<Kit> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Roomy(Tokio::current(), limit.clone())))
}

/// Connects as lapin does.
pub async fn connect(
    uri: lapin::uri::AMQPUri,
    tls: lapin::tcp::OwnedTLSConfig,
    limit: Limit,
) -> lapin::Result<AsyncTcpStream<FrameRoom>> {
    use lapin::tcp::AMQPUriTcpExt;
    let runtime = default_runtime()?;
    let socket = uri.connect_with_config_async(tls.as_ref(), &runtime).await.map_err(lapin::Error::from)?;
    Ok(AsyncTcpStream::Plain(FrameRoom::new(socket, limit)))
}

impl Reactor for Roomy {
    type TcpStream = FrameRoom;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<FrameRoom>> + Send + 'static {
        let (connecting, limit) = (self.0.tcp_connect_addr(address), self.1.clone());
        async move { Ok(FrameRoom::new(AsyncTcpStream::Plain(connecting.await?), limit)) }
    }
}

impl Handshake {
    /// Takes bytes, and has each whole frame changed by `frame`, which says whether it was the last that matters.
    fn take(&mut self, bytes: &[u8], mut frame: impl FnMut(&mut [u8]) -> bool) {
        self.gathered.extend_from_slice(bytes);
        while !self.is_over {
            let Some(length) = whole(&self.gathered) else { return };
            let rest = self.gathered.split_off(length.min(self.gathered.len()));
            let mut whole = std::mem::replace(&mut self.gathered, rest);
            self.is_over = length > MOST || frame(&mut whole);
            self.ready.append(&mut whole);
        }
        self.ready.append(&mut self.gathered);
    }
}

/// How long the first frame is, once all of it is there; what is no frame of a handshake counts as one that is too long.
fn whole(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(PROTOCOL) {
        return (bytes.len() >= 8).then_some(8);
    }
    if PROTOCOL.starts_with(bytes) {
        return None;
    }
    let size = bytes.get(3..HEAD)?.first_chunk::<4>().map(|size| u32::from_be_bytes(*size))?;
    let length = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(OVERHEAD);
    if length > MOST {
        return Some(usize::MAX);
    }
    (bytes.len() >= length).then_some(length)
}

/// The largest frame of a `tune` or `tune-ok`.
fn frame_max(frame: &mut [u8], method: [u8; 4]) -> Option<&mut [u8; 4]> {
    if frame.get(HEAD..HEAD + 4)? != method {
        return None;
    }
    frame.get_mut(FRAME_MAX_AT..)?.first_chunk_mut()
}

/// What lapin is told of a broker's limit; 0 is none.
fn with_room(limit: u32) -> u32 {
    if limit == 0 { LARGEST_BYTES } else { limit.saturating_add(ROOM_BYTES).min(LARGEST_BYTES) }
}

impl FrameRoom {
    fn new(socket: Socket, limit: Limit) -> Self {
        Self { socket, incoming: Handshake::default(), outgoing: Handshake::default(), told: None, limit }
    }

    fn came(&mut self, bytes: &[u8]) {
        let (told, known) = (&mut self.told, &self.limit.0);
        self.incoming.take(bytes, |frame| {
            let Some(bytes) = frame_max(frame, TUNE) else { return false };
            let limit = u32::from_be_bytes(*bytes);
            *told = (limit > 0).then_some(limit);
            known.store(limit, Ordering::Relaxed);
            *bytes = with_room(limit).to_be_bytes();
            true
        });
    }

    fn goes(&mut self, bytes: &[u8]) {
        let told = self.told;
        self.outgoing.take(bytes, |frame| {
            let Some(bytes) = frame_max(frame, TUNE_OK) else { return false };
            if let Some(limit) = told {
                *bytes = u32::from_be_bytes(*bytes).min(limit).to_be_bytes();
            }
            true
        });
    }

    /// Writes what of the handshake is ready.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.ready.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &self.outgoing.ready))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.ready.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for FrameRoom {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.incoming.ready.is_empty() && !self.incoming.is_over {
            let mut bytes = [0; 4096];
            let read = ready!(Pin::new(&mut self.socket).poll_read(context, &mut bytes))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            self.came(bytes.get(..read).unwrap_or_default());
        }
        if self.incoming.ready.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        let read = self.incoming.ready.as_slice().read(buffer)?;
        self.incoming.ready.drain(..read);
        Poll::Ready(Ok(read))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.incoming.is_over && self.incoming.ready.is_empty() {
            return Pin::new(&mut self.socket).poll_read_vectored(context, buffers);
        }
        match buffers.iter_mut().find(|buffer| !buffer.is_empty()) {
            Some(buffer) => self.poll_read(context, buffer),
            None => Poll::Ready(Ok(0)),
        }
    }
}

impl AsyncWrite for FrameRoom {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(context))?;
        if self.outgoing.is_over {
            return Pin::new(&mut self.socket).poll_write(context, bytes);
        }
        self.goes(bytes);
        // What does not go at once goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_ready(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.is_over && self.outgoing.ready.is_empty() {
            return Pin::new(&mut self.socket).poll_write_vectored(context, buffers);
        }
        match buffers.iter().find(|buffer| !buffer.is_empty()) {
            Some(buffer) => self.poll_write(context, buffer),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(context))?;
        Pin::new(&mut self.socket).poll_close(context)
    }
}

/// What lapin asks of a runtime.
const _: fn() = || {
    fn is_kit<K: RuntimeKit + Send + Sync + Clone + 'static>() {}
    is_kit::<Kit>();
};

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(method: [u8; 4], frame_max: u32) -> Vec<u8> {
        let mut frame = vec![1, 0, 0, 0, 0, 0, 12];
        frame.extend(method);
        frame.extend(2047_u16.to_be_bytes());
        frame.extend(frame_max.to_be_bytes());
        frame.extend(60_u16.to_be_bytes());
        frame.push(0xce);
        frame
    }

    fn start() -> Vec<u8> {
        vec![1, 0, 0, 0, 0, 0, 5, 0, 10, 0, 10, 9, 0xce]
    }

    #[test]
    fn the_reader_hears_of_room_and_the_broker_of_its_own_limit_however_the_bytes_come() {
        let other = vec![1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 41, 0xce];
        for step in [1, 3, 7, 1000] {
            let (mut incoming, mut outgoing) = (Handshake::default(), Handshake::default());
            let mut told = None;
            for bytes in [start(), frame(TUNE, 131_072), other.clone()].concat().chunks(step) {
                incoming.take(bytes, |frame| {
                    let Some(bytes) = frame_max(frame, TUNE) else { return false };
                    told = Some(u32::from_be_bytes(*bytes));
                    *bytes = (131_072 + ROOM_BYTES).to_be_bytes();
                    true
                });
            }
            assert_eq!(incoming.ready, [start(), frame(TUNE, 131_072 + ROOM_BYTES), other.clone()].concat());
            let begin = [b"AMQP\0\0\x09\x01".to_vec(), start()].concat();
            for bytes in
                [begin.clone(), frame(TUNE_OK, 131_072 + ROOM_BYTES), other.clone()].concat().chunks(step)
            {
                outgoing.take(bytes, |frame| {
                    let Some(bytes) = frame_max(frame, TUNE_OK) else { return false };
                    *bytes = u32::from_be_bytes(*bytes).min(told.unwrap()).to_be_bytes();
                    true
                });
            }
            assert_eq!(outgoing.ready, [begin, frame(TUNE_OK, 131_072), other.clone()].concat());
            assert!(incoming.is_over && outgoing.is_over);
        }
    }

    #[test]
    fn room_is_bounded_also_where_the_broker_has_no_limit() {
        assert_eq!(
            [0, u32::MAX, 131_072].map(with_room),
            [LARGEST_BYTES, LARGEST_BYTES, 131_072 + ROOM_BYTES]
        );
    }

    #[test]
    fn what_is_no_handshake_passes_as_it_is() {
        let mut incoming = Handshake::default();
        let bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
        incoming.take(&bytes, |_| false);
        assert_eq!((incoming.ready, incoming.is_over), (bytes, true));
    }
}
