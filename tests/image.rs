//! Pictures against Pillow: decoding, resizing and cropping, and the messages for bad files.
#![cfg(feature = "picture")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ventral::image::{
    Filter, ImageError, Picture, PictureFormat, Pixels, Preprocessing, center_crop, decode,
    encode_png, encode_png_rgba, resample, resize, resize_and_crop, resized_size, sniff, to_input,
    to_rgba,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/image")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn json<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&bytes(name)).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// The same generator as `make.py`.
fn noise(width: usize, height: usize, seed: u32) -> Picture {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(seed), next).skip(1);
    let data = states.take(width * height * 3).map(|s| (s >> 24) as u8);
    Picture::from_rgb(width, height, data.collect()).unwrap()
}

/// The same blocks as `make.py`.
fn edges(width: usize, height: usize, seed: usize) -> Picture {
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            data.extend((0..3).map(|c| ((x / 3 + y / 5 + c + seed) % 2) as u8 * 255));
        }
    }
    Picture::from_rgb(width, height, data).unwrap()
}

#[derive(Deserialize)]
struct Golden {
    resize: Vec<ResizeCase>,
    crop: Vec<CropCase>,
}

#[derive(Debug, Deserialize)]
struct ResizeCase {
    kind: String,
    seed: u32,
    size: (usize, usize),
    to: (usize, usize),
    filter: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
struct CropCase {
    seed: u32,
    size: (usize, usize),
    resize: usize,
    crop: usize,
    sha256: String,
}

fn filter(name: &str) -> Filter {
    match name {
        "nearest" => Filter::Nearest,
        "box" => Filter::Box,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        other => panic!("no filter {other}"),
    }
}

#[test]
fn resize_is_pillow_to_the_bit() {
    let cases = json::<Golden>("resize.json").resize;
    assert_eq!(cases.len(), 110);
    let wrong = cases.iter().filter(|case| {
        let (width, height) = case.size;
        let picture = match case.kind.as_str() {
            "noise" => noise(width, height, case.seed),
            _ => edges(width, height, case.seed as usize),
        };
        let out = resize(&picture, case.to.0, case.to.1, filter(&case.filter)).unwrap();
        hash(out.rgb()) != case.sha256
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn resize_and_crop_is_torchvision_on_pillow_to_the_bit() {
    let cases = json::<Golden>("resize.json").crop;
    assert_eq!(cases.len(), 14);
    let wrong = cases.iter().filter(|case| {
        let picture = noise(case.size.0, case.size.1, case.seed);
        let how = Preprocessing {
            resize: case.resize,
            crop: case.crop,
        };
        let out = resize_and_crop(&picture, how).unwrap();
        assert_eq!((out.width(), out.height()), (case.crop, case.crop));
        // In one go or in two steps: the same picture.
        let (width, height) = resized_size(picture.width(), picture.height(), case.resize);
        let whole = resize(&picture, width, height, Filter::Bilinear).unwrap();
        assert_eq!(center_crop(&whole, case.crop).unwrap(), out, "{case:?}");
        hash(out.rgb()) != case.sha256
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_window_of_a_panorama_costs_its_crop() {
    // Resized whole, this picture would be 256 x 960,000 pixels, over the limit of `resize`.
    let strip = noise(8, 30_000, 5);
    let (width, height) = resized_size(8, 30_000, 256);
    assert!(resize(&strip, width, height, Filter::Bilinear).is_err());
    let how = Preprocessing {
        resize: 256,
        crop: 224,
    };
    let crop = resize_and_crop(&strip, how).unwrap();
    // The factor is 32 to the bit, so the middle alone gives the same.
    let rows = strip.rgb()[14_900 * 24..15_100 * 24].to_vec();
    let middle = Picture::from_rgb(8, 200, rows).unwrap();
    assert_eq!(resize_and_crop(&middle, how).unwrap(), crop);
}

#[test]
fn other_channel_counts_resize_as_rgb_does() {
    let picture = noise(23, 17, 9);
    let expected = resize(&picture, 11, 29, Filter::Bicubic).unwrap().planar();
    let planar = picture.planar();
    let planes = planar.chunks_exact(23 * 17);
    let single: Vec<u8> = planes
        .flat_map(|plane| resample(plane, 1, (23, 17), (11, 29), Filter::Bicubic).unwrap())
        .collect();
    assert_eq!(single, expected);
    assert!(resample(&[0; 5], 5, (1, 1), (1, 1), Filter::Box).is_err());
    assert!(resample(&[0; 5], 1, (2, 2), (1, 1), Filter::Box).is_err());
}

#[test]
fn impossible_sizes_are_refused() {
    let picture = noise(4, 4, 1);
    for (width, height) in [(0, 4), (4, 0), (usize::MAX, 2), (100_000, 100_000)] {
        let error = resize(&picture, width, height, Filter::Box).unwrap_err();
        assert!(matches!(error, ImageError::Size { .. }), "{error}");
    }
    for (resize, crop) in [(0, 4), (4, 0), (usize::MAX, 4), (4, usize::MAX)] {
        assert!(to_input(&picture, Preprocessing { resize, crop }).is_err());
    }
}

#[test]
fn input_is_planar_and_divided_by_255() {
    let picture = noise(32, 32, 3);
    let how = Preprocessing {
        resize: 32,
        crop: 32,
    };
    let input = to_input(&picture, how).unwrap();
    assert_eq!(input.len(), 3 * 32 * 32);
    for (at, pixel) in picture.rgb().chunks_exact(3).enumerate() {
        for channel in 0..3 {
            assert_eq!(
                input[channel * 1024 + at],
                f32::from(pixel[channel]) / 255.0
            );
        }
    }
}

#[derive(Debug, Deserialize)]
struct DecodeCase {
    file: String,
    width: usize,
    height: usize,
    /// Of the RGB bytes, for files without loss.
    sha256: Option<String>,
    /// RGB bytes as hex, for lossy files.
    pixels: Option<String>,
    /// `rgb.jpg` stored so that this EXIF orientation sets it right.
    turned: Option<u8>,
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The picture a viewer shows for an EXIF orientation (EXIF 2.3, tag 0x0112).
fn turn(stored: &Picture, orientation: u8) -> Picture {
    let (w, h) = (stored.width(), stored.height());
    let (width, height) = if orientation >= 5 { (h, w) } else { (w, h) };
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = match orientation {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                8 => (w - 1 - y, x),
                _ => (x, y),
            };
            let at = 3 * (sy * w + sx);
            data.extend(&stored.rgb()[at..at + 3]);
        }
    }
    Picture::from_rgb(width, height, data).unwrap()
}

#[test]
fn decoded_as_pillow_decodes() {
    let cases: Vec<DecodeCase> = json("decode.json");
    assert_eq!(cases.len(), 34);
    let plain = decode(&bytes("rgb.jpg")).unwrap().picture;
    for case in cases {
        let picture = decode(&bytes(&case.file)).unwrap().picture;
        let size = (picture.width(), picture.height());
        assert_eq!(size, (case.width, case.height), "{}", case.file);
        if let Some(sha256) = &case.sha256 {
            assert_eq!(&hash(picture.rgb()), sha256, "{}", case.file);
        } else if let Some(pixels) = &case.pixels {
            // Decoders may round the inverse transform and the colour conversion differently.
            let pixels = unhex(pixels);
            let pairs = picture.rgb().iter().zip(&pixels);
            let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= 3, "{}: {worst} levels from Pillow", case.file);
        } else {
            let turned = turn(&plain, case.turned.unwrap());
            assert_eq!(picture, turned, "{}", case.file);
        }
    }
}

#[test]
fn a_gif_shows_its_first_frame() {
    let first = decode(&bytes("palette.gif")).unwrap().picture;
    assert_eq!(decode(&bytes("moving.gif")).unwrap().picture, first);
}

#[test]
fn formats_are_known_by_their_content() {
    let table = [
        ("rgb.jpg", PictureFormat::Jpeg),
        ("rgb.png", PictureFormat::Png),
        ("rgb.webp", PictureFormat::WebP),
        ("rgb.bmp", PictureFormat::Bmp),
        ("palette.gif", PictureFormat::Gif),
        ("rgb.tif", PictureFormat::Tiff),
    ];
    for (name, format) in table {
        assert_eq!(sniff(&bytes(name)).unwrap(), format);
        assert_eq!(decode(&bytes(name)).unwrap().format, format);
    }
}

#[test]
fn other_files_are_named() {
    let table: [(&[u8], &str); 11] = [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        (
            b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<!-- a --><SVG/>",
            "SVG",
        ),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"\0\0\0\x0CJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\x01\0\x01\0", "an icon"),
        (b"PK\x03\x04", "ZIP"),
    ];
    for (file, name) in table {
        let text = decode(file).unwrap_err().to_string();
        assert!(
            text.contains(name) && text.contains("save it as JPEG or PNG"),
            "{text}"
        );
    }
    for file in [
        &b"hello"[..],
        b"<html><body>404</body></html>",
        &[0; 64],
        b"\xFF\xD8",
    ] {
        let error = decode(file).unwrap_err();
        assert!(matches!(error, ImageError::Unknown), "{error}");
    }
    assert!(matches!(decode(b"").unwrap_err(), ImageError::Empty));
}

#[test]
fn a_cut_file_is_called_cut() {
    // A GIF's picture may be whole before its last byte, and a TIFF's directory stands at its end.
    let table = [
        ("rgb.jpg", 2),
        ("progressive.jpg", 2),
        ("rgb.png", 20),
        ("rgb.webp", 20),
        ("rgb.bmp", 1),
        ("palette.gif", 40),
        ("rgb.tif", 1),
    ];
    for (name, missing) in table {
        let whole = bytes(name);
        let cut = &whole[..whole.len() - missing];
        let error = decode(cut).unwrap_err();
        assert!(
            matches!(error, ImageError::CutOff { .. }),
            "{name}: {error:?}"
        );
        let text = error.to_string();
        assert!(text.contains("may be cut off"), "{text}");
        let len = match cut.len() {
            len @ 1000.. => format!("{},{:03}", len / 1000, len % 1000),
            len => len.to_string(),
        };
        assert!(text.contains(&format!("ends after {len} bytes")), "{text}");
    }
}

/// A BMP header that claims a size, and no pixels.
fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut file = bytes("rgb.bmp");
    file[18..22].copy_from_slice(&width.to_le_bytes());
    file[22..26].copy_from_slice(&height.to_le_bytes());
    file
}

#[test]
fn too_large_is_refused_before_any_memory_is_taken() {
    let table = [(30_000, 30_000), (30_001, 1), (1, 30_001), (8_001, 8_000)];
    for (width, height) in table {
        let error = decode(&claims(width, height)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error:?}");
        assert!(
            text.contains(&format!("{width}x{height}, more than")),
            "{text}"
        );
    }
    // Within the limits, but there are no such pixels in the file.
    assert!(matches!(
        decode(&claims(8_000, 8_000)).unwrap_err(),
        ImageError::CutOff { .. }
    ));
}

#[test]
fn png_there_and_back() {
    let picture = noise(31, 17, 4);
    let file = encode_png(&picture).unwrap();
    assert_eq!(decode(&file).unwrap().picture, picture);
    let pixels = picture.to_pixels();
    assert_eq!(pixels.to_picture().unwrap(), picture);
    let rgba = to_rgba(&pixels.data, 31, 17).unwrap();
    let file = encode_png_rgba(&rgba, 31, 17).unwrap();
    assert_eq!(decode(&file).unwrap().picture, picture);
    assert_eq!(Picture::from_rgba(31, 17, &rgba).unwrap(), picture);
}

#[test]
fn floats_are_clipped_and_rounded() {
    let values = [-0.5, 0.0, 0.001, 0.499 / 255.0, 1.0, 2.0];
    let pixels = Pixels {
        width: 2,
        height: 1,
        data: values.to_vec(),
    };
    assert_eq!(pixels.to_picture().unwrap().rgb(), [0, 0, 255, 0, 0, 255]);
    let rgba = to_rgba(&[f32::NAN, 0.5, f32::INFINITY], 1, 1).unwrap();
    assert_eq!(rgba, [0, 128, 255, 255]);
}

#[test]
fn buffers_of_the_wrong_length_are_refused() {
    assert!(Picture::from_rgb(2, 2, vec![0; 11]).is_err());
    assert!(Picture::from_rgb(0, 2, vec![]).is_err());
    assert!(Picture::from_rgb(usize::MAX, 2, vec![]).is_err());
    assert!(Picture::from_rgba(2, 2, &[0; 15]).is_err());
    assert!(to_rgba(&[0.0; 11], 2, 2).is_err());
    assert!(encode_png_rgba(&[0; 15], 2, 2).is_err());
}

#[test]
fn transparency_shows_white() {
    let picture = Picture::from_rgba(3, 1, &[0, 0, 0, 0, 200, 100, 0, 255, 0, 0, 0, 51]).unwrap();
    assert_eq!(picture.rgb(), [255, 255, 255, 200, 100, 0, 204, 204, 204]);
}

/// A photograph on its whole way, against Pillow's decoder and resize: the two JPEG decoders
/// differ by rounding only.
#[test]
fn a_photograph_as_pillow_and_torchvision_prepare_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(root.join("static/samples/robin.jpg")).unwrap();
    let how = Preprocessing {
        resize: 32,
        crop: 32,
    };
    let crop = resize_and_crop(&decode(&file).unwrap().picture, how).unwrap();
    let wanted = bytes("robin32.rgb");
    assert_eq!(wanted.len(), crop.rgb().len());
    let differences = crop.rgb().iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b));
    let worst = differences.clone().max().unwrap();
    let sum: u32 = differences.map(u32::from).sum();
    assert!(worst <= 2, "{worst} levels");
    assert!(f64::from(sum) / wanted.len() as f64 <= 0.3, "{sum} in all");
}
