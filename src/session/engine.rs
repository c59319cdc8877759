//! The session's state and how requests change it.

use std::future::Future;
use std::pin::Pin;

use burn::tensor::{Tensor, TensorData};

use super::error::SessionError;
use super::perturb::PerturbState;
use super::plans;
use super::protocol::{Bytes, Event, ImageInfo, ModelInfo, Prediction, Progress, Request, Rgba};
use super::recordings::Recordings;
use super::test::{self, Inputs};
use super::warm_up::Cold;
use crate::clock::Clock;
use crate::compute::description::BackendChoice;
use crate::compute::device::{Active, Adapter, Devices};
use crate::compute::kernel::forget_unused;
use crate::compute::self_check;
use crate::experiment::journal::JournalStore;
use crate::image::{self, ImageError, Picture};
use crate::model::checkpoint::Source;
use crate::model::config::Preprocessing;
use crate::model::filters;
use crate::model::load::{self, Loaded};
use crate::model::network::Network;
use crate::model::probe::CancelToken;
use crate::perturb::corruption::Textures;

/// What a session needs of the place it runs in.
pub trait Host {
    /// Reports an event of the current request.
    fn tell(&self, event: Event);
    /// Lets other work of the thread (a cancel message, say) run.
    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
    /// Asks whether the current request was cancelled.
    fn cancel(&self) -> &CancelToken;
    /// What WebGPU offers here, if anything.
    fn adapter(&self) -> Option<Adapter>;
    /// Bytes this process or worker holds.
    fn memory(&self) -> u64;

    /// Where runs are kept; they outlive the session.
    fn journals(&self) -> &(dyn JournalStore + 'static);
}

/// A file handed over beside a request.
pub type Attachment = Box<dyn Source>;

/// The state behind a page: a device, a model, an image.
#[derive(Default)]
pub struct Session {
    devices: Devices,
    pub(super) active: Option<Active>,
    pub(super) cold: Cold,
    pub(super) model: Option<LoadedModel>,
    pub(super) image: Option<NamedPicture>,
    pub(super) perturb_state: PerturbState,
    /// What frost is taken from; ours are grown when they are first wanted.
    pub(super) textures: Textures,
    pub(super) inputs: Inputs,
    pub(super) recordings: Recordings,
}

/// A model on the active device.
pub(super) struct LoadedModel {
    pub loaded: Loaded,
    /// On the autodiff side of the device, frozen.
    pub network: Network,
    pub info: ModelInfo,
}

pub(super) struct NamedPicture {
    pub name: String,
    pub picture: Picture,
}

impl Session {
    /// Answers a request. Weights and pictures come in `attachment`; how a name or an address
    /// becomes a file is the caller's business.
    pub async fn answer(
        &mut self,
        request: Request,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Event {
        let answered = match request {
            Request::Start { backend } => self.start(backend, host).await,
            Request::LoadModel { name } => self.load(&name, attachment, host).await,
            Request::LoadFile { file_name } => self.load(&file_name, attachment, host).await,
            Request::LoadUrl { url } => {
                let name = url.rsplit('/').next().unwrap_or(&url).to_owned();
                self.load(&name, attachment, host).await
            }
            Request::SetImage { name, bytes } => self.set_image(name, &bytes, host),
            Request::SetTextures { images } => self.set_textures(&images),
            Request::See(options) => self.see(&options, host).await,
            Request::Perturb(options) => self.perturb(&options, host).await,
            Request::CheckKernels { shapes } => self.check_kernels(shapes, host).await,
            Request::CheckGradient => self.check_gradient(host).await,
            Request::Transfer { name } | Request::TransferFile { file_name: name } => {
                self.transfer(&name, attachment, host).await
            }
            Request::ReadModel { name } | Request::ReadModelFile { file_name: name } => {
                self.read_model(&name, attachment, host).await
            }
            Request::ReadImages { name } => self.read_images(&name, attachment, host),
            Request::ReadPlan { kind, text } => plans::read(kind, &text, host),
            Request::Test(options) => self.test(&options, host).await,
            Request::CountConfusions { model, condition } => {
                self.count_confusions(&model, condition, host)
            }
            Request::ReadReport { bytes } => test::read_report(&bytes, host),
            Request::ReadRecording { kind, name } => {
                self.read_recording(kind, &name, attachment, host)
            }
            Request::Align(options) => self.align(&options, host).await,
            Request::Run(options) => self.run(&options, host).await,
        };
        match answered {
            Ok(()) => Event::Done,
            Err(error) => error.into_event(),
        }
    }

    pub(super) async fn start(
        &mut self,
        backend: BackendChoice,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let adapter = host.adapter();
        let active = self.devices.choose(backend, adapter.as_ref()).await;
        host.tell(Event::Backend(active.info.clone()));
        self.active = Some(active);
        // The weights are kept on the host side, so a model follows to the new device.
        host.pause().await;
        host.cancel().check()?;
        let kept = self.model.take().map(|model| model.loaded);
        if let Some(loaded) = kept {
            self.adopt(loaded, host).await;
        }
        Ok(())
    }

    async fn check_kernels(&mut self, shapes: usize, host: &dyn Host) -> Result<(), SessionError> {
        let active = self.device(host).await;
        let mut max_relative_error = 0.0_f32;
        for number in 0..shapes {
            let error = self_check::random_shape_error(&active.device, number as u64).await?;
            max_relative_error = max_relative_error.max(error);
            host.pause().await;
            host.cancel().check()?;
        }
        host.tell(Event::Kernels { max_relative_error });
        Ok(())
    }

    /// Does `work` on the device in use. What a lost GPU has not finished, the CPU does; nothing but
    /// a lost device makes it go on.
    pub(super) async fn on_device<T>(
        &mut self,
        host: &dyn Host,
        mut work: impl AsyncFnMut(&Self, &Active) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        loop {
            let active = self.device(host).await;
            match work(self, &active).await {
                Err(SessionError::Device(_)) if active.info.kind != BackendChoice::Cpu => {
                    self.start(BackendChoice::Cpu, host).await?;
                }
                ended => return ended,
            }
        }
    }

    pub(super) async fn device(&mut self, host: &dyn Host) -> Active {
        if let Some(active) = &self.active {
            return active.clone();
        }
        let adapter = host.adapter();
        let choice = BackendChoice::Auto;
        let active = self.devices.choose(choice, adapter.as_ref()).await;
        host.tell(Event::Backend(active.info.clone()));
        self.active = Some(active.clone());
        active
    }

    async fn load(
        &mut self,
        name: &str,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let loaded = read_weights(name, attachment, host).await?;
        self.adopt(loaded, host).await;
        Ok(())
    }

    /// Puts weights on the active device and makes them the model. Nothing in here can fail or be
    /// cancelled: the model that was is not lost half-way.
    async fn adopt(&mut self, loaded: Loaded, host: &dyn Host) {
        let clock = Clock::start();
        let active = self.device(host).await;
        self.cold = Cold::of(&active);
        let network = loaded.to_network(&active.device.autodiff());
        // What was made of the model before, and of one on a device that is no longer in use.
        self.model = None;
        forget_unused();
        let info = ModelInfo {
            name: loaded.name.clone(),
            family: loaded.family.clone(),
            parameters: loaded.parameters(),
            hash: loaded.hash.clone(),
            classes: loaded.classes.clone(),
            preprocessing: network.config().preprocessing.clone(),
            taps: network.taps(),
            stochastic: network.is_stochastic(),
            filters: filters::first_layer(&loaded),
            load_milliseconds: loaded.milliseconds + clock.milliseconds(),
            remarks: loaded.remarks.clone(),
        };
        host.tell(Event::Model(Box::new(info.clone())));
        self.perturb_state = PerturbState::default();
        self.model = Some(LoadedModel {
            loaded,
            network,
            info,
        });
    }

    fn set_image(
        &mut self,
        name: String,
        bytes: &[u8],
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let decoded = image::decode(bytes)?;
        host.tell(Event::Image(ImageInfo {
            name: name.clone(),
            width: decoded.picture.width(),
            height: decoded.picture.height(),
            format: decoded.format.name().to_owned(),
        }));
        self.perturb_state = PerturbState::default();
        self.image = Some(NamedPicture {
            name,
            picture: decoded.picture,
        });
        Ok(())
    }

    fn set_textures(&mut self, images: &[Bytes]) -> Result<(), SessionError> {
        let pixels = |bytes: &Bytes| {
            let pixels = image::decode(bytes)?.picture.to_pixels();
            Ok((pixels.data, pixels.height, pixels.width))
        };
        self.textures = match images.is_empty() {
            true => Textures::default(),
            false => {
                let images: Result<Vec<_>, ImageError> = images.iter().map(pixels).collect();
                Textures::from_images(images?)?
            }
        };
        self.perturb_state = PerturbState::default();
        Ok(())
    }

    pub(super) fn model(&self) -> Result<&LoadedModel, SessionError> {
        let model = self.model.as_ref();
        model.ok_or(SessionError::Missing("Choose a model first."))
    }

    /// The model, and the current image as its input (CHW pixels in [0, 1]).
    pub(super) fn model_and_input(&self) -> Result<(&LoadedModel, Input), SessionError> {
        let model = self.model()?;
        let input = self.input_of(&model.info.preprocessing)?;
        Ok((model, input))
    }

    /// The current image as a model of this preprocessing takes it.
    pub(super) fn input_of(&self, p: &Preprocessing) -> Result<Input, SessionError> {
        let image = self
            .image
            .as_ref()
            .ok_or(SessionError::Missing("Choose an image first."))?;
        Ok(Input {
            pixels: image::to_input(&image.picture, p.into())?,
            side: p.crop,
            image: image.name.clone(),
        })
    }
}

/// Reads the weights that came with a request.
pub(super) async fn read_weights(
    name: &str,
    attachment: Option<Attachment>,
    host: &dyn Host,
) -> Result<Loaded, SessionError> {
    let source = attachment.ok_or(SessionError::Missing(
        "No weights came with the request to load a model.",
    ))?;
    let report = |done, total, stage: &str| {
        host.tell(Event::Progress(Progress {
            stage: stage.to_owned(),
            done,
            total,
            bytes: false,
            seconds_left: None,
        }));
    };
    let loaded = load::read(name, vec![source], host.cancel(), report)?;
    host.pause().await;
    host.cancel().check()?;
    Ok(loaded)
}

/// A picture as a network takes it.
pub(super) struct Input {
    /// `[3, side, side]`.
    pub pixels: Vec<f32>,
    pub side: usize,
    pub image: String,
}

impl Input {
    /// `[1, 3, side, side]`.
    pub fn tensor(&self, device: &burn::tensor::Device) -> Tensor<4> {
        let data = TensorData::new(self.pixels.clone(), [1, 3, self.side, self.side]);
        Tensor::from_data(data, device)
    }
}

/// CHW pixels as a picture for a canvas.
pub(super) fn rgba(pixels: &[f32], side: usize) -> Result<Rgba, SessionError> {
    Ok(Rgba {
        width: side,
        height: side,
        data: image::to_rgba(pixels, side, side)?.into(),
    })
}

/// Reads a tensor back as f32.
pub(super) async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, SessionError> {
    let data = tensor.into_data_async().await?;
    data.try_to_vec()
        .map_err(|_| SessionError::Missing("The device returned numbers of an unexpected type."))
}

/// Softmax in f64, which a row of logits is worth.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|l| f64::from(l - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| (e / sum) as f32).collect()
}

/// The `k` most probable classes, most probable first.
pub(super) fn top(probabilities: &[f32], classes: &[String], k: usize) -> Vec<Prediction> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    order
        .into_iter()
        .take(k)
        .map(|class| Prediction {
            class,
            label: classes
                .get(class)
                .cloned()
                .unwrap_or_else(|| format!("class {class}")),
            probability: probabilities[class],
        })
        .collect()
}
