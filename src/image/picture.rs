//! Pictures in 8 bits and in floats.

use super::error::ImageError;

/// An 8-bit RGB picture, row by row, three interleaved bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) data: Vec<u8>,
}

impl Picture {
    /// A picture from interleaved RGB bytes, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`ImageError::Buffer`] when `data` is not `height · width · 3` bytes long or a side is 0.
    pub fn from_rgb(width: usize, height: usize, data: Vec<u8>) -> Result<Self, ImageError> {
        check_buffer(width, height, 3, data.len())?;
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// A picture from interleaved RGBA bytes, `[height, width, 4]` (a canvas, a camera frame),
    /// laid over white.
    ///
    /// # Errors
    /// [`ImageError::Buffer`] when `data` is not `height · width · 4` bytes long or a side is 0.
    pub fn from_rgba(width: usize, height: usize, data: &[u8]) -> Result<Self, ImageError> {
        check_buffer(width, height, 4, data.len())?;
        let data = data.as_chunks::<4>().0.iter();
        let data = data.flat_map(|&rgba| over_white(rgba)).collect();
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Interleaved RGB, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.data
    }

    /// The interleaved bytes, `[height, width, 3]`, given away.
    pub fn into_rgb(self) -> Vec<u8> {
        self.data
    }

    /// Planar bytes, `[3, height, width]`.
    pub fn planar(&self) -> Vec<u8> {
        let pixels = self.data.as_chunks::<3>().0;
        (0..3)
            .flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel]))
            .collect()
    }

    /// Planar f32 in [0, 1].
    pub fn to_pixels(&self) -> Pixels {
        let data = self.planar().into_iter().map(unit).collect();
        Pixels {
            width: self.width,
            height: self.height,
            data,
        }
    }
}

/// A float picture: RGB planes `[3, height, width]`, f32 in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    pub width: usize,
    pub height: usize,
    pub data: Vec<f32>,
}

impl Pixels {
    /// Back to 8 bits: clipped to [0, 1], rounded to the nearest of 256 levels.
    ///
    /// # Errors
    /// [`ImageError::Buffer`] when `data` does not fit the size.
    pub fn to_picture(&self) -> Result<Picture, ImageError> {
        check_buffer(self.width, self.height, 3, self.data.len())?;
        let area = self.width * self.height;
        let (red, rest) = self.data.split_at(area);
        let (green, blue) = rest.split_at(area);
        let pixels = red.iter().zip(green).zip(blue);
        let data = pixels.flat_map(|((&r, &g), &b)| [r, g, b].map(byte));
        Ok(Picture {
            width: self.width,
            height: self.height,
            data: data.collect(),
        })
    }
}

/// A byte as a float in [0, 1], the division torchvision's `ToTensor` does.
pub(crate) fn unit(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// A float in [0, 1] as the nearest byte; anything outside is clipped, NaN is 0.
pub(crate) fn byte(value: f32) -> u8 {
    // A float-to-integer `as` saturates and sends NaN to 0: the clip is in the cast.
    (value * 255.0 + 0.5) as u8
}

/// Straight-alpha RGBA over a white ground, rounded to the nearest level.
pub(super) fn over_white([r, g, b, a]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(a);
    [r, g, b].map(|c| {
        let sum = u32::from(c) * alpha + 255 * (255 - alpha);
        // At most 255 · 255 / 255: fits a byte.
        ((sum + 127) / 255) as u8
    })
}

pub(super) fn check_buffer(
    width: usize,
    height: usize,
    channels: usize,
    len: usize,
) -> Result<(), ImageError> {
    let wanted = width
        .checked_mul(height)
        .and_then(|n| n.checked_mul(channels));
    match wanted {
        Some(wanted) if wanted == len && wanted > 0 => Ok(()),
        _ => Err(ImageError::Buffer {
            width,
            height,
            channels,
            len,
        }),
    }
}
