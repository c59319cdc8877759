//! The session on this machine's GPU, natively through its own driver: Vulkan, Metal or DirectX. A
//! driver in software will do; without any the test says so and ends. Then the same with weights in 16
//! bits, where the GPU reads such.

mod common;

use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use common::native::{NativeHost, done};
use common::parity::{CASES, Case, Reference, cosine_of, errors, hold, requests, worst_error};
use half::f16;
use ventral::compute::description::{BackendChoice, BackendInfo};
use ventral::compute::device::Adapter;
use ventral::compute::kernel::convolution;
use ventral::compute::self_check::relative;
use ventral::rng::Rng;
use ventral::session::Session;
use ventral::session::protocol::{Event, RawTensor, Request, RunOptions};

/// Largest relative error of a network, as natively on the CPU.
const TOLERANCE: f32 = 1e-4;

/// Largest relative error of a kernel on one shape, as in the browser.
const KERNEL_TOLERANCE: f32 = 2e-5;

/// Shapes drawn at random, each for every kernel, forward and gradients.
const SHAPES: usize = 200;

/// The same with weights in 16 bits: by a sum over taps, by tiles, and of a network's areas.
const OF_TAPS: f32 = 2e-5;
const OF_TILES: f32 = 4e-3;
const HALF: f32 = 1e-2;

/// The least cosine between a network's gradient and the reference's. A gradient jumps where a unit comes
/// to lie on the other side of its ReLU's kink, so its largest error says little.
const HALF_GRADIENT: f32 = 0.95;

/// A weight between two numbers of 16 bits.
const BETWEEN: f32 = 1.0 + 1.0 / 4096.0;

/// What the session computes on; the CPU where there is no GPU, with a note that says why.
fn start(session: &mut Session, host: &NativeHost, backend: BackendChoice) -> BackendInfo {
    host.events.borrow_mut().clear();
    done(host, session, Request::Start { backend }, None);
    let events = host.events.borrow();
    let told = events.iter().find_map(|event| match event {
        Event::Backend(info) => Some(info.clone()),
        _ => None,
    });
    told.expect("a session says what it computes on")
}

/// The tensors of each request.
fn ask(session: &mut Session, host: &NativeHost, runs: &[RunOptions]) -> Vec<Vec<RawTensor>> {
    let answers = runs.iter().map(|run| {
        done(host, session, Request::Run(Box::new(run.clone())), None);
        match host.last() {
            Some(Event::Tensors(tensors)) => tensors,
            other => panic!("no tensors came back: {other:?}"),
        }
    });
    answers.collect()
}

/// A case's requests, its model loaded; `None` as from [`requests`].
fn loaded(case: &Case, session: &mut Session, host: &NativeHost) -> Option<Requests> {
    let requests = requests(case)?;
    let load = Request::LoadFile {
        file_name: case.weights.to_owned(),
    };
    done(host, session, load, Some(common::parity::weights(case)));
    Some(requests)
}

type Requests = Vec<(RunOptions, Reference)>;

/// In one test: a process can start its GPU once, and all of it stores weights alike.
#[test]
fn networks_and_kernels_agree_on_the_gpu() {
    let mut session = Session::default();
    let host = NativeHost {
        adapter: Some(Adapter {
            description: "GPU of this machine".to_owned(),
            ..Adapter::default()
        }),
        ..NativeHost::default()
    };
    let info = start(&mut session, &host, BackendChoice::WebGpu);
    if info.kind == BackendChoice::Cpu {
        common::skip(&info.note);
        return;
    }
    for case in CASES {
        if let Some(requests) = loaded(case, &mut session, &host) {
            let ask = &mut |runs: &[RunOptions]| ask(&mut session, &host, runs);
            hold("GPU", case, &errors(&requests, ask), TOLERANCE);
        }
    }
    let kernels = Request::CheckKernels { shapes: SHAPES };
    done(&host, &mut session, kernels, None);
    let Some(Event::Kernels { max_relative_error }) = host.last() else {
        panic!("no answer to the check of kernels");
    };
    println!("kernels on {SHAPES} shapes: {max_relative_error:e} apart");
    assert!(
        max_relative_error < KERNEL_TOLERANCE,
        "{max_relative_error:e}"
    );

    let info = start(&mut session, &host, BackendChoice::WebGpuHalf);
    assert_eq!(info.kind, BackendChoice::WebGpu, "{}", info.note);
    if !info.f16_weights {
        assert!(info.note.contains("no shader-f16"), "{}", info.note);
        assert!(!info.name.contains("f16"), "{}", info.name);
        common::skip(&info.note);
        return;
    }
    assert!(info.name.contains("weights in f16"), "{}", info.name);
    println!("{}: {:?}", info.name, info.self_check);
    halves_agree(&mut session, &host);
}

/// Networks and convolutions by weights of 16 bits.
fn halves_agree(session: &mut Session, host: &NativeHost) {
    for case in CASES {
        let Some(requests) = loaded(case, session, host) else {
            continue;
        };
        for (run, reference) in &requests {
            let tensors = ask(session, host, std::slice::from_ref(run)).remove(0);
            let mut found = worst_error(&tensors, reference);
            found.retain(|(name, _)| name != "gradient");
            for (name, error) in &found {
                println!("f16      {:32} {name:28} {error:.2e}", case.weights);
                assert!(*error < HALF, "{} {name}: {error:e}", case.weights);
            }
            if reference.contains_key("gradient") {
                let cosine = cosine_of("gradient", &tensors, reference);
                println!("f16      {:32} gradient, cosine {cosine}", case.weights);
                assert!(cosine > HALF_GRADIENT, "{}: {cosine}", case.weights);
            }
        }
    }
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let [mut taps, mut tiles] = [0.0_f32; 2];
    for number in 0..SHAPES {
        let (side, error) = half_error(&device, number as u64);
        match side {
            3 => tiles = tiles.max(error),
            _ => taps = taps.max(error),
        }
    }
    println!("f16 on {SHAPES} shapes: sums over taps {taps:e} apart, others {tiles:e}");
    assert!(taps < OF_TAPS && tiles < OF_TILES, "{taps:e}, {tiles:e}");
    // Which of its neighbours a weight becomes is the driver's choice.
    let rounded = products_of(&device, [vec![BETWEEN], vec![1.0]], [1; 3], [1; 3], [1, 0]);
    assert_ne!(rounded[0], [BETWEEN]);
}

/// The side of a convolution's kernel, and the largest error of its values and gradients beside the CPU's,
/// on a shape drawn at random. Weights are numbers of 16 bits, so that none is rounded but at the points of
/// tiles.
fn half_error(device: &Device, number: u64) -> (usize, f32) {
    let mut rng = Rng::stream(number, "halves");
    let mut among = |least: usize, most: usize| least + rng.below(most - least + 1);
    let (from, to, side) = (among(1, 40), among(2, 70), [1, 2, 3, 3, 5, 7][among(0, 5)]);
    let steps = [among(1, 3), among(0, side / 2)];
    let size = [among(1, 3), among(side, 21), among(side, 21)];
    let mut draw = |count: usize| {
        let mut values = vec![0.0_f32; count];
        rng.fill_normal(&mut values);
        values
    };
    let weight = draw(to * from * side * side);
    let weight: Vec<f32> = weight.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
    let x = draw(from * size.iter().product::<usize>());
    let on = |device: &Device| {
        let shape = [to, from, side];
        let values = [weight.clone(), x.clone()];
        products_of(device, values, shape, size, steps)
    };
    let (ours, theirs) = (on(device), on(&Device::flex()));
    let errors = ours.iter().zip(&theirs).map(|(a, b)| relative(a, b));
    (side, errors.fold(0.0, f32::max))
}

/// A convolution's values, and the gradients with respect to input and weights for random ones of the values.
/// `shape` is `[to, from, side]`, `size` `[images, height, width]`, `steps` stride and padding.
fn products_of(
    device: &Device,
    [weight, x]: [Vec<f32>; 2],
    [to, from, side]: [usize; 3],
    [images, height, width]: [usize; 3],
    [stride, padding]: [usize; 2],
) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let tensor = |values: Vec<f32>, shape: [usize; 4]| {
        Tensor::<4>::from_data(TensorData::new(values, shape), &device).require_grad()
    };
    let weight = tensor(weight, [to, from, side, side]);
    let x = tensor(x, [images, from, height, width]);
    let y = convolution(x.clone(), weight.clone(), stride, padding);
    let mut upstream = vec![0.0; y.dims().iter().product()];
    Rng::stream(0, "upstream").fill_normal(&mut upstream);
    let upstream = Tensor::<4>::from_data(TensorData::new(upstream, y.dims()), &device);
    let gradients = (y.clone() * upstream).sum().backward();
    let of = |input: &Tensor<4>| input.grad(&gradients).expect("it was asked for");
    [y.inner(), of(&x), of(&weight)].map(|t| t.into_data().try_to_vec().expect("32 bits a number"))
}
