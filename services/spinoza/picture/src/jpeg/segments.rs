//! What the segments before the first scan say and the decoder does not tell: Exif blocks and the colour profile.

const TEM: u8 = 0x01;
const RST_0: u8 = 0xd0;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP_1: u8 = 0xe1;
const APP_2: u8 = 0xe2;

/// Segments of metadata.
#[derive(Default)]
pub(super) struct Metadata<'a> {
    pub(super) exif: Vec<&'a [u8]>,
    pub(super) profile: Option<Vec<u8>>,
}

impl<'a> Metadata<'a> {
    pub(super) fn read(input: &'a [u8]) -> Self {
        let mut exif = Vec::new();
        let mut parts = Vec::new();
        let segments = Segments { rest: input }.take_while(|(marker, _)| !matches!(*marker, SOS | EOI));
        for (marker, body) in segments {
            match marker {
                APP_1 => exif.extend(body.strip_prefix(b"Exif\0\0")),
                // A profile is cut into numbered parts (ICC.1:2022, annex B.4).
                APP_2 => {
                    if let Some([number, count, part @ ..]) = body.strip_prefix(b"ICC_PROFILE\0") {
                        parts.push((*number, *count, part));
                    }
                }
                _ => {}
            }
        }
        Self { exif, profile: put_together(parts) }
    }
}

/// The whole profile, if each part is there once.
fn put_together(mut parts: Vec<(u8, u8, &[u8])>) -> Option<Vec<u8>> {
    parts.sort_by_key(|(number, ..)| *number);
    let is_whole = parts.iter().zip(1..).all(|((number, count, _), expected)| {
        (usize::from(*number), usize::from(*count)) == (expected, parts.len())
    });
    (is_whole && !parts.is_empty())
        .then(|| parts.iter().flat_map(|(_, _, part)| part.iter().copied()).collect())
}

/// The marker segments of a file, with what they contain, found as libjpeg finds them.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|&byte| byte == 0xff)?;
            let rest = self.rest.get(start..)?;
            // A marker may be preceded by any number of 0xff.
            let (&marker, rest) = rest.get(rest.iter().position(|&byte| byte != 0xff)?..)?.split_first()?;
            self.rest = rest;
            match marker {
                0 | TEM | RST_0..=SOI => {}
                EOI => return Some((marker, &[])),
                _ => {
                    let (length, rest) = rest.split_first_chunk::<2>()?;
                    // A length that is too short, itself not counted, is an empty segment.
                    let length = usize::from(u16::from_be_bytes(*length)).saturating_sub(2);
                    let (body, rest) = rest.split_at_checked(length)?;
                    self.rest = rest;
                    return Some((marker, body));
                }
            }
        }
    }
}
