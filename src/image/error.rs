//! What can be wrong with a picture's bytes, and the limits that hold for them.

use std::error::Error as StdError;
use std::fmt;

use ::image::ImageError as CrateError;

/// The largest picture that is decoded, in pixels: 64 megapixels.
pub const MAX_PIXELS: u64 = 64_000_000;

/// The longest side that is decoded, in pixels.
pub const MAX_SIDE: u32 = 30_000;

/// The most memory one decoder may take, in bytes: 8 bytes a pixel of the largest picture.
pub(super) const MAX_ALLOCATION: u64 = MAX_PIXELS * 8;

/// Why bytes did not become a picture. Every message is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("this file is empty")]
    Empty,
    #[error(
        "this file is not a picture that can be read here; JPEG, PNG, WebP, BMP, GIF and TIFF can"
    )]
    Unknown,
    #[error("this is {0}, which is not supported; please save it as JPEG or PNG and try again")]
    NotSupported(&'static str),
    #[error("this {0} uses a feature that is not supported; please save it as an ordinary PNG")]
    Feature(PictureFormat, #[source] Box<CrateError>),
    #[error(
        "this picture is {width}x{height}, more than the {} megapixels or {MAX_SIDE} pixels a \
         side that can be read here; please make it smaller", MAX_PIXELS / 1_000_000
    )]
    TooLarge { width: u32, height: u32 },
    #[error("this {format} would need more memory than the limit of {} MB", MAX_ALLOCATION / 1_000_000)]
    Memory { format: PictureFormat },
    #[error(
        "this file says it is a {format} but ends after {} bytes; it may be cut off",
        Thousands(*.len)
    )]
    CutOff { format: PictureFormat, len: usize },
    #[error("this {format} is damaged and cannot be read")]
    Damaged {
        format: PictureFormat,
        #[source]
        cause: Box<dyn StdError + Send + Sync>,
    },
    #[error("this picture has no pixels ({width}x{height})")]
    NoPixels { width: u32, height: u32 },
    #[error("{len} values do not make a {width}x{height} picture with {channels} channels")]
    Buffer {
        width: usize,
        height: usize,
        channels: usize,
        len: usize,
    },
    #[error("this picture cannot be resized to {width}x{height}")]
    Size { width: usize, height: usize },
    #[error("this picture could not be written as PNG")]
    Encode(#[source] Box<CrateError>),
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
}

impl PictureFormat {
    /// As people write it: "JPEG".
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
        }
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A count with a comma every three digits.
struct Thousands(usize);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}
