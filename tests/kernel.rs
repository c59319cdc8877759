//! Our kernels against Burn's own operations, values and gradients, over shapes drawn at random.
#![cfg(feature = "compute")]

use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use ventral::compute::kernel::{
    Epilogue, apply_epilogue, batch_norm_training, convolution, convolution_epilogue, max_pool,
    simple_and_complex, spiking,
};
use ventral::rng::Rng;

fn draw<const D: usize>(shape: [usize; D], rng: &mut Rng) -> Vec<f32> {
    let mut values = vec![0.0_f32; shape.iter().product()];
    rng.fill_normal(&mut values);
    values
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

#[track_caller]
fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 2e-5 * scale, "{what}: {a} against {b}");
    }
}

/// Images, channels in and out, kernel, stride, padding, height, width.
fn shapes() -> Vec<[usize; 8]> {
    let mut rng = Rng::from_seed(11);
    let mut shapes = vec![
        // What the networks use, small and official.
        [2, 3, 8, 7, 2, 3, 64, 64],
        [1, 3, 4, 25, 4, 12, 56, 60],
        [5, 16, 24, 1, 1, 0, 4, 4],
        [3, 8, 8, 1, 2, 0, 9, 8],
        [2, 6, 5, 3, 2, 1, 17, 16],
        [1, 64, 16, 3, 1, 1, 56, 56],
        // Blocks of every width, with a rest.
        [2, 40, 70, 3, 1, 1, 9, 7],
        [3, 33, 100, 1, 1, 0, 6, 6],
        [1, 17, 130, 3, 2, 1, 5, 14],
        // More stride than kernel, more padding than is of use, a single position.
        [2, 2, 3, 2, 3, 0, 7, 7],
        [1, 2, 2, 3, 1, 4, 3, 5],
        [1, 1, 1, 5, 1, 0, 5, 5],
        [1, 2, 3, 11, 4, 2, 63, 63],
    ];
    for place in 0..200 {
        // Of each four, two have enough channels and tiles for the shorter products of 3x3, one of
        // them at stride 2.
        let (short, halved) = (place % 4 > 1, place % 4 == 3);
        let channels = |rng: &mut Rng| match short {
            true => 8 + rng.below(28),
            false => 1 + rng.below(9),
        };
        let kernel = match short {
            true => 3,
            false => 1 + rng.below(5),
        };
        let padding = match halved {
            true => 1,
            false => rng.below(kernel + 1),
        };
        let least = if halved { 12 } else { kernel };
        let side = |rng: &mut Rng| least + rng.below(20);
        shapes.push([
            1 + rng.below(4),
            channels(&mut rng),
            channels(&mut rng),
            kernel,
            match (short, halved) {
                (_, true) => 2,
                (true, _) => 1,
                _ => 1 + rng.below(3),
            },
            padding,
            side(&mut rng),
            side(&mut rng),
        ]);
    }
    shapes
}

#[test]
fn convolution_and_its_gradients_are_burns() {
    let mut rng = Rng::from_seed(12);
    for shape in shapes() {
        let [_, c, out, k, ..] = shape;
        let weight = draw([out, c, k, k], &mut rng);
        convolves_as_burn(shape, weight, &mut rng);
    }
}

/// As Gabor filters do; one reads nothing at all.
#[test]
fn filters_of_one_colour_are_convolved_with_it_alone() {
    let mut rng = Rng::from_seed(15);
    for shape in [
        [2, 3, 40, 9, 2, 4, 32, 32],
        [1, 3, 17, 25, 4, 12, 64, 60],
        [3, 2, 5, 3, 1, 1, 9, 7],
        [2, 4, 9, 5, 3, 0, 13, 22],
    ] {
        let [_, c, out, k, ..] = shape;
        let mut weight = draw([out, c, k, k], &mut rng);
        for (plane, taps) in weight.chunks_exact_mut(k * k).enumerate() {
            let (filter, colour) = (plane / c, plane % c);
            if filter == 1 || colour != (filter * 7 + 3) % c {
                taps.fill(0.0);
            }
        }
        convolves_as_burn(shape, weight, &mut rng);
    }
}

fn convolves_as_burn(shape: [usize; 8], weight: Vec<f32>, rng: &mut Rng) {
    let device = Device::flex().autodiff();
    let [n, c, out, k, stride, padding, h, w] = shape;
    let x = draw([n, c, h, w], rng);
    let run = |ours: bool, upstream: Option<&[f32]>| {
        let x = tensor(&x, [n, c, h, w], &device).require_grad();
        let weight = tensor(&weight, [out, c, k, k], &device).require_grad();
        let y = match ours {
            true => convolution(x.clone(), weight.clone(), stride, padding),
            false => {
                let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
                conv2d(x.clone(), weight.clone(), None, options)
            }
        };
        let values = host(y.clone().inner());
        let upstream = upstream.map_or_else(|| values.clone(), <[f32]>::to_vec);
        let dims = y.dims();
        let loss = (y * tensor(&upstream, dims, &device)).sum();
        let gradients = loss.backward();
        let x = host(x.grad(&gradients).unwrap());
        let weight = host(weight.grad(&gradients).unwrap());
        (values, x, weight)
    };
    let theirs = run(false, None);
    let ours = run(true, Some(&theirs.0));
    assert_close(&format!("{shape:?} forward"), &ours.0, &theirs.0);
    assert_close(&format!("{shape:?} input"), &ours.1, &theirs.1);
    assert_close(&format!("{shape:?} weight"), &ours.2, &theirs.2);
}

#[test]
fn max_pooling_and_its_gradient_are_burns() {
    let device = Device::flex().autodiff();
    let mut rng = Rng::from_seed(14);
    for [n, c, h, w, kernel, stride, padding] in [
        [2, 3, 8, 8, 3, 2, 1],
        [1, 5, 13, 9, 3, 2, 0],
        [3, 1, 6, 7, 2, 2, 0],
        [1, 2, 5, 4, 5, 1, 2],
        [1, 1, 3, 3, 3, 3, 1],
        [2, 2, 9, 2, 2, 3, 1],
    ] {
        let shape = [n, c, h, w];
        // Few values, so that windows hold their largest more than once.
        let mut values = draw(shape, &mut rng);
        values.iter_mut().for_each(|v| *v = v.round());
        let run = |ours: bool| {
            let x = tensor(&values, shape, &device).require_grad();
            let y = match ours {
                true => max_pool(x.clone(), kernel, stride, padding),
                false => {
                    let options = MaxPoolOptions::new([kernel; 2])
                        .with_stride([stride; 2])
                        .with_padding([padding; 2]);
                    max_pool2d(x.clone(), options)
                }
            };
            let dims = y.dims();
            let count = dims.iter().product::<usize>();
            let upstream: Vec<f32> = (0..count).map(|i| i as f32 * 0.25 - 3.0).collect();
            let values = host(y.clone().inner());
            let gradients = (y * tensor(&upstream, dims, &device)).sum().backward();
            (values, host(x.grad(&gradients).unwrap()))
        };
        let (ours, theirs) = (run(true), run(false));
        assert_eq!(ours, theirs, "{shape:?}, {kernel}, {stride}, {padding}");
    }
}

#[test]
fn max_pooling_lets_nan_through() {
    let device = Device::flex();
    let mut values = vec![1.0_f32; 16];
    values[5] = f32::NAN;
    let y = host(max_pool(tensor(&values, [1, 1, 4, 4], &device), 2, 2, 0));
    assert!(y[0].is_nan());
    assert_eq!(y[1..], [1.0; 3]);
}

#[test]
fn norm_and_its_gradients_are_burns() {
    let device = Device::flex().autodiff();
    let mut rng = Rng::from_seed(13);
    for (shape, with_relu) in [
        ([4, 3, 5, 7], true),
        ([4, 3, 5, 7], false),
        ([2, 16, 4, 4], true),
        ([9, 2, 1, 3], true),
        ([1, 5, 33, 2], false),
    ] {
        let channels = shape[1];
        let values = [
            draw(shape, &mut rng),
            draw(shape, &mut rng),
            draw([shape[0], channels, shape[2], shape[3]], &mut rng),
        ];
        let parameters = [draw([channels], &mut rng), draw([channels], &mut rng)];
        let run = |ours: bool| {
            let x = tensor(&values[0], shape, &device).require_grad();
            let gain = tensor(&parameters[0], [channels], &device).require_grad();
            let bias = tensor(&parameters[1], [channels], &device).require_grad();
            let (y, mean, variance) = match ours {
                true => batch_norm_training(x.clone(), gain.clone(), bias.clone(), 1e-5, with_relu),
                false => {
                    let all = batch_norm_train(x.clone(), gain.clone(), bias.clone(), 1e-5);
                    let y = if with_relu {
                        relu(all.output)
                    } else {
                        all.output
                    };
                    (y, all.mean, all.variance)
                }
            };
            let gradients = (y.clone() * tensor(&values[1], shape, &device))
                .sum()
                .backward();
            [
                host(y.inner()),
                host(mean.inner()),
                host(variance.inner()),
                host(x.grad(&gradients).unwrap()),
                host(gain.grad(&gradients).unwrap()),
                host(bias.grad(&gradients).unwrap()),
            ]
        };
        let names = ["result", "mean", "variance", "input", "gain", "bias"];
        for ((name, ours), theirs) in names.iter().zip(run(true)).zip(run(false)) {
            assert_close(&format!("{shape:?} {name}"), &ours, &theirs);
        }
    }
}

/// The result does not depend on how many threads share the tiles.
#[test]
fn threads_do_not_change_a_bit() {
    let device = Device::flex().autodiff();
    let mut rng = Rng::from_seed(14);
    // Input, channels out, kernel and stride.
    const SHAPES: [([usize; 4], usize, usize, usize); 11] = [
        // Rows to share, and more channels than positions, as a sum over taps and in tiles.
        ([6, 7, 40, 40], 8, 3, 2),
        ([6, 8, 40, 40], 8, 3, 2),
        ([4, 150, 12, 12], 210, 3, 2),
        ([6, 8, 40, 40], 8, 3, 1),
        ([1, 96, 5, 6], 200, 3, 1),
        ([4, 150, 12, 12], 210, 3, 1),
        // Seven rows of tiles: the last are shared by channels.
        ([1, 80, 28, 120], 90, 3, 1),
        // Single weights: shares of the positions, of the channels, of both, and what is thinned.
        ([1, 20, 56, 57], 70, 1, 1),
        ([1, 500, 7, 7], 490, 1, 1),
        ([1, 200, 14, 14], 250, 1, 1),
        ([1, 128, 60, 61], 40, 1, 2),
    ];
    for (shape, out, kernel, stride) in SHAPES {
        let of_weight = [out, shape[1], kernel, kernel];
        let (x, weight) = (draw(shape, &mut rng), draw(of_weight, &mut rng));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let x = tensor(&x, shape, &device).require_grad();
                let weight = tensor(&weight, of_weight, &device).require_grad();
                let y = convolution(x.clone(), weight.clone(), stride, kernel / 2);
                let gradients = y.clone().powi_scalar(2).sum().backward();
                [
                    host(y.inner()),
                    host(x.grad(&gradients).unwrap()),
                    host(weight.grad(&gradients).unwrap()),
                ]
            })
        };
        let alone = run(1);
        for threads in [2, 3] {
            assert!(run(threads) == alone, "{shape:?}, {threads} threads");
        }
    }
}

/// A convolution's epilogue is applied as the values are written, whichever thread writes them, and some are
/// written twice.
#[test]
fn an_epilogue_in_the_convolution_is_the_same_to_the_bit() {
    let device = Device::flex();
    let mut rng = Rng::from_seed(18);
    let by_position = [[1, 20, 30, 1, 1, 0, 56, 57], [1, 70, 9, 1, 1, 0, 14, 14]];
    // Each filter reads one colour.
    const BY_COLOUR: [usize; 8] = [2, 3, 40, 9, 2, 4, 32, 32];
    let shapes = shapes().into_iter().chain(by_position).chain([BY_COLOUR]);
    for shape in shapes {
        let [n, c, out, k, stride, padding, h, w] = shape;
        let x: Tensor<4> = tensor(&draw([n, c, h, w], &mut rng), [n, c, h, w], &device);
        let mut weight = draw([out, c, k, k], &mut rng);
        if shape == BY_COLOUR {
            let planes = weight.chunks_exact_mut(k * k).enumerate();
            planes
                .filter(|(plane, _)| plane % c != plane / c % c)
                .for_each(|(_, taps)| taps.fill(0.0));
        }
        let weight: Tensor<4> = tensor(&weight, [out, c, k, k], &device);
        let numbers: [Tensor<1>; 2] =
            [0, 1].map(|_| tensor(&draw([out], &mut rng), [out], &device));
        let y = convolution(x.clone(), weight.clone(), stride, padding);
        let dims = y.dims();
        let skip: Tensor<4> = tensor(&draw(dims, &mut rng), dims, &device);
        let epilogues = || {
            [
                Epilogue::scale_shift(numbers.clone(), false),
                Epilogue::scale_shift(numbers.clone(), true),
                Epilogue::residual(numbers.clone(), skip.clone()),
            ]
        };
        let parts = epilogues().map(|epilogue| host(apply_epilogue(y.clone(), epilogue)));
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let fused = pool.build().unwrap().install(|| {
                epilogues().map(|epilogue| {
                    convolution_epilogue(x.clone(), weight.clone(), [stride, padding], epilogue)
                })
            });
            assert!(fused.map(host) == parts, "{shape:?}, {threads} threads");
        }
    }
}

/// Values and gradients of `ours` and of the same in Burn's operations, for inputs of these shapes.
#[track_caller]
fn same<const N: usize>(
    what: &str,
    shapes: [[usize; 4]; N],
    ours: impl Fn([Tensor<4>; N]) -> Tensor<4>,
    theirs: impl Fn([Tensor<4>; N]) -> Tensor<4>,
) {
    let device = Device::flex().autodiff();
    let mut rng = Rng::from_seed(16);
    let inputs = shapes.map(|shape| draw(shape, &mut rng));
    let mut upstream: Option<Vec<f32>> = None;
    let mut run = |work: &dyn Fn([Tensor<4>; N]) -> Tensor<4>| {
        let mut place = 0;
        let x = shapes.map(|shape| {
            place += 1;
            tensor(&inputs[place - 1], shape, &device).require_grad()
        });
        let y = work(x.clone());
        let values = host(y.clone().inner());
        let upstream = upstream.get_or_insert_with(|| draw([values.len()], &mut rng));
        let loss = (y.clone() * tensor(upstream, y.dims(), &device)).sum();
        let gradients = loss.backward();
        let gradients = x.map(|x| host(x.grad(&gradients).unwrap()));
        (values, gradients)
    };
    let (theirs, ours) = (run(&theirs), run(&ours));
    assert_close(what, &ours.0, &theirs.0);
    for (ours, theirs) in ours.1.iter().zip(&theirs.1) {
        assert_close(&format!("{what}, gradient"), ours, theirs);
    }
}

#[test]
fn scale_shift_skip_and_relu_are_burns() {
    let device = Device::flex().autodiff();
    let mut rng = Rng::from_seed(17);
    let numbers: [Tensor<1>; 2] = [0, 1].map(|_| tensor(&draw([5], &mut rng), [5], &device));
    let shape = [3, 5, 4, 7];
    let scaled = |x: Tensor<4>| {
        let [scale, shift] = numbers.clone().map(|n| n.reshape([1, 5, 1, 1]));
        x * scale + shift
    };
    let ours = |relu: bool| {
        let numbers = numbers.clone();
        move |[x]: [Tensor<4>; 1]| apply_epilogue(x, Epilogue::scale_shift(numbers.clone(), relu))
    };
    same("scale and shift", [shape], ours(false), |[x]| scaled(x));
    same("scale and shift, ReLU", [shape], ours(true), |[x]| {
        relu(scaled(x))
    });
    same(
        "scale and shift, skip, ReLU",
        [shape; 2],
        |[x, skip]| apply_epilogue(x, Epilogue::residual(numbers.clone(), skip)),
        |[x, skip]| relu(scaled(x) + skip),
    );
    // What others still hold is not written over.
    let x: Tensor<4> = tensor(&draw(shape, &mut rng), shape, &Device::flex());
    let (kept, numbers) = (host(x.clone()), numbers.clone().map(Tensor::inner));
    let _ = apply_epilogue(x.clone(), Epilogue::scale_shift(numbers.clone(), true));
    let _ = apply_epilogue(x.clone(), Epilogue::residual(numbers, x.clone()));
    assert_eq!(host(x), kept);
}

#[test]
fn cells_and_their_noise_are_burns() {
    let device = Device::flex().autodiff();
    let (n, simple, complex) = (3, 5, 4);
    let shapes = [[n, simple + complex, 6, 7], [n, complex, 6, 7]];
    same(
        "cells",
        shapes,
        |[q0, q1]| simple_and_complex(q0, q1, simple, 23.5),
        |[q0, q1]| {
            let of_complex = q0.clone().narrow(1, simple, complex);
            let energy = (of_complex.powi_scalar(2) + q1.powi_scalar(2)) / 2.0;
            Tensor::cat(vec![relu(q0.narrow(1, 0, simple)), energy.sqrt()], 1) * 23.5
        },
    );
    let mut rng = Rng::from_seed(18);
    for images in [n, 1] {
        let shape = [images, 5, 6, 7];
        let noise: Tensor<4> = tensor(&draw(shape, &mut rng), shape, &device);
        same(
            "neuronal noise",
            [[n, 5, 6, 7]],
            |[x]| spiking(x, noise.clone(), 0.35, 0.07),
            |[x]| {
                let spikes = x * 0.35 + 0.07;
                let spread = (relu(spikes.clone()) + 1e-4).sqrt();
                relu((spikes + noise.clone() * spread - 0.07) / 0.35)
            },
        );
    }
}
