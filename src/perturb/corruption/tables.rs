//! The published parameters, `[table][severity]`.
//!
//! ImageNet: as `imagecorruptions` 1.1.2 (Michaelis et al. 2019) has them, which are those of
//! ImageNet-C (Hendrycks and Dietterich 2019) but for the elastic transform, whose first version
//! also drew an affine map. CIFAR: CIFAR-10-C. Tiny ImageNet: Tiny-ImageNet-C.

use super::Table;

/// Values of the five severities for [`Table::ImageNet`], [`Table::Cifar`], [`Table::TinyImageNet`].
pub type Parameters<T> = [[T; 5]; 3];

/// The value of a severity of 1 to 5.
pub fn pick<T: Copy>(parameters: &Parameters<T>, table: Table, severity: u8) -> T {
    let row = match table {
        Table::ImageNet => 0,
        Table::Cifar => 1,
        Table::TinyImageNet => 2,
    };
    parameters[row][usize::from(severity.clamp(1, 5) - 1)]
}

/// Standard deviation, in units of the full range.
pub const GAUSSIAN_NOISE: Parameters<f32> = [
    [0.08, 0.12, 0.18, 0.26, 0.38],
    [0.04, 0.06, 0.08, 0.09, 0.10],
    [0.04, 0.08, 0.12, 0.15, 0.18],
];

/// Photons that white stands for.
pub const SHOT_NOISE: Parameters<f32> = [
    [60.0, 25.0, 12.0, 5.0, 3.0],
    [500.0, 250.0, 100.0, 75.0, 50.0],
    [250.0, 100.0, 50.0, 30.0, 15.0],
];

/// Share of the values that are replaced.
pub const IMPULSE_NOISE: Parameters<f32> = [
    [0.03, 0.06, 0.09, 0.17, 0.27],
    [0.01, 0.02, 0.03, 0.05, 0.07],
    [0.01, 0.02, 0.05, 0.08, 0.14],
];

/// Standard deviation, in units of the pixel's own value.
pub const SPECKLE_NOISE: Parameters<f32> = [
    [0.15, 0.2, 0.35, 0.45, 0.6],
    [0.06, 0.1, 0.12, 0.16, 0.2],
    [0.15, 0.2, 0.25, 0.3, 0.35],
];

/// Standard deviation in px.
pub const GAUSSIAN_BLUR: Parameters<f64> = [
    [1.0, 2.0, 3.0, 4.0, 6.0],
    [0.4, 0.6, 0.7, 0.8, 1.0],
    [0.5, 0.75, 1.0, 1.25, 1.5],
];

/// Radius of the disc in px, and the standard deviation in px of the blur that smooths its rim.
pub const DEFOCUS_BLUR: Parameters<(f64, f64)> = [
    [(3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)],
    [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)],
    [(0.5, 0.6), (1.0, 0.1), (1.5, 0.1), (2.5, 0.01), (3.0, 0.1)],
];

/// Standard deviation of the two blurs in px, reach of a move in px, rounds.
pub const GLASS_BLUR: Parameters<(f64, usize, usize)> = [
    [
        (0.7, 1, 2),
        (0.9, 2, 1),
        (1.0, 2, 3),
        (1.1, 3, 2),
        (1.5, 4, 2),
    ],
    [
        (0.05, 1, 1),
        (0.25, 1, 1),
        (0.4, 1, 1),
        (0.25, 1, 2),
        (0.4, 1, 2),
    ],
    [
        (0.1, 1, 1),
        (0.5, 1, 1),
        (0.6, 1, 2),
        (0.7, 2, 1),
        (0.9, 2, 2),
    ],
];

/// Radius and standard deviation in px.
pub const MOTION_BLUR: Parameters<(usize, f64)> = [
    [(10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)],
    [(6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)],
    [(10, 1.0), (10, 1.5), (10, 2.0), (10, 2.5), (12, 3.0)],
];

/// Number of zooms and the step between them, from 1.
pub const ZOOM_BLUR: Parameters<(usize, f64)> = [
    [(12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)],
    [(7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)],
    [(7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)],
];

/// See [`SNOW`].
#[derive(Clone, Copy)]
pub struct Snow {
    /// Of the normal distribution the flakes are cut from.
    pub mean: f32,
    pub deviation: f32,
    pub zoom: f64,
    /// What is darker is no flake.
    pub threshold: f32,
    /// Of the motion blur, in px.
    pub radius: usize,
    pub sigma: f64,
    /// Weight of the image against its whitened self.
    pub keep: f32,
}

const fn snow(
    (mean, deviation, zoom, threshold, radius, sigma, keep): (f32, f32, f64, f32, usize, f64, f32),
) -> Snow {
    Snow {
        mean,
        deviation,
        zoom,
        threshold,
        radius,
        sigma,
        keep,
    }
}

pub const SNOW: Parameters<Snow> = [
    [
        snow((0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8)),
        snow((0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7)),
        snow((0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7)),
        snow((0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65)),
        snow((0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55)),
    ],
    [
        snow((0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95)),
        snow((0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9)),
        snow((0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9)),
        snow((0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85)),
        snow((0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8)),
    ],
    [
        snow((0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.8)),
        snow((0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.8)),
        snow((0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.7)),
        snow((0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.65)),
        snow((0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.6)),
    ],
];

/// Weights of the image and of the frost.
pub const FROST: Parameters<(f32, f32)> = [
    [(1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    [
        (1.0, 0.2),
        (1.0, 0.3),
        (0.9, 0.4),
        (0.85, 0.4),
        (0.75, 0.45),
    ],
    [
        (1.0, 0.3),
        (0.9, 0.4),
        (0.8, 0.45),
        (0.75, 0.5),
        (0.7, 0.55),
    ],
];

/// Thickness, and the factor by which finer detail is weaker.
pub const FOG: Parameters<(f32, f64)> = [
    [(1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)],
    [(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)],
    [(0.4, 3.0), (0.7, 3.0), (1.0, 2.5), (1.5, 2.0), (2.0, 1.75)],
];

/// Added to the value (of hue, saturation, value).
pub const BRIGHTNESS: Parameters<f32> = [
    [0.1, 0.2, 0.3, 0.4, 0.5],
    [0.05, 0.1, 0.15, 0.2, 0.3],
    [0.1, 0.2, 0.3, 0.4, 0.5],
];

/// What is left of the contrast.
pub const CONTRAST: Parameters<f32> = [
    [0.4, 0.3, 0.2, 0.1, 0.05],
    [0.75, 0.5, 0.4, 0.3, 0.15],
    [0.4, 0.3, 0.2, 0.1, 0.05],
];

/// Parts of the image's side.
#[derive(Clone, Copy)]
pub struct Elastic {
    /// Largest displacement before it is smoothed.
    pub amplitude: f64,
    /// Standard deviation of the smoothing.
    pub sigma: f64,
    /// Largest move of the three corners that define the affine map; 0 for none.
    pub affine: f64,
}

const fn elastic(amplitude: f64, sigma: f64, affine: f64) -> Elastic {
    Elastic {
        amplitude,
        sigma,
        affine,
    }
}

pub const ELASTIC_TRANSFORM: Parameters<Elastic> = [
    [
        elastic(12.5 * 0.005, 0.01, 0.0),
        elastic(16.25 * 0.005, 0.01, 0.0),
        elastic(21.25 * 0.005, 0.01, 0.0),
        elastic(25.0 * 0.005, 0.01, 0.0),
        elastic(30.0 * 0.005, 0.01, 0.0),
    ],
    [
        elastic(0.0, 0.0, 0.08),
        elastic(0.05, 0.2, 0.07),
        elastic(0.08, 0.06, 0.06),
        elastic(0.1, 0.04, 0.05),
        elastic(0.1, 0.03, 0.03),
    ],
    [
        elastic(0.0, 0.0, 0.08),
        elastic(0.05, 0.3, 0.06),
        elastic(0.1, 0.08, 0.06),
        elastic(0.1, 0.03, 0.03),
        elastic(0.16, 0.03, 0.02),
    ],
];

/// Side of the coarse image, in units of the original.
pub const PIXELATE: Parameters<f64> = [
    [0.6, 0.5, 0.4, 0.3, 0.25],
    [0.95, 0.9, 0.85, 0.75, 0.65],
    [0.9, 0.8, 0.7, 0.6, 0.5],
];

/// Quality, 1 to 100.
pub const JPEG_COMPRESSION: Parameters<u16> = [
    [25, 18, 15, 10, 7],
    [80, 65, 58, 50, 40],
    [65, 58, 50, 40, 25],
];

/// See [`SPATTER`].
#[derive(Clone, Copy)]
pub struct Spatter {
    /// Of the normal distribution the drops are cut from.
    pub mean: f32,
    pub deviation: f32,
    /// Of the blur that makes drops of it, in px.
    pub sigma: f64,
    /// What is lower is dry.
    pub threshold: f32,
    pub liquid: Liquid,
}

#[derive(Clone, Copy)]
pub enum Liquid {
    /// Its weight.
    Water(f32),
    /// Standard deviation in px of the blur that rounds its drops.
    Mud(f64),
}

const fn spatter(mean: f32, deviation: f32, sigma: f64, threshold: f32, liquid: Liquid) -> Spatter {
    Spatter {
        mean,
        deviation,
        sigma,
        threshold,
        liquid,
    }
}

pub const SPATTER: Parameters<Spatter> = [
    [
        spatter(0.65, 0.3, 4.0, 0.69, Liquid::Water(0.6)),
        spatter(0.65, 0.3, 3.0, 0.68, Liquid::Water(0.6)),
        spatter(0.65, 0.3, 2.0, 0.68, Liquid::Water(0.5)),
        spatter(0.65, 0.3, 1.0, 0.65, Liquid::Mud(1.5)),
        spatter(0.67, 0.4, 1.0, 0.65, Liquid::Mud(1.5)),
    ],
    [
        spatter(0.62, 0.1, 0.7, 0.7, Liquid::Water(0.5)),
        spatter(0.65, 0.1, 0.8, 0.7, Liquid::Water(0.5)),
        spatter(0.65, 0.3, 1.0, 0.69, Liquid::Water(0.5)),
        spatter(0.65, 0.1, 0.7, 0.69, Liquid::Mud(0.6)),
        spatter(0.65, 0.1, 0.5, 0.68, Liquid::Mud(0.6)),
    ],
    [
        spatter(0.62, 0.1, 0.7, 0.7, Liquid::Water(0.6)),
        spatter(0.65, 0.1, 0.8, 0.7, Liquid::Water(0.6)),
        spatter(0.65, 0.3, 1.0, 0.69, Liquid::Water(0.6)),
        spatter(0.65, 0.1, 0.7, 0.68, Liquid::Mud(0.6)),
        spatter(0.65, 0.1, 0.5, 0.67, Liquid::Mud(0.6)),
    ],
];

/// Factor of the saturation and what is added to it.
pub const SATURATE: Parameters<(f32, f32)> = [
    [(0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)],
    [(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)],
    [(0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (30.0, 0.2)],
];
