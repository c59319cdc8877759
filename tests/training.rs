//! The training pass: its gradient against finite differences, its state across interruptions.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ventral::align::adversary::Adversary;
use ventral::align::average::Average;
use ventral::align::optimise::{clip, optimiser};
use ventral::align::recipe::{
    AdversarialConfig, AugmentationConfig, CorruptedConfig, CropsConfig, DataConfig, DataSet,
    ExamplesConfig, Keep, OptimiserConfig, OptimiserKind, Recipe, ScheduleConfig, ScheduleKind,
    Statistics,
};
use ventral::align::trainer::{EpochMetrics, Run, TrainError, TrainEvent, cross_entropy, train};
use ventral::image::dataset::LabelledSet;
use ventral::model::config::{ModelConfig, Preprocessing};
use ventral::model::family::BodyConfig;
use ventral::model::family::cornet_s::CornetSConfig;
use ventral::model::family::stem::StemConfig;
use ventral::model::family::vone::{GaborConfig, NoiseConfig, VOneConfig};
use ventral::model::init::initialise;
use ventral::model::layers::Linear;
use ventral::model::load::HostTensor;
use ventral::model::network::Network;
use ventral::model::save;
use ventral::perturb::attack::{Loss, Norm};
use ventral::rng::Rng;

fn to_host(network: &Network) -> BTreeMap<String, HostTensor> {
    pollster::block_on(save::to_host(network)).unwrap()
}

fn config() -> ModelConfig {
    ModelConfig {
        body: BodyConfig::CornetS(CornetSConfig {
            stem: Some(StemConfig {
                kernel: 3,
                stride: 1,
                pool: true,
            }),
            widths: [6, 8, 8, 12],
            times: [2, 3, 2],
            scale: 2,
        }),
        front: None,
        classes: 3,
        preprocessing: Preprocessing {
            resize: 16,
            crop: 16,
            mean: [0.5; 3],
            std: [0.25; 3],
        },
    }
}

/// Walks over the parameters in their order; calls `f` with the one numbered `target`, `None` on
/// the others' behalf. Running statistics are numbered too.
struct Pick<F> {
    target: usize,
    next: usize,
    f: F,
}

/// Moves parameter `target` by `step` along a random direction.
fn nudge(network: Network, target: usize, step: f32) -> Network {
    network.map(&mut Pick {
        target,
        next: 0,
        f: step,
    })
}

fn direction(target: usize, length: usize) -> Vec<f32> {
    let mut direction = vec![0.0_f32; length];
    Rng::from_seed(target as u64).fill_normal(&mut direction);
    direction
}

impl ModuleMapper for Pick<f32> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let here = self.next;
        self.next += 1;
        if here != self.target {
            return param;
        }
        let shape = param.lazy_shape();
        let direction = direction(here, shape.num_elements());
        let step = self.f;
        param.map(|tensor| {
            let device = tensor.device();
            let direction = Tensor::<D>::from_data(TensorData::new(direction, shape), &device);
            (tensor.detach() + direction * step).detach().require_grad()
        })
    }
}

/// The gradient of every parameter along its direction; `None` for running statistics.
#[derive(Default)]
struct Dots(Vec<Option<f64>>);

struct Collect<'a> {
    gradients: &'a burn::tensor::Gradients,
    dots: Dots,
}

impl ModuleMapper for Collect<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let direction = direction(self.dots.0.len(), param.lazy_shape().num_elements());
        let dot = param.val().grad(self.gradients).map(|gradient| {
            let values: Vec<f32> = gradient.into_data().try_to_vec().expect("f32");
            let products = values.iter().zip(&direction).map(|(g, d)| f64::from(g * d));
            products.sum::<f64>()
        });
        self.dots.0.push(dot);
        param
    }
}

fn loss(network: &Network, pixels: &Tensor<4>, labels: &[u16]) -> Tensor<1> {
    cross_entropy(network.forward(pixels.clone(), None), labels, 0.1)
}

fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}

/// Every parameter's gradient along a direction, against the loss at both ends of a short step.
#[test]
fn the_training_gradient_is_the_slope_of_the_loss() {
    let device = Device::flex().autodiff();
    let mut rng = Rng::from_seed(3);
    let pixels: Vec<f32> = (0..8 * 3 * 16 * 16).map(|_| rng.uniform_f32()).collect();
    let pixels = Tensor::<4>::from_data(TensorData::new(pixels, [8, 3, 16, 16]), &device);
    let labels: Vec<u16> = (0..8).map(|i| i % 3).collect();
    // A fresh copy each time: a clone would share its running statistics.
    let fresh = || initialise(&config(), 1, &device);
    let network = fresh();
    let gradients = loss(&network, &pixels, &labels).backward();
    let mut collect = Collect {
        gradients: &gradients,
        dots: Dots::default(),
    };
    network.map(&mut collect);
    let names = fresh().config().tensors();
    let (mut compared, mut apart, mut size) = (0, 0.0, 0.0);
    for (target, dot) in collect.dots.0.iter().enumerate() {
        let name = &names[target].name;
        let Some(dot) = dot else {
            assert!(names[target].is_buffer(), "{name} has no gradient");
            continue;
        };
        let at = |step: f32| scalar(loss(&nudge(fresh(), target, step), &pixels, &labels));
        // Short: with ReLUs and max-pools the loss is only piecewise smooth.
        let step = 3e-5;
        let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
        println!("{name:28} slope {slope:10.5}  gradient {dot:10.5}");
        compared += 1;
        apart += (slope - dot).abs();
        size += dot.abs();
    }
    assert!(compared > 20);
    assert!(apart < 0.05 * size, "{apart} of {size}");
}

/// Three classes of flat colours with noise: learnt in a few steps.
fn colours(images: usize) -> LabelledSet {
    colours_of(images, 16)
}

fn colours_of(images: usize, size: usize) -> LabelledSet {
    let mut rng = Rng::from_seed(5);
    let mut set = LabelledSet {
        classes: vec!["red".into(), "green".into(), "blue".into()],
        size,
        ..LabelledSet::default()
    };
    for i in 0..images {
        let label = i % 3;
        for plane in 0..3 {
            let level = if plane == label { 150.0 } else { 90.0 };
            let noise = (0..size * size).map(|_| (level + 40.0 * rng.normal_f32()) as u8);
            set.images.extend(noise);
        }
        set.labels.push(label as u16);
    }
    set
}

fn recipe(epochs: usize) -> Recipe {
    Recipe {
        name: "test".into(),
        title: "Test".into(),
        seed: 4,
        data: DataConfig {
            set: DataSet::Folder,
            classes: Vec::new(),
            side: None,
        },
        epochs,
        batch: 16,
        shards: 2,
        optimiser: OptimiserConfig {
            kind: OptimiserKind::Sgd,
            momentum: Some(0.9),
            betas: None,
            weight_decay: 1e-4,
        },
        schedule: ScheduleConfig {
            kind: ScheduleKind::OneCycle,
            peak: 0.05,
            warm_up: 0.2,
            milestones: Vec::new(),
            every: None,
            factor: None,
        },
        augmentation: AugmentationConfig {
            flip: true,
            shift: 1,
            crops: Some(CropsConfig {
                side: 12,
                until: 0.5,
            }),
            ..AugmentationConfig::default()
        },
        label_smoothing: 0.05,
        clip: None,
        start: None,
        ema: None,
        keep: Keep::Last,
        examples: ExamplesConfig::default(),
        adversarial: None,
        corrupted: None,
        stylised: None,
        model: config(),
    }
}

#[test]
fn an_interrupted_run_ends_in_the_same_weights() {
    let device = Device::flex();
    let (training, test) = (colours(480), colours(96));
    let whole = tempfile::tempdir().expect("a folder");
    let (network, metrics) =
        train(&recipe(3), &training, &test, whole.path(), &device, |_| {}).expect("it trains");
    assert_eq!(metrics.len(), 3);
    let accuracy = metrics[2].test_accuracy;
    assert!(accuracy > 0.8, "three flat colours are easy: {accuracy}");

    // The same run, stopped after the first epoch by taking what it keeps away from it.
    let parts = tempfile::tempdir().expect("a folder");
    let mut epochs = 0;
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train(
            &recipe(3),
            &training,
            &test,
            parts.path(),
            &device,
            |event| {
                if matches!(event, TrainEvent::Epoch(_)) {
                    epochs += 1;
                }
                assert!(epochs < 1, "the power fails here");
            },
        )
    }));
    assert!(stopped.is_err());
    let (resumed, metrics) =
        train(&recipe(3), &training, &test, parts.path(), &device, |_| {}).expect("it resumes");
    assert_eq!(metrics.len(), 3);
    assert_same(&network, &resumed);
}

#[test]
fn a_run_may_start_from_the_weights_of_another() {
    let device = Device::flex();
    let (training, test) = (colours(480), colours(96));
    let folder = || tempfile::tempdir().expect("a folder");
    let (first, second, third) = (folder(), folder(), folder());
    let go = |recipe: &Recipe, folder: &tempfile::TempDir| {
        train(recipe, &training, &test, folder.path(), &device, |_| {})
    };
    let (_, learnt) = go(&recipe(3), &first).expect("it trains");
    // So slow that it stays what it starts as.
    let mut still = recipe(1);
    still.schedule.peak = 1e-9;
    let (_, fresh) = go(&still, &third).expect("it trains");
    still.start = Some(first.path().join("weights-2.bpk"));
    let (_, started) = go(&still, &second).expect("it starts");
    let (learnt, fresh, started) = (
        learnt[2].test_accuracy,
        fresh[0].test_accuracy,
        started[0].test_accuracy,
    );
    assert!((started - learnt).abs() < 0.05, "{started} after {learnt}");
    assert!(fresh < learnt - 0.2, "{fresh} without");
    still.start = Some("nowhere.bpk".into());
    let missing = go(&still, &folder()).map(|_| ()).expect_err("no such file");
    assert!(missing.to_string().contains("nowhere.bpk"), "{missing}");
}

/// To the bit.
fn assert_same(a: &Network, b: &Network) {
    let (a, b) = (to_host(a), to_host(b));
    for (name, tensor) in &a {
        assert_eq!(tensor.values, b[name].values, "{name}");
    }
}

/// Everything a run can do at once, on a network with a noisy front-end.
fn full_recipe(epochs: usize) -> Recipe {
    let mut recipe = recipe(epochs);
    recipe.model.preprocessing.crop = 32;
    recipe.model.front = Some(front());
    if let BodyConfig::CornetS(body) = &mut recipe.model.body {
        body.stem = None;
    }
    recipe.augmentation = AugmentationConfig {
        crops: Some(CropsConfig {
            side: 24,
            until: 0.5,
        }),
        erase: 4,
        mixup: Some(0.4),
        cutmix: Some(1.0),
        ..recipe.augmentation
    };
    recipe.optimiser = OptimiserConfig {
        kind: OptimiserKind::Adamw,
        momentum: None,
        betas: None,
        weight_decay: 0.05,
    };
    recipe.schedule.peak = 0.005;
    recipe.clip = Some(1.0);
    recipe.ema = Some(0.9);
    recipe.examples = ExamplesConfig {
        clean: 0.4,
        adversarial: 0.2,
        corrupted: 0.2,
        stylised: 0.2,
    };
    recipe.adversarial = Some(adversarial(Statistics::Batch));
    recipe.corrupted = Some(CorruptedConfig::default());
    recipe
}

fn front() -> VOneConfig {
    VOneConfig {
        image_size: 32,
        visual_degrees: 2.0,
        kernel: 5,
        stride: 4,
        simple_channels: 4,
        complex_channels: 4,
        k_exc: 25.0,
        noise: NoiseConfig::default(),
        gabor: GaborConfig::default(),
        bottleneck: 6,
    }
}

fn adversarial(statistics: Statistics) -> AdversarialConfig {
    AdversarialConfig {
        norm: Norm::Linf,
        eps: 0.03,
        steps: 2,
        rel_step: 0.75,
        random_start: true,
        loss: Loss::CrossEntropy,
        statistics,
    }
}

type Outcome = Result<(Network, Vec<EpochMetrics>), TrainError>;

fn run(recipe: &Recipe, folder: &Path, from_epoch: Option<usize>) -> Outcome {
    let set = colours_of(80, recipe.side());
    let run = Run {
        recipe,
        training: &set,
        test: &set,
        folder,
        device: &Device::flex(),
        from_epoch,
    };
    run.go(|_| {})
}

/// What is drawn at random, and what is kept, when everything is on: the run is taken up again
/// from every epoch it has kept, and by a recipe that was cut off after an epoch.
#[test]
fn a_run_with_everything_on_goes_on_from_any_epoch() {
    let recipe = Recipe {
        keep: Keep::All,
        ..full_recipe(3)
    };
    recipe.check().expect("it is possible");
    let folder = tempfile::tempdir().expect("a folder");
    let (network, metrics) = run(&recipe, folder.path(), None).expect("it trains");
    let log = || std::fs::read_to_string(folder.path().join("metrics.jsonl")).expect("a log");
    let losses = |metrics: &[EpochMetrics]| -> Vec<_> {
        let values = metrics.iter().map(|m| (m.train_loss, m.test_accuracy));
        values.collect()
    };
    for from in [1, 2, 0] {
        let (again, same) = run(&recipe, folder.path(), Some(from)).expect("it goes on");
        assert_same(&network, &again);
        assert_eq!(losses(&metrics), losses(&same), "from epoch {from}");
        assert_eq!(log().lines().count(), 3);
    }
    // The average is what is tested and handed out, and is not the last weights.
    let average = folder.path().join("average-2.bpk");
    assert!(average.is_file());
    let plain = initialise(&recipe.model, recipe.seed, &Device::flex());
    let last = plain
        .clone()
        .try_load_file(folder.path().join("weights-2.bpk"));
    let kept = plain.try_load_file(average).expect("it loads");
    assert_same(&network, &kept);
    let name = "model.V2.conv1.weight";
    let last = to_host(&last.expect("it loads"));
    assert_ne!(last[name].values, to_host(&kept)[name].values);
    // Neither learning nor averaging has moved the filter bank.
    let bank = "vone_block.simple_conv_q0.weight";
    let fresh = to_host(&initialise(&recipe.model, 77, &Device::flex()));
    assert_eq!(fresh[bank].values, last[bank].values);
    assert_eq!(fresh[bank].values, to_host(&network)[bank].values);
    let plot = std::fs::read_to_string(folder.path().join("plot.svg")).expect("a plot");
    assert!(plot.contains("<svg") && plot.contains("Accuracy"));
    assert!(metrics[0].images_per_second > 0.0);
}

#[test]
fn a_run_says_which_epochs_it_has_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = Recipe {
        keep: Keep::Newest(2),
        ..recipe(4)
    };
    run(&recipe, folder.path(), None).expect("it trains");
    let refused = |from| match run(&recipe, folder.path(), Some(from)) {
        Err(TrainError::NotKept { epoch, kept }) => (epoch, kept),
        other => panic!("{:?}", other.map(|(_, metrics)| metrics)),
    };
    assert_eq!(refused(2), (2, vec![0, 3, 4]));
    assert_eq!(refused(9), (9, vec![0, 3, 4]));
    let (_, metrics) = run(&recipe, folder.path(), Some(3)).expect("it goes on");
    assert_eq!(metrics.len(), 4);
    // What is kept is no part of what the run is.
    let other = Recipe {
        keep: Keep::All,
        ..recipe
    };
    assert!(run(&other, folder.path(), None).is_ok());
}

/// Files of earlier versions have fewer keys.
#[test]
fn a_run_of_an_earlier_version_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(2);
    run(&recipe, folder.path(), None).expect("it trains");
    let path = folder.path().join("recipe.json");
    let mut old: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("it is there")).expect("JSON");
    let keys = old["schedule"].as_object_mut().expect("an object");
    assert!(keys.remove("kind").is_some());
    let keys = old["optimiser"].as_object_mut().expect("an object");
    assert!(keys.remove("kind").is_some());
    std::fs::write(&path, old.to_string()).expect("it is written");
    let path = folder.path().join("metrics.jsonl");
    let log = std::fs::read_to_string(&path).expect("it is there");
    let first = log.lines().next().expect("an epoch");
    let mut line: serde_json::Value = serde_json::from_str(first).expect("JSON");
    line.as_object_mut()
        .expect("an object")
        .remove("images_per_second");
    let second = log.lines().nth(1).expect("another epoch");
    std::fs::write(&path, format!("{line}\n{second}\n")).expect("it is written");
    let (_, metrics) = run(&recipe, folder.path(), None).expect("it is the same run");
    assert_eq!((metrics.len(), metrics[0].images_per_second), (2, 0.0));
}

#[test]
fn a_run_that_diverges_stops_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipe = recipe(2);
    recipe.schedule.peak = 1e30;
    let error = run(&recipe, folder.path(), None);
    assert!(matches!(error, Err(TrainError::Diverged { epoch: 0, .. })));
}

#[test]
fn a_set_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = |recipe: &Recipe| match run(recipe, folder.path(), None) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it trained"),
    };
    let mut classes = recipe(1);
    classes.model.classes = 4;
    assert!(message(&classes).contains("3 classes and the recipe's model has 4"));
    let large = Recipe {
        batch: 81,
        ..recipe(1)
    };
    assert!(message(&large).contains("80 images, fewer than one batch of 81"));
    let small = Recipe {
        examples: ExamplesConfig {
            clean: 0.5,
            corrupted: 0.5,
            ..ExamplesConfig::default()
        },
        ..recipe(1)
    };
    assert!(
        message(&small).contains("16 x 16 px"),
        "{}",
        message(&small)
    );
}

fn pixels(n: usize, side: usize) -> Vec<f32> {
    let mut rng = Rng::from_seed(8);
    let length = n * 3 * side * side;
    (0..length).map(|_| rng.uniform_f32()).collect()
}

/// One step of the whole radius and several small ones, in every norm, by either statistics.
#[test]
fn adversarial_examples_stay_within_eps_and_raise_the_loss() {
    let device = Device::flex();
    let network = initialise(&config(), 2, &device.clone().autodiff());
    let before = to_host(&network);
    let clean = pixels(8, 16);
    let labels: Vec<u16> = (0..8).map(|i| i % 3).collect();
    let loss_of = |pixels: &[f32], statistics| {
        let network = match statistics {
            Statistics::Batch => network.valid().train(),
            Statistics::Running => network.valid(),
        };
        let device = match statistics {
            Statistics::Batch => device.clone().autodiff(),
            Statistics::Running => device.clone(),
        };
        let data = TensorData::new(pixels.to_vec(), [8, 3, 16, 16]);
        scalar(loss(&network, &Tensor::from_data(data, &device), &labels))
    };
    for statistics in [Statistics::Batch, Statistics::Running] {
        // A network that has learnt nothing is anything but linear: the radii must be short ones.
        let radii = [
            (Norm::Linf, 1.0 / 255.0),
            (Norm::L2, 0.0625),
            (Norm::L1, 1.25),
        ];
        for (norm, eps) in radii {
            for (steps, random_start) in [(1, false), (10, true)] {
                let rel_step = if steps == 1 { 1.0 } else { 0.25 };
                let how = AdversarialConfig {
                    norm,
                    eps,
                    steps,
                    rel_step,
                    random_start,
                    ..adversarial(statistics)
                };
                let adversary = Adversary::new(&how, network.valid(), &device);
                let attacked = adversary
                    .attack(&clean, &labels, 16, Rng::from_seed(1))
                    .expect("it is possible");
                let images = attacked.chunks_exact(768).zip(clean.chunks_exact(768));
                for (attacked, clean) in images {
                    assert!(norm.distance(attacked, clean) <= f64::from(eps));
                }
                assert!(attacked.iter().all(|v| (0.0..=1.0).contains(v)));
                let (low, high) = (loss_of(&clean, statistics), loss_of(&attacked, statistics));
                assert!(high > low, "{how:?}: {low} {high}");
            }
        }
    }
    // The network that is trained has not noticed, its running statistics least of all.
    for (name, tensor) in to_host(&network.valid()) {
        assert_eq!(tensor.values, before[&name].values, "{name}");
    }
}

/// The filter bank is frozen: behind clean pixels no graph reaches into it, so nothing is computed
/// backwards there; behind attacked ones only the path to the pixels is there.
#[test]
fn nothing_is_differentiated_in_front_of_the_bottleneck() {
    let device = Device::flex().autodiff();
    let recipe = full_recipe(1);
    let mut network = initialise(&recipe.model, 0, &device);
    let mut front = network.front.take().expect("a front-end");
    front.vone_block = front.vone_block.freeze();
    network.front = Some(front);
    // As a shard has it.
    let network = network.valid().train();
    let front = network.front.as_ref().expect("a front-end");
    let data = TensorData::new(pixels(2, 32), [2, 3, 32, 32]);
    let clean = Tensor::<4>::from_data(data, &device);
    let noise = network.draw_noise(2, 32, &mut Rng::from_seed(1), &device);
    let v1 = front.vone_block.forward(clean.clone(), noise.clone());
    assert!(!v1.is_tracked(), "a graph behind frozen filters");
    assert!(front.bottleneck.forward(v1).is_tracked());
    let attacked = clean.require_grad();
    let v1 = front.vone_block.forward(attacked.clone(), noise);
    let gradients = v1.sum().backward();
    assert!(attacked.grad(&gradients).is_some());
    let bank = front.vone_block.simple_conv_q0.weight.val();
    assert!(bank.grad(&gradients).is_none());
}

/// A linear layer with two inputs, one output and these weights.
fn line(weight: [f32; 2], bias: f32, device: &Device) -> Linear {
    let mut layer = Linear::new(2, 1, device);
    let data = TensorData::new(weight.to_vec(), [1, 2]);
    layer.weight = Param::from_tensor(Tensor::from_data(data, device));
    let data = TensorData::new(vec![bias], [1]);
    layer.bias = Param::from_tensor(Tensor::from_data(data, device));
    layer
}

fn numbers(layer: &Linear) -> Vec<f64> {
    let weight = layer.weight.val().into_data();
    let bias = layer.bias.val().into_data();
    let both = weight.iter::<f32>().chain(bias.iter::<f32>());
    both.map(f64::from).collect()
}

/// Gradients of `slope · (w · x + b)`: the inputs and 1, times the slope.
fn gradients(layer: &Linear, x: [f32; 2], slope: f64, device: &Device) -> GradientsParams {
    let x = Tensor::<2>::from_data(TensorData::new(x.to_vec(), [1, 2]), device);
    let loss = layer.forward(x).sum() * slope;
    GradientsParams::from_grads(loss.backward(), layer)
}

fn assert_near(ours: &[f64], wanted: &[f64]) {
    assert_eq!(ours.len(), wanted.len());
    for (a, b) in ours.iter().zip(wanted) {
        assert!(
            (a - b).abs() < 1e-6 * b.abs().max(1.0),
            "{ours:?} {wanted:?}"
        );
    }
}

#[test]
fn long_gradients_are_scaled_down_together() {
    let device = Device::flex().autodiff();
    let layer = line([0.0; 2], 0.0, &device);
    // (3, 4) for the weights and, times 12, a bias that alone is twice as long as the rest.
    for (longest, factor) in [(6.5, 0.5), (13.0, 1.0), (100.0, 1.0)] {
        let mut found = gradients(&layer, [0.25, 1.0 / 3.0], 12.0, &device);
        assert!(
            (pollster::block_on(clip(&layer, &mut found, longest)).unwrap() - 13.0).abs() < 1e-5
        );
        let weight: Tensor<2> = found.get(layer.weight.id).expect("a gradient");
        let bias: Tensor<1> = found.get(layer.bias.id).expect("a gradient");
        let (weight, bias) = (weight.into_data(), bias.into_data());
        let all = weight.iter::<f32>().chain(bias.iter::<f32>());
        let all: Vec<f64> = all.map(f64::from).collect();
        assert_near(&all, &[3.0 * factor, 4.0 * factor, 12.0 * factor]);
    }
}

#[test]
fn two_steps_of_adamw_are_those_of_the_paper() {
    let device = Device::flex().autodiff();
    let mut layer = line([0.5, -1.0], 0.25, &device);
    let config = OptimiserConfig {
        kind: OptimiserKind::Adamw,
        momentum: None,
        betas: Some([0.8, 0.9]),
        weight_decay: 0.1,
    };
    let mut optimiser = optimiser(&config);
    let rate = 0.01;
    let mut expected = [0.5, -1.0, 0.25];
    let (mut first, mut second) = ([0.0; 3], [0.0; 3]);
    for (step, (x, slope)) in [([1.0_f32, -2.0], 0.5), ([3.0, 0.5], -2.0)]
        .into_iter()
        .enumerate()
    {
        let found = gradients(&layer, x, slope, &device);
        layer = optimiser.step(rate, layer, found);
        let gradient = [slope * f64::from(x[0]), slope * f64::from(x[1]), slope];
        for i in 0..3 {
            first[i] = 0.8 * first[i] + 0.2 * gradient[i];
            second[i] = 0.9 * second[i] + 0.1 * gradient[i] * gradient[i];
            let t = step as i32 + 1;
            let m = first[i] / (1.0 - 0.8_f64.powi(t));
            let v: f64 = second[i] / (1.0 - 0.9_f64.powi(t));
            // The bias is not decayed.
            let decay = if i < 2 { 0.1 } else { 0.0 };
            expected[i] -= rate * (m / (v.sqrt() + 1e-8) + decay * expected[i]);
        }
        assert_near(&numbers(&layer), &expected);
    }
}

/// Two networks and three steps: every weight and every running statistic by hand.
#[test]
fn the_average_is_the_one_computed_by_hand() {
    let device = Device::flex();
    let networks = [1, 2, 3].map(|seed| initialise(&config(), seed, &device));
    // Running statistics are 0 and 1 in each until a batch has passed.
    let training = networks[1].clone().train();
    let batch = TensorData::new(pixels(4, 16), [4, 3, 16, 16]);
    let batch = Tensor::<4>::from_data(batch, &device.clone().autodiff());
    training.forward(batch, None);
    let networks = [networks[0].clone(), training.valid(), networks[2].clone()];
    let hosts = networks.each_ref().map(to_host);
    let mut average = Average::new(networks[0].valid());
    average.follow(&networks[1], 0.75);
    average.follow(&networks[2], 0.5);
    let found = to_host(average.network());
    let mut moved = 0;
    for (name, tensor) in &found {
        let values = hosts.each_ref().map(|host| &host[name].values);
        for (i, ours) in tensor.values.iter().enumerate() {
            let [a, b, c] = values.map(|v| f64::from(v[i]));
            let wanted = 0.5 * (0.75 * a + 0.25 * b) + 0.5 * c;
            assert!((f64::from(*ours) - wanted).abs() < 1e-6, "{name}");
        }
        let is_statistic = name.ends_with("running_mean");
        moved += usize::from(is_statistic && tensor.values.iter().any(|v| *v != 0.0));
    }
    assert!(moved > 3, "{moved} means have moved");
    // The networks it followed are as they were.
    assert_eq!(
        to_host(&networks[0])["V1.conv1.weight"].values,
        hosts[0]["V1.conv1.weight"].values
    );
    // Following itself changes nothing, to the bit.
    average.follow(&average.network().valid(), 0.3);
    assert_same(average.network(), &average.network().valid());
    for (name, tensor) in to_host(average.network()) {
        assert_eq!(tensor.values, found[&name].values, "{name}");
    }
}

#[test]
fn another_recipe_does_not_continue_a_run() {
    let device = Device::flex();
    let set = colours(32);
    let folder = tempfile::tempdir().expect("a folder");
    train(&recipe(1), &set, &set, folder.path(), &device, |_| {}).expect("it trains");
    let other = train(&recipe(2), &set, &set, folder.path(), &device, |_| {});
    assert!(matches!(other, Err(TrainError::OtherRecipe(_))));
}
