//! The end of an HTTP/2 connection when the process drains. The server of HTTP/2 does not end its connections by itself: the notice (GOAWAY, RFC 9113,
//! section 6.8) is written between two of its frames here, and the connection ends once nothing is at work on it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use orrery_web::drain::Drain;
use tokio::time::Instant;

/// How long a connection that was told to end is kept without a request at work: what the client sent before it read the notice arrives meanwhile.
const LAST: Duration = Duration::from_millis(500);

/// The head of a frame: three bytes of length, then type, flags and stream.
const HEAD_BYTES: usize = 9;

/// GOAWAY without an error, which refuses no stream that is under way: the last stream is the highest there can be.
const NOTICE: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// What a connection knows of the end.
pub struct Farewell {
    begun: Option<Pin<Box<dyn Future<Output = ()>>>>,
    due: bool,
    told: Option<Instant>,
    written: Frames,
}

impl Farewell {
    /// Of a connection that was just opened.
    pub fn new(drain: &Drain) -> Self {
        Self { begun: Some(Box::pin(drain.begun())), due: false, told: None, written: Frames::default() }
    }

    /// When the connection ends if nothing is at work on it since `idle_since`; none while the client was not told, or a frame is not written whole.
    pub fn ends(&self, idle_since: Instant) -> Option<Instant> {
        self.told.filter(|_| self.written.is_whole()).map(|told| told.max(idle_since) + LAST)
    }

    /// The notice, once, when it is time for it.
    pub fn poll_notice(&mut self, cx: &mut Context<'_>) -> Option<&'static [u8]> {
        if let Some(begun) = &mut self.begun
            && let Poll::Ready(()) = begun.as_mut().poll(cx)
        {
            self.begun = None;
            self.due = true;
        }
        // The server's first frame has to be its settings.
        if !self.due || !self.written.is_whole() || !self.written.any {
            return None;
        }
        self.due = false;
        self.told = Some(Instant::now());
        Some(&NOTICE)
    }

    /// What the server of HTTP/2 has written.
    pub fn wrote(&mut self, bytes: &[u8]) {
        self.written.pass(bytes);
    }
}

/// Where in its frames a stream of bytes is.
#[derive(Debug, Default)]
struct Frames {
    /// Whether there was a frame.
    any: bool,
    head: [u8; HEAD_BYTES],
    /// How much of the head has come.
    head_bytes: usize,
    /// What lacks of the frame behind its head.
    left_bytes: usize,
}

impl Frames {
    fn is_whole(&self) -> bool {
        self.head_bytes == 0 && self.left_bytes == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left_bytes > 0 {
                let (_, after) = bytes.split_at(self.left_bytes.min(bytes.len()));
                self.left_bytes -= bytes.len() - after.len();
                bytes = after;
                continue;
            }
            if let Some(place) = self.head.get_mut(self.head_bytes) {
                *place = *first;
            }
            self.head_bytes += 1;
            bytes = rest;
            if self.head_bytes == HEAD_BYTES {
                let [high, middle, low, ..] = self.head;
                self.left_bytes = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.head_bytes = 0;
                self.any = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, 0, 0, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + usize::from(length), 7);
        frame
    }

    #[test]
    fn the_notice_comes_between_two_frames_however_they_are_cut() {
        let bytes = [frame(0), frame(5), frame(200)].concat();
        let whole = [0, 9, 9 + 14, 9 + 14 + 209];
        for step in 1..bytes.len() {
            let (mut frames, mut passed) = (Frames::default(), 0);
            for piece in bytes.chunks(step) {
                frames.pass(piece);
                passed += piece.len();
                assert_eq!(frames.is_whole(), whole.contains(&passed), "{passed} bytes in steps of {step}");
            }
        }
    }

    #[test]
    fn it_is_said_once_and_after_the_settings() {
        let drain = Drain::default();
        let mut farewell = Farewell::new(&drain);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        drain.begin();
        assert_eq!(farewell.poll_notice(&mut cx), None);
        assert!(farewell.ends(Instant::now()).is_none());
        farewell.wrote(&frame(6));
        assert_eq!(farewell.poll_notice(&mut cx), Some(&NOTICE[..]));
        assert!(farewell.ends(Instant::now()).is_some());
        assert_eq!(farewell.poll_notice(&mut cx), None);
    }
}
