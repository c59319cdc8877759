//! From a file's bytes to a [`Picture`]: format, limits, orientation.

use std::error::Error as StdError;
use std::io::{self, Cursor};

use ::image::metadata::Orientation;
use ::image::{
    DynamicImage, ImageDecoder, ImageError as CrateError, ImageFormat, ImageReader, Limits,
};

use super::error::{ImageError, MAX_ALLOCATION, MAX_PIXELS, MAX_SIDE, PictureFormat};
use super::picture::{Picture, over_white};
use super::{jpeg, webp};

/// A picture and what it was stored as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub picture: Picture,
    pub format: PictureFormat,
}

/// The first bytes of a file and its format. `None` skips a byte.
type Magic = (&'static [Option<u8>], Result<PictureFormat, &'static str>);

/// `b"RIFF????WEBP"` as a pattern: `?` skips a byte.
macro_rules! magic {
    ($text:literal) => {{
        const PATTERN: [Option<u8>; $text.len()] = pattern($text);
        &PATTERN
    }};
}

const fn pattern<const N: usize>(text: &[u8; N]) -> [Option<u8>; N] {
    let mut pattern = [None; N];
    let mut at = 0;
    while at < N {
        if text[at] != b'?' {
            pattern[at] = Some(text[at]);
        }
        at += 1;
    }
    pattern
}

/// The first row that fits wins, so the brands of the ISO container stand before its catch-all.
#[rustfmt::skip]
const MAGIC: &[Magic] = &[
    (magic!(b"\xFF\xD8\xFF"), Ok(PictureFormat::Jpeg)),
    (magic!(b"\x89PNG\r\n\x1A\n"), Ok(PictureFormat::Png)),
    (magic!(b"RIFF????WEBP"), Ok(PictureFormat::WebP)),
    (magic!(b"GIF87a"), Ok(PictureFormat::Gif)),
    (magic!(b"GIF89a"), Ok(PictureFormat::Gif)),
    (magic!(b"II\x2A\0"), Ok(PictureFormat::Tiff)),
    (magic!(b"MM\0\x2A"), Ok(PictureFormat::Tiff)),
    (magic!(b"II\x2B\0"), Ok(PictureFormat::Tiff)),
    (magic!(b"MM\0\x2B"), Ok(PictureFormat::Tiff)),
    (magic!(b"????ftypheic"), Err("an HEIC picture")),
    (magic!(b"????ftypheix"), Err("an HEIC picture")),
    (magic!(b"????ftyphevc"), Err("an HEIC picture")),
    (magic!(b"????ftypmif1"), Err("an HEIC picture")),
    (magic!(b"????ftypmsf1"), Err("an HEIC picture")),
    (magic!(b"????ftypavif"), Err("an AVIF picture")),
    (magic!(b"????ftypavis"), Err("an AVIF picture")),
    (magic!(b"????ftypcrx "), Err("a camera's raw picture")),
    (magic!(b"????ftyp"), Err("a video")),
    (magic!(b"\x1A\x45\xDF\xA3"), Err("a video")),
    (magic!(b"RIFF????AVI "), Err("a video")),
    (magic!(b"\xFF\x0A"), Err("a JPEG XL picture")),
    (magic!(b"\0\0\0\x0CJXL "), Err("a JPEG XL picture")),
    (magic!(b"\0\0\0\x0CjP  "), Err("a JPEG 2000 picture")),
    (magic!(b"\xFF\x4F\xFF\x51"), Err("a JPEG 2000 picture")),
    (magic!(b"%PDF-"), Err("a PDF document")),
    (magic!(b"8BPS"), Err("a Photoshop file")),
    (magic!(b"gimp xcf"), Err("a GIMP file")),
    (magic!(b"\0\0\x01\0"), Err("an icon file")),
    (magic!(b"\x76\x2F\x31\x01"), Err("an OpenEXR picture")),
    (magic!(b"qoif"), Err("a QOI picture")),
    (magic!(b"PK\x03\x04"), Err("a ZIP archive")),
    (magic!(b"BM"), Ok(PictureFormat::Bmp)),
];

/// The format of a file, by its first bytes; its name does not matter.
///
/// # Errors
/// [`ImageError::Empty`], [`ImageError::NotSupported`] naming the format where it is a known one
/// (HEIC, AVIF, SVG, …), [`ImageError::Unknown`] otherwise.
pub fn sniff(bytes: &[u8]) -> Result<PictureFormat, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    if let Some((_, found)) = MAGIC.iter().find(|(magic, _)| fits(magic, bytes)) {
        return found.map_err(ImageError::NotSupported);
    }
    if is_svg(bytes) {
        return Err(ImageError::NotSupported("an SVG drawing"));
    }
    Err(ImageError::Unknown)
}

fn fits(magic: &[Option<u8>], bytes: &[u8]) -> bool {
    bytes.len() >= magic.len()
        && magic
            .iter()
            .zip(bytes)
            .all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
}

/// SVG is text: a byte-order mark, an XML declaration, comments and a doctype may come first.
fn is_svg(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1024)];
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with('<') && text.contains("<svg")
}

/// Decodes a JPEG (grey, RGB, CMYK; baseline or progressive), PNG (8 or 16 bits, palette,
/// alpha), WebP, BMP, GIF (its first frame) or TIFF.
///
/// The EXIF orientation is applied, transparency is laid over white, grey becomes RGB and 16 bits
/// become 8. At most [`MAX_PIXELS`] pixels, [`MAX_SIDE`] a side and eight bytes of decoder memory a pixel
/// of the largest picture are spent, whatever the file claims.
///
/// # Errors
/// An [`ImageError`] with a sentence for the user; no input makes it panic.
///
/// # Examples
/// ```
/// use ventral::image::{Picture, Preprocessing, decode, encode_png, to_input};
///
/// let file = encode_png(&Picture::from_rgb(4, 2, vec![255; 4 * 2 * 3])?)?;
/// let picture = decode(&file)?.picture;
/// let input = to_input(&picture, Preprocessing { resize: 8, crop: 6 })?;
/// assert_eq!(input, vec![1.0; 3 * 6 * 6]);
/// # Ok::<(), ventral::image::ImageError>(())
/// ```
pub fn decode(bytes: &[u8]) -> Result<Decoded, ImageError> {
    let (image, format) = decode_any(bytes)?;
    Ok(Decoded {
        picture: flatten(image)?,
        format,
    })
}

/// A grey picture with all its bits, `[height, width]` from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Grey {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

/// Decodes a grey picture without losing bits: 16 stay 16. `None` for a picture that has colours;
/// one that is stored in colour and is grey everywhere is grey.
///
/// # Errors
/// As [`decode`].
pub fn decode_grey(bytes: &[u8]) -> Result<Option<Grey>, ImageError> {
    let (image, _) = decode_any(bytes)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rgb = image.into_rgb16();
    let is_grey = rgb.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]);
    let value = |p: &::image::Rgb<u16>| f32::from(p.0[0]) / f32::from(u16::MAX);
    Ok(is_grey.then(|| Grey {
        width,
        height,
        values: rgb.pixels().map(value).collect(),
    }))
}

/// The picture as it is stored, turned upright.
fn decode_any(bytes: &[u8]) -> Result<(DynamicImage, PictureFormat), ImageError> {
    let format = sniff(bytes)?;
    check_frame(format, bytes)?;
    let fail = |error| explain(error, format, bytes.len());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), crate_format(format));
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    // A picture with unreadable EXIF is still a picture: shown as it is stored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    image.apply_orientation(orientation);
    Ok((image, format))
}

fn crate_format(format: PictureFormat) -> ImageFormat {
    match format {
        PictureFormat::Jpeg => ImageFormat::Jpeg,
        PictureFormat::Png => ImageFormat::Png,
        PictureFormat::WebP => ImageFormat::WebP,
        PictureFormat::Bmp => ImageFormat::Bmp,
        PictureFormat::Gif => ImageFormat::Gif,
        PictureFormat::Tiff => ImageFormat::Tiff,
    }
}

fn limits() -> Limits {
    // `Limits` is non-exhaustive: it can only be changed, not built.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATION);
    limits
}

/// Checks that the decoders omit, or make too late.
fn check_frame(format: PictureFormat, bytes: &[u8]) -> Result<(), ImageError> {
    let len = bytes.len();
    let cut_off = || ImageError::CutOff { format, len };
    let damaged = |cause: &str| ImageError::Damaged {
        format,
        cause: cause.into(),
    };
    match format {
        PictureFormat::Jpeg => match jpeg::walk(bytes) {
            jpeg::Walk::Whole => Ok(()),
            jpeg::Walk::CutOff => Err(cut_off()),
            jpeg::Walk::TooManyScans => Err(damaged("more than 100 scans")),
        },
        PictureFormat::WebP => match webp::walk(bytes) {
            webp::Walk::Whole => Ok(()),
            webp::Walk::CutOff => Err(cut_off()),
            webp::Walk::BadChunk => Err(damaged("a chunk is longer than the file")),
        },
        _ => Ok(()),
    }
}

fn check_size(width: u32, height: u32) -> Result<(), ImageError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(ImageError::NoPixels { width, height });
    }
    if pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(())
}

/// Any pixel type to RGB over white.
fn flatten(image: DynamicImage) -> Result<Picture, ImageError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let data = if image.color().has_alpha() {
        let rgba = image.into_rgba8();
        rgba.pixels()
            .flat_map(|pixel| over_white(pixel.0))
            .collect()
    } else {
        image.into_rgb8().into_raw()
    };
    Picture::from_rgb(width, height, data)
}

/// A decoder's error as a sentence for the user.
fn explain(error: CrateError, format: PictureFormat, len: usize) -> ImageError {
    match error {
        CrateError::Limits(_) => ImageError::Memory { format },
        CrateError::Unsupported(_) => ImageError::Feature(format, Box::new(error)),
        error if ends_early(&error) => ImageError::CutOff { format, len },
        error => ImageError::Damaged {
            format,
            cause: Box::new(error),
        },
    }
}

/// Whether an unexpected end of file is anywhere in the chain of causes.
fn ends_early(error: &CrateError) -> bool {
    // This variant shows the causes of its error, but not the error itself, as its causes.
    if let CrateError::IoError(io) = error
        && io.kind() == io::ErrorKind::UnexpectedEof
    {
        return true;
    }
    std::iter::successors(error.source(), |&error| error.source()).any(|error| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
            // The GIF decoder has its own error for this, whose type is private.
            || format!("{error:?}") == "UnexpectedEof"
    })
}
