//! What the first bytes of an upload must say, checked in one pass while it streams. What a header says is read by the crate that the
//! decoder asks too, so that what is taken here is not refused there for its header.

use orrery_picture_header::{Fault, Limits, Scanner};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;

pub use orrery_picture_header::Format;

/// The check of one upload's header.
pub struct Check {
    declared: Format,
    scanner: Scanner,
    limits: Limits,
}

impl Check {
    /// Before the first byte of a body that was declared as `declared`.
    pub fn new(declared: Format) -> Self {
        Self { declared, scanner: Scanner::new(), limits: Limits::default() }
    }

    /// Looks at the next bytes; true once the header is complete and fine.
    ///
    /// # Errors
    /// It never will be one that is taken, whatever follows.
    pub fn push(&mut self, chunk: &[u8]) -> Result<bool, Problem> {
        let header = self.scanner.push(chunk);
        let is_complete = match header {
            Ok(Some(header)) => self.limits.check(header).map(|()| true),
            Ok(None) => Ok(false),
            Err(fault) => Err(fault),
        };
        match self.scanner.format() {
            Some(found) if found != self.declared => Err(self.mismatch(found)),
            _ => is_complete.map_err(|fault| refused(&fault)),
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// It ended within its header.
    pub fn finish(self) -> Result<(), Problem> {
        self.scanner.finish().map(drop).map_err(|fault| refused(&fault))
    }

    fn mismatch(&self, found: Format) -> Problem {
        let message = format!(
            "the body is {} but Content-Type says {}; send the type that it is",
            found.media_type(),
            self.declared.media_type()
        );
        Problem::field(Code::InvalidField, "body", "type_mismatch", message)
    }
}

fn refused(fault: &Fault) -> Problem {
    let (code, message) = match fault {
        Fault::NotAnImage => {
            ("not_an_image", "the body is no picture; send a JPEG, PNG, WebP or GIF".to_owned())
        }
        Fault::Unsupported { what } => {
            ("not_an_image", format!("{what} is not taken; send a JPEG, PNG, WebP or GIF"))
        }
        Fault::Corrupt { why, .. } => {
            ("corrupt", format!("the picture's dimensions cannot be read, it seems to be damaged: {why}"))
        }
        Fault::TooSmall { width, height, min_side } => (
            "too_small",
            format!("the picture has {width} x {height} pixels; it needs {min_side} on each side"),
        ),
        Fault::TooLarge { width, height, max_pixels, max_side } => {
            let megapixels = max_pixels / 1_000_000;
            let message = format!(
                "the picture has {width} x {height} pixels; at most {max_side} on a side and {megapixels} megapixels are taken"
            );
            ("too_many_pixels", message)
        }
    };
    Problem::field(Code::InvalidField, "body", code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0]);
        bytes
    }

    #[test]
    fn dimensions_are_checked_before_anything_is_decoded() {
        assert_eq!(Check::new(Format::Png).push(&png(512, 512)), Ok(true));
        for (width, height) in [(1, 1), (60_000, 60_000), (16_384, 16_384), (0, 9)] {
            assert!(Check::new(Format::Png).push(&png(width, height)).is_err(), "{width}x{height}");
        }
    }

    #[test]
    fn a_picture_that_lies_about_its_type_is_refused() {
        assert!(Check::new(Format::Jpeg).push(&png(512, 512)).is_err());
        assert!(Check::new(Format::Jpeg).push(&png(512, 512)[..16]).is_err());
    }

    #[test]
    fn a_short_start_waits_for_more_and_a_short_body_does_not() {
        let start = |bytes: &[u8]| {
            let mut check = Check::new(Format::Png);
            check.push(bytes).map(|is_complete| (is_complete, check))
        };
        let (is_complete, check) = start(&png(512, 512)[..4]).unwrap();
        assert!(!is_complete && check.finish().is_err());
        let (is_complete, check) = start(b"").unwrap();
        assert!(!is_complete && check.finish().is_err());
        assert!(start(b"<html>no picture at all</html>").is_err());
    }
}
