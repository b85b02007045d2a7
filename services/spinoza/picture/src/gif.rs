//! Decodes the first frame of a GIF (GIF89a specification), placed on its canvas.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};
use orrery_picture_header::{Format, Header, Layout};

use super::Rejection;
use super::preset::Size;
use super::raster::{Raster, Samples};

pub(super) fn decode(input: &[u8], header: &Header) -> Result<Raster, Rejection> {
    let corrupt = |error: gif::DecodingError| Rejection::corrupt(Format::Gif, error);
    let Layout::Gif { left, top, width, height } = header.layout else {
        return Err(Rejection::corrupt(Format::Gif, "its header is none of a GIF"));
    };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(input).map_err(corrupt)?;
    let frame = decoder.next_frame_info().map_err(corrupt)?;
    let Some(frame) = frame.filter(|f| (u32::from(f.width), u32::from(f.height)) == (width, height)) else {
        return Err(Rejection::corrupt(Format::Gif, "its first frame is not the one of its header"));
    };
    let transparent = frame.transparent.map(usize::from);
    let row_bytes = usize::from(frame.width);
    let mut indices = vec![0; row_bytes * usize::from(frame.height)];
    decoder.read_into_buffer(&mut indices).map_err(corrupt)?;
    let mut colors: Vec<[u8; 4]> = decoder
        .palette()
        .map_err(corrupt)?
        .as_chunks::<3>()
        .0
        .iter()
        .map(|&[red, green, blue]| [red, green, blue, u8::MAX])
        .collect();
    // An index beyond the palette is nothing that can be seen.
    colors.resize(256, [0; 4]);
    if let Some(color) = transparent.and_then(|index| colors.get_mut(index)) {
        *color = [0; 4];
    }

    let size = Size { width: header.width, height: header.height };
    let mut raster = Raster::new(size, Samples::Rgba, 8);
    let to_usize = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let (canvas, _) = raster.image.buffer_mut().as_chunks_mut::<4>();
    let rows = canvas.chunks_exact_mut(to_usize(header.width)).skip(to_usize(top));
    // What lies beyond the canvas is cut off.
    for (row, indices) in rows.zip(indices.chunks_exact(row_bytes)) {
        for (pixel, index) in row.iter_mut().skip(to_usize(left)).zip(indices) {
            *pixel = colors.get(usize::from(*index)).copied().unwrap_or_default();
        }
    }
    Ok(raster)
}
