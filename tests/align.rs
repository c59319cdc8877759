//! Alignment: its losses and their gradients against the reference implementations, its trainer on
//! small cases whose outcome is known.

mod common;

use std::fs::{self, File};
use std::io::BufReader;

use burn::tensor::{Device, Tensor, TensorData};
use common::shared;
use ventral::align::loss::cka::{Form, cka};
use ventral::align::loss::{distil, harmonizer, similarity};
use ventral::archive::Limits;
use ventral::archive::npy::{Array, Npz};
use ventral::compute::device::Devices;
use ventral::rng::Rng;

struct Reference {
    arrays: Npz<BufReader<File>>,
    numbers: serde_json::Value,
}

impl Reference {
    fn open(name: &str) -> Option<Self> {
        let arrays = File::open(shared(&format!("fixtures/{name}.npz"))?).unwrap();
        let numbers = shared(&format!("fixtures/{name}.json"))?;
        Some(Self {
            arrays: Npz::open(BufReader::new(arrays), &Limits::default()).unwrap(),
            numbers: serde_json::from_str(&fs::read_to_string(numbers).unwrap()).unwrap(),
        })
    }

    fn array(&mut self, name: &str) -> Array {
        self.arrays.read(name).unwrap()
    }

    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
        let values = self.array(name).data.to_f32();
        Tensor::from_data(TensorData::new(values, shape), &training())
    }

    fn number(&self, pointer: &str) -> f64 {
        let value = self.numbers.pointer(pointer);
        value.and_then(|v| v.as_f64()).expect(pointer)
    }
}

/// The CPU, with gradients.
fn training() -> Device {
    Devices::cpu("", None).device.autodiff()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}

#[track_caller]
fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{ours} and {theirs}");
}

/// Relative in the largest of the reference's values.
#[track_caller]
fn all_close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= tolerance * largest, "{a} and {b}, largest {largest}");
    }
}

#[test]
fn cka_losses_and_their_gradients_are_the_references() {
    let Some(mut reference) = Reference::open("metrics") else {
        return eprintln!("skipped: no shared fixtures here");
    };
    let targets: Tensor<2> = reference.tensor("bt_Y", [40, 30]);
    // The reference's names for them.
    for (form, number) in [
        (Form::Distance, "CKA"),
        (Form::LogDistance, "logCKA"),
        (Form::NegativeLog, "logCKA0"),
    ] {
        let x: Tensor<4> = reference
            .tensor::<4>("bt_X", [40, 8, 5, 5])
            .require_grad();
        let loss = form.of(cka(x.clone().reshape([40, 200]), targets.clone()));
        let theirs = reference.number(&format!("/braintree/{number}/float64"));
        close(scalar(loss.clone()), theirs, 1e-5);
        let ours = values(x.grad(&loss.backward()).unwrap());
        let theirs = reference.array(&format!("bt_grad_{number}"));
        all_close(&ours, &theirs.data.to_f32(), 1e-5);
    }
}

#[test]
fn the_harmonizers_loss_and_its_gradient_are_the_references() {
    let Some(mut reference) = Reference::open("harmonizer") else {
        return eprintln!("skipped: no shared fixtures here");
    };
    for (case, side) in [("even32", 32), ("odd33", 33)] {
        let named = |what: &str| format!("{case}/{what}");
        let shape = [3, 1, side, side];
        let map: Tensor<4> = reference.tensor(&named("saliency"), shape).require_grad();
        let cut = values(harmonizer::standardise(map.clone()));
        let theirs = reference.array(&named("saliency_standardize_cut"));
        all_close(&cut, &theirs.data.to_f32(), 1e-5);

        let raw = reference.array(&named("pyramid_saliency_level0"));
        let mut level: Tensor<4> =
            Tensor::from_data(TensorData::new(raw.data.to_f32(), shape), &training());
        for i in 1..=harmonizer::LEVELS {
            level = harmonizer::halve(level);
            let theirs = reference.array(&named(&format!("pyramid_saliency_level{i}")));
            assert_eq!(level.dims()[2..], theirs.shape[1..3]);
            all_close(&values(level.clone()), &theirs.data.to_f32(), 1e-5);
        }

        let human = reference.tensor(&named("true_heatmap"), shape);
        let told = reference.tensor(&named("tokens"), [3]);
        let loss = harmonizer::loss(map.clone(), human, told);
        let theirs = reference.number(&format!("/{case}/harmonization_loss"));
        close(scalar(loss.clone()), theirs, 1e-5);
        let ours = values(map.grad(&loss.backward()).unwrap());
        let theirs = reference.array(&named("grad_loss_wrt_saliency"));
        all_close(&ours, &theirs.data.to_f32(), 1e-5);
    }
}
