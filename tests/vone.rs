//! The VOneBlock against the reference: Gabor parameters, kernels, responses, noise, gradients.

mod common;

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use common::arrays::{Fixture, array, f32s, f64s, fixture};
use common::reference;
use serde_json::Value;
use ventral::model::family::vone::{GaborConfig, NoiseConfig, NoiseMode, VOneBlock, VOneConfig};
use ventral::model::gabor::{Draws, FilterBank, Gabor, Population, weights};

fn meta() -> Value {
    let path = reference("vone_meta.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("it is text")).expect("it is JSON")
}

#[track_caller]
fn assert_close(name: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance, "{name}[{i}]: {a} against {b}");
    }
}

#[track_caller]
fn assert_relative(name: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let scale = theirs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    let error = worst.fold(0.0_f32, f32::max) / scale;
    println!("{name}: {error:.2e}");
    assert!(error < tolerance, "{name}: {error:e}");
}

#[test]
fn populations_follow_from_the_stored_draws() {
    let mut npz = fixture("gabor_params.npz");
    let sets = meta()["sets"].as_object().expect("a table of sets").clone();
    for (name, arguments) in sets {
        let config = GaborConfig {
            seed: 0,
            sf_corr: arguments["sf_corr"].as_f64().expect("a number"),
            sf_max: arguments["sf_max"].as_f64().expect("a number"),
            sf_min: arguments["sf_min"].as_f64().expect("a number"),
            rand_param: arguments["rand_flag"].as_bool().expect("a flag"),
        };
        let mut draw = |key: &str| f64s(&mut npz, &format!("{name}/draw_{key}"));
        let mut draws = Draws {
            phase: draw("rand0"),
            orientation: draw("rand1"),
            ..Draws::default()
        };
        if config.rand_param {
            draws.frequency = draw("rand2");
            draws.width_across = draw("rand3");
            draws.width_along = draw("rand4");
        } else {
            let pairs = draw("mvn");
            draws.joint = pairs.chunks_exact(2).map(|p| [p[0], p[1]]).collect();
            draws.width_along = draw("rand2");
        }
        let ours = Population::from_draws(&draws, &config);
        let theirs: BTreeMap<&str, &Vec<f64>> = BTreeMap::from([
            ("sf", &ours.frequency),
            ("theta_deg", &ours.orientation),
            ("phase_deg", &ours.phase),
            ("nx", &ours.width_across),
            ("ny", &ours.width_along),
        ]);
        for (key, ours) in theirs {
            let full = format!("{name}/{key}");
            assert_close(&full, ours, &f64s(&mut npz, &full), 1e-9);
        }
    }
}

#[test]
fn single_kernels_agree() {
    let mut npz = fixture("gabor_kernels.npz");
    let kernels = meta()["gabor_kernels"].as_array().expect("a list").clone();
    for (i, arguments) in kernels.iter().enumerate() {
        let number = |key: &str| arguments[key].as_f64().expect("a number");
        let gabor = Gabor {
            frequency: number("frequency"),
            theta: number("theta"),
            phase: number("offset"),
            sigma_across: number("sigma_x"),
            sigma_along: number("sigma_y"),
        };
        let ours: Vec<f64> = gabor
            .kernel(number("ks") as usize)
            .into_iter()
            .map(f64::from)
            .collect();
        assert_close(
            &format!("k{i}"),
            &ours,
            &f64s(&mut npz, &format!("k{i}")),
            1e-6,
        );
    }
}

#[test]
fn the_official_bank_agrees() {
    let mut npz = fixture("vone_fullsize_filters.npz");
    let mut parameters = fixture("gabor_params.npz");
    let mut draw = |key: &str| f64s(&mut parameters, &format!("default_seed0/draw_{key}"));
    let draws = Draws {
        phase: draw("rand0"),
        orientation: draw("rand1"),
        joint: draw("mvn").chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
        width_along: draw("rand2"),
        ..Draws::default()
    };
    let config = VOneConfig::official();
    let population = Population::from_draws(&draws, &config.gabor);
    let chosen = array(&mut npz, "channel_index")
        .data
        .to_i64()
        .expect("integers");
    let quadratures = [("q0", 0.0), ("q1", std::f64::consts::FRAC_PI_2)];
    for (name, shift) in quadratures {
        let key = format!("torchseed1020/random_channel_{name}");
        let colours = array(&mut npz, &key).data.to_i64().expect("integers");
        let colours: Vec<usize> = colours.iter().map(|c| *c as usize).collect();
        let all = weights(&population, &config, shift, &colours);
        let size = 3 * config.kernel * config.kernel;
        let ours: Vec<f64> = chosen
            .iter()
            .flat_map(|c| &all[*c as usize * size..(*c as usize + 1) * size])
            .map(|w| f64::from(*w))
            .collect();
        let theirs = f64s(&mut npz, &format!("weight_{name}"));
        assert_close(&format!("weight_{name}"), &ours, &theirs, 1e-6);
        let sums: Vec<f64> = all
            .chunks_exact(size)
            .map(|filter| filter.iter().map(|w| f64::from(w.abs())).sum())
            .collect();
        let theirs = f64s(&mut npz, &format!("sum_abs_{name}_all"));
        assert_close(&format!("sum_abs_{name}"), &sums, &theirs, 1e-4);
    }
}

/// The block of `vone_small.npz` with the stored weights.
fn small_block(npz: &mut Fixture, noise: NoiseConfig, device: &Device) -> VOneBlock {
    let config = VOneConfig {
        image_size: 64,
        visual_degrees: 2.0,
        kernel: 13,
        stride: 2,
        simple_channels: 32,
        complex_channels: 32,
        noise,
        ..VOneConfig::official()
    };
    let mut block = VOneBlock::new(&config, device);
    let mut bank = |key: &str| {
        let stored = array(npz, key);
        let data = TensorData::new(stored.data.to_f32(), stored.shape);
        burn::module::Param::from_tensor(Tensor::<4>::from_data(data, device))
    };
    block.simple_conv_q0.weight = bank("weight_q0");
    block.simple_conv_q1.weight = bank("weight_q1");
    block.freeze()
}

fn tensor(npz: &mut Fixture, key: &str, device: &Device) -> Tensor<4> {
    let stored = array(npz, key);
    Tensor::from_data(TensorData::new(stored.data.to_f32(), stored.shape), device)
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

#[test]
fn responses_noise_and_gradients_agree() {
    let mut npz = fixture("vone_small.npz");
    let device = Device::flex().autodiff();
    let modes = [
        ("none", NoiseMode::None, 1.0, 1.0),
        ("neuronal", NoiseMode::Neuronal, 0.35, 0.07),
        ("gaussian", NoiseMode::Gaussian, 4.0, 1.0),
    ];
    for (name, mode, scale, level) in modes {
        let noise = NoiseConfig { mode, scale, level };
        let block = small_block(&mut npz, noise, &device);
        let mut x = tensor(&mut npz, "input", &device);
        let mut draws = None;
        if mode != NoiseMode::None {
            x = x.narrow(0, 0, 1);
            draws = Some(tensor(&mut npz, "fixed_noise", &device));
        }
        let x = x.detach().require_grad();
        let out = block.forward(x.clone(), draws);
        let theirs = f32s(&mut npz, &format!("out_{name}"));
        assert_relative(
            &format!("out_{name}"),
            &values(out.clone().inner()),
            &theirs,
            1e-4,
        );
        let gradients = ((out.clone() * out).sum() * (0.5 / 1000.0)).backward();
        let ours = values(x.grad(&gradients).expect("the input was tracked"));
        let theirs = f32s(&mut npz, &format!("grad_{name}"));
        assert_relative(&format!("grad_{name}"), &ours, &theirs, 1e-4);
    }
}

#[test]
fn an_all_zero_image_has_a_finite_gradient() {
    let device = Device::flex().autodiff();
    let config = VOneConfig {
        kernel: 7,
        simple_channels: 4,
        complex_channels: 4,
        ..VOneConfig::official()
    };
    let bank = FilterBank::draw(&config);
    let mut block = VOneBlock::new(&config, &device);
    let weight = |values: Vec<f32>| {
        let data = TensorData::new(values, [8, 3, 7, 7]);
        burn::module::Param::from_tensor(Tensor::<4>::from_data(data, &device))
    };
    block.simple_conv_q0.weight = weight(bank.q0);
    block.simple_conv_q1.weight = weight(bank.q1);
    let block = block.freeze();
    let x = Tensor::<4>::zeros([1, 3, 16, 16], &device).require_grad();
    let gradients = block.forward(x.clone(), None).sum().backward();
    let gradient = values(x.grad(&gradients).expect("the input was tracked"));
    assert!(gradient.iter().all(|g| g.is_finite()));
}
