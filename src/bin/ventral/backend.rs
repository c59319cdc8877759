//! Where a command computes.

use ventral::compute::description::BackendChoice;
use ventral::compute::device::{Active, Devices};

use crate::Failure;

#[derive(clap::Args)]
pub struct Place {
    /// Where to compute. A GPU needs a build with `--features gpu`.
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Backend {
    /// The GPU where there is one that agrees with the CPU, the CPU otherwise.
    Auto,
    Cpu,
    Gpu,
    /// The GPU, with weights in 16 bits a number.
    GpuF16,
}

impl Place {
    /// The device.
    ///
    /// # Errors
    /// What was asked for by name cannot be had.
    pub fn device(&self) -> Result<Active, Failure> {
        let choice = match self.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Cpu => BackendChoice::Cpu,
            Backend::Gpu => BackendChoice::WebGpu,
            Backend::GpuF16 => BackendChoice::WebGpuHalf,
        };
        let active = pollster::block_on(Devices::default().choose_native(choice));
        let info = &active.info;
        match (self.backend, info.kind) {
            (Backend::Gpu | Backend::GpuF16, BackendChoice::Cpu) => {
                Err(format!("no GPU can be used: {}", info.note).into())
            }
            (Backend::GpuF16, _) if !info.f16_weights => {
                Err(format!("--backend gpu can be had, and gpu-f16 not: {}", info.note).into())
            }
            (Backend::Auto, BackendChoice::Cpu) if cfg!(feature = "gpu") => {
                eprintln!("on the CPU: {}", info.note);
                Ok(active)
            }
            _ => Ok(active),
        }
    }
}
