//! The common image corruptions of ImageNet-C (Hendrycks and Dietterich 2019): fifteen of the
//! benchmark and four for validation, at five severities, with the published parameters.
//!
//! They agree with `imagecorruptions` 1.1.2 (Michaelis et al. 2019) on what that defines, but not
//! in which random numbers are drawn: given the same numbers, the results are the same. The
//! parameters of CIFAR-10-C and Tiny-ImageNet-C go through the same algorithms; those sets were
//! made with another program's motion blur, and with zooms that are cropped in the middle.
//!
//! Frost takes parts of photographs in the published sets. [`Textures::default`] are textures of
//! our own, generated from a seed; [`Textures::from_images`] takes the user's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

mod blur;
mod digital;
mod draws;
mod filter;
mod frost;
#[doc(hidden)]
pub mod jpeg;
mod noise;
mod spatter;
mod tables;
mod weather;

#[doc(hidden)]
pub use draws::Draws;
pub use frost::Textures;

/// Shortest side in px that can be corrupted.
pub const MIN_SIDE: usize = 32;

/// The groups of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    Noise,
    Blur,
    Weather,
    Digital,
}

impl Category {
    pub const ALL: [Self; 4] = [Self::Noise, Self::Blur, Self::Weather, Self::Digital];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Noise => "Noise",
            Self::Blur => "Blur",
            Self::Weather => "Weather",
            Self::Digital => "Digital",
        }
    }
}

/// What there is to know about a corruption.
struct Facts {
    name: &'static str,
    title: &'static str,
    category: Category,
    stochastic: bool,
}

/// Makes [`Corruption`] and what is known of each.
macro_rules! corruptions {
    ($($corruption:ident $name:literal $title:literal $category:ident $stochastic:literal,)+) => {
        /// One of the nineteen corruptions. They are written as they are published:
        /// `gaussian_noise`.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Corruption { $($corruption,)+ }

        impl Corruption {
            /// All of them: the fifteen of the benchmark, then the four extra ones.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$corruption,)+];
        }

        /// In the order of [`Corruption::ALL`].
        const FACTS: [Facts; Corruption::ALL.len()] = [$(Facts {
            name: $name,
            title: $title,
            category: Category::$category,
            stochastic: $stochastic,
        },)+];
    };
}

corruptions! {
    GaussianNoise "gaussian_noise" "Gaussian noise" Noise true,
    ShotNoise "shot_noise" "Shot noise" Noise true,
    ImpulseNoise "impulse_noise" "Impulse noise" Noise true,
    DefocusBlur "defocus_blur" "Defocus blur" Blur false,
    GlassBlur "glass_blur" "Glass blur" Blur true,
    MotionBlur "motion_blur" "Motion blur" Blur true,
    ZoomBlur "zoom_blur" "Zoom blur" Blur false,
    Snow "snow" "Snow" Weather true,
    Frost "frost" "Frost" Weather true,
    Fog "fog" "Fog" Weather true,
    Brightness "brightness" "Brightness" Weather false,
    Contrast "contrast" "Contrast" Digital false,
    ElasticTransform "elastic_transform" "Elastic transform" Digital true,
    Pixelate "pixelate" "Pixelate" Digital false,
    JpegCompression "jpeg_compression" "JPEG compression" Digital false,
    SpeckleNoise "speckle_noise" "Speckle noise" Noise true,
    GaussianBlur "gaussian_blur" "Gaussian blur" Blur false,
    Spatter "spatter" "Spatter" Weather true,
    Saturate "saturate" "Saturate" Digital false,
}

impl Corruption {
    /// The fifteen that make up the benchmark's mean.
    // Unwrapped by the compiler: there are more than fifteen.
    pub const BENCHMARK: [Self; 15] = *Self::ALL.first_chunk().unwrap();

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// As published, in snake case.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// For people.
    pub fn title(self) -> &'static str {
        self.facts().title
    }

    pub fn category(self) -> Category {
        self.facts().category
    }

    /// Whether it is one of the four outside the benchmark, meant for choosing a method.
    pub fn is_extra(self) -> bool {
        !Self::BENCHMARK.contains(&self)
    }

    /// Whether the result depends on the seed.
    pub fn is_stochastic(self) -> bool {
        self.facts().stochastic
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Corruption {
    type Err = CorruptionError;

    /// Reads the published name.
    fn from_str(name: &str) -> Result<Self, CorruptionError> {
        let found = Self::ALL.into_iter().find(|c| c.name() == name);
        found.ok_or_else(|| CorruptionError::Unknown(name.chars().take(40).collect()))
    }
}

/// Which published set's parameters are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// ImageNet-C, 224 px.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// CIFAR-10-C, 32 px.
    Cifar,
    /// Tiny-ImageNet-C, 64 px.
    #[serde(rename = "tiny_imagenet")]
    TinyImageNet,
}

impl Table {
    /// The set whose images are nearest in size, by ratio, to a shorter side in px.
    pub fn for_side(side: usize) -> Self {
        match side {
            // Between 32 and 64, and 64 and 224, in the geometric mean.
            0..=45 => Self::Cifar,
            46..=119 => Self::TinyImageNet,
            _ => Self::ImageNet,
        }
    }
}

/// A corruption with everything that decides on its result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    pub corruption: Corruption,
    /// 1 to 5.
    pub severity: u8,
    /// `None`: by the shorter side, [`Table::for_side`].
    #[serde(default)]
    pub table: Option<Table>,
    #[serde(default)]
    pub seed: u64,
    /// As the published sets are made: the pixels are rounded to 8 bits and the result is cut off
    /// to 8 bits. Otherwise both stay as they are, but for JPEG, which is 8-bit by nature, and for
    /// 8-bit maps of snow and water inside the algorithms.
    #[serde(default)]
    pub eight_bit: bool,
}

/// An image to corrupt.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// `[channels, height, width]`, in [0, 1]; what is outside is clipped first.
    pub pixels: &'a [f32],
    /// 1 or 3 (RGB).
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

/// Why an image was not corrupted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptionError {
    #[error("there is no corruption called “{0}”")]
    Unknown(String),
    #[error("the severity is {0}; it goes from 1 to 5")]
    Severity(u8),
    #[error("the image has {height} x {width} px; each side must have {MIN_SIDE} px at least")]
    TooSmall { height: usize, width: usize },
    #[error("the image has {0} channels; it must have 1 (grey) or 3 (RGB)")]
    Channels(usize),
    #[error("there are {actual} values for an image of {channels} x {height} x {width}")]
    Buffer {
        channels: usize,
        height: usize,
        width: usize,
        actual: usize,
    },
    #[error("value {0} of the pixels is not a finite number")]
    NotFinite(usize),
    #[error("there is no frost texture; at least one is needed")]
    NoTexture,
}

/// Corrupts an image: `[channels, height, width]` in [0, 1], as it came. The same setting gives the
/// same result to the bit, on every platform.
///
/// A grey image stays grey: colour that would be added is added as its luma, and saturation, which
/// grey has none of, changes nothing.
///
/// # Errors
/// A severity other than 1 to 5, a side below [`MIN_SIDE`], other than 1 or 3 channels, a buffer of
/// another length, pixels that are not finite.
///
/// ```
/// use ventral::perturb::corruption::{Corruption, Image, Setting, Textures, corrupt};
///
/// let pixels = vec![0.5; 3 * 32 * 32];
/// let image = Image { pixels: &pixels, channels: 3, height: 32, width: 32 };
/// let setting = Setting {
///     corruption: Corruption::GaussianNoise,
///     severity: 3,
///     table: None,
///     seed: 0,
///     eight_bit: true,
/// };
/// let noisy = corrupt(image, &setting, &Textures::default())?;
/// assert!(noisy.iter().all(|v| (0.0..=1.0).contains(v)));
/// # Ok::<(), ventral::perturb::corruption::CorruptionError>(())
/// ```
pub fn corrupt(
    image: Image,
    setting: &Setting,
    textures: &Textures,
) -> Result<Vec<f32>, CorruptionError> {
    corrupt_numbered(image, 0, setting, textures)
}

/// [`corrupt`] for several images, natively on all cores. `first` is the number of the first of
/// them in its set: each image draws from a stream of its own number, so that it comes out the same
/// however the set is divided into batches. Number 0 is what [`corrupt`] gives.
///
/// # Errors
/// Those of [`corrupt`], for the first image that has one.
pub fn corrupt_batch(
    images: &[Image],
    first: u64,
    setting: &Setting,
    textures: &Textures,
) -> Result<Vec<Vec<f32>>, CorruptionError> {
    let one = |i: usize| {
        let number = first.wrapping_add(i as u64);
        corrupt_numbered(images[i], number, setting, textures)
    };
    each_index(images.len(), one).into_iter().collect()
}

#[cfg(target_arch = "wasm32")]
fn each_index<T>(count: usize, task: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(task).collect()
}

/// The results of 0..count in order, from as many threads as there are cores.
#[cfg(not(target_arch = "wasm32"))]
fn each_index<T: Send>(count: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let worker = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < count);
        std::iter::from_fn(take)
            .map(|i| (i, task(i)))
            .collect::<Vec<_>>()
    };
    let mut results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..cores.min(count)).map(|_| scope.spawn(worker)).collect();
        let mut results = worker();
        for helper in helpers {
            match helper.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

/// [`corrupt`] for the image `number` of a set, which draws from a stream of its own: what
/// [`corrupt_batch`] gives for it, whatever the batch.
///
/// # Errors
/// Those of [`corrupt`].
pub fn corrupt_numbered(
    image: Image,
    number: u64,
    setting: &Setting,
    textures: &Textures,
) -> Result<Vec<f32>, CorruptionError> {
    let stream = format!(
        "corruption {} {} {number}",
        setting.corruption, setting.severity
    );
    let mut rng = Rng::stream(setting.seed, &stream);
    let mut pixels = before_cast(image, setting, textures, &mut rng)?;
    if setting.eight_bit {
        pixels.iter_mut().for_each(|v| *v = truncate(*v));
    }
    Ok(pixels)
}

/// [`corrupt`] with random numbers from elsewhere, and without the last cut to 8 bits: for tests.
///
/// # Errors
/// Those of [`corrupt`].
#[doc(hidden)]
pub fn before_cast(
    image: Image,
    setting: &Setting,
    textures: &Textures,
    draws: &mut dyn Draws,
) -> Result<Vec<f32>, CorruptionError> {
    if !(1..=5).contains(&setting.severity) {
        return Err(CorruptionError::Severity(setting.severity));
    }
    let mut planes = Planes::new(image, setting.eight_bit)?;
    apply(&mut planes, setting, textures, draws);
    planes
        .pixels
        .iter_mut()
        .for_each(|v| *v = v.clamp(0.0, 1.0));
    Ok(planes.pixels)
}

fn apply(image: &mut Planes, setting: &Setting, textures: &Textures, draws: &mut dyn Draws) {
    use Corruption as C;

    let side = image.height.min(image.width);
    let table = setting.table.unwrap_or_else(|| Table::for_side(side));
    macro_rules! of {
        ($parameters:ident) => {
            tables::pick(&tables::$parameters, table, setting.severity)
        };
    }
    match setting.corruption {
        C::GaussianNoise => noise::gaussian(image, of!(GAUSSIAN_NOISE), draws),
        C::ShotNoise => noise::shot(image, of!(SHOT_NOISE), draws),
        C::ImpulseNoise => noise::impulse(image, of!(IMPULSE_NOISE), draws),
        C::DefocusBlur => blur::defocus(image, of!(DEFOCUS_BLUR)),
        C::GlassBlur => blur::glass(image, of!(GLASS_BLUR), draws),
        C::MotionBlur => blur::motion(image, of!(MOTION_BLUR), draws),
        C::ZoomBlur => blur::zoom(image, of!(ZOOM_BLUR)),
        C::Snow => weather::snow(image, &of!(SNOW), draws),
        C::Frost => weather::frost(image, of!(FROST), table, textures, draws),
        C::Fog => weather::fog(image, of!(FOG), draws),
        C::Brightness => weather::brightness(image, of!(BRIGHTNESS)),
        C::Contrast => digital::contrast(image, of!(CONTRAST)),
        C::ElasticTransform => digital::elastic(image, &of!(ELASTIC_TRANSFORM), draws),
        C::Pixelate => digital::pixelate(image, of!(PIXELATE)),
        C::JpegCompression => jpeg::compress(image, of!(JPEG_COMPRESSION)),
        C::SpeckleNoise => noise::speckle(image, of!(SPECKLE_NOISE), draws),
        C::GaussianBlur => blur::gaussian(image, of!(GAUSSIAN_BLUR)),
        C::Spatter => spatter::spatter(image, &of!(SPATTER), draws),
        C::Saturate => digital::saturate(image, of!(SATURATE)),
    }
}

/// Cut off to 8 bits. What a rounding error keeps from a level has reached it.
fn truncate(v: f32) -> f32 {
    ((v * 255.0 + 2e-4).floor() / 255.0).clamp(0.0, 1.0)
}

/// Weights of red, green and blue in luma (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// An image on its way through a corruption, channel by channel, sane in every respect.
#[doc(hidden)]
pub struct Planes {
    pixels: Vec<f32>,
    channels: usize,
    height: usize,
    width: usize,
    /// Steps in between are rounded where the published ones are.
    eight_bit: bool,
}

impl Planes {
    fn new(image: Image, eight_bit: bool) -> Result<Self, CorruptionError> {
        let Image {
            pixels,
            channels,
            height,
            width,
        } = image;
        if channels != 1 && channels != 3 {
            return Err(CorruptionError::Channels(channels));
        }
        if height.min(width) < MIN_SIDE {
            return Err(CorruptionError::TooSmall { height, width });
        }
        let area = height.checked_mul(width);
        if area.and_then(|a| a.checked_mul(channels)) != Some(pixels.len()) {
            return Err(CorruptionError::Buffer {
                channels,
                height,
                width,
                actual: pixels.len(),
            });
        }
        if let Some(place) = pixels.iter().position(|v| !v.is_finite()) {
            return Err(CorruptionError::NotFinite(place));
        }
        let level = |v: &f32| match eight_bit {
            true => (v.clamp(0.0, 1.0) * 255.0).round() / 255.0,
            false => v.clamp(0.0, 1.0),
        };
        Ok(Self {
            pixels: pixels.iter().map(level).collect(),
            channels,
            height,
            width,
            eight_bit,
        })
    }

    /// Calls `change` with every channel.
    fn each(&mut self, change: impl FnMut(&mut [f32])) {
        let area = self.height * self.width;
        self.pixels.chunks_exact_mut(area).for_each(change);
    }

    /// The channels of a pixel.
    fn pixel(&mut self, number: usize) -> impl Iterator<Item = &mut f32> {
        let area = self.height * self.width;
        self.pixels[number..].iter_mut().step_by(area)
    }

    /// The largest channel of a pixel.
    fn value(&self, number: usize) -> f32 {
        let area = self.height * self.width;
        let channels = self.pixels[number..].iter().step_by(area);
        channels.copied().fold(0.0, f32::max)
    }
}

/// The luma of every pixel; grey is its own.
fn luma(image: &Planes) -> Vec<f32> {
    if image.channels == 1 {
        return image.pixels.clone();
    }
    let mut luma = vec![0.0; image.height * image.width];
    for (plane, weight) in image.pixels.chunks_exact(luma.len()).zip(LUMA) {
        filter::add_scaled(&mut luma, plane, weight);
    }
    luma
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_in_the_order_of_the_corruptions() {
        for (i, corruption) in Corruption::ALL.into_iter().enumerate() {
            assert_eq!(corruption as usize, i);
            let written = serde_json::to_string(&corruption).expect("a name is text");
            assert_eq!(written, format!("\"{}\"", corruption.name()));
            assert_eq!(corruption.name().parse(), Ok(corruption));
            assert_eq!(
                corruption.title().to_lowercase().replace(' ', "_"),
                corruption.name()
            );
            assert_eq!(corruption.is_extra(), i >= 15);
        }
        assert!("blur".parse::<Corruption>().is_err());
    }

    #[test]
    fn what_is_unchanged_survives_the_cut() {
        for level in 0..=255_u8 {
            let v = f32::from(level) / 255.0;
            assert_eq!(truncate(v), v);
            assert_eq!(truncate(v - 1e-7), v.max(0.0));
            let below = f32::from(level.saturating_sub(1)) / 255.0;
            assert_eq!(truncate(v - 1e-4), below);
        }
    }
}
