//! Convolutions of the networks, ours and Burn's beside each other: `cargo bench --bench kernels`,
//! or those with a word in their name, `-- V4`.
//! Arithmetic is counted as a sum over taps does it, whatever a kernel really does.

use std::time::Instant;

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use ventral::compute::kernel::convolution;
use ventral::rng::Rng;

/// Images, channels in and out, kernel, stride, side; what uses it.
const LAYERS: [([usize; 6], &str); 17] = [
    ([50, 32, 32, 3, 1, 16], "compact, stage 1"),
    ([50, 64, 64, 3, 1, 8], "compact, stage 2"),
    ([50, 128, 128, 3, 1, 4], "compact, stage 3"),
    ([50, 32, 64, 3, 2, 16], "compact, stride 2"),
    ([50, 3, 40, 9, 2, 32], "compact VOneBlock"),
    ([1, 64, 64, 3, 1, 56], "V1"),
    ([1, 512, 512, 3, 1, 28], "V2"),
    ([1, 1024, 1024, 3, 1, 14], "V4"),
    ([1, 512, 512, 3, 2, 56], "V2, stride 2"),
    ([1, 1024, 1024, 3, 2, 28], "V4, stride 2"),
    ([1, 2048, 2048, 3, 2, 14], "IT, stride 2"),
    ([1, 2048, 2048, 3, 1, 7], "IT"),
    ([1, 256, 1024, 1, 1, 14], "V4, 1x1"),
    ([1, 64, 256, 1, 1, 56], "ResNet, 1x1, 56 px"),
    ([1, 2048, 512, 1, 1, 7], "ResNet, 1x1, 7 px"),
    ([8, 512, 512, 3, 1, 28], "V2, batch 8"),
    ([8, 3, 64, 7, 2, 224], "first layer, batch 8"),
];

const ROUNDS: usize = 7;

fn main() {
    let device = Device::flex();
    println!(
        "GFLOP/s, median of {ROUNDS}, {} threads",
        rayon::current_num_threads()
    );
    println!("{:20} {:>9} {:>9}", "", "ours", "Burn's");
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = |name: &str| {
        word.as_ref()
            .is_none_or(|word| name.contains(word.as_str()))
    };
    for ([n, from, to, kernel, stride, side], name) in LAYERS {
        if !wanted(name) {
            continue;
        }
        let mut rng = Rng::from_seed(1);
        let mut draw = |shape: [usize; 4]| {
            let mut values = vec![0.0; shape.iter().product()];
            rng.fill_normal(&mut values);
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        let x = draw([n, from, side, side]);
        let weight = draw([to, from, kernel, kernel]);
        let padding = kernel / 2;
        let ours = || convolution(x.clone(), weight.clone(), stride, padding);
        let burns = || {
            let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
            conv2d(x.clone(), weight.clone(), None, options)
        };
        let out = (side + 2 * padding - kernel) / stride + 1;
        let flop = 2.0 * (n * from * to * kernel * kernel * out * out) as f64;
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(seconds(&ours));
            other.push(seconds(&burns));
        }
        let rate = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            flop / times[ROUNDS / 2] * 1e-9
        };
        println!("{name:20} {:9.1} {:9.1}", rate(&mut own), rate(&mut other));
    }
}

fn seconds(work: &dyn Fn() -> Tensor<4>) -> f64 {
    let start = Instant::now();
    drop(work().into_data());
    start.elapsed().as_secs_f64()
}
