//! One pass over a file's first bytes, however they are cut: what is skipped is not held, and no byte is looked at twice. What the
//! bytes mean is the formats' business.

use memchr::memchr;

use super::format::{Format, MAGIC_BYTES, detect};
use super::gif::{self, Gif};
use super::jpeg::Jpeg;
use super::png::{self, Png};
use super::webp::{self, WebP};
use super::{Fault, Header};

/// What a format's reader wants next.
pub(super) enum Step {
    /// After `skip` bytes, `take` bytes.
    Next { skip: u64, take: usize },
    /// After `skip` bytes, the first byte of this value; what lies before it not at all.
    Find { skip: u64, byte: u8 },
    /// Nothing more.
    Done(Header),
}

impl Step {
    pub(super) const fn take(take: usize) -> Self {
        Self::Next { skip: 0, take }
    }
}

enum Reader {
    Jpeg(Jpeg),
    Png(Png),
    WebP(WebP),
    Gif(Gif),
}

/// Reads a header from chunks as they come.
pub struct Scanner {
    reader: Option<Reader>,
    format: Option<Format>,
    skip: u64,
    find: Option<u8>,
    take: usize,
    taken: Vec<u8>,
    found: Option<Header>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self { reader: None, format: None, skip: 0, find: None, take: 0, taken: Vec::new(), found: None }
    }

    /// The format, once enough bytes have told it.
    #[must_use]
    pub const fn format(&self) -> Option<Format> {
        self.format
    }

    /// Looks at the next bytes; the header when it is complete, and from then on.
    ///
    /// # Errors
    /// The file is no picture that is taken, whatever follows.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Option<&Header>, Fault> {
        let mut rest = chunk;
        if self.reader.is_none() {
            rest = self.gather(MAGIC_BYTES, rest);
            if self.taken.len() < MAGIC_BYTES {
                return Ok(None);
            }
            let magic = std::mem::take(&mut self.taken);
            let format = detect(&magic)?;
            self.format = Some(format);
            let (reader, first, magic_bytes) = match format {
                Format::Jpeg => (Reader::Jpeg(Jpeg::new()), Step::Find { skip: 0, byte: 0xff }, 2),
                Format::Png => (Reader::Png(Png), Step::take(png::TAKE), 8),
                Format::WebP => (Reader::WebP(WebP::new()), Step::take(webp::TAKE), 12),
                Format::Gif => (Reader::Gif(Gif::new()), Step::take(gif::TAKE), 6),
            };
            self.reader = Some(reader);
            self.follow(first);
            self.advance(magic.get(magic_bytes..).unwrap_or_default())?;
        }
        self.advance(rest)?;
        Ok(self.found.as_ref())
    }

    /// The file has ended.
    ///
    /// # Errors
    /// It ended within its header.
    pub fn finish(self) -> Result<Header, Fault> {
        match (self.found, self.format) {
            (Some(header), _) => Ok(header),
            (None, Some(format)) => Err(Fault::corrupt(format, "it ends within its header")),
            // Shorter than any picture; what it wanted to be makes the better answer.
            (None, None) => {
                let format = detect(&self.taken)?;
                Err(Fault::corrupt(format, "it ends within its header"))
            }
        }
    }

    /// Takes from `rest` until `take` bytes are held; what is left of it.
    fn gather<'a>(&mut self, take: usize, rest: &'a [u8]) -> &'a [u8] {
        let missing = take.saturating_sub(self.taken.len());
        let (now, later) = rest.split_at(missing.min(rest.len()));
        self.taken.extend_from_slice(now);
        later
    }

    fn advance(&mut self, mut rest: &[u8]) -> Result<(), Fault> {
        while self.found.is_none() {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
            rest = rest.get(skipped..).unwrap_or_default();
            self.skip = self.skip.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
            if self.skip > 0 {
                break;
            }
            if let Some(byte) = self.find {
                let Some(at) = memchr(byte, rest) else { break };
                rest = rest.get(at..).unwrap_or_default();
                self.find = None;
            }
            rest = self.gather(self.take, rest);
            if self.taken.len() < self.take {
                break;
            }
            let taken = std::mem::take(&mut self.taken);
            let step = match &mut self.reader {
                Some(Reader::Jpeg(jpeg)) => jpeg.step(&taken)?,
                Some(Reader::Png(png)) => png.step(&taken)?,
                Some(Reader::WebP(webp)) => webp.step(&taken)?,
                Some(Reader::Gif(gif)) => gif.step(&taken)?,
                None => break,
            };
            // Its room is used again.
            self.taken = taken;
            self.taken.clear();
            self.follow(step);
        }
        Ok(())
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Next { skip, take } => (self.skip, self.take) = (skip, take),
            Step::Find { skip, byte } => (self.skip, self.find, self.take) = (skip, Some(byte), 1),
            Step::Done(header) => self.found = Some(header),
        }
    }
}

/// The header of a whole file, or of as much of it as holds one.
///
/// # Errors
/// The file is no picture that is taken, or ends within its header.
pub fn read(file: &[u8]) -> Result<Header, Fault> {
    let mut scanner = Scanner::new();
    scanner.push(file)?;
    scanner.finish()
}
