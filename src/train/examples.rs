//! Makes the examples of a training step from images of a set, on the CPU.
//!
//! Each image draws from its own random stream, named by the epoch and the image's number, so it
//! does not depend on the thread or the batch. Only the windows come from the epoch's stream, in the
//! order of the epoch.

use std::ops::Range;

use rayon::prelude::*;

use super::augmentation::{Window, erase};
use super::fourier::mix_amplitude;
use super::mixup::{Blend, Mixing, targets};
use super::recipe::Recipe;
use super::recipe::augmentation::AugmentationConfig;
use super::recipe::examples::{CorruptedConfig, StylisedConfig};
use crate::image::dataset::LabelledSet;
use crate::image::unit;
use crate::perturb::corruption::{CorruptionError, Image, MIN_SIDE, Setting, Textures, corrupt};
use crate::rng::Rng;

/// Makes examples.
pub struct Source<'a> {
    recipe: &'a Recipe,
    set: &'a LabelledSet,
    textures: Textures,
    corrupted: CorruptedConfig,
    stylised: StylisedConfig,
}

/// A part of a batch before its images are attacked.
pub struct Examples {
    /// `[n, 3, side, side]` in [0, 1].
    pub pixels: Vec<f32>,
    /// `[n]`. For a mixed image the class of its first image.
    pub labels: Vec<u16>,
    /// `[n, classes]`, see [`targets`].
    pub targets: Vec<f32>,
    /// The images to be attacked, which are not mixed.
    pub attacked: Range<usize>,
}

/// The kinds of examples, in the order of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Clean,
    Corrupted,
    Stylised,
    Adversarial,
}

const KINDS: [Kind; 4] = [
    Kind::Clean,
    Kind::Corrupted,
    Kind::Stylised,
    Kind::Adversarial,
];

/// The range of each kind among `n` examples, by their shares, which sum to 1.
fn places(shares: [f64; 4], n: usize) -> [Range<usize>; 4] {
    let (mut sum, mut start) = (0.0, 0);
    shares.map(|share| {
        sum += share;
        let end = ((sum * n as f64).round() as usize).clamp(start, n);
        let place = start..end;
        start = end;
        place
    })
}

impl<'a> Source<'a> {
    /// # Errors
    /// The recipe has corrupted images and those of the set are too small.
    pub fn new(recipe: &'a Recipe, set: &'a LabelledSet) -> Result<Self, CorruptionError> {
        if recipe.examples.corrupted > 0.0 && set.size < MIN_SIDE {
            return Err(CorruptionError::TooSmall {
                height: set.size,
                width: set.size,
            });
        }
        Ok(Self {
            recipe,
            set,
            textures: Textures::default(),
            corrupted: recipe.corrupted.clone().unwrap_or_default(),
            stylised: recipe.stylised.unwrap_or_default(),
        })
    }

    /// Examples of the images `batch` through `windows`, all of one side. `part` names this part of a
    /// batch within the run, for the draws that its images share.
    ///
    /// # Errors
    /// As [`corrupt`]; [`Source::new`] and the recipe's check exclude them all.
    pub fn make(
        &self,
        epoch: usize,
        part: &str,
        batch: &[usize],
        windows: &[Window],
    ) -> Result<Examples, CorruptionError> {
        let side = windows.first().map_or(0, |window| window.side);
        let places = places(self.recipe.examples.shares(), batch.len());
        let kind = |i: usize| {
            let at = places.iter().position(|place| place.contains(&i));
            at.map_or(Kind::Clean, |at| KINDS[at])
        };
        let mut pixels = vec![0.0; batch.len() * 3 * side * side];
        pixels
            .par_chunks_mut((3 * side * side).max(1))
            .zip(batch.par_iter().zip(windows))
            .enumerate()
            .try_for_each(|(i, (out, (index, window)))| {
                self.draw(epoch, *index, kind(i), window, out)
            })?;
        let label = |index: &usize| self.set.labels.get(*index).copied().unwrap_or_default();
        let labels: Vec<u16> = batch.iter().map(label).collect();
        let [clean, .., attacked] = places;
        let blends = self.mix(part, &mut pixels, &labels, clean, side);
        let targets = targets(
            &blends,
            self.recipe.model.classes,
            self.recipe.label_smoothing,
        );
        Ok(Examples {
            pixels,
            labels,
            targets,
            attacked,
        })
    }

    fn draw(
        &self,
        epoch: usize,
        index: usize,
        kind: Kind,
        window: &Window,
        out: &mut [f32],
    ) -> Result<(), CorruptionError> {
        let side = self.set.size;
        let mut rng = Rng::stream(self.recipe.seed, &format!("example {epoch} {index}"));
        let image = self.planes(index);
        let image = match kind {
            Kind::Clean | Kind::Adversarial => image,
            Kind::Corrupted => self.corrupt(&image, &mut rng)?,
            Kind::Stylised => {
                let style = self.planes(rng.below(self.set.len()));
                let weight = self.stylised.strength as f32 * rng.uniform_f32();
                mix_amplitude(&image, &style, side, weight)
            }
        };
        window.cut(&image, side, out);
        let mean = self.recipe.model.preprocessing.mean;
        erase(
            out,
            window.side,
            self.recipe.augmentation.erase,
            mean,
            &mut rng,
        );
        Ok(())
    }

    /// `[3, size, size]` in [0, 1].
    fn planes(&self, index: usize) -> Vec<f32> {
        // The indices are valid; one past the end would give a black image.
        let bytes = self.set.image(index);
        let planes = bytes.map(|b| b.iter().copied().map(unit).collect());
        planes.unwrap_or_else(|| vec![0.0; self.set.stride()])
    }

    /// Before the window: a corruption is made for whole images, and needs [`MIN_SIDE`] pixels.
    fn corrupt(&self, image: &[f32], rng: &mut Rng) -> Result<Vec<f32>, CorruptionError> {
        let CorruptedConfig { kinds, severities } = &self.corrupted;
        let setting = Setting {
            corruption: kinds[rng.below(kinds.len())],
            severity: severities[rng.below(severities.len())],
            table: None,
            seed: (rng.uniform_f64() * (1_u64 << 53) as f64) as u64,
            eight_bit: true,
        };
        let side = self.set.size;
        let image = Image {
            pixels: image,
            channels: 3,
            height: side,
            width: side,
        };
        corrupt(image, &setting, &self.textures)
    }

    fn mix(
        &self,
        part: &str,
        pixels: &mut [f32],
        labels: &[u16],
        clean: Range<usize>,
        side: usize,
    ) -> Vec<Blend> {
        let mut blends: Vec<Blend> = labels.iter().copied().map(Blend::pure).collect();
        let AugmentationConfig { mixup, cutmix, .. } = self.recipe.augmentation;
        let mut rng = Rng::stream(self.recipe.seed, &format!("mixing {part}"));
        if let Some(mixing) = Mixing::choose(mixup, cutmix, &mut rng) {
            let length = 3 * side * side;
            let images = &mut pixels[clean.start * length..clean.end * length];
            let mixed = mixing.mix(images, &labels[clean.clone()], side, &mut rng);
            blends[clean].copy_from_slice(&mixed);
        }
        blends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fill_a_batch() {
        let table = [
            ([1.0, 0.0, 0.0, 0.0], 7, [0, 7, 7, 7, 7]),
            ([0.5, 0.25, 0.0, 0.25], 8, [0, 4, 6, 6, 8]),
            ([0.5, 0.25, 0.0, 0.25], 5, [0, 3, 4, 4, 5]),
            ([0.0, 0.0, 0.0, 1.0], 3, [0, 0, 0, 0, 3]),
            ([0.1, 0.2, 0.3, 0.4], 10, [0, 1, 3, 6, 10]),
        ];
        for (shares, n, edges) in table {
            let wanted: [Range<usize>; 4] = std::array::from_fn(|i| edges[i]..edges[i + 1]);
            assert_eq!(places(shares, n), wanted, "{shares:?} {n}");
        }
    }
}
