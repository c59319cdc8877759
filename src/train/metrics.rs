//! The metrics of an epoch.

use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 0.
    pub epoch: usize,
    /// Mean over the epoch, of all its examples.
    pub train_loss: f32,
    /// Of the examples as they were trained on, corrupted, attacked or mixed, 0 to 1.
    pub train_accuracy: f32,
    /// Of clean images, by the averaged weights where there are some, 0 to 1.
    pub test_accuracy: f32,
    /// Of the epoch's last step.
    pub learning_rate: f64,
    /// Training and testing together.
    pub seconds: f32,
    /// While training. 0 in the files of earlier versions.
    #[serde(default)]
    pub images_per_second: f32,
}
