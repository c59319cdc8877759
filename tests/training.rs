//! The training pass: its gradient against finite differences, its state across interruptions.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ventral::align::recipe::{
    AugmentationConfig, CropsConfig, DataConfig, OptimiserConfig, Recipe, ScheduleConfig,
};
use ventral::align::trainer::{TrainError, cross_entropy, train};
use ventral::image::dataset::LabelledSet;
use ventral::model::config::{BodyConfig, CornetSConfig, ModelConfig, StemConfig};
use ventral::model::init::initialise;
use ventral::model::network::Network;
use ventral::model::save::to_host;
use ventral::rng::Rng;
use ventral::session::protocol::Preprocessing;

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
    let names = ventral::model::names::list(&fresh());
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
    let mut rng = Rng::from_seed(5);
    let size = 16;
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
            set: "colours".into(),
        },
        epochs,
        batch: 16,
        shards: 2,
        optimiser: OptimiserConfig {
            momentum: 0.9,
            weight_decay: 1e-4,
        },
        schedule: ScheduleConfig {
            peak: 0.05,
            warm_up: 0.2,
        },
        augmentation: AugmentationConfig {
            flip: true,
            shift: 1,
            crops: Some(CropsConfig {
                side: 12,
                until: 0.5,
            }),
        },
        label_smoothing: 0.05,
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
                if matches!(event, ventral::align::trainer::TrainEvent::Epoch(_)) {
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
    let (a, b) = (to_host(&network), to_host(&resumed));
    for (name, tensor) in &a {
        assert_eq!(tensor.values, b[name].values, "{name}");
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
