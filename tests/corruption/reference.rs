//! The corruptions against the reference's images, its images under the same random numbers, and
//! its statistics.

use std::fs::File;

use ventral::perturb::corruption::{Draws, before_cast, jpeg};

use super::*;
use crate::common::arrays::{Fixture, Named, array, fixture, full_fixture};

/// `[height, width, channels]` as `[channels, height, width]`, in units of 255.
struct Levels {
    values: Vec<f32>,
    height: usize,
    width: usize,
}

fn levels(npz: &mut impl Named, key: &str) -> Levels {
    let array = array(npz, key);
    let [height, width, 3] = array.shape[..] else {
        panic!("{key} is no colour image");
    };
    Levels {
        values: planar(&array.data.to_f32(), 3),
        height,
        width,
    }
}

fn planar(interleaved: &[f32], channels: usize) -> Vec<f32> {
    let channel = |c: usize| interleaved.iter().skip(c).step_by(channels).copied();
    (0..channels).flat_map(channel).collect()
}

impl Levels {
    fn pixels(&self) -> Vec<f32> {
        self.values.iter().map(|v| v / 255.0).collect()
    }
}

fn imagenet(corruption: Corruption, severity: u8) -> Setting {
    Setting {
        table: Some(Table::ImageNet),
        ..setting(corruption, severity)
    }
}

/// Grey levels that rounding errors of f32 against f64 may come to.
const EXACT: f32 = 0.001;

/// Largest difference in grey levels, and the share that is beyond 1.
fn deviation(ours: &[f32], theirs: &[f32]) -> (f32, f64) {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a * 255.0 - b).abs());
    let differences: Vec<f32> = differences.collect();
    // Both are whole numbers up to a rounding error where this counts.
    let beyond = differences.iter().filter(|d| **d > 1.001).count();
    let worst = differences.iter().copied().fold(0.0, f32::max);
    (worst, beyond as f64 / differences.len() as f64)
}

fn deterministic() -> impl Iterator<Item = Corruption> {
    Corruption::ALL.into_iter().filter(|c| !c.is_stochastic())
}

#[test]
fn deterministic_corruptions_are_the_references_to_a_grey_level() {
    let Some(mut npz) = full_fixture("corruptions_deterministic_u8.npz") else {
        return;
    };
    let photos: Vec<Levels> = (0..3)
        .map(|i| levels(&mut npz, &format!("photo{i}")))
        .collect();
    let textures = Textures::default();
    for corruption in deterministic() {
        let (mut worst, mut share, mut equal) = (0.0_f32, 0.0_f64, 1.0_f64);
        let cases = [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 3), (2, 3)];
        for (photo, severity) in cases {
            let (clean, key) = (&photos[photo], format!("photo{photo}/sev{severity}"));
            let expected = levels(&mut npz, &format!("{corruption}/{key}"));
            let pixels = clean.pixels();
            let image = image(&pixels, 3, clean.height, clean.width);
            let out = corrupt(image, &imagenet(corruption, severity), &textures);
            let out = out.expect("a photo is sound");
            let (largest, beyond) = deviation(&out, &expected.values);
            let same = out.iter().zip(&expected.values);
            let same = same.filter(|(a, b)| (*a * 255.0 - *b).abs() < 0.5).count();
            equal = equal.min(same as f64 / out.len() as f64);
            (worst, share) = (worst.max(largest), share.max(beyond));
        }
        println!("{corruption}: worst {worst:.0}, beyond 1: {share:.5}, equal {equal:.4}");
        assert!(
            share <= 0.001,
            "{corruption}: {share} of the values are off by over 1"
        );
        // Where the exact result is a whole level, the reference's rounding errors cut it off to
        // that or the one below: mostly with a saturation that is scaled by a whole number.
        assert!(worst < 1.01, "{corruption}: off by {worst}");
        let exact = [Corruption::Pixelate, Corruption::JpegCompression];
        assert!(
            !exact.contains(&corruption) || worst < 0.01,
            "{corruption}: not exact"
        );
    }
}

#[test]
fn deterministic_corruptions_are_the_references_before_the_cast() {
    let mut npz = fixture("corruptions_deterministic_64_float.npz");
    let clean = levels(&mut npz, "photo");
    let pixels = clean.pixels();
    let stored = npz.names();
    for corruption in deterministic() {
        let prefix = format!("{corruption}/");
        assert!(stored.iter().any(|name| name.starts_with(&prefix)));
        for severity in 1..=5 {
            let name = name_of(corruption, severity);
            if !stored.contains(&name) {
                continue;
            }
            let expected = levels(&mut npz, &name);
            let image = image(&pixels, 3, clean.height, clean.width);
            let out = before_cast(
                image,
                &imagenet(corruption, severity),
                &Textures::default(),
                &mut Rng::from_seed(0),
            );
            let (worst, _) = deviation(&out.expect("a photo is sound"), &expected.values);
            println!("{name}: {worst}");
            assert!(worst < EXACT, "{name}: off by {worst} grey levels");
        }
    }
}

/// The reference's random numbers, in the order in which they are asked for.
#[derive(Default)]
struct Stored {
    planes: std::collections::VecDeque<Vec<f32>>,
    integers: std::collections::VecDeque<usize>,
}

impl Stored {
    fn next(&mut self, out: &mut [f32]) {
        let plane = self.planes.pop_front().expect("a stored plane");
        out.copy_from_slice(&plane);
    }
}

impl Draws for Stored {
    fn normals(&mut self, out: &mut [f32]) {
        self.next(out);
    }

    fn uniforms(&mut self, out: &mut [f32]) {
        self.next(out);
    }

    fn poisson(&mut self, rates: &mut [f32]) {
        self.next(rates);
    }

    fn below(&mut self, n: usize) -> usize {
        let drawn = self.integers.pop_front().expect("a stored integer");
        assert!(drawn < n, "{drawn} of {n}");
        drawn
    }
}

/// Planes as stored in `draw0…`, of which `fog` has two digits.
fn stored_planes(npz: &mut Fixture, name: &str) -> Stored {
    let prefix = format!("{name}/draw");
    let is_plane = |n: &String| n.starts_with(&prefix) && !n.contains("randint");
    // In the order of their names.
    let keys: Vec<String> = npz.names().into_iter().filter(is_plane).collect();
    let plane = |key: &String| {
        let array = array(npz, key);
        let channels = if array.shape.len() == 3 { 3 } else { 1 };
        planar(&array.data.to_f32(), channels)
    };
    Stored {
        planes: keys.iter().map(plane).collect(),
        ..Stored::default()
    }
}

/// What the reference's draws are stored for.
const INJECTED: &[(Corruption, u8)] = &[
    (Corruption::GaussianNoise, 3),
    (Corruption::ShotNoise, 3),
    (Corruption::ImpulseNoise, 3),
    (Corruption::SpeckleNoise, 3),
    (Corruption::GlassBlur, 1),
    (Corruption::GlassBlur, 3),
    (Corruption::MotionBlur, 1),
    (Corruption::MotionBlur, 5),
    (Corruption::Snow, 1),
    (Corruption::Snow, 4),
    (Corruption::Frost, 3),
    (Corruption::Fog, 3),
    (Corruption::Spatter, 2),
    (Corruption::Spatter, 5),
    (Corruption::ElasticTransform, 3),
];

#[test]
fn stochastic_corruptions_are_the_references_under_its_random_numbers() {
    let mut npz = fixture("corruptions_injected_64.npz");
    let clean = levels(&mut npz, "photo");
    let pixels = clean.pixels();
    for (corruption, severity) in INJECTED {
        let name = name_of(*corruption, *severity);
        if !npz.has(&format!("{name}/out")) {
            continue;
        }
        let mut draws = stored_planes(&mut npz, &name);
        let mut textures = Textures::default();
        if *corruption == Corruption::GlassBlur {
            let moves = array(&mut npz, &format!("{name}/randint_dx_dy")).data;
            let moves = moves.to_i64().expect("moves are whole numbers");
            // Ours are counted from the furthest to the left or up.
            let reach = -moves.iter().min().expect("there are moves");
            draws.integers = moves.iter().map(|m| (m + reach) as usize).collect();
        }
        if *corruption == Corruption::Frost {
            // The part itself is stored, not the photograph it is from.
            let crop = levels(&mut npz, &format!("{name}/crop_rgb"));
            let texture = (crop.pixels(), crop.height, crop.width);
            textures = Textures::from_images(vec![texture]).expect("a sound texture");
            draws.integers = [0].into();
        }
        let expected = levels(&mut npz, &format!("{name}/out"));
        let image = image(&pixels, 3, clean.height, clean.width);
        let setting = imagenet(*corruption, *severity);
        let out = before_cast(image, &setting, &textures, &mut draws).expect("sound");
        let (worst, _) = deviation(&out, &expected.values);
        println!("{name}: {worst}");
        assert!(
            draws.planes.is_empty() && draws.integers.is_empty(),
            "{name}: draws left"
        );
        assert!(worst < EXACT, "{name}: off by {worst} grey levels");
    }
}

#[test]
fn jpeg_tables_and_sampling_are_those_of_the_references_files() {
    let mut npz = fixture("corruptions_deterministic_64_float.npz");
    for (severity, quality) in [(1, 25), (5, 7)] {
        let bytes = array(&mut npz, &format!("jpeg_bytes/sev{severity}"));
        let bytes: Vec<u8> = bytes.data.to_f32().iter().map(|v| *v as u8).collect();
        let (tables, sampling) = headers(&bytes);
        assert_eq!(tables, jpeg::quantisation_tables(quality).map(zigzag));
        assert_eq!(sampling, [0x22, 0x11, 0x11], "4:2:0");
    }
}

/// Along the diagonals, as a file holds a table.
fn zigzag(table: [i32; 64]) -> Vec<u8> {
    let mut order: Vec<usize> = (0..64).collect();
    order.sort_by_key(|i| {
        let (y, x) = (i / 8, i % 8);
        (y + x, if (y + x) % 2 == 0 { x } else { y })
    });
    order.into_iter().map(|i| table[i] as u8).collect()
}

/// The quantisation tables of a JPEG file and the sampling factors of its components.
fn headers(bytes: &[u8]) -> ([Vec<u8>; 2], [u8; 3]) {
    let mut tables = [Vec::new(), Vec::new()];
    let mut rest = &bytes[2..];
    while let [0xff, marker, high, low, body @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])) - 2;
        let (segment, after) = body.split_at(length);
        match marker {
            0xdb => {
                for table in segment.chunks_exact(65) {
                    tables[usize::from(table[0])] = table[1..].to_vec();
                }
            }
            0xc0 => return (tables, [segment[7], segment[10], segment[13]]),
            _ => {}
        }
        rest = after;
    }
    panic!("a file without a frame");
}

#[derive(serde::Deserialize)]
struct Statistics {
    stats: BTreeMap<String, Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    mean_rgb: [f64; 3],
    #[serde(default)]
    mean_rgb_sd_over_seeds: [f64; 3],
    std_rgb: [f64; 3],
    #[serde(default)]
    std_rgb_sd_over_seeds: [f64; 3],
    rmse: f64,
    #[serde(default)]
    rmse_sd_over_seeds: f64,
    mad: f64,
    #[serde(default)]
    mad_sd_over_seeds: f64,
}

/// Means and deviations of the channels, root mean square and mean absolute difference to the
/// clean image, in grey levels.
fn statistics(out: &[f32], clean: &[f32]) -> [f64; 8] {
    let area = out.len() / 3;
    let mut found = [0.0; 8];
    for (c, plane) in out.chunks_exact(area).enumerate() {
        let values = || plane.iter().map(|v| f64::from(*v) * 255.0);
        let mean = values().sum::<f64>() / area as f64;
        found[c] = mean;
        let squares: f64 = values().map(|v| (v - mean).powi(2)).sum();
        found[3 + c] = (squares / area as f64).sqrt();
    }
    let differences = || out.iter().zip(clean).map(|(a, b)| f64::from(a * 255.0 - b));
    let n = out.len() as f64;
    found[6] = (differences().map(|d| d * d).sum::<f64>() / n).sqrt();
    found[7] = differences().map(f64::abs).sum::<f64>() / n;
    found
}

impl Entry {
    fn means(&self) -> [f64; 8] {
        let ([a, b, c], [d, e, f]) = (self.mean_rgb, self.std_rgb);
        [a, b, c, d, e, f, self.rmse, self.mad]
    }

    fn deviations(&self) -> [f64; 8] {
        let ([a, b, c], [d, e, f]) = (self.mean_rgb_sd_over_seeds, self.std_rgb_sd_over_seeds);
        [
            a,
            b,
            c,
            d,
            e,
            f,
            self.rmse_sd_over_seeds,
            self.mad_sd_over_seeds,
        ]
    }
}

#[test]
fn statistics_are_the_references() {
    let Some(mut npz) = full_fixture("corruptions_deterministic_u8.npz") else {
        return;
    };
    let file = File::open(common::reference("corruptions_stats.json")).expect("a fixture opens");
    let statistics_of: Statistics = serde_json::from_reader(file).expect("statistics");
    let textures = Textures::default();
    let mut failures = Vec::new();
    for corruption in Corruption::ALL {
        let mut worst = (0.0_f64, String::new());
        for photo in 0..3 {
            let clean = levels(&mut npz, &format!("photo{photo}"));
            let pixels = clean.pixels();
            for severity in 1..=5 {
                let key = format!("{corruption}/sev{severity}/photo{photo}");
                let entry = &statistics_of.stats[&key];
                // Motion blur and frost turn on one or two numbers an image.
                let seeds = if corruption.is_stochastic() { 10 } else { 1 };
                let images = vec![image(&pixels, 3, clean.height, clean.width); seeds];
                let setting = imagenet(corruption, severity);
                let out = corrupt_batch(&images, 0, &setting, &textures).expect("sound");
                let mut mean = [0.0; 8];
                for out in &out {
                    let found = statistics(out, &clean.values);
                    for (m, f) in mean.iter_mut().zip(found) {
                        *m += f / seeds as f64;
                    }
                }
                let spread = 4.0 * (1.0 / 20.0 + 1.0 / seeds as f64).sqrt();
                for (i, (found, (expected, sd))) in mean
                    .into_iter()
                    .zip(entry.means().into_iter().zip(entry.deviations()))
                    .enumerate()
                {
                    let part = (found - expected).abs() / (spread * sd + 0.5);
                    if part > worst.0 {
                        worst = (part, format!("{key} [{i}]: {found:.2} for {expected:.2}"));
                    }
                }
            }
        }
        println!(
            "{corruption}: {:.2} of what is allowed, {}",
            worst.0, worst.1
        );
        if worst.0 > 1.0 {
            failures.push(worst.1);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
