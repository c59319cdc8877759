//! A device in plain data: which one was asked for, which one computes, and why.

use serde::{Deserialize, Serialize};

/// The device that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendChoice {
    /// WebGPU where there is a real adapter, CPU otherwise.
    #[default]
    Auto,
    Cpu,
    /// WebGPU even on a software adapter: the user asked for it.
    WebGpu,
    /// The same, convolutions reading weights in 16 bits a number, where the adapter has `shader-f16`.
    WebGpuHalf,
}

/// The device that computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendInfo {
    /// CPU or WebGPU.
    pub kind: BackendChoice,
    /// As the user reads it: "NVIDIA RTX 4070 (WebGPU)", "CPU, SIMD, 1 thread".
    pub name: String,
    /// Convolutions read weights in 16 bits a number.
    pub f16_weights: bool,
    /// A WebGPU adapter that is really a program on the CPU.
    pub software: bool,
    /// Why this one: "no WebGPU in this browser", "WebGPU disagreed with the CPU by 3 %; …".
    pub note: String,
    /// What `navigator.gpu` offers, whether in use or not.
    pub adapter: Option<String>,
    /// Largest relative error of the self-check against CPU, and how long it took.
    pub self_check: Option<SelfCheck>,
}

/// A comparison of the device with the CPU on networks of random weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfCheck {
    pub max_relative_error: f32,
    pub milliseconds: f32,
}
