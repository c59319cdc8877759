//! What the corruptions promise for any image; [`reference`] compares them with the published ones.
#![cfg(all(feature = "picture", feature = "checkpoint"))]

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use ventral::perturb::corruption::{
    Corruption, CorruptionError, Image, Setting, Table, Textures, corrupt, corrupt_batch,
};
use ventral::rng::Rng;

#[path = "../common/mod.rs"]
mod common;
mod reference;

fn setting(corruption: Corruption, severity: u8) -> Setting {
    Setting {
        corruption,
        severity,
        table: None,
        seed: 0,
        eight_bit: true,
    }
}

/// An image with smooth parts, edges and noise.
fn example(channels: usize, height: usize, width: usize) -> Vec<f32> {
    let mut rng = Rng::from_seed((height * width) as u64);
    let area = height * width;
    let pixel = |i: usize| {
        let (y, x) = ((i % area / width) as f32, (i % width) as f32);
        let wave = libm::sinf(0.2 * x + 0.1 * y + (i / area) as f32);
        let edge = if x > y { 0.2 } else { 0.0 };
        (0.45 + 0.3 * wave + edge + 0.05 * rng.normal_f32()).clamp(0.0, 1.0)
    };
    (0..channels * area).map(pixel).collect()
}

fn image(pixels: &[f32], channels: usize, height: usize, width: usize) -> Image<'_> {
    Image {
        pixels,
        channels,
        height,
        width,
    }
}

fn name_of(corruption: Corruption, severity: u8) -> String {
    format!("{corruption}/sev{severity}")
}

// What holds for any image.

#[test]
fn every_size_table_and_channel_count_gives_an_image_in_range() {
    let textures = Textures::default();
    let shapes = [
        (3, 32, 32),
        (1, 32, 32),
        (3, 33, 47),
        (1, 64, 100),
        (3, 301, 97),
    ];
    for (channels, height, width) in shapes {
        let pixels = example(channels, height, width);
        for corruption in Corruption::ALL {
            for table in [Table::ImageNet, Table::Cifar, Table::TinyImageNet] {
                for (severity, eight_bit) in [(1, true), (5, true), (5, false)] {
                    let setting = Setting {
                        table: Some(table),
                        eight_bit,
                        ..setting(corruption, severity)
                    };
                    let image = image(&pixels, channels, height, width);
                    let out = corrupt(image, &setting, &textures).expect("a sound image");
                    assert_eq!(out.len(), pixels.len());
                    assert!(out.iter().all(|v| (0.0..=1.0).contains(v)), "{setting:?}");
                    let whole = |v: &f32| (v * 255.0 - (v * 255.0).round()).abs() < 1e-4;
                    assert!(!eight_bit || out.iter().all(whole), "{setting:?}");
                    // Saturation is the one that has nothing to do on a grey image, and the
                    // gentlest glass and blurs of CIFAR's table round to the identity.
                    let idle = corruption == Corruption::Saturate && channels == 1;
                    let gentle = corruption == Corruption::GlassBlur && table == Table::Cifar;
                    assert!(idle || gentle || out != pixels, "{setting:?}");
                }
            }
        }
    }
}

#[test]
fn black_white_and_flat_images_are_no_trouble() {
    let textures = Textures::default();
    for level in [0.0, 0.5, 1.0] {
        let pixels = vec![level; 3 * 40 * 36];
        for corruption in Corruption::ALL {
            for severity in 1..=5 {
                for table in [Table::ImageNet, Table::Cifar] {
                    let setting = Setting {
                        table: Some(table),
                        ..setting(corruption, severity)
                    };
                    let out = corrupt(image(&pixels, 3, 40, 36), &setting, &textures);
                    let out = out.expect("a flat image is an image");
                    assert!(out.iter().all(|v| (0.0..=1.0).contains(v)), "{setting:?}");
                }
            }
        }
    }
}

#[test]
fn long_images_take_no_more_memory_than_they_have_pixels() {
    let (height, width) = (32, 10_000);
    let pixels = example(1, height, width);
    let textures = Textures::default();
    for corruption in Corruption::ALL {
        let setting = setting(corruption, 2);
        let out = corrupt(image(&pixels, 1, height, width), &setting, &textures);
        assert_eq!(out.expect("a long image is sound").len(), pixels.len());
    }
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let pixels = example(3, 48, 64);
    let textures = Textures::default();
    for corruption in Corruption::ALL {
        let once = |seed: u64| {
            let setting = Setting {
                seed,
                eight_bit: false,
                ..setting(corruption, 3)
            };
            corrupt(image(&pixels, 3, 48, 64), &setting, &textures).expect("a sound image")
        };
        assert_eq!(once(7), once(7), "{corruption}");
        assert_eq!(
            once(7) != once(8),
            corruption.is_stochastic(),
            "{corruption}"
        );
    }
}

#[test]
fn a_batch_is_its_images_one_by_one_however_it_is_divided() {
    let pixels = example(3, 40, 40);
    let textures = Textures::default();
    let images = [image(&pixels, 3, 40, 40); 7];
    for corruption in [
        Corruption::GaussianNoise,
        Corruption::Frost,
        Corruption::ZoomBlur,
    ] {
        let setting = setting(corruption, 4);
        let batch = |images: &[Image], first: u64| {
            corrupt_batch(images, first, &setting, &textures).expect("sound images")
        };
        let whole = batch(&images, 0);
        assert_eq!(whole.len(), 7);
        assert_eq!(
            whole[0],
            corrupt(images[0], &setting, &textures).expect("sound")
        );
        let parts = [batch(&images[..3], 0), batch(&images[3..], 3)].concat();
        assert_eq!(whole, parts);
        // The same image, but each with its own draws.
        assert_eq!(whole[0] != whole[1], corruption.is_stochastic());
        assert!(batch(&[], 0).is_empty());
    }
    let small = image(&pixels, 1, 20, 240);
    let mixed = corrupt_batch(
        &[images[0], small],
        0,
        &setting(Corruption::Fog, 1),
        &textures,
    );
    let (height, width) = (20, 240);
    assert_eq!(mixed, Err(CorruptionError::TooSmall { height, width }));
}

#[test]
fn what_is_wrong_is_said() {
    let textures = Textures::default();
    let pixels = example(3, 32, 32);
    let plain = setting(Corruption::Contrast, 1);
    let fails = |image: Image, setting: &Setting| {
        let error = corrupt(image, setting, &textures).expect_err("this is no sound request");
        error.to_string()
    };
    let sound = image(&pixels, 3, 32, 32);
    for severity in [0, 6, 255] {
        let message = fails(sound, &Setting { severity, ..plain });
        assert_eq!(
            message,
            format!("the severity is {severity}; it goes from 1 to 5")
        );
    }
    let message = fails(image(&pixels, 3, 31, 64), &plain);
    assert_eq!(
        message,
        "the image has 31 x 64 px; each side must have 32 px at least"
    );
    let message = fails(image(&pixels, 2, 32, 32), &plain);
    assert_eq!(
        message,
        "the image has 2 channels; it must have 1 (grey) or 3 (RGB)"
    );
    let message = fails(image(&pixels, 3, 32, 33), &plain);
    assert_eq!(message, "there are 3072 values for an image of 3 x 32 x 33");
    let huge = usize::MAX / 2;
    assert!(fails(image(&pixels, 3, huge, huge), &plain).starts_with("there are 3072 values"));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut pixels = pixels.clone();
        pixels[5] = bad;
        let message = fails(image(&pixels, 3, 32, 32), &plain);
        assert_eq!(message, "value 5 of the pixels is not a finite number");
    }
    // Out of range is clipped, not refused.
    let wide: Vec<f32> = pixels.iter().map(|v| 3.0 * v - 1.0).collect();
    let clipped: Vec<f32> = wide.iter().map(|v| v.clamp(0.0, 1.0)).collect();
    let run = |pixels: &[f32]| corrupt(image(pixels, 3, 32, 32), &plain, &textures);
    assert_eq!(run(&wide), run(&clipped));

    assert_eq!(
        Textures::from_images(Vec::new()).err(),
        Some(CorruptionError::NoTexture)
    );
    let short = Textures::from_images(vec![(vec![0.0; 5], 2, 1)]);
    assert!(matches!(short, Err(CorruptionError::Buffer { .. })));
    let nan = Textures::from_images(vec![(vec![0.0, f32::NAN, 0.0], 1, 1)]);
    assert!(matches!(nan, Err(CorruptionError::NotFinite(1))));
}

#[test]
fn a_setting_is_written_with_the_published_names() {
    let read: Setting = serde_json::from_str(
        r#"{"corruption": "jpeg_compression", "severity": 2, "table": "tiny_imagenet"}"#,
    )
    .expect("the rest has defaults");
    let expected = Setting {
        table: Some(Table::TinyImageNet),
        eight_bit: false,
        ..setting(Corruption::JpegCompression, 2)
    };
    assert_eq!(read, expected);
    let text = serde_json::to_string(&read).expect("a setting is text");
    assert_eq!(
        serde_json::from_str::<Setting>(&text).expect("as written"),
        read
    );
    let unknown = r#"{"corruption": "fog", "severity": 2, "level": 1}"#;
    assert!(serde_json::from_str::<Setting>(unknown).is_err());
}

#[test]
fn tables_go_by_the_nearest_size() {
    let sides = [32, 45, 46, 64, 96, 119, 120, 224, 1000];
    let tables = sides.map(Table::for_side);
    let (c, t, i) = (Table::Cifar, Table::TinyImageNet, Table::ImageNet);
    assert_eq!(tables, [c, c, t, t, t, t, i, i, i]);
}

/// To the bit: what changes this changes every published result.
#[test]
fn results_are_pinned() {
    let pixels = example(3, 64, 64);
    let textures = Textures::default();
    let mut hash = Sha256::new();
    for corruption in Corruption::ALL {
        let out = corrupt(
            image(&pixels, 3, 64, 64),
            &setting(corruption, 3),
            &textures,
        );
        let levels = out.expect("a sound image");
        let levels: Vec<u8> = levels.iter().map(|v| (v * 255.0).round() as u8).collect();
        hash.update(levels);
    }
    assert_eq!(hash.finalize()[..8], [244, 22, 45, 211, 127, 97, 14, 250]);
}

/// A user's texture is used: as it is where it fits, enlarged or reduced where it does not.
#[test]
fn frost_is_taken_from_the_users_textures() {
    let flat = |level: f32, side: usize| (vec![level; 3 * side * side], side, side);
    let black = vec![0.0; 3 * 64 * 64];
    for (side, table) in [
        (64, Table::ImageNet),
        (20, Table::ImageNet),
        (20, Table::Cifar),
        (500, Table::Cifar),
        (500, Table::TinyImageNet),
    ] {
        let textures = Textures::from_images(vec![flat(0.8, side)]).expect("a sound texture");
        assert_eq!(textures.origin(), "supplied");
        let setting = Setting {
            table: Some(table),
            eight_bit: false,
            ..setting(Corruption::Frost, 1)
        };
        let weight = match table {
            Table::ImageNet => 0.4,
            Table::Cifar => 0.2,
            Table::TinyImageNet => 0.3,
        };
        let out = corrupt(image(&black, 3, 64, 64), &setting, &textures).expect("a sound image");
        assert!(
            out.iter().all(|v| (v - weight * 0.8).abs() < 1e-5),
            "{side} {table:?}"
        );
    }
    assert_eq!(Textures::default().origin(), "generated");
}

#[test]
fn grey_is_what_a_grey_colour_image_becomes_where_no_colour_comes_in() {
    let textures = Textures::default();
    let grey = example(1, 48, 56);
    let colour = grey.repeat(3);
    for corruption in [
        Corruption::DefocusBlur,
        Corruption::MotionBlur,
        Corruption::GlassBlur,
        Corruption::ZoomBlur,
        Corruption::Snow,
        Corruption::Fog,
        Corruption::Brightness,
        Corruption::Contrast,
        Corruption::ElasticTransform,
        Corruption::Pixelate,
        Corruption::JpegCompression,
        Corruption::GaussianBlur,
    ] {
        let setting = setting(corruption, 4);
        let one = corrupt(image(&grey, 1, 48, 56), &setting, &textures).expect("sound");
        let three = corrupt(image(&colour, 3, 48, 56), &setting, &textures).expect("sound");
        for (grey, red) in one.iter().zip(&three) {
            // Luma of a grey colour is that grey to a rounding error.
            assert!(
                (grey - red).abs() < 1.1 / 255.0,
                "{corruption}: {grey} and {red}"
            );
        }
    }
}

// To look at and to time, on request.

/// Milliseconds a corruption on one core at 224 px, the slowest severity.
#[test]
#[ignore = "times; run with --ignored --nocapture"]
fn times_at_224_px() {
    let pixels = example(3, 224, 224);
    let textures = Textures::default();
    for corruption in Corruption::ALL {
        let mut slowest = (0.0, 0);
        for severity in 1..=5 {
            let setting = setting(corruption, severity);
            let image = image(&pixels, 3, 224, 224);
            let run = || {
                let start = std::time::Instant::now();
                for seed in 0..5 {
                    corrupt(image, &Setting { seed, ..setting }, &textures).expect("sound");
                }
                start.elapsed().as_secs_f64() * 200.0
            };
            // Once for the textures and the caches.
            run();
            let fastest = (0..3).map(|_| run()).fold(f64::INFINITY, f64::min);
            if fastest > slowest.0 {
                slowest = (fastest, severity);
            }
        }
        println!(
            "{corruption}: {:.1} ms at severity {}",
            slowest.0, slowest.1
        );
        let slow = [Corruption::ElasticTransform, Corruption::GlassBlur];
        let limit = if slow.contains(&corruption) {
            300.0
        } else {
            100.0
        };
        assert!(slowest.0 < limit, "{corruption} takes {} ms", slowest.0);
    }
}

/// Writes every corruption at every severity, of the picture that VENTRAL_PICTURE names.
#[test]
#[ignore = "writes a picture; run with --ignored"]
fn a_sheet_to_look_at() {
    use ventral::image::{Picture, Preprocessing, decode, encode_png, to_input};

    let Ok(path) = std::env::var("VENTRAL_PICTURE") else {
        common::skip("VENTRAL_PICTURE names no picture");
        return;
    };
    let how = Preprocessing {
        resize: 256,
        crop: 224,
    };
    let bytes = std::fs::read(path).expect("the picture is there");
    let picture = decode(&bytes).expect("it is a picture").picture;
    let pixels = to_input(&picture, how).expect("it is resized");
    let textures = Textures::default();
    const TILE: usize = 224;
    let (columns, rows) = (5, Corruption::ALL.len());
    let mut sheet = vec![0_u8; 3 * TILE * columns * TILE * rows];
    for (row, corruption) in Corruption::ALL.into_iter().enumerate() {
        for column in 0..columns {
            let setting = setting(corruption, column as u8 + 1);
            let image = image(&pixels, 3, TILE, TILE);
            let out = corrupt(image, &setting, &textures).expect("a picture is sound");
            for (i, v) in out.iter().enumerate() {
                let (c, y, x) = (i / (TILE * TILE), i / TILE % TILE, i % TILE);
                let place = (row * TILE + y) * columns * TILE + column * TILE + x;
                sheet[3 * place + c] = (v * 255.0).round() as u8;
            }
        }
    }
    let sheet = Picture::from_rgb(columns * TILE, rows * TILE, sheet).expect("a whole sheet");
    let target = std::env::temp_dir().join("ventral-corruptions.png");
    std::fs::write(&target, encode_png(&sheet).expect("it is written")).expect("there is space");
    println!("{}", target.display());
}
