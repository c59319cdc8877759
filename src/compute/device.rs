//! Choosing a device.

use burn::tensor::{DType, Device};

use super::description::{BackendChoice, BackendInfo, SelfCheck};
use super::{kernel, self_check};

/// Programs on the CPU that play a GPU. The worker's loader knows them too.
const SOFTWARE: [&str; 6] = [
    "swiftshader",
    "llvmpipe",
    "lavapipe",
    "softpipe",
    "basic render",
    "warp",
];

/// Kernels submitted to a GPU at a time: those of a forward pass, of any network here.
#[cfg(any(feature = "worker", feature = "gpu"))]
const PASS: usize = 512;

/// What a WebGPU adapter says of itself, as far as the browser tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adapter {
    pub vendor: String,
    pub architecture: String,
    pub description: String,
    /// The browser's own word for it (`isFallbackAdapter`).
    pub fallback: bool,
}

impl Adapter {
    /// A program on the CPU that plays a GPU: correct, but slower than our own CPU path.
    pub fn is_software(&self) -> bool {
        let said = self.name().to_lowercase();
        self.fallback || SOFTWARE.iter().any(|program| said.contains(program))
    }

    /// As the user reads it.
    pub fn name(&self) -> String {
        let parts = [&self.vendor, &self.architecture, &self.description];
        let said: Vec<&str> = parts
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        if said.is_empty() {
            return "unnamed adapter".to_owned();
        }
        said.join(" ")
    }
}

/// Why a GPU is not used, or not with weights in f16.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("this build has no GPU support; build it with `--features gpu`")]
    NotBuilt,
    #[error("WebGPU did not start ({0})")]
    Start(String),
    #[error("WebGPU failed its self-check ({0})")]
    SelfCheck(String),
    #[error("WebGPU disagreed with the CPU by {:.2} % in the self-check", 100.0 * .0)]
    Disagrees(f32),
    #[error("this adapter has no shader-f16, so weights keep 32 bits a number")]
    NoF16,
    #[error("with weights in f16 {0}, so weights keep 32 bits a number")]
    F16(Box<DeviceError>),
}

/// A device and what is known of it.
#[derive(Clone, Debug)]
pub struct Active {
    pub device: Device,
    pub info: BackendInfo,
}

/// The devices of this process. A GPU runtime, once started, is kept: it cannot be started twice.
#[derive(Default)]
pub struct Devices {
    gpu: Option<Result<Device, DeviceError>>,
}

impl Devices {
    /// The CPU: always there, always right.
    pub fn cpu(note: &str, adapter: Option<&Adapter>) -> Active {
        Active {
            device: Device::flex(),
            info: BackendInfo {
                kind: BackendChoice::Cpu,
                name: cpu_name(),
                f16_weights: false,
                software: false,
                note: note.to_owned(),
                adapter: adapter.map(Adapter::name),
                self_check: None,
            },
        }
    }

    /// The device for `choice`. WebGPU that is missing, fails to start or disagrees with the CPU
    /// ends in the CPU and a note that says why.
    pub async fn choose(&mut self, choice: BackendChoice, adapter: Option<&Adapter>) -> Active {
        let Some(gpu) = adapter else {
            let note = match choice {
                BackendChoice::Cpu => "",
                _ => "no WebGPU adapter here",
            };
            return Self::cpu(note, None);
        };
        match choice {
            BackendChoice::Cpu => Self::cpu("", adapter),
            BackendChoice::Auto if gpu.is_software() => Self::cpu(
                "the WebGPU adapter is a software one, slower than the CPU itself",
                adapter,
            ),
            _ => match self.start_checked(choice, gpu).await {
                Ok(active) => active,
                Err(why) => Self::cpu(&why.to_string(), adapter),
            },
        }
    }

    /// [`Self::choose`] where no browser names the adapter: the GPU is started to ask for it.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn choose_native(&mut self, choice: BackendChoice) -> Active {
        if choice == BackendChoice::Cpu {
            return Self::cpu("", None);
        }
        match self.gpu().await.as_ref().map(native_adapter) {
            Ok(adapter) => self.choose(choice, Some(&adapter)).await,
            Err(why) => Self::cpu(&why.to_string(), None),
        }
    }

    /// The GPU, started if it was not yet.
    async fn gpu(&mut self) -> &Result<Device, DeviceError> {
        let started = match self.gpu.take() {
            Some(started) => started,
            None => start_gpu().await,
        };
        self.gpu.insert(started)
    }

    async fn start_checked(
        &mut self,
        choice: BackendChoice,
        adapter: &Adapter,
    ) -> Result<Active, DeviceError> {
        let device = self.gpu().await.clone()?;
        let clock = crate::clock::Clock::start();
        // Rounded weights would hide a small fault.
        let error = checked(&device, false).await?;
        let (error, f16_weights, note) = match choice {
            BackendChoice::WebGpuHalf => match checked_f16(&device).await {
                Ok(of_f16) => (of_f16, true, String::new()),
                Err(why) => (error, false, why.to_string()),
            },
            _ => (error, false, String::new()),
        };
        kernel::use_f16_weights(f16_weights);
        let stored = if f16_weights { ", weights in f16" } else { "" };
        Ok(Active {
            device,
            info: BackendInfo {
                kind: BackendChoice::WebGpu,
                name: format!("{} (WebGPU{stored})", adapter.name()),
                f16_weights,
                software: adapter.is_software(),
                note,
                adapter: Some(adapter.name()),
                self_check: Some(SelfCheck {
                    max_relative_error: error,
                    milliseconds: clock.milliseconds(),
                }),
            },
        })
    }
}

/// The GPU's largest relative error with weights in f32 or f16, where it passes.
async fn checked(device: &Device, f16: bool) -> Result<f32, DeviceError> {
    kernel::use_f16_weights(f16);
    let checked = self_check::max_relative_error(device).await;
    let error = checked.map_err(|e| DeviceError::SelfCheck(format!("{e:?}")))?;
    let tolerance = match f16 {
        true => self_check::F16_TOLERANCE,
        false => self_check::TOLERANCE,
    };
    match error > tolerance {
        true => Err(DeviceError::Disagrees(error)),
        false => Ok(error),
    }
}

/// The same with weights in f16.
async fn checked_f16(device: &Device) -> Result<f32, DeviceError> {
    if !device.supports_dtype(DType::F16) {
        return Err(DeviceError::NoF16);
    }
    let checked = checked(device, true).await;
    checked.map_err(|why| DeviceError::F16(Box::new(why)))
}

#[cfg(any(feature = "worker", feature = "gpu"))]
async fn start_gpu() -> Result<Device, DeviceError> {
    let options = Device::wgpu_options().tasks_max(PASS);
    let started = options.init_async().await;
    started.map_err(|e| DeviceError::Start(e.to_string()))
}

#[cfg(not(any(feature = "worker", feature = "gpu")))]
async fn start_gpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}

/// As the driver names it.
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
fn native_adapter(device: &Device) -> Adapter {
    Adapter {
        description: device.identity().map(|told| told.name).unwrap_or_default(),
        ..Adapter::default()
    }
}

/// There is no device to ask in this build.
#[cfg(all(not(feature = "gpu"), not(target_arch = "wasm32")))]
fn native_adapter(_: &Device) -> Adapter {
    Adapter::default()
}

fn cpu_name() -> String {
    let threads = kernel::threads();
    let plural = if threads == 1 { "" } else { "s" };
    format!("CPU, SIMD, {threads} thread{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(description: &str) -> Adapter {
        Adapter {
            description: description.to_owned(),
            ..Adapter::default()
        }
    }

    #[test]
    fn software_adapters_are_told_by_their_names() {
        for name in [
            "SwiftShader Device (LLVM 16)",
            "llvmpipe",
            "Microsoft Basic Render Driver",
        ] {
            assert!(adapter(name).is_software(), "{name}");
        }
        for name in ["NVIDIA GeForce RTX 4070", "apple metal-3", "intel gen-12lp"] {
            assert!(!adapter(name).is_software(), "{name}");
        }
    }

    #[test]
    fn the_workers_loader_knows_the_same_programs() {
        let loader = include_str!("../../static/worker_boot.js");
        let list = format!("/{}/i", SOFTWARE.join("|"));
        assert!(loader.contains(&list), "worker_boot.js lacks {list}");
    }

    #[test]
    fn the_cpu_agrees_with_itself() {
        let cpu = Device::flex();
        let check = self_check::max_relative_error(&cpu);
        let error = pollster::block_on(check).expect("the CPU reads back");
        assert_eq!(error, 0.0);
        for number in 0..200 {
            let check = self_check::random_shape_error(&cpu, number);
            let error = pollster::block_on(check).expect("the CPU reads back");
            assert_eq!(error, 0.0, "shape {number}");
        }
    }
}
