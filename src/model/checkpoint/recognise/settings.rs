//! What shapes do not tell: strides, noise, degrees of visual angle, normalisation. It comes from
//! the flags of the training script, else from the published models.

use std::collections::BTreeMap;

use super::RecogniseError;
use crate::model::checkpoint::Value;
use crate::model::config::Preprocessing;
use crate::model::config::{
    GaborConfig, ModelConfig, NoiseConfig, NoiseMode, StemConfig, VOneConfig,
    imagenet_preprocessing, vonenet_preprocessing,
};

/// Flags, read with defaults.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a> {
    pub flags: &'a BTreeMap<String, Value>,
    /// The file's name, lower case, `-` as `_`.
    pub file: &'a str,
}

impl Settings<'_> {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.flags.get(key).and_then(Value::as_str)
    }

    pub fn count(&self, key: &str) -> Option<usize> {
        self.flags.get(key).and_then(Value::as_usize)
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        let found = self.flags.get(key).and_then(Value::as_f64);
        found.unwrap_or(default)
    }

    fn truth(&self, key: &str) -> Option<bool> {
        self.flags.get(key).and_then(Value::as_bool)
    }

    /// A first convolution of this size: as in the published networks when it is theirs, else
    /// what keeps a small image from shrinking at once. Also says whether it was a guess.
    pub fn stem(&self, kernel: usize) -> (StemConfig, bool) {
        let official = StemConfig::OFFICIAL;
        let is_official = kernel == official.kernel;
        let stride = self.count("stem_stride");
        let pool = self.truth("stem_pool");
        let stem = StemConfig {
            kernel,
            stride: stride.unwrap_or(if is_official { official.stride } else { 1 }),
            pool: pool.unwrap_or(is_official),
        };
        (stem, !is_official && (stride.is_none() || pool.is_none()))
    }

    /// The VOneBlock, with what shapes do tell given.
    pub fn vone(&self, cells: usize, kernel: usize, bottleneck: usize) -> VOneConfig {
        let official = VOneConfig::official();
        let simple = self.count("simple_channels");
        let complex = self.count("complex_channels");
        let (simple_channels, complex_channels) = match (simple, complex) {
            (Some(s), Some(c)) => (s, c),
            (Some(s), None) => (s, cells.saturating_sub(s)),
            (None, Some(c)) => (cells.saturating_sub(c), c),
            (None, None) => (cells - cells / 2, cells / 2),
        };
        VOneConfig {
            image_size: self.count("image_size").unwrap_or(official.image_size),
            visual_degrees: self.number("visual_degrees", official.visual_degrees),
            kernel,
            stride: self.count("stride").unwrap_or(official.stride),
            simple_channels,
            complex_channels,
            k_exc: self.number("k_exc", official.k_exc),
            noise: self.noise(),
            gabor: self.gabor(),
            bottleneck,
        }
    }

    fn noise(&self) -> NoiseConfig {
        let default = NoiseConfig::default();
        // `voneresnet50_ns_e70` is the published model without stochasticity.
        let without = || self.file.contains("_ns_") || self.file.contains("_ns.");
        let mode = match self.flags.get("noise_mode") {
            Some(Value::Text(mode)) if mode == "neuronal" => NoiseMode::Neuronal,
            Some(Value::Text(mode)) if mode == "gaussian" => NoiseMode::Gaussian,
            Some(_) => NoiseMode::None,
            None if without() => NoiseMode::None,
            None => default.mode,
        };
        NoiseConfig {
            mode,
            scale: self.number("noise_scale", default.scale),
            level: self.number("noise_level", default.level),
        }
    }

    fn gabor(&self) -> GaborConfig {
        let default = GaborConfig::default();
        GaborConfig {
            seed: self.count("gabor_seed").map_or(default.seed, |n| n as u64),
            sf_corr: self.number("sf_corr", default.sf_corr),
            sf_max: self.number("sf_max", default.sf_max),
            sf_min: self.number("sf_min", default.sf_min),
            rand_param: self.truth("rand_param").unwrap_or(default.rand_param),
        }
    }

    /// What happens to an image before the network. VOneNets have a mean and deviation of 0.5.
    pub fn preprocessing(&self, behind_vone: bool) -> Preprocessing {
        let vonenet = match self.text("normalization") {
            Some("vonenet") => true,
            Some("imagenet") => false,
            _ => behind_vone,
        };
        let published = if vonenet {
            vonenet_preprocessing()
        } else {
            imagenet_preprocessing()
        };
        match self.count("image_size") {
            Some(crop) => Preprocessing {
                // The same margin as torchvision leaves: 256 to 224.
                resize: crop.saturating_mul(8).saturating_add(3) / 7,
                crop,
                ..published
            },
            None => published,
        }
    }
}

/// Refuses numbers that no network can have, before anything is allocated or divided by them.
pub(super) fn check(config: &ModelConfig) -> Result<(), RecogniseError> {
    for std in config.preprocessing.std {
        number("preprocessing.std", std.into(), 1e-6, 1e6)?;
    }
    for mean in config.preprocessing.mean {
        number("preprocessing.mean", mean.into(), -1e6, 1e6)?;
    }
    if let Some(front) = &config.front {
        check_vone(front)?;
    }
    Ok(config.check()?)
}

fn check_vone(c: &VOneConfig) -> Result<(), RecogniseError> {
    // Their sum is taken before their range is checked.
    number("simple_channels", c.simple_channels as f64, 0.0, 1e6)?;
    number("complex_channels", c.complex_channels as f64, 0.0, 1e6)?;
    number("visual_degrees", c.visual_degrees, 1e-3, 360.0)?;
    number("k_exc", c.k_exc, -1e6, 1e6)?;
    // Neuronal noise is divided by its scale.
    let neuronal = c.noise.mode == NoiseMode::Neuronal;
    number(
        "noise_scale",
        c.noise.scale,
        if neuronal { 1e-9 } else { 0.0 },
        1e6,
    )?;
    number("noise_level", c.noise.level, 0.0, 1e6)?;
    number("sf_corr", c.gabor.sf_corr, -1.0, 1.0)?;
    number("sf_max", c.gabor.sf_max, 0.0, 1e3)?;
    number("sf_min", c.gabor.sf_min, 0.0, 1e3)
}

fn number(name: &'static str, found: f64, least: f64, most: f64) -> Result<(), RecogniseError> {
    // NaN is in no range.
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(RecogniseError::Setting {
        name,
        found: found.to_string(),
        least: least.to_string(),
        most: most.to_string(),
    })
}
