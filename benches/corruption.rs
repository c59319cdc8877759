//! How long each corruption takes on one core: `cargo bench --bench corruption [-- SIDE]`.
//!
//! Prints the median and the slowest of several runs over the five severities, in milliseconds.

use std::time::Instant;

use ventral::perturb::corruption::{Corruption, Image, Setting, Textures, corrupt};
use ventral::rng::Rng;

const RUNS: u64 = 7;

fn main() {
    let side = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let side: usize = side.unwrap_or(224);
    let mut rng = Rng::from_seed(1);
    let pixels: Vec<f32> = (0..3 * side * side).map(|_| rng.uniform_f32()).collect();
    let textures = Textures::default();
    println!("{side} x {side} px, one core; median and slowest of {RUNS} runs x 5 severities, ms");
    for corruption in Corruption::ALL {
        let mut times: Vec<f64> = (0..RUNS * 5)
            .map(|run| time(&pixels, side, corruption, run, &textures))
            .collect();
        times.sort_by(f64::total_cmp);
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{:20} {median:8.1} {slowest:8.1}", corruption.name());
    }
}

fn time(pixels: &[f32], side: usize, corruption: Corruption, run: u64, textures: &Textures) -> f64 {
    let setting = Setting {
        corruption,
        severity: (run % 5 + 1) as u8,
        table: None,
        seed: run,
        eight_bit: true,
    };
    let image = Image {
        pixels,
        channels: 3,
        height: side,
        width: side,
    };
    let begun = Instant::now();
    let corrupted = corrupt(image, &setting, textures).expect("the image can be corrupted");
    assert_eq!(std::hint::black_box(corrupted).len(), pixels.len());
    begun.elapsed().as_secs_f64() * 1000.0
}
