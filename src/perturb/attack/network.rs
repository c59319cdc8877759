//! A network as an attack sees it.

use std::future::Future;
use std::pin::Pin;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::error::AttackError;
use super::oracle::{Oracle, Pullback};
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Probe, Taps};
use crate::rng::Rng;

/// The noise of a stochastic front-end while it is attacked.
#[derive(Clone, Debug)]
pub enum Noise {
    Off,
    /// Drawn anew at every pass; a gradient is the mean over `samples` of them.
    Fresh {
        rng: Rng,
        samples: usize,
    },
    /// One sample from this seed, the same for every image and at every pass: for inspection and
    /// finite differences. It does not depend on an image's place in the batch, which changes when
    /// others of it have fallen.
    Fixed(u64),
}

/// Lets other work of the thread run.
pub type Pause<'a> = &'a dyn Fn() -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A network on a device, with the user's wish to stop.
pub struct NetworkOracle<'a> {
    /// On the autodiff side of `device`, frozen.
    network: &'a Network,
    /// The same on the inner side: passes without a gradient have nothing to do with autodiff.
    inner: Network,
    device: Device,
    side: usize,
    noise: Noise,
    cancel: CancelToken,
    pause: Option<Pause<'a>>,
    /// Images a pass, at most.
    pub batch: usize,
    /// Images passed forward so far.
    pub forwards: u64,
    /// Images passed backward so far.
    pub backwards: u64,
}

impl<'a> NetworkOracle<'a> {
    /// For images of `side` px on the inner `device` of the network's.
    pub fn new(
        network: &'a Network,
        device: Device,
        side: usize,
        noise: Noise,
        cancel: CancelToken,
    ) -> Self {
        Self {
            network,
            inner: network.valid(),
            device,
            side,
            noise,
            cancel,
            pause: None,
            batch: 64,
            forwards: 0,
            backwards: 0,
        }
    }

    /// Lets other work of the thread run between passes.
    pub fn pausing(mut self, pause: Pause<'a>) -> Self {
        self.pause = Some(pause);
        self
    }

    async fn breathe(&self) -> Result<(), AttackError> {
        if let Some(pause) = self.pause {
            pause().await;
        }
        self.cancel.check().map_err(|_| AttackError::Cancelled)
    }

    fn tensor(&self, pixels: &[f32], device: &Device) -> Tensor<4> {
        let n = pixels.len() / self.image_len();
        let shape = [n, 3, self.side, self.side];
        Tensor::from_data(TensorData::new(pixels.to_vec(), shape), device)
    }

    fn draw(&mut self, n: usize, device: &Device) -> Option<Tensor<4>> {
        match &mut self.noise {
            Noise::Off => None,
            Noise::Fresh { rng, .. } => self.network.draw_noise(n, self.side, rng, device),
            Noise::Fixed(seed) => {
                let mut rng = Rng::stream(*seed, "front-end noise");
                let one = self.network.draw_noise(1, self.side, &mut rng, device);
                one.map(|noise| noise.repeat_dim(0, n))
            }
        }
    }

    /// One pass, on the side `x` is on.
    fn pass(&mut self, x: Tensor<4>, tracked: bool) -> Result<Tensor<2>, AttackError> {
        let [n, ..] = x.dims();
        self.forwards += n as u64;
        let noise = self.draw(n, &x.device());
        let mut probe = Probe::new(Taps::None, self.cancel.clone());
        let network = match tracked {
            true => self.network,
            false => &self.inner,
        };
        let logits = network.forward_probed(x, noise, &mut probe);
        logits.map_err(|_| AttackError::Cancelled)
    }

    fn samples(&self) -> usize {
        match &self.noise {
            Noise::Fresh { samples, .. } if self.network.is_stochastic() => (*samples).max(1),
            _ => 1,
        }
    }

    async fn pull_back(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError> {
        let device = self.device.clone().autodiff();
        let x = self.tensor(pixels, &device).require_grad();
        let logits = self.pass(x.clone(), true)?;
        let values = read(logits.clone().inner()).await?;
        self.breathe().await?;
        let slope = TensorData::new(cotangent(&values), logits.dims());
        let loss = (logits * Tensor::from_data(slope, &device)).sum();
        let gradients = loss.backward();
        self.backwards += (pixels.len() / self.image_len()) as u64;
        let gradient = match x.grad(&gradients) {
            Some(gradient) => read(gradient).await?,
            None => vec![0.0; pixels.len()],
        };
        self.breathe().await?;
        Ok(Pullback {
            logits: values,
            gradient,
        })
    }
}

/// A tensor's values, once the device has them.
pub(crate) async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, AttackError> {
    let device = |cause: &dyn std::fmt::Debug| AttackError::Device {
        cause: format!("{cause:?}"),
    };
    let data = tensor.into_data_async().await.map_err(|e| device(&e))?;
    data.try_to_vec().map_err(|e| device(&e))
}

impl Oracle for NetworkOracle<'_> {
    fn shape(&self) -> [usize; 3] {
        [3, self.side, self.side]
    }

    fn classes(&self) -> usize {
        self.network.config().classes
    }

    fn is_stochastic(&self) -> bool {
        matches!(self.noise, Noise::Fresh { .. }) && self.network.is_stochastic()
    }

    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, AttackError> {
        let mut logits = Vec::new();
        let device = self.device.clone();
        for part in pixels.chunks(self.batch.max(1) * self.image_len()) {
            self.breathe().await?;
            let x = self.tensor(part, &device);
            let row = self.pass(x, false)?;
            logits.extend(read(row).await?);
        }
        Ok(logits)
    }

    async fn gradient(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError> {
        // A loss sees the whole batch's logits, so a batch is not cut in parts here.
        let samples = self.samples();
        let mut mean: Option<Pullback> = None;
        for _ in 0..samples {
            let one = self.pull_back(pixels, cotangent).await?;
            match &mut mean {
                None => mean = Some(one),
                Some(sum) => {
                    add(&mut sum.logits, &one.logits);
                    add(&mut sum.gradient, &one.gradient);
                }
            }
        }
        // There is at least one sample.
        let mut mean = mean.ok_or(AttackError::Cancelled)?;
        let scale = 1.0 / samples as f32;
        mean.logits.iter_mut().for_each(|v| *v *= scale);
        mean.gradient.iter_mut().for_each(|v| *v *= scale);
        Ok(mean)
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
}
