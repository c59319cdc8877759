//! Alignment: its losses and their gradients against the reference implementations, its trainer on
//! small cases whose outcome is known.

mod common;

use burn::module::{Module, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use common::arrays::{Reference, all_close, close};
use ventral::align::aligner::{Aligner, Evaluation};
use ventral::align::features::features;
use ventral::align::freezing::{stage_of, stages, unfreeze};
use ventral::align::head::with_new_head;
use ventral::align::loss::cka::cka;
use ventral::align::loss::harmonizer::harmonize;
use ventral::align::loss::weights::Form;
use ventral::align::loss::{Input, distillation, harmonizer, similarity};
use ventral::align::plan::{Control, Plan, PlanError};
use ventral::align::stimuli::{Split, Stimuli, population, targets};
use ventral::compute::device::Devices;
use ventral::compute::kernel;
use ventral::image::dataset::LabelledSet;
use ventral::measure::similarity::inference::Gain;
use ventral::model::config::ModelConfig;
use ventral::model::init::initialise;
use ventral::model::load::Loaded;
use ventral::model::network::Network;
use ventral::model::probe::CancelToken;
use ventral::model::save;
use ventral::rng::Rng;
use ventral::train::optimiser::{Optimiser, OptimiserConfig, OptimiserKind};

/// Array `name` of the reference.
fn array<const D: usize>(reference: &mut Reference, name: &str, shape: [usize; D]) -> Tensor<D> {
    let values = reference.array(name).data.to_f32();
    Tensor::from_data(TensorData::new(values, shape), &training())
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

#[test]
fn cka_losses_and_their_gradients_are_the_references() {
    let mut reference = Reference::open("metrics");
    let targets: Tensor<2> = array(&mut reference, "bt_Y", [40, 30]);
    // The reference's names for them.
    for (form, number) in [
        (Form::Distance, "CKA"),
        (Form::LogDistance, "logCKA"),
        (Form::NegativeLog, "logCKA0"),
    ] {
        let x: Tensor<4> = array(&mut reference, "bt_X", [40, 8, 5, 5]).require_grad();
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
    let mut reference = Reference::open("harmonizer");
    for (case, side) in [("even32", 32), ("odd33", 33)] {
        let named = |what: &str| format!("{case}/{what}");
        let shape = [3, 1, side, side];
        let map: Tensor<4> = array(&mut reference, &named("saliency"), shape).require_grad();
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

        let human = array(&mut reference, &named("true_heatmap"), shape);
        let told = array(&mut reference, &named("tokens"), [3]);
        let loss = harmonizer::loss(map.clone(), human, told);
        let theirs = reference.number(&format!("/{case}/harmonization_loss"));
        close(scalar(loss.clone()), theirs, 1e-5);
        let ours = values(map.grad(&loss.backward()).unwrap());
        let theirs = reference.array(&named("grad_loss_wrt_saliency"));
        all_close(&ours, &theirs.data.to_f32(), 1e-5);
    }
}

/// The value and the numerical gradient of a loss of two tensors in the first.
fn check_gradient(x: &[f32], shape: [usize; 2], loss: impl Fn(Tensor<2>) -> Tensor<1>) {
    let at = |x: &[f32]| Tensor::<2>::from_data(TensorData::new(x.to_vec(), shape), &training());
    let leaf = at(x).require_grad();
    let ours = values(leaf.grad(&loss(leaf.clone()).backward()).unwrap());
    let theirs: Vec<f32> = (0..x.len())
        .map(|i| {
            let moved = |step: f32| {
                let mut x = x.to_vec();
                x[i] += step;
                scalar(loss(at(&x)))
            };
            ((moved(5e-3) - moved(-5e-3)) / 1e-2) as f32
        })
        .collect();
    all_close(&ours, &theirs, 5e-3);
}

fn normals(n: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; n];
    Rng::from_seed(seed).fill_normal(&mut values);
    values
}

#[test]
fn similarity_regularisation_is_the_papers_formula() {
    let (x, y) = (normals(5 * 7, 1), normals(5 * 4, 2));
    let tensor = |v: &[f32], p: usize| {
        Tensor::<2>::from_data(TensorData::new(v.to_vec(), [5, p]), &training())
    };
    let theirs = similarity::cosines(tensor(&y, 4));
    let loss = |x: Tensor<2>| similarity::loss(similarity::cosines(x), theirs.clone());
    // The formula, pair by pair in f64.
    let cosine = |v: &[f32], p: usize, i: usize, j: usize| {
        let row = |i: usize| v[i * p..(i + 1) * p].iter().map(|v| f64::from(*v));
        let dot = |i, j| row(i).zip(row(j)).map(|(a, b)| a * b).sum::<f64>();
        dot(i, j) / (dot(i, i) * dot(j, j)).sqrt()
    };
    let mut sum = 0.0;
    for (i, j) in (0..5).flat_map(|i| (0..5).map(move |j| (i, j))) {
        if i != j {
            let apart = cosine(&x, 7, i, j).atanh() - cosine(&y, 4, i, j).atanh();
            sum += (2.0 * apart).powi(2) / 20.0;
        }
    }
    close(scalar(loss(tensor(&x, 7))), sum, 1e-4 * sum);
    check_gradient(&x, [5, 7], loss);
    let own = similarity::cosines(tensor(&x, 7));
    close(scalar(similarity::loss(own.clone(), own)), 0.0, 1e-9);
}

#[test]
fn distillation_is_the_divergence_of_softened_answers() {
    let (x, y) = (normals(3 * 4, 3), normals(3 * 4, 4));
    let softened = |v: &[f32], row: usize| {
        let exps: Vec<f64> = v[row * 4..(row + 1) * 4]
            .iter()
            .map(|v| (f64::from(*v) / 2.5).exp())
            .collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(|e| e / sum).collect::<Vec<f64>>()
    };
    let mut divergence = 0.0;
    for row in 0..3 {
        let (q, p) = (softened(&x, row), softened(&y, row));
        divergence += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
    }
    let teacher = Tensor::<2>::from_data(TensorData::new(y, [3, 4]), &training());
    let loss = |x: Tensor<2>| distillation::distillation(x, teacher.clone(), 2.5);
    let student = Tensor::<2>::from_data(TensorData::new(x.clone(), [3, 4]), &training());
    close(scalar(loss(student)), 2.5 * 2.5 * divergence / 3.0, 1e-5);
    check_gradient(&x, [3, 4], loss);
    close(scalar(loss(teacher.clone())), 0.0, 1e-6);
}

fn config() -> ModelConfig {
    let text = r#"
        classes = 4
        [preprocessing]
        resize = 16
        crop = 16
        mean = [0.5, 0.5, 0.5]
        std = [0.25, 0.25, 0.25]
        [body.res-net]
        stem = { kernel = 3, stride = 1, pool = false }
        width = 6
        block = "basic"
        planes = [8, 12, 16, 16]
        layers = [1, 1, 0, 0]
    "#;
    toml::from_str(text).unwrap()
}

/// A small ResNet with weights of this seed.
fn model(seed: u64) -> Loaded {
    let network = initialise(&config(), seed, &Devices::cpu("", None).device);
    Loaded {
        name: "small".to_owned(),
        family: String::new(),
        config: config(),
        classes: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        weights: pollster::block_on(save::to_host(&network)).unwrap(),
        hash: String::new(),
        remarks: Vec::new(),
        milliseconds: 0.0,
    }
}

/// Images of four classes, each a grating of its own orientation in noise.
fn images(n: usize, seed: u64) -> LabelledSet {
    let mut rng = Rng::from_seed(seed);
    let mut set = LabelledSet {
        classes: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        size: 16,
        ..LabelledSet::default()
    };
    for i in 0..n {
        let class = i % 4;
        let (phase, colour) = (rng.uniform_f64() * 6.3, rng.uniform_f64());
        let angle = class as f64 * std::f64::consts::FRAC_PI_4;
        for (channel, y, x) in (0..3 * 256).map(|at| (at / 256, at / 16 % 16, at % 16)) {
            let along = x as f64 * angle.cos() + y as f64 * angle.sin();
            let wave = (along + phase + channel as f64 * colour).sin();
            let value = 128.0 + 70.0 * wave + 15.0 * rng.normal_f64();
            set.images.push(value.clamp(0.0, 255.0) as u8);
        }
        set.labels.push(class as u16);
    }
    set
}

/// Images with the answers of another network of the same kind.
fn stimuli(n: usize) -> Stimuli {
    let images = images(n, 1);
    let device = Devices::cpu("", None).device;
    let other = model(77).to_network(&device.clone().autodiff()).valid();
    let rows: Vec<usize> = (0..n).collect();
    let cancel = CancelToken::default();
    let answers = features(&other, &images, &rows, "layer1", &device, &cancel);
    let answers = pollster::block_on(answers).unwrap();
    // Few neuroids, each a place of a channel.
    let columns: Vec<usize> = (0..answers.columns).step_by(17).collect();
    let answers = answers.select_columns(&columns);
    Stimuli {
        images,
        labelled: true,
        responses: answers.values.iter().map(|v| *v as f32).collect(),
        neuroids: answers.columns,
        heat_maps: Vec::new(),
    }
}

fn plan(losses: &str) -> Plan {
    let text = format!(
        r#"
        name = "test"
        model = "small"
        tap = "layer2"
        target = {{ kind = "model", model = "other", tap = "layer1" }}
        steps = 40
        batch = 24
        [schedule]
        peak = 0.05
        warm_up = 0.1
        [losses]
        {losses}
    "#
    );
    Plan::parse(&text).unwrap()
}

fn aligner(plan: Plan) -> Aligner {
    let device = Devices::cpu("", None).device;
    let made = Aligner::new(
        plan,
        &model(5),
        stimuli(80),
        images(40, 2),
        device,
        CancelToken::default(),
    );
    made.unwrap()
}

/// Steps to `until`; the last terms.
fn go(aligner: &mut Aligner, until: usize) -> Vec<f32> {
    let mut losses = Vec::new();
    while aligner.steps_done() < until {
        losses.push(pollster::block_on(aligner.step()).unwrap().loss);
    }
    losses
}

fn evaluate(aligner: &mut Aligner) -> Evaluation {
    pollster::block_on(aligner.evaluate()).unwrap()
}

fn weights(network: &Network) -> Vec<f32> {
    let host = pollster::block_on(save::to_host(network)).unwrap();
    host.into_values().flat_map(|t| t.values).collect()
}

/// A smooth network: two convolutions, each through a hyperbolic tangent, and a mean.
#[derive(Clone)]
struct Smooth {
    first: Tensor<4>,
    second: Tensor<4>,
}

impl Smooth {
    const SHAPES: [[usize; 4]; 2] = [[6, 3, 3, 3], [4, 6, 3, 3]];

    fn new(weights: [&[f32]; 2]) -> Self {
        let [first, second] = [0, 1].map(|i| {
            let data = TensorData::new(weights[i].to_vec(), Self::SHAPES[i]);
            Tensor::<4>::from_data(data, &training()).require_grad()
        });
        Self { first, second }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = kernel::convolution(x, self.first.clone(), 1, 1).tanh();
        let x = kernel::convolution(x, self.second.clone(), 2, 1).tanh();
        let [n, c, h, w] = x.dims();
        x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]) * 10.0
    }
}

/// The harmonizer's gradient in the weights, along random ways through all of them, against the
/// difference of its value a step this way and that; that value is of a derivative itself.
#[test]
fn the_harmonizers_second_derivative_is_that_of_differences() {
    let device = Devices::cpu("", None).device;
    let images = images(4, 9);
    let side = images.size;
    let mut heat_maps = vec![0.0; 4 * side * side];
    // The fourth image has no heat map.
    for (at, v) in heat_maps[..3 * side * side].iter_mut().enumerate() {
        let (y, x) = ((at / side % side) as f32, (at % side) as f32);
        *v = (-((y - 6.0).powi(2) + (x - 9.0).powi(2)) / 20.0).exp();
    }
    let input = Input {
        pixels: images
            .images
            .iter()
            .map(|b| f32::from(*b) / 255.0)
            .collect(),
        labels: images.labels.clone(),
        heat_maps,
        side,
    };
    let weights = [normals(6 * 27, 1), normals(4 * 54, 2)];
    let weights = weights.map(|w| w.iter().map(|v| 0.4 * v).collect::<Vec<f32>>());
    let net = Smooth::new([&weights[0], &weights[1]]);
    let pass = |x| net.forward(x);
    let loss = pollster::block_on(harmonize(pass, pass, &input, &device)).unwrap();
    let saliency = |net: &Smooth| {
        let pixels = TensorData::new(input.pixels.clone(), [4, 3, side, side]);
        let x = Tensor::<4>::from_data(pixels, &training()).require_grad();
        let right: Vec<f32> = (0..16).map(|at| f32::from(u8::from(at % 5 == 0))).collect();
        let right = Tensor::<2>::from_data(TensorData::new(right, [4, 4]), &training());
        let logits = (net.forward(x.clone()) * right).sum();
        Tensor::from_inner(harmonizer::saliency(x.grad(&logits.backward()).unwrap()))
    };
    // The network's maximum is a constant of the loss.
    let largest = harmonizer::maximum(&harmonizer::standardise(saliency(&net)));
    let value = |net: &Smooth| {
        let human = TensorData::new(input.heat_maps.clone(), [4, 1, side, side]);
        let human = Tensor::from_data(human, &training());
        let told = TensorData::new(vec![1.0_f32, 1.0, 1.0, 0.0], [4]);
        let told = Tensor::from_data(told, &training());
        scalar(harmonizer::loss_at(
            saliency(net),
            human,
            told,
            largest.clone(),
        ))
    };
    close(scalar(loss.clone()), value(&net), 1e-6);
    let gradients = loss.backward();
    let gradients = [&net.first, &net.second].map(|w| values(w.grad(&gradients).unwrap()));
    let (mut apart, mut size) = (0.0, 0.0);
    for seed in 0..8 {
        let ways = [normals(6 * 27, 100 + seed), normals(4 * 54, 200 + seed)];
        let ours: f64 = (0..2)
            .flat_map(|i| gradients[i].iter().zip(&ways[i]))
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let moved = |step: f32| {
            let [first, second] = [0, 1].map(|i| {
                let pairs = weights[i].iter().zip(&ways[i]);
                pairs.map(|(w, d)| w + step * d).collect::<Vec<f32>>()
            });
            value(&Smooth::new([&first, &second]))
        };
        let theirs = (moved(1e-3) - moved(-1e-3)) / 2e-3;
        apart += (ours - theirs).powi(2);
        size += theirs.powi(2);
    }
    let error = (apart / size).sqrt();
    eprintln!("relative error of the harmonizer's gradient: {error:.2e}");
    assert!(error < 0.01, "{error}");
}

#[test]
fn alignment_raises_similarity_and_its_control_does_not() {
    let losses = "cross_entropy = 0.0\ncka = 1.0";
    let mut aligned = aligner(plan(losses));
    let before = evaluate(&mut aligned);
    let falls = go(&mut aligned, 40);
    let after = evaluate(&mut aligned);
    assert!(falls[39] < falls[0], "{falls:?}");
    assert!(
        after.training > before.training + 0.05,
        "{before:?} {after:?}"
    );
    assert!(
        after.held_out_stimuli > before.held_out_stimuli + 0.03,
        "{before:?} {after:?}"
    );
    let mut shuffled = aligner(plan(losses).with_control(Control::Shuffled));
    go(&mut shuffled, 40);
    let control = evaluate(&mut shuffled);
    assert!(
        after.held_out_stimuli > control.held_out_stimuli + 0.05,
        "{after:?} {control:?}"
    );
    let [ours, responses] =
        pollster::block_on(aligned.held_out_kernels(&aligned.network())).unwrap();
    let [theirs, _] = pollster::block_on(shuffled.held_out_kernels(&shuffled.network())).unwrap();
    let gain = Gain::between(&ours, &theirs, &responses).unwrap();
    assert!(
        gain.gain > 0.05 && gain.low < gain.gain && gain.gain < gain.high,
        "{gain:?}"
    );
}

#[test]
fn an_interrupted_alignment_ends_as_an_uninterrupted_one() {
    let losses = "cka = 1.0\nsimilarity = 0.2\ndistillation = 0.5\nstay = 1e-3";
    let mut whole = aligner(plan(losses));
    go(&mut whole, 12);
    evaluate(&mut whole);
    go(&mut whole, 20);
    let mut first = aligner(plan(losses));
    go(&mut first, 12);
    evaluate(&mut first);
    let (kept, files) = pollster::block_on(first.keep()).unwrap();
    let kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    let mut second = aligner(plan(losses));
    second.resume(&kept, files).unwrap();
    go(&mut second, 20);
    all_close(
        &weights(&second.network()),
        &weights(&whole.network()),
        1e-6,
    );
    assert_eq!(second.best().0, whole.best().0);
    all_close(&weights(&second.best().1), &weights(&whole.best().1), 0.0);

    let mut other = aligner(plan("cka = 2.0"));
    let (kept, files) = pollster::block_on(first.keep()).unwrap();
    assert!(other.resume(&kept, files).is_err());
}

/// Burn's own optimiser for a plan's settings.
fn burns_optimiser(config: &OptimiserConfig) -> ModuleOptimizer {
    let weights = ParamGroup::from_predicate("weight");
    match config.kind {
        OptimiserKind::Sgd => {
            let momentum = MomentumConfig::new()
                .with_momentum(config.momentum())
                .with_dampening(0.0)
                .with_nesterov(true);
            let plain = SgdConfig::new().with_momentum(Some(momentum));
            let decay = WeightDecayConfig::new(config.weight_decay);
            let decayed = plain.clone().with_weight_decay(Some(decay));
            ModuleOptimizer::from(plain.build()).with_group(weights, decayed.build(), None)
        }
        OptimiserKind::Adamw => {
            let [first, second] = config.betas();
            let plain = AdamWConfig::new()
                .with_beta_1(first)
                .with_beta_2(second)
                .with_epsilon(1e-8)
                .with_weight_decay(0.0);
            let decayed = plain.clone().with_weight_decay(config.weight_decay);
            ModuleOptimizer::from(plain.build()).with_group(weights, decayed.build(), None)
        }
    }
}

/// Three steps by our own rules and by Burn's, with and without decay, on the gradients of a network.
#[test]
fn descent_steps_as_burns_optimisers_do() {
    let device = training();
    let x = TensorData::new(normals(4 * 3 * 16 * 16, 5), [4, 3, 16, 16]);
    let x: Tensor<4> = Tensor::from_data(x, &device);
    for kind in [OptimiserKind::Sgd, OptimiserKind::Adamw] {
        let config = OptimiserConfig {
            kind,
            momentum: None,
            betas: None,
            weight_decay: 0.1,
        };
        let start = unfreeze(model(3).to_network(&device), &[]).unwrap();
        let (mut ours, mut theirs) = (start.clone(), start.clone());
        let mut descent = Optimiser::new(&config);
        let mut burns = burns_optimiser(&config);
        for step in 0..3 {
            let gradients = |network: &Network| {
                let loss = network.forward(x.clone(), None).powf_scalar(2.0).mean();
                GradientsParams::from_grads(loss.backward(), network)
            };
            let (a, b) = (gradients(&ours), gradients(&theirs));
            ours = descent.step(0.01, ours, a);
            theirs = burns.step(0.01, theirs, b);
            // What is kept goes on as if it had never been put down.
            let kept = pollster::block_on(descent.save()).unwrap();
            let inner = Devices::cpu("", None).device;
            descent = Optimiser::restore(&config, &kept, &inner).expect("it is whole");
            assert!(Optimiser::restore(&config, &kept[..kept.len() - 1], &inner).is_none());
            let moved = weights(&ours);
            all_close(&moved, &weights(&theirs), 1e-6);
            assert_eq!(moved, weights(&theirs), "bit by bit");
            assert_ne!(moved, weights(&start), "{kind:?}, step {step}");
        }
    }
}

#[test]
fn a_new_head_is_drawn_and_the_rest_stays() {
    let old = model(3);
    let classes: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let new = pollster::block_on(with_new_head(&old, classes.clone(), 1)).unwrap();
    assert_eq!((new.config.classes, &new.classes), (3, &classes));
    for (name, tensor) in &new.weights {
        let same = old.weights[name].values == tensor.values;
        assert_eq!(same, stage_of(name) != "decoder", "{name}");
    }
    // It is a whole model: it runs.
    let network = new.to_network(&Devices::cpu("", None).device);
    let x = Tensor::<4>::zeros([2, 3, 16, 16], &Devices::cpu("", None).device);
    assert_eq!(network.forward(x, None).dims(), [2, 3]);
    let one = pollster::block_on(with_new_head(&old, vec!["a".to_owned()], 1));
    assert!(
        one.unwrap_err()
            .to_string()
            .contains("at least two classes")
    );
}

#[test]
fn what_is_frozen_stays_and_undo_brings_everything_back() {
    let mut plan = plan("cka = 1.0");
    plan.frozen = vec!["conv1".into(), "layer1".into()];
    let mut aligner = aligner(plan);
    let before = pollster::block_on(save::to_host(&aligner.network())).unwrap();
    go(&mut aligner, 3);
    let after = pollster::block_on(save::to_host(&aligner.network())).unwrap();
    for (name, tensor) in &after {
        let same = tensor.values == before[name].values;
        let stays = ["conv1", "layer1"].contains(&stage_of(name)) || name.contains(".running_");
        assert_eq!(same, stays, "{name}");
    }
    aligner.undo().unwrap();
    assert_eq!(aligner.steps_done(), 0);
    let undone = pollster::block_on(save::to_host(&aligner.network())).unwrap();
    assert!(
        undone
            .iter()
            .all(|(name, t)| t.values == before[name].values)
    );
    go(&mut aligner, 3);
    let again = pollster::block_on(save::to_host(&aligner.network())).unwrap();
    assert!(again.iter().all(|(name, t)| t.values == after[name].values));
}

#[test]
fn a_batch_in_parts_goes_the_same_way() {
    // Cross-entropy is a mean over images, however they are passed.
    let mut plan = plan("cka = 0.0\ncross_entropy = 1.0");
    let mut whole = aligner(plan.clone());
    plan.parts = 3;
    let mut parts = aligner(plan);
    go(&mut whole, 2);
    go(&mut parts, 2);
    all_close(&weights(&parts.network()), &weights(&whole.network()), 1e-4);
    assert!(parts.split_further());
    assert!(!parts.split_further());
}

#[test]
fn controls_change_the_target_of_training_and_nothing_else() {
    let stimuli = stimuli(40);
    let split = Split::draw(&stimuli, &plan("cka = 1.0").validation, 3);
    assert_eq!((split.training.len(), split.held_out.len()), (32, 8));
    let counts = |rows: &[usize]| {
        let mut counts = [0; 4];
        rows.iter()
            .for_each(|i| counts[usize::from(stimuli.images.labels[*i])] += 1);
        counts
    };
    assert_eq!(counts(&split.held_out), [2; 4]);
    let of = |control| targets(&stimuli, &split, control, 3);
    let sorted = |mut v: Vec<f32>| {
        v.sort_by(f32::total_cmp);
        v
    };
    let plain = of(Control::None);
    assert_ne!(of(Control::Shuffled), plain);
    assert_eq!(sorted(of(Control::Shuffled)), sorted(plain.clone()));
    assert_eq!(of(Control::Unaligned), plain);
    let gaussian = of(Control::Gaussian);
    let mean = gaussian.iter().sum::<f32>() / gaussian.len() as f32;
    assert!(gaussian.len() == plain.len() && mean.abs() < 0.1, "{mean}");
}

#[test]
fn a_synthetic_population_is_as_noisy_as_it_says() {
    let n = 400;
    let counts = population(&normals(n * 10, 8), n, 12, 6, 5.0, 1);
    assert_eq!(counts.len(), 6 * n * 12);
    let mean = counts.iter().map(|v| f64::from(*v)).sum::<f64>() / counts.len() as f64;
    close(mean, 5.0, 0.3);
    // Over repetitions of one stimulus and neuroid the variance of a count is its mean.
    let (mut means, mut variances) = (0.0, 0.0);
    for at in 0..n * 12 {
        let of: Vec<f64> = (0..6).map(|r| f64::from(counts[r * n * 12 + at])).collect();
        let mean = of.iter().sum::<f64>() / 6.0;
        means += mean;
        variances += of.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 5.0;
    }
    close(variances / means, 1.0, 0.05);
}

#[test]
fn stages_are_found_in_every_family_by_their_published_names() {
    for (name, stage) in [
        ("V1.conv1.weight", "V1"),
        ("model.V4.norm2_3.bias", "V4"),
        ("vone_block.simple_conv_q0.weight", "vone_block"),
        ("bottleneck.weight", "bottleneck"),
        ("bn1.weight", "conv1"),
        ("model.layer3.0.conv2.weight", "layer3"),
        ("fc.bias", "decoder"),
        ("decoder.linear.weight", "decoder"),
    ] {
        assert_eq!(stage_of(name), stage, "{name}");
    }
    let network = model(1).to_network(&training());
    assert_eq!(stages(&network), ["conv1", "layer1", "layer2", "decoder"]);
    let said = unfreeze(network, &["V4".to_owned()]).unwrap_err();
    let said = said.to_string();
    assert!(said.contains("conv1, layer1, layer2, decoder"), "{said}");
}

#[test]
fn plans_out_of_range_are_refused_by_the_key_at_fault() {
    let good = plan("cka = 1.0");
    for (key, change) in [
        ("steps", (|p: &mut Plan| p.steps = 0) as fn(&mut Plan)),
        ("batch", |p| p.batch = 3),
        ("losses.cka", |p| p.losses.cka = -1.0),
        ("losses.temperature", |p| p.losses.temperature = 0.0),
        ("schedule.peak", |p| p.schedule.peak = f64::NAN),
        ("validation.stimuli", |p| p.validation.stimuli = 1.0),
        ("batch / parts", |p| p.parts = 10),
    ] {
        let mut plan = good.clone();
        change(&mut plan);
        match plan.check() {
            Err(PlanError::Range { key: said, .. }) => assert_eq!(said, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(Plan::parse("name = 1").is_err());
    let text = toml::to_string(&good).unwrap() + "\nnew_key = 1";
    assert!(Plan::parse(&text).is_err());
    let json = serde_json::to_string(&good).unwrap();
    assert_eq!(Plan::parse(&json).unwrap(), good);
    let mut none = good;
    (none.losses.cka, none.losses.cross_entropy) = (0.0, 0.0);
    assert_eq!(none.check(), Err(PlanError::NoLoss));
}
