//! The most likely classes of a picture, and the activations of each area of the network.
//!
//! `cargo run --release --example predict [PICTURE]`

use std::fs::{self, File};
use std::io::BufReader;

use burn::tensor::{Tensor, TensorData};
use ventral::compute::device::Devices;
use ventral::image::{decode, to_input};
use ventral::model::load;
use ventral::model::probe::{CancelToken, Taps};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cancel = CancelToken::default();
    let name = "cornet-s-tiny40.safetensors";
    let file = BufReader::new(File::open(format!("static/models/{name}"))?);
    let model = load::read(name, vec![Box::new(file)], &cancel, |_, _, _| {})?;
    let device = Devices::cpu("", None).device;
    let network = model.to_network(&device);

    let path = std::env::args().nth(1);
    let path = path.unwrap_or_else(|| "static/samples/lorikeet.jpg".to_owned());
    let picture = decode(&fs::read(path)?)?.picture;
    let sides = &model.config.preprocessing;
    let pixels = to_input(&picture, sides.into())?;
    let pixels = Tensor::from_data(
        TensorData::new(pixels, [1, 3, sides.crop, sides.crop]),
        &device,
    );

    // Each area at its last time step; `V4.t1` would be an earlier one.
    let pass = network.pass(pixels, None, Taps::Named(network.areas()), &cancel)?;
    let logits: Vec<f32> = pass.logits.into_data().try_to_vec()?;
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    for class in order.into_iter().take(5) {
        println!("{:6.2}  {}", logits[class], model.classes[class]);
    }
    for (area, activations) in pass.taps {
        let shape = activations.dims();
        let mean = activations.mean().into_scalar::<f32>();
        println!("{area}: {shape:?}, mean {mean:.3}");
    }
    Ok(())
}
