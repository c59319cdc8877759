//! Passes that nobody keeps leave nothing behind.
#![cfg(all(feature = "compute", target_os = "linux"))]

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use burn::tensor::Device;
use ventral::model::load;
use ventral::model::probe::CancelToken;
use ventral::perturb::attack::Oracle;
use ventral::perturb::attack::network::{NetworkOracle, Noise};

/// Kilobytes this process holds.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let digits = line.unwrap().trim().trim_end_matches(" kB");
    digits.trim().parse().unwrap()
}

/// A score-based attack makes thousands of passes without a gradient. What autodiff keeps for a
/// backward pass that never comes would fill the memory.
#[test]
fn passes_without_a_gradient_are_forgotten() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/models");
    let file = File::open(models.join("cornet-s-cifar10.safetensors")).unwrap();
    let source = Box::new(BufReader::new(file));
    let token = CancelToken::default();
    let name = "cornet-s-cifar10.safetensors";
    let loaded = load::read(name, vec![source], &token, |_, _, _: &str| {}).unwrap();
    let device = Device::flex();
    let network = loaded.to_network(&device.clone().autodiff());
    let mut oracle = NetworkOracle::new(&network, device, 32, Noise::Off, token);
    let pixels = vec![0.5; 2 * 3 * 32 * 32];
    let mut passes = |count| {
        for _ in 0..count {
            pollster::block_on(oracle.logits(&pixels)).unwrap();
        }
        resident()
    };
    let (before, after) = (passes(100), passes(600));
    assert!(after < 1.1 * before, "{before} kB became {after} kB");
}
