//! Noise: Gaussian, shot, impulse, speckle.

use super::Planes;
use super::draws::Draws;

/// Adds normal noise of this deviation.
pub fn gaussian(image: &mut Planes, deviation: f32, draws: &mut dyn Draws) {
    let noise = normals(image, draws);
    for (pixel, z) in image.pixels.iter_mut().zip(noise) {
        *pixel += deviation * z;
    }
}

/// Normal noise in proportion to the pixel.
pub fn speckle(image: &mut Planes, deviation: f32, draws: &mut dyn Draws) {
    let noise = normals(image, draws);
    for (pixel, z) in image.pixels.iter_mut().zip(noise) {
        *pixel += *pixel * deviation * z;
    }
}

/// Counts photons, of which white stands for `photons`.
pub fn shot(image: &mut Planes, photons: f32, draws: &mut dyn Draws) {
    image.pixels.iter_mut().for_each(|v| *v *= photons);
    draws.poisson(&mut image.pixels);
    image.pixels.iter_mut().for_each(|v| *v /= photons);
}

/// Makes this share of the values, each colour for itself, black or white.
pub fn impulse(image: &mut Planes, amount: f32, draws: &mut dyn Draws) {
    let hit = uniforms(image, draws);
    let salt = uniforms(image, draws);
    for ((pixel, hit), salt) in image.pixels.iter_mut().zip(hit).zip(salt) {
        if hit <= amount {
            *pixel = if salt <= 0.5 { 1.0 } else { 0.0 };
        }
    }
}

fn normals(image: &Planes, draws: &mut dyn Draws) -> Vec<f32> {
    let mut values = vec![0.0; image.pixels.len()];
    draws.normals(&mut values);
    values
}

fn uniforms(image: &Planes, draws: &mut dyn Draws) -> Vec<f32> {
    let mut values = vec![0.0; image.pixels.len()];
    draws.uniforms(&mut values);
    values
}
