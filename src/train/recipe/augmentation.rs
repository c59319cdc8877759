//! How clean images are varied.

use serde::{Deserialize, Serialize};

use crate::train::demand::Demand;

fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentationConfig {
    /// Mirror half of the images.
    pub flip: bool,
    /// Shift by up to this many pixels each way, mirrored at the border.
    pub shift: usize,
    /// Begin on crops, which are cheaper and vary more; end on whole images.
    #[serde(default)]
    pub crops: Option<CropsConfig>,
    /// Side, px, of a square set to the mean in every image, its centre anywhere in the image
    /// (Cutout, DeVries and Taylor 2017); 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub erase: usize,
    /// α of the Beta distribution by which pairs of clean images, and their labels, are averaged
    /// (Zhang et al. 2018), above 0. With `cutmix` too, each batch takes one or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// α of the Beta distribution of the area that stays when a rectangle is replaced by another
    /// clean image's (Yun et al. 2019), above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
}

/// Random square crops for the first part of a run. Networks that pool globally take any size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropsConfig {
    /// Side, px.
    pub side: usize,
    /// Fraction of the run that is trained on crops, 0 to 1.
    pub until: f64,
}

impl AugmentationConfig {
    pub(super) fn demands(&self) -> Vec<Demand> {
        let is_alpha = |a: f64| a.is_finite() && a > 0.0;
        vec![
            (
                self.crops.is_none_or(|c| c.side > 0),
                "augmentation.crops.side must be at least 1",
            ),
            (
                self.mixup.is_none_or(is_alpha),
                "augmentation.mixup must be above 0",
            ),
            (
                self.cutmix.is_none_or(is_alpha),
                "augmentation.cutmix must be above 0",
            ),
        ]
    }
}
