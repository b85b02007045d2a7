//! The frames of a WebSocket as a client sends them (RFC 6455): fragments are put together, and nothing larger than the limit is kept.

use actix_http::ws::{OpCode, Parser, ProtocolError};
use bytes::{Bytes, BytesMut};

use super::Close;

/// The longest head of a frame.
const HEAD_BYTES: usize = 14;

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Text; whether it is UTF-8 is not looked at.
    Text(Bytes),
    /// A ping, to be answered.
    Ping(Bytes),
    /// The answer to one.
    Pong(Bytes),
    /// The client takes its leave.
    Close,
}

/// Puts messages together out of what comes.
pub struct Frames {
    buffer: BytesMut,
    /// The fragments of a text that is not whole yet.
    begun: Option<BytesMut>,
    limit: usize,
}

impl Frames {
    /// Takes messages up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), begun: None, limit }
    }

    /// More has come.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// With what the socket is to be closed.
    pub fn next(&mut self) -> Result<Option<Message>, Close> {
        loop {
            let parsed = Parser::parse(&mut self.buffer, true, self.limit).map_err(|error| match error {
                ProtocolError::Overflow => Close::TooLarge,
                _ => Close::Protocol,
            })?;
            let Some((is_last, code, payload)) = parsed else {
                // The parser waits for the whole of a frame that will be refused anyhow.
                let is_too_large = self.buffer.len() > self.limit + HEAD_BYTES;
                return if is_too_large { Err(Close::TooLarge) } else { Ok(None) };
            };
            let payload = payload.unwrap_or_default();
            match code {
                OpCode::Text if self.begun.is_some() => return Err(Close::Protocol),
                OpCode::Text if is_last => return Ok(Some(Message::Text(payload.freeze()))),
                OpCode::Text => self.begun = Some(payload),
                OpCode::Continue => {
                    let mut whole = self.begun.take().ok_or(Close::Protocol)?;
                    if whole.len() + payload.len() > self.limit {
                        return Err(Close::TooLarge);
                    }
                    whole.extend_from_slice(&payload);
                    if is_last {
                        return Ok(Some(Message::Text(whole.freeze())));
                    }
                    self.begun = Some(whole);
                }
                OpCode::Binary => return Err(Close::Unsupported),
                OpCode::Ping | OpCode::Pong | OpCode::Close if !is_last => return Err(Close::Protocol),
                OpCode::Ping => return Ok(Some(Message::Ping(payload.freeze()))),
                OpCode::Pong => return Ok(Some(Message::Pong(payload.freeze()))),
                OpCode::Close => {
                    Parser::try_parse_close_payload(&payload).map_err(|_| Close::Protocol)?;
                    return Ok(Some(Message::Close));
                }
                OpCode::Bad => return Err(Close::Protocol),
            }
        }
    }

    /// Lets go of the memory of an idle socket.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: OpCode, is_last: bool, payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        Parser::write_message(&mut bytes, payload, code, is_last, true);
        bytes
    }

    fn read(limit: usize, parts: &[BytesMut]) -> Result<Vec<Message>, Close> {
        let (mut frames, mut messages) = (Frames::new(limit), Vec::new());
        for byte in parts.iter().flat_map(|part| part.iter()) {
            frames.extend(&[*byte]);
            while let Some(message) = frames.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn fragments_are_put_together_and_pings_may_come_between() {
        let parts = [
            frame(OpCode::Text, false, b"he"),
            frame(OpCode::Ping, true, b"?"),
            frame(OpCode::Continue, false, b"l"),
            frame(OpCode::Continue, true, b"lo"),
            frame(OpCode::Text, true, b"x"),
        ];
        let (ping, hello, x) = (
            Message::Ping(Bytes::from_static(b"?")),
            Message::Text(Bytes::from_static(b"hello")),
            Message::Text(Bytes::from_static(b"x")),
        );
        assert_eq!(read(5, &parts), Ok(vec![ping, hello, x]));
    }

    #[test]
    fn nothing_larger_than_the_limit_is_kept() {
        assert_eq!(read(4, &[frame(OpCode::Text, true, b"12345")]), Err(Close::TooLarge));
        let parts = [frame(OpCode::Text, false, b"123"), frame(OpCode::Continue, true, b"45")];
        assert_eq!(read(4, &parts), Err(Close::TooLarge));
        // A head that tells of much more than ever comes.
        let mut frames = Frames::new(16);
        frames.extend(&[0x81, 0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(frames.next(), Ok(None));
        frames.extend(&[0; 32]);
        assert_eq!(frames.next(), Err(Close::TooLarge));
    }

    #[test]
    fn what_breaks_the_protocol_closes_the_socket() {
        let mut unmasked = BytesMut::new();
        Parser::write_message(&mut unmasked, b"x", OpCode::Text, true, false);
        for (part, close) in [
            (unmasked, Close::Protocol),
            (frame(OpCode::Binary, true, b"x"), Close::Unsupported),
            (frame(OpCode::Continue, true, b"x"), Close::Protocol),
            (frame(OpCode::Ping, false, b"x"), Close::Protocol),
            (frame(OpCode::Close, true, b"x"), Close::Protocol),
            (frame(OpCode::Ping, true, &[0; 126]), Close::Protocol),
        ] {
            assert_eq!(read(1024, &[part]), Err(close));
        }
    }
}
