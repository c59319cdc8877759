//! A whole network: preprocessing, optional simulated V1, body.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::config::ModelConfig;
use super::family::Body;
use super::family::vone::FrontEnd;
use super::probe::{CancelToken, Cancelled, Probe, Taps};
use super::taps::TapInfo;
use crate::rng::Rng;

/// A network with its preprocessing.
#[derive(Module, Debug)]
pub struct Network {
    pub front: Option<FrontEnd>,
    pub body: Body,
    #[module(skip)]
    config: ModelConfig,
}

/// The result of a pass that kept taps.
pub struct Pass {
    /// `[n, classes]`.
    pub logits: Tensor<2>,
    /// By tap name, in the order of the signal.
    pub taps: Vec<(String, Tensor<4>)>,
}

impl Network {
    /// The architecture with zero weights; see [`super::init`] and [`super::load`].
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let front = config.front.as_ref();
        Self {
            front: front.map(|front| FrontEnd::new(front, device)),
            body: Body::new(&config.body, config.classes, device),
            config: config.clone(),
        }
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// Whether the front-end draws noise.
    pub fn is_stochastic(&self) -> bool {
        self.front
            .as_ref()
            .is_some_and(|front| front.vone_block.is_stochastic())
    }

    /// Standard normal draws for the front-end's response to `n` images of side `side`; `None`
    /// for a deterministic network. Drawn on the CPU, so every backend gets the same noise.
    pub fn draw_noise(
        &self,
        n: usize,
        side: usize,
        rng: &mut Rng,
        device: &Device,
    ) -> Option<Tensor<4>> {
        let block = &self.front.as_ref()?.vone_block;
        if !block.is_stochastic() {
            return None;
        }
        let shape = block.response_shape(n, side);
        let mut draws = vec![0.0_f32; shape.iter().product()];
        rng.fill_normal(&mut draws);
        Some(Tensor::from_data(TensorData::new(draws, shape), device))
    }

    /// `(x − mean) / std` a channel.
    pub fn normalise(&self, pixels: Tensor<4>) -> Tensor<4> {
        let device = pixels.device();
        let per_channel = |values: [f32; 3]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), &device)
        };
        let p = &self.config.preprocessing;
        (pixels - per_channel(p.mean)) / per_channel(p.std)
    }

    /// Logits `[n, classes]` of pixels `[n, 3, h, w]` in [0, 1].
    pub fn forward(&self, pixels: Tensor<4>, noise: Option<Tensor<4>>) -> Tensor<2> {
        self.forward_probed(pixels, noise, &mut Probe::default())
            .expect("the default probe cannot be cancelled")
    }

    pub fn forward_probed(
        &self,
        pixels: Tensor<4>,
        noise: Option<Tensor<4>>,
        probe: &mut Probe,
    ) -> Result<Tensor<2>, Cancelled> {
        let x = self.normalise(pixels);
        self.forward_normalised(x, noise, probe)
    }

    /// The same on an input that is normalised already.
    pub fn forward_normalised(
        &self,
        x: Tensor<4>,
        noise: Option<Tensor<4>>,
        probe: &mut Probe,
    ) -> Result<Tensor<2>, Cancelled> {
        let x = match &self.front {
            Some(front) => front.forward(x, noise, probe)?,
            None => x,
        };
        self.body.layers().forward(x, probe)
    }

    /// A pass that keeps `taps`.
    ///
    /// ```
    /// use burn::tensor::Tensor;
    /// use ventral::compute::device::Devices;
    /// use ventral::model::load;
    /// use ventral::model::probe::{CancelToken, Taps};
    ///
    /// let cancel = CancelToken::default();
    /// let name = "cornet-s-cifar10.safetensors";
    /// let file = std::fs::File::open(format!("static/models/{name}"))?;
    /// let model = load::read(name, vec![Box::new(file)], &cancel, |_, _, _| {})?;
    /// let device = Devices::cpu("", None).device;
    /// let network = model.to_network(&device);
    /// let pixels = Tensor::<4>::full([1, 3, 32, 32], 0.5, &device);
    /// let taps = Taps::Named(vec!["V4.t2".to_owned(), "IT".to_owned()]);
    /// let pass = network.pass(pixels, None, taps, &cancel)?;
    /// assert_eq!(pass.logits.dims(), [1, 10]);
    /// assert_eq!(pass.taps[0].0, "V4.t2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pass(
        &self,
        pixels: Tensor<4>,
        noise: Option<Tensor<4>>,
        taps: Taps,
        cancel: &CancelToken,
    ) -> Result<Pass, Cancelled> {
        let mut probe = Probe::new(taps, cancel.clone());
        let logits = self.forward_probed(pixels, noise, &mut probe)?;
        Ok(Pass {
            logits,
            taps: probe.into_activations(),
        })
    }

    /// Logits when the network is read out at time step `tap` (`V4.t1`) of a recurrent area;
    /// `None` where the network has no such readout.
    pub fn read_out(
        &self,
        tap: &TapInfo,
        state: Tensor<4>,
        cancel: &CancelToken,
    ) -> Option<Result<Tensor<2>, Cancelled>> {
        tap.time_step?;
        let mut probe = Probe::new(Taps::None, cancel.clone());
        self.body.layers().read_out(&tap.area, state, &mut probe)
    }

    /// Every tap of the network, in the order of the signal.
    pub fn taps(&self) -> Vec<TapInfo> {
        self.config.taps()
    }

    /// The areas of the network, in the order of the signal.
    pub fn areas(&self) -> Vec<String> {
        let mut areas: Vec<String> = self.taps().into_iter().map(|tap| tap.area).collect();
        areas.dedup();
        areas
    }
}
