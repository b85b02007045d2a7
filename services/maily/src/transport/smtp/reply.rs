//! Reads a server's replies (RFC 5321, section 4.2) as they really come: in any encoding, with any line end, cut off. The code counts;
//! the text is for people. What a reply means lives in `session`.

use std::{io, time::Duration};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// Text that is kept of one line, in bytes; the rest is read and dropped.
const LINE_LIMIT: usize = 1_000;
/// Lines that are kept of one reply.
const LINES_KEPT: usize = 100;
/// What one reply may take; whoever says more says it to nobody.
const REPLY_LIMIT: usize = 256 * 1024;
/// How long a line that ended with a bare CR may still get its LF.
const LINE_FEED: Duration = Duration::from_millis(300);

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The text of each line, without code and line end; bytes that are no UTF-8 are replaced.
    pub lines: Vec<String>,
    /// Whether its last line came. One that was cut off still counts by its code, but nothing more can be read after it.
    pub is_whole: bool,
}

impl Reply {
    /// Its words in one line. An enhanced status that each line repeats stands there once.
    pub(super) fn text(&self) -> String {
        let mut lines = self.lines.iter().map(|line| line.trim());
        let Some(first) = lines.next() else { return String::new() };
        let status = first.split(' ').next().filter(|status| is_status(status));
        let mut text = first.to_owned();
        for line in lines {
            let rest = status.and_then(|status| line.strip_prefix(status)).unwrap_or(line).trim_start();
            text.push(' ');
            text.push_str(rest);
        }
        text.trim().to_owned()
    }
}

/// Whether a word is an enhanced status code (RFC 3463): `5.1.1`.
fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let class = parts.next();
    matches!(class, Some("2" | "4" | "5"))
        && is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_none()
}

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("what came is no reply: it does not begin with a code of three digits")]
    Malformed,
}

/// A reply on its way. It outlives the wait for it: when that ends, what came so far still counts.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    reply: Option<Reply>,
    line: Vec<u8>,
    /// Bytes of the reply so far.
    taken: usize,
}

impl Incoming {
    /// Reads up to the end of one reply.
    ///
    /// # Errors
    /// When the connection ends before a code came, or what came is none.
    pub(super) async fn read(
        &mut self,
        stream: &mut (impl AsyncBufRead + Unpin),
    ) -> Result<Reply, ReplyError> {
        loop {
            let ended = self.read_line(stream).await;
            if matches!(ended, Err(_) | Ok(false)) {
                // What stands there without a line end is all that will ever come.
                let last = self.take_line();
                return match (last, self.partial(), ended) {
                    (Some(Ok(true)), Some(reply), _) => Ok(Reply { is_whole: false, ..reply }),
                    (_, Some(reply), _) => Ok(reply),
                    (Some(Err(error)), ..) => Err(error),
                    (.., Err(error)) => Err(error.into()),
                    (.., Ok(_)) => Err(ReplyError::Closed),
                };
            }
            match self.take_line() {
                None => {}
                Some(Err(error)) => return Err(error),
                Some(Ok(is_last)) => {
                    if let Some(reply) = self.reply.take_if(|_| is_last) {
                        return Ok(reply);
                    }
                }
            }
            if self.taken > REPLY_LIMIT {
                return self.partial().ok_or(ReplyError::Malformed);
            }
        }
    }

    /// What came of a reply whose end did not: its code is known as soon as its first line is there.
    pub(super) fn partial(&mut self) -> Option<Reply> {
        self.reply.take().map(|reply| Reply { is_whole: false, ..reply })
    }

    /// Reads into `line` up to LF, CR LF or a bare CR; false at the end of the stream.
    async fn read_line(&mut self, stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<bool> {
        let mut after_cr = false;
        loop {
            let filled = if after_cr {
                match tokio::time::timeout(LINE_FEED, stream.fill_buf()).await {
                    Ok(filled) => filled?,
                    Err(_) => return Ok(true),
                }
            } else {
                stream.fill_buf().await?
            };
            let Some(first) = filled.first() else { return Ok(after_cr) };
            if after_cr {
                if *first == b'\n' {
                    stream.consume(1);
                }
                return Ok(true);
            }
            let end = filled.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let text = filled.get(..end.unwrap_or(filled.len())).unwrap_or_default();
            let room = LINE_LIMIT.saturating_sub(self.line.len());
            self.line.extend(text.iter().take(room));
            let is_cr = end.and_then(|end| filled.get(end)).is_some_and(|byte| *byte == b'\r');
            let used = text.len() + usize::from(end.is_some());
            self.taken = self.taken.saturating_add(used);
            stream.consume(used);
            if end.is_some() && !is_cr {
                return Ok(true);
            }
            after_cr = is_cr;
            if self.taken > REPLY_LIMIT {
                return Ok(true);
            }
        }
    }

    /// Adds the line that was read to the reply; whether it is its last. None for an empty line, which some line ends make.
    fn take_line(&mut self) -> Option<Result<bool, ReplyError>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return None;
        }
        let (code, is_last, text) = match (code(&line), &self.reply) {
            (Some(code), _) => {
                let (mark, text) = line.get(3..).unwrap_or_default().split_first().unzip();
                let text = match mark {
                    // Some servers forget the space.
                    Some(mark) if !matches!(mark, b' ' | b'-' | b'\t') => line.get(3..),
                    _ => text,
                };
                (code, mark != Some(&b'-'), text.unwrap_or_default())
            }
            // A line of text that forgot its code, within a reply.
            (None, Some(reply)) => (reply.code, false, line.as_slice()),
            (None, None) => return Some(Err(ReplyError::Malformed)),
        };
        let reply = self.reply.get_or_insert_with(|| Reply { code, lines: Vec::new(), is_whole: true });
        // Where the lines differ, the last one is the server's word.
        reply.code = code;
        if reply.lines.len() < LINES_KEPT {
            reply.lines.push(String::from_utf8_lossy(text).into_owned());
        }
        if is_last {
            self.taken = 0;
        }
        Some(Ok(is_last))
    }
}

/// The code that a line begins with. A fourth digit makes it another number.
fn code(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    if line.get(3).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let code =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    code.parse().ok().filter(|code| (200..600).contains(code))
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn read(bytes: &[u8]) -> Result<Reply, ReplyError> {
        Incoming::default().read(&mut BufReader::new(bytes)).await
    }

    fn whole(code: u16, lines: &[&str]) -> Reply {
        Reply { code, lines: lines.iter().map(|line| (*line).to_owned()).collect(), is_whole: true }
    }

    #[tokio::test]
    async fn every_form_of_a_reply_gives_its_code_and_text() {
        for (bytes, code, lines) in [
            (&b"250 fine\r\n"[..], 250, &["fine"][..]),
            (b"250\r\n", 250, &[""]),
            (b"250 \r\n", 250, &[""]),
            (b"250-\r\n250 \r\n", 250, &["", ""]),
            (b"250\tfine\r\n", 250, &["fine"]),
            (b"250fine\r\n", 250, &["fine"]),
            (b"250 fine\n", 250, &["fine"]),
            (b"250 fine\r\r\n", 250, &["fine"]),
            (b"250 fine\r", 250, &["fine"]),
            (b"\r\n250 fine\r\n", 250, &["fine"]),
            (b"250-one\r250 two\r", 250, &["one", "two"]),
            (b"250-one\ntwo\n250 three\n", 250, &["one", "two", "three"]),
            (b"550-5.1.1 one\r\n550 5.1.1 two\r\n", 550, &["5.1.1 one", "5.1.1 two"]),
            (
                b"550 5.1.1 \xb2\xbb\xb4\xe6\xd4\xda\r\n",
                550,
                &["5.1.1 \u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"],
            ),
            (b"250-one\r\n451 two\r\n", 451, &["one", "two"]),
        ] {
            let reply =
                read(bytes).await.unwrap_or_else(|error| panic!("{:?}: {error}", bytes.escape_ascii()));
            let shown: Vec<_> = reply.lines.iter().map(String::as_str).collect();
            // How lossily a text is decoded is the library's matter.
            let is_lossy = lines.concat().contains('\u{fffd}');
            assert_eq!(reply.code, code, "{}", bytes.escape_ascii());
            assert!(is_lossy || shown == lines, "{}: {shown:?}", bytes.escape_ascii());
            assert!(reply.is_whole, "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_was_cut_off_counts_by_its_code() {
        for bytes in [&b"250 fine"[..], b"250", b"250-one\r\n", b"250-one\r\n250-tw"] {
            let reply = read(bytes).await.unwrap();
            assert_eq!((reply.code, reply.is_whole), (250, false), "{}", bytes.escape_ascii());
        }
        for bytes in [&b""[..], b"\r\n"] {
            assert!(matches!(read(bytes).await, Err(ReplyError::Closed)), "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_has_no_code_is_no_reply() {
        for bytes in [
            &b"hello\r\n"[..],
            b"25\r\n",
            b"2500 x\r\n",
            b"999 x\r\n",
            b"100 x\r\n",
            b"\xff\xfe\xfd\r\n",
            b"2x0 y\r\n",
        ] {
            assert!(matches!(read(bytes).await, Err(ReplyError::Malformed)), "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_long_line_and_a_long_reply_are_bounded() {
        let line = [b"250 ".as_slice(), &[b'x'; 60_000], b"\r\n"].concat();
        let reply = read(&line).await.unwrap();
        assert_eq!((reply.code, reply.is_whole), (250, true));
        assert!(reply.text().len() <= LINE_LIMIT);
        let endless = b"250-more\r\n".repeat(100_000);
        let reply = read(&endless).await.unwrap();
        assert_eq!((reply.code, reply.is_whole, reply.lines.len()), (250, false, LINES_KEPT));
        let one_line = vec![b'2'; 1_000_000];
        assert!(matches!(read(&one_line).await, Err(ReplyError::Malformed)));
    }

    #[tokio::test]
    async fn two_replies_are_read_one_after_the_other() {
        let mut stream = BufReader::new(&b"250-a\r\n250 b\r\n354 go on\r\n"[..]);
        assert_eq!(Incoming::default().read(&mut stream).await.unwrap(), whole(250, &["a", "b"]));
        assert_eq!(Incoming::default().read(&mut stream).await.unwrap(), whole(354, &["go on"]));
    }

    #[tokio::test]
    async fn a_wait_that_ends_keeps_the_code_that_came() {
        let (client, mut server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut server, b"250-2.0.0 queued\r\n").await.unwrap();
        let mut incoming = Incoming::default();
        let mut stream = BufReader::new(client);
        let waited = tokio::time::timeout(Duration::from_millis(50), incoming.read(&mut stream)).await;
        assert!(waited.is_err());
        assert_eq!(incoming.partial().map(|reply| (reply.code, reply.is_whole)), Some((250, false)));
    }

    #[test]
    fn a_repeated_status_stands_once_in_the_text() {
        assert_eq!(whole(550, &["5.1.1 no such", "5.1.1 user"]).text(), "5.1.1 no such user");
        assert_eq!(whole(250, &["one", "two"]).text(), "one two");
        assert_eq!(whole(250, &[]).text(), "");
    }
}
