//! The header of a JPEG (ITU-T T.81): the segments up to the first scan. What is refused here is what libjpeg refuses: stray bytes
//! and fill bytes between segments are not.

use super::scanner::Step;
use super::{Fault, Format, Header, Layout};

const TEM: u8 = 0x01;
const SOF_0: u8 = 0xc0;
const SOF_2: u8 = 0xc2;
const SOF_3: u8 = 0xc3;
const DHT: u8 = 0xc4;
const SOF_9: u8 = 0xc9;
const SOF_10: u8 = 0xca;
const DAC: u8 = 0xcc;
const RST_0: u8 = 0xd0;
const RST_7: u8 = 0xd7;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DNL: u8 = 0xdc;
const DRI: u8 = 0xdd;
const APP_0: u8 = 0xe0;
const APP_15: u8 = 0xef;
const COM: u8 = 0xfe;
const FILL: u8 = 0xff;

/// Bytes of a frame header before its components, the length among them.
const FRAME_BYTES: u16 = 8;
/// Bytes of each component in it.
const COMPONENT_BYTES: u16 = 3;
/// More is no picture for libjpeg.
const MAX_COMPONENTS: usize = 10;
const MAX_SAMPLING: u8 = 4;

/// One component of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Samples across, beside the other components' (1 to 4).
    pub across: u8,
    /// Samples down, beside the other components' (1 to 4).
    pub down: u8,
}

enum Wanted {
    /// The 0xff that starts a marker.
    MarkerStart,
    MarkerCode,
    Length(u8),
    Frame {
        marker: u8,
        length: u16,
    },
    Components,
    /// How many components the first scan has.
    Scan,
}

pub(super) struct Jpeg {
    wanted: Wanted,
    frame: Option<Frame>,
}

struct Frame {
    width: u32,
    height: u32,
    precision: u8,
    is_progressive: bool,
    is_lossless: bool,
    components: Vec<Component>,
}

fn corrupt(why: &'static str) -> Fault {
    Fault::corrupt(Format::Jpeg, why)
}

impl Jpeg {
    /// After the start of the image, looking for 0xff.
    pub(super) const fn new() -> Self {
        Self { wanted: Wanted::MarkerStart, frame: None }
    }

    pub(super) fn step(&mut self, taken: &[u8]) -> Result<Step, Fault> {
        match (&self.wanted, taken) {
            (Wanted::MarkerStart, _) => {
                self.wanted = Wanted::MarkerCode;
                Ok(Step::take(1))
            }
            (Wanted::MarkerCode, &[code]) => self.marker(code),
            (&Wanted::Length(marker), &[high, low]) => self.segment(marker, u16::from_be_bytes([high, low])),
            (&Wanted::Frame { marker, length }, &[precision, h0, h1, w0, w1, count]) => {
                let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                self.frame(marker, length, precision, (side(w0, w1), side(h0, h1)), count)
            }
            (Wanted::Components, bytes) => self.components(bytes),
            (Wanted::Scan, &[count]) => self.scan(count),
            _ => Err(corrupt("its header makes no sense")),
        }
    }

    const fn next_marker(&mut self, skip: u64) -> Step {
        self.wanted = Wanted::MarkerStart;
        Step::Find { skip, byte: FILL }
    }

    fn marker(&mut self, code: u8) -> Result<Step, Fault> {
        match code {
            FILL => Ok(Step::take(1)),
            // A zero makes no marker; the others have no body.
            0 | TEM | RST_0..=RST_7 => Ok(self.next_marker(0)),
            SOF_0..=SOF_3 | SOF_9 | SOF_10 | SOS | DHT | DAC | DQT | DNL | DRI | APP_0..=APP_15 | COM => {
                self.wanted = Wanted::Length(code);
                Ok(Step::take(2))
            }
            0xc5..=0xcf => Err(Fault::Unsupported { what: "This kind of JPEG" }),
            0xd8 => Err(corrupt("a second picture starts within its header")),
            0xd9 => Err(corrupt("it has no picture")),
            _ => Err(corrupt("its header has a marker that does not exist")),
        }
    }

    fn segment(&mut self, marker: u8, length: u16) -> Result<Step, Fault> {
        match marker {
            SOF_0..=SOF_3 | SOF_9 | SOF_10 if self.frame.is_some() => Err(corrupt("it has two frames")),
            SOF_0..=SOF_3 | SOF_9 | SOF_10 => {
                self.wanted = Wanted::Frame { marker, length };
                Ok(Step::take(6))
            }
            SOS => {
                self.wanted = Wanted::Scan;
                Ok(Step::take(1))
            }
            // The length counts itself; one that is too short is nothing to skip.
            _ => Ok(self.next_marker(length.saturating_sub(2).into())),
        }
    }

    fn frame(
        &mut self,
        marker: u8,
        length: u16,
        precision: u8,
        (width, height): (u32, u32),
        count: u8,
    ) -> Result<Step, Fault> {
        if width == 0 || height == 0 || count == 0 {
            return Err(corrupt("it has no pixels"));
        }
        if length != FRAME_BYTES + COMPONENT_BYTES * u16::from(count) {
            return Err(corrupt("its frame header has a wrong length"));
        }
        let is_progressive = matches!(marker, SOF_2 | SOF_10);
        let is_lossless = marker == SOF_3;
        let components = Vec::new();
        self.frame = Some(Frame { width, height, precision, is_progressive, is_lossless, components });
        self.wanted = Wanted::Components;
        Ok(Step::take(usize::from(COMPONENT_BYTES) * usize::from(count)))
    }

    fn components(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let (list, _) = bytes.as_chunks::<3>();
        let components: Vec<_> = list
            .iter()
            .map(|[_, sampling, _]| Component { across: sampling >> 4, down: sampling & 15 })
            .collect();
        let is_sampled = |side| (1..=MAX_SAMPLING).contains(&side);
        if components.len() > MAX_COMPONENTS
            || !components.iter().all(|component| is_sampled(component.across) && is_sampled(component.down))
        {
            return Err(corrupt("its components make no sense"));
        }
        let Some(frame) = &mut self.frame else { return Err(corrupt("it has no frame")) };
        frame.components = components;
        Ok(self.next_marker(0))
    }

    fn scan(&mut self, count: u8) -> Result<Step, Fault> {
        let Some(frame) = self.frame.take() else { return Err(corrupt("a scan comes before its frame")) };
        let has_many_scans = frame.is_progressive || usize::from(count) < frame.components.len();
        let Frame { width, height, precision, is_lossless, components, .. } = frame;
        let layout = Layout::Jpeg { components, precision, is_lossless, has_many_scans };
        Ok(Step::Done(Header { width, height, layout }))
    }
}
