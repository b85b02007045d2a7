//! The part of the JPEG decoder that is in C, made safe to call: a decompressor that borrows its input.
#![expect(unsafe_code, reason = "libjpeg is a library in C; each call says why it is sound")]

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What the picture's samples are, as libjpeg gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Grey,
    Rgb,
    Cmyk,
}

/// Why it was not decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    TooManyScans(String),
    #[error("there is no memory for a decompressor")]
    NoMemory,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    width: u32,
    height: u32,
    kind: u32,
}

#[repr(C)]
struct Raw {
    _private: [u8; 0],
}

// As src/jpeg/libjpeg.c defines them.
unsafe extern "C" {
    fn orrery_jpeg_new(max_scans: c_int, max_memory: u64) -> *mut Raw;
    fn orrery_jpeg_free(jpeg: *mut Raw);
    fn orrery_jpeg_message(jpeg: *const Raw) -> *const c_char;
    fn orrery_jpeg_header(jpeg: *mut Raw, data: *const u8, size: usize, info: *mut Info) -> c_int;
    fn orrery_jpeg_scale(jpeg: *mut Raw, eighths: u32, width: *mut u32, height: *mut u32) -> c_int;
    fn orrery_jpeg_start(jpeg: *mut Raw, left: *mut u32, width: *mut u32) -> c_int;
    fn orrery_jpeg_read(jpeg: *mut Raw, top: u32, rows: u32, pixels: *mut u8, stride: usize) -> c_int;
}

/// A file whose header was read.
pub(super) struct Decompressor<'a> {
    raw: NonNull<Raw>,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) kind: Kind,
    input: PhantomData<&'a [u8]>,
}

impl Drop for Decompressor<'_> {
    fn drop(&mut self) {
        // SAFETY: it came from `orrery_jpeg_new`, and nothing uses it afterwards.
        unsafe { orrery_jpeg_free(self.raw.as_ptr()) }
    }
}

impl<'a> Decompressor<'a> {
    /// Reads the header. A file of more than `max_scans` scans, or one that takes more than `max_memory` bytes besides the pixels,
    /// is not decoded.
    pub(super) fn new(input: &'a [u8], max_scans: u16, max_memory: u64) -> Result<Self, Error> {
        // SAFETY: it takes numbers only.
        let raw = unsafe { orrery_jpeg_new(max_scans.into(), max_memory) };
        let raw = NonNull::new(raw).ok_or(Error::NoMemory)?;
        let mut found = Self { raw, width: 0, height: 0, kind: Kind::Rgb, input: PhantomData };
        let mut info = Info::default();
        // SAFETY: the input lives as long as `found`, by its lifetime; `info` outlives the call.
        let outcome = unsafe { orrery_jpeg_header(raw.as_ptr(), input.as_ptr(), input.len(), &raw mut info) };
        found.check(outcome)?;
        (found.width, found.height) = (info.width, info.height);
        found.kind = match info.kind {
            0 => Kind::Grey,
            1 => Kind::Rgb,
            _ => Kind::Cmyk,
        };
        Ok(found)
    }

    /// Decodes at so many eighths of the size; width and height that come of it.
    pub(super) fn scale(&mut self, eighths: u32) -> Result<(u32, u32), Error> {
        let (mut width, mut height) = (0, 0);
        // SAFETY: the pointers are to locals that outlive the call.
        let outcome =
            unsafe { orrery_jpeg_scale(self.raw.as_ptr(), eighths, &raw mut width, &raw mut height) };
        self.check(outcome)?;
        Ok((width, height))
    }

    /// Starts to decode the columns from `left` on; where they really begin, and how many they are.
    pub(super) fn start(&mut self, left: u32, width: u32) -> Result<(u32, u32), Error> {
        let (mut left, mut width) = (left, width);
        // SAFETY: the pointers are to locals that outlive the call.
        let outcome = unsafe { orrery_jpeg_start(self.raw.as_ptr(), &raw mut left, &raw mut width) };
        self.check(outcome)?;
        Ok((left, width))
    }

    /// Decodes the rows from `top` on, as many as `pixels` has room for at `stride` bytes a row, and checks the rest of the file.
    /// `stride` must be the started width times the samples a pixel.
    pub(super) fn read(mut self, top: u32, pixels: &mut [u8], stride: usize) -> Result<(), Error> {
        let rows = u32::try_from(pixels.len().checked_div(stride).unwrap_or(0)).unwrap_or(u32::MAX);
        // SAFETY: libjpeg writes `rows` rows of at most `stride` bytes, and so much `pixels` holds.
        let outcome = unsafe { orrery_jpeg_read(self.raw.as_ptr(), top, rows, pixels.as_mut_ptr(), stride) };
        self.check(outcome)
    }

    fn check(&mut self, outcome: c_int) -> Result<(), Error> {
        // SAFETY: the message is an array within the decompressor that always ends with a zero.
        let message = || unsafe { CStr::from_ptr(orrery_jpeg_message(self.raw.as_ptr())) };
        match outcome {
            0 => Ok(()),
            2 => Err(Error::TooManyScans(message().to_string_lossy().into_owned())),
            _ => Err(Error::Broken(message().to_string_lossy().into_owned())),
        }
    }
}
