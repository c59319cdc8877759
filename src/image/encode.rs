//! From pixels to canvas buffers and PNG files.

use std::io::Cursor;

use ::image::codecs::png::PngEncoder;
use ::image::{ExtendedColorType, ImageEncoder};

use super::error::ImageError;
use super::picture::{Picture, byte, check_buffer};

/// RGBA bytes for a canvas, `[height, width, 4]`, opaque, from planar f32 `[3, height, width]`.
/// Values are clipped to [0, 1] and rounded to the nearest of 256 levels.
///
/// # Errors
/// [`ImageError::Buffer`] when `chw` does not hold `3 · height · width` values.
pub fn to_rgba(chw: &[f32], width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
    check_buffer(width, height, 3, chw.len())?;
    let (red, rest) = chw.split_at(width * height);
    let (green, blue) = rest.split_at(width * height);
    let pixels = red.iter().zip(green).zip(blue);
    Ok(pixels
        .flat_map(|((&r, &g), &b)| [byte(r), byte(g), byte(b), 255])
        .collect())
}

/// An 8-bit RGB PNG file.
///
/// # Errors
/// [`ImageError::Encode`] when the encoder refuses (a side above 2³¹).
pub fn encode_png(picture: &Picture) -> Result<Vec<u8>, ImageError> {
    png(
        picture.rgb(),
        picture.width(),
        picture.height(),
        ExtendedColorType::Rgb8,
    )
}

/// An 8-bit RGBA PNG file from a canvas buffer, `[height, width, 4]`.
///
/// # Errors
/// [`ImageError::Buffer`] when `rgba` does not fit the size, [`ImageError::Encode`] when the
/// encoder refuses.
pub fn encode_png_rgba(rgba: &[u8], width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
    check_buffer(width, height, 4, rgba.len())?;
    png(rgba, width, height, ExtendedColorType::Rgba8)
}

fn png(
    data: &[u8],
    width: usize,
    height: usize,
    color: ExtendedColorType,
) -> Result<Vec<u8>, ImageError> {
    let (Ok(w), Ok(h)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(ImageError::Size { width, height });
    };
    let mut file = Cursor::new(Vec::new());
    PngEncoder::new(&mut file)
        .write_image(data, w, h, color)
        .map_err(|error| ImageError::Encode(Box::new(error)))?;
    Ok(file.into_inner())
}
