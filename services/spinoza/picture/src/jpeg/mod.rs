//! Decodes JPEG (ITU-T T.81) by libjpeg-turbo, which can reduce by eighths and leave out what is cut off while it decodes.

mod libjpeg;
mod segments;

use orrery_picture_header::{Format, Header, Layout};
use orrery_picture_resize::{Image, PixelType};

use self::libjpeg::{Decompressor, Error, Kind};
use self::segments::Metadata;
use super::color::Encoding;
use super::exif::Orientation;
use super::geometry::{Area, Plan, plans};
use super::preset::{Preset, Size};
use super::raster::{Raster, Samples};
use super::{Rejection, cost};

/// A progressive picture has about ten scans. Each costs a pass over all its pixels, and thousands fit in a few bytes.
const MAX_SCANS: u16 = 64;

/// What is decoded around the part that is wanted, in pixels: a filter looks beyond it, and its own edge is not exact.
const MARGIN: u32 = 16;

pub(super) fn decode(input: &[u8], header: &Header, preset: &Preset) -> Result<Raster, Rejection> {
    let Layout::Jpeg { precision, is_lossless, .. } = header.layout else {
        return Err(Rejection::corrupt(Format::Jpeg, "its header is none of a JPEG"));
    };
    if precision != 8 {
        return Err(Rejection::unsupported("A JPEG with more or less than 8 bits a sample"));
    }
    let metadata = Metadata::read(input);
    let orientation = Orientation::of_blocks(metadata.exif);
    let stored = Size { width: header.width, height: header.height };
    let mut decompressor =
        Decompressor::new(input, MAX_SCANS, cost::jpeg_working_bytes(header)).map_err(rejection)?;
    if (decompressor.width, decompressor.height) != (header.width, header.height) {
        return Err(Rejection::corrupt(Format::Jpeg, "two frame headers contradict each other"));
    }
    let plans = plans(stored, orientation, preset);
    let eighths = if is_lossless { 8 } else { eighths(&plans) };
    let (width, height) = decompressor.scale(eighths).map_err(rejection)?;
    let whole = Size { width, height };
    let area = if is_lossless {
        Area { left: 0, top: 0, width, height }
    } else {
        wanted_area(&plans, stored, whole)
    };
    let (left, width) = decompressor.start(area.left, area.width).map_err(rejection)?;
    let (samples, pixel_type) = match decompressor.kind {
        Kind::Grey => (Samples::Grey, PixelType::U8),
        Kind::Rgb => (Samples::Rgb, PixelType::U8x3),
        Kind::Cmyk => (Samples::Cmyk, PixelType::U8x4),
    };
    let mut image = Image::new(width, area.height, pixel_type);
    let stride = usize::try_from(width).unwrap_or(usize::MAX).saturating_mul(pixel_type.size());
    decompressor.read(area.top, image.buffer_mut(), stride).map_err(rejection)?;
    let encoding = metadata.profile.map_or(Encoding::Srgb, Encoding::Icc);
    Ok(Raster { image, samples, whole, stored, origin: (left, area.top), orientation, encoding })
}

/// The smallest eighths that leave every part at least as large as it becomes.
fn eighths(plans: &[Plan]) -> u32 {
    let is_enough = |eighths: &u32| {
        let suffices = |part: u32, size: u32| u64::from(part) * u64::from(*eighths) >= u64::from(size) * 8;
        plans
            .iter()
            .all(|Plan { area, size }| suffices(area.width, size.width) && suffices(area.height, size.height))
    };
    (1..8).find(is_enough).unwrap_or(8)
}

/// The part of the reduced picture that all plans are within.
fn wanted_area(plans: &[Plan], stored: Size, whole: Size) -> Area {
    let reduced = |value: u32, stored: u32, whole: u32| {
        u32::try_from(u64::from(value) * u64::from(whole) / u64::from(stored.max(1))).unwrap_or(u32::MAX)
    };
    let span = |start: fn(&Area) -> u32, length: fn(&Area) -> u32, stored: u32, whole: u32| {
        let first = plans.iter().map(|plan| start(&plan.area)).min().unwrap_or(0);
        let last = plans.iter().map(|plan| start(&plan.area) + length(&plan.area)).max().unwrap_or(stored);
        let from = reduced(first, stored, whole).saturating_sub(MARGIN);
        let to = reduced(last, stored, whole).saturating_add(1 + MARGIN).min(whole);
        (from, to - from)
    };
    let (left, width) = span(|area| area.left, |area| area.width, stored.width, whole.width);
    let (top, height) = span(|area| area.top, |area| area.height, stored.height, whole.height);
    Area { left, top, width, height }
}

fn rejection(error: Error) -> Rejection {
    match error {
        Error::Broken(_) => Rejection::corrupt(Format::Jpeg, error),
        Error::TooManyScans(_) => Rejection::unsupported("A JPEG of more than 64 scans"),
        Error::NoMemory => Rejection::failed("jpeg", error),
    }
}

/// What libjpeg by itself reads from a header.
#[cfg(test)]
pub(super) fn raw_dimensions(input: &[u8]) -> Option<(u32, u32)> {
    let decompressor = Decompressor::new(input, MAX_SCANS, u64::MAX).ok()?;
    Some((decompressor.width, decompressor.height))
}
