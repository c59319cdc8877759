//! The Gabor filter bank of a VOneBlock, from the published distributions of V1 neurons.
//!
//! Orientation: De Valois et al. 1982a. Spatial frequency: De Valois et al. 1982b. Receptive-field
//! widths: Ringach 2002. Their correlation: Schiller et al. 1976. Combined as by Dapello, Marques
//! et al. 2020.

use super::family::vone::{GaborConfig, VOneConfig};
use crate::rng::Rng;

/// De Valois 1982b: bin edges in cycles per degree, and cells counted in each.
const FREQUENCY_BINS: [f64; 10] = [0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.2];
const FREQUENCY_COUNTS: [f64; 9] = [4.0, 4.0, 8.0, 25.0, 32.0, 26.0, 28.0, 12.0, 8.0];

/// De Valois 1982a: edges in degrees.
const ORIENTATION_BINS: [f64; 5] = [-22.5, 22.5, 67.5, 112.5, 157.5];
const ORIENTATION_COUNTS: [f64; 4] = [66.0, 49.0, 77.0, 54.0];

/// Ringach 2002: cells by envelope width across (rows) and along (columns) the stripes, in
/// periods of the carrier. The edges are [`width_bins`].
const WIDTH_COUNTS: [[f64; 5]; 5] = [
    [2.0, 0.0, 1.0, 0.0, 0.0],
    [8.0, 9.0, 4.0, 1.0, 0.0],
    [1.0, 2.0, 19.0, 17.0, 3.0],
    [0.0, 0.0, 1.0, 7.0, 4.0],
    [0.0, 0.0, 0.0, 0.0, 0.0],
];

/// Six edges, evenly spaced in log10 from 0.1 to 10^0.2 periods.
fn width_bins() -> [f64; 6] {
    std::array::from_fn(|i| 10f64.powf(-1.0 + 1.2 * i as f64 / 5.0))
}

/// The random numbers a population is made from, one entry a neuron.
#[derive(Clone, Debug, Default)]
pub struct Draws {
    /// Uniform in [0, 1).
    pub phase: Vec<f64>,
    pub orientation: Vec<f64>,
    /// Correlated standard normals for (width across, spatial frequency); empty in uniform mode.
    pub joint: Vec<[f64; 2]>,
    /// Uniform; only in uniform mode.
    pub frequency: Vec<f64>,
    pub width_across: Vec<f64>,
    /// Uniform; both modes.
    pub width_along: Vec<f64>,
}

impl Draws {
    pub fn new(n: usize, config: &GaborConfig) -> Self {
        let uniform = |label: &str| {
            let mut rng = Rng::stream(config.seed, label);
            (0..n).map(|_| rng.uniform_f64()).collect::<Vec<_>>()
        };
        let mut draws = Self {
            phase: uniform("gabor phase"),
            orientation: uniform("gabor orientation"),
            width_along: uniform("gabor width along"),
            ..Self::default()
        };
        if config.rand_param {
            draws.frequency = uniform("gabor frequency");
            draws.width_across = uniform("gabor width across");
            return draws;
        }
        let mut rng = Rng::stream(config.seed, "gabor joint");
        let r = config.sf_corr;
        draws.joint = (0..n)
            .map(|_| {
                let (a, b) = (rng.normal_f64(), rng.normal_f64());
                [a, r * a + (1.0 - r * r).max(0.0).sqrt() * b]
            })
            .collect();
        draws
    }
}

/// A population of simulated V1 neurons, one entry each.
#[derive(Clone, Debug, Default)]
pub struct Population {
    /// Cycles per degree.
    pub frequency: Vec<f64>,
    /// Degrees.
    pub orientation: Vec<f64>,
    /// Degrees.
    pub phase: Vec<f64>,
    /// Envelope width (one σ) across and along the stripes, in periods of the carrier.
    pub width_across: Vec<f64>,
    pub width_along: Vec<f64>,
}

impl Population {
    /// Maps draws through the published distributions.
    pub fn from_draws(draws: &Draws, config: &GaborConfig) -> Self {
        let (edges, counts) = frequency_bins(config);
        let phase = map(&draws.phase, |u| 360.0 * u);
        let orientation_counts: &[f64] = &ORIENTATION_COUNTS;
        if config.rand_param {
            let log_width = |u: f64| 10f64.powf(-1.0 + 1.2 * u);
            return Self {
                frequency: map(&draws.frequency, |u| invert_log2(u, &counts, &edges)),
                orientation: map(&draws.orientation, |u| 180.0 * u),
                phase,
                width_across: map(&draws.width_across, log_width),
                width_along: map(&draws.width_along, log_width),
            };
        }
        let across_counts = WIDTH_COUNTS.map(|row| row.iter().sum::<f64>());
        let log_bins = width_bins().map(f64::log10);
        let width_across: Vec<f64> = draws
            .joint
            .iter()
            .map(|[a, _]| 10f64.powf(invert(normal_cdf(*a), &across_counts, &log_bins)))
            .collect();
        let width_along = width_across
            .iter()
            .zip(&draws.width_along)
            .map(|(across, u)| width_along(*across, *u, &log_bins))
            .collect();
        Self {
            frequency: draws
                .joint
                .iter()
                .map(|[_, b]| invert_log2(normal_cdf(*b), &counts, &edges))
                .collect(),
            orientation: map(&draws.orientation, |u| {
                let degrees = invert(u, orientation_counts, &ORIENTATION_BINS);
                if degrees < 0.0 {
                    degrees + 180.0
                } else {
                    degrees
                }
            }),
            phase,
            width_across,
            width_along,
        }
    }

    pub fn len(&self) -> usize {
        self.frequency.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frequency.is_empty()
    }

    /// Neuron `i` as a filter at `pixels_per_degree`.
    pub fn gabor(&self, i: usize, pixels_per_degree: f64) -> Gabor {
        let frequency = self.frequency[i] / pixels_per_degree;
        Gabor {
            frequency,
            theta: self.orientation[i].to_radians(),
            phase: self.phase[i].to_radians(),
            sigma_across: self.width_across[i] / frequency,
            sigma_along: self.width_along[i] / frequency,
        }
    }
}

fn map(us: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    us.iter().map(|u| f(*u)).collect()
}

fn width_along(across: f64, u: f64, log_bins: &[f64; 6]) -> f64 {
    let bins = width_bins();
    let row = bins.iter().rposition(|edge| *edge < across).unwrap_or(0);
    let row = row.min(WIDTH_COUNTS.len() - 1);
    10f64.powf(invert(u, &WIDTH_COUNTS[row], log_bins))
}

/// The frequency bins within `[sf_min, sf_max]`: edges and counts.
fn frequency_bins(config: &GaborConfig) -> (Vec<f64>, Vec<f64>) {
    let inside = |edge: &f64| match config.rand_param {
        true => *edge < config.sf_max,
        false => *edge <= config.sf_max,
    };
    let last = FREQUENCY_BINS.iter().rposition(inside).unwrap_or(1).max(1);
    let first = FREQUENCY_BINS
        .iter()
        .position(|edge| *edge >= config.sf_min)
        .unwrap_or(0)
        .min(last - 1);
    let counts = match config.rand_param {
        true => [1.0; 9],
        false => FREQUENCY_COUNTS,
    };
    (
        FREQUENCY_BINS[first..=last].to_vec(),
        counts[first..last].to_vec(),
    )
}

/// Inverse of the piecewise linear cumulative distribution of a histogram.
fn invert(u: f64, counts: &[f64], edges: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    let mut below = 0.0;
    for (i, count) in counts.iter().enumerate() {
        let above = below + count / total;
        if u < above {
            return edges[i] + (edges[i + 1] - edges[i]) * (u - below) / (above - below);
        }
        below = above;
    }
    edges[counts.len()]
}

fn invert_log2(u: f64, counts: &[f64], edges: &[f64]) -> f64 {
    let logs: Vec<f64> = edges.iter().map(|e| e.log2()).collect();
    invert(u, counts, &logs).exp2()
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// One Gabor filter, in pixels and radians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gabor {
    /// Cycles per pixel.
    pub frequency: f64,
    pub theta: f64,
    pub phase: f64,
    pub sigma_across: f64,
    pub sigma_along: f64,
}

impl Gabor {
    /// `[size, size]`, row-major, `size` odd. θ turns from the rows' axis (downwards).
    pub fn kernel(&self, size: usize) -> Vec<f32> {
        let half = (size / 2) as isize;
        let (sin, cos) = self.theta.sin_cos();
        let norm = 2.0 * std::f64::consts::PI * self.sigma_across * self.sigma_along;
        let value = |row: isize, column: isize| {
            let (x, y) = (row as f64, column as f64);
            let across = x * cos + y * sin;
            let along = y * cos - x * sin;
            let envelope =
                (across / self.sigma_across).powi(2) + (along / self.sigma_along).powi(2);
            let carrier = std::f64::consts::TAU * self.frequency * across + self.phase;
            ((-0.5 * envelope).exp() / norm * carrier.cos()) as f32
        };
        (-half..=half)
            .flat_map(|row| (-half..=half).map(move |column| value(row, column)))
            .collect()
    }
}

/// The two quadratures of a bank. Each filter sees one colour channel, drawn for each quadrature
/// on its own, as in the published networks.
#[derive(Clone, Debug)]
pub struct FilterBank {
    /// `[simple + complex, 3, k, k]`.
    pub q0: Vec<f32>,
    pub q1: Vec<f32>,
    pub population: Population,
}

impl FilterBank {
    pub fn draw(config: &VOneConfig) -> Self {
        let draws = Draws::new(config.channels(), &config.gabor);
        let population = Population::from_draws(&draws, &config.gabor);
        let quadrature = |shift: f64, label: &str| {
            let mut rng = Rng::stream(config.gabor.seed, label);
            let colours: Vec<usize> = (0..population.len())
                .map(|_| (rng.uniform_f64() * 3.0) as usize % 3)
                .collect();
            weights(&population, config, shift, &colours)
        };
        Self {
            q0: quadrature(0.0, "colour q0"),
            q1: quadrature(std::f64::consts::FRAC_PI_2, "colour q1"),
            population,
        }
    }
}

/// `[neurons, 3, k, k]` with the filter of neuron `i` in colour channel `colours[i]`.
pub fn weights(
    population: &Population,
    config: &VOneConfig,
    phase_shift: f64,
    colours: &[usize],
) -> Vec<f32> {
    let size = config.kernel;
    let area = size * size;
    let pixels_per_degree = config.image_size as f64 / config.visual_degrees;
    let mut weights = vec![0.0; population.len() * 3 * area];
    for (i, colour) in colours.iter().enumerate() {
        let mut gabor = population.gabor(i, pixels_per_degree);
        gabor.phase += phase_shift;
        let start = (3 * i + colour) * area;
        weights[start..start + area].copy_from_slice(&gabor.kernel(size));
    }
    weights
}
