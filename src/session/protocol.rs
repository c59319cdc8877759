//! The words the page (or a script) and the session say to each other.
//!
//! No tensor library, no browser: both sides of the Worker compile this file, so it holds plain
//! data only. Pixel and map buffers are raw little-endian bytes ([`Bytes`]), which become
//! `Uint8Array`s whose memory is transferred, not copied, between the threads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compute::description::{BackendChoice, BackendInfo};
use crate::experiment::robustness::summary::{
    Comparison, ConditionSummary, FragileImage, ModelReport,
};
use crate::measure::chart::Chart;
use crate::model::config::Preprocessing;
use crate::model::filter_bank::FilterBank;
use crate::model::taps::TapInfo;
use crate::perturb::attack::Settings;
use crate::perturb::attack::masking::Masking;
use crate::perturb::corruption::Setting;
use crate::perturb::noise::PixelNoise;

/// A raw buffer: `Uint8Array` in the browser.
pub type Bytes = serde_bytes::ByteBuf;

/// A request with the number its events will carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Chosen by the asker, unique within a session.
    pub id: u32,
    pub body: T,
}

/// What a session can be asked to do. Every request is answered by zero or more [`Event`]s and
/// ended by exactly one of [`Event::Done`], [`Event::Cancelled`] or [`Event::Failed`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Choose a device, check it against the CPU, report what was found.
    Start { backend: BackendChoice },
    /// Load a model of the catalog by name.
    LoadModel { name: String },
    /// Load a checkpoint file handed over beside this message (a `Blob` in the browser).
    LoadFile { file_name: String },
    /// Load a checkpoint from an address; kept in the browser's storage across visits.
    LoadUrl { url: String },
    /// Decode an encoded picture (JPEG, PNG, WebP, BMP, GIF, TIFF) and make it the current one.
    SetImage { name: String, bytes: Bytes },
    /// Take frost from these encoded pictures, the published photographs for instance; from
    /// textures of our own again when there are none.
    SetTextures { images: Vec<Bytes> },
    /// Show what every area makes of the current image.
    See(SeeOptions),
    /// Perturb the current image and show both sides.
    Perturb(PerturbOptions),
    /// Compare the device's kernels with the CPU's on this many shapes, drawn at random.
    CheckKernels { shapes: usize },
    /// Check whether the gradient told the truth in the last perturbation's attack.
    CheckGradient,
    /// Show the last perturbation to another model of the catalog. The current model stays.
    Transfer { name: String },
    /// The same for a checkpoint file handed over beside this message.
    TransferFile { file_name: String },
    /// Read a model of the catalog for the Test tab. The current model stays.
    ReadModel { name: String },
    /// The same for a checkpoint file handed over beside this message.
    ReadModelFile { file_name: String },
    /// Labelled images for the Test tab: a shipped set by name, or, with a file handed over beside
    /// this message, the visitor's own archive.
    ReadImages { name: String },
    /// Read a plan and check it, without running anything.
    ReadPlan { kind: PlanKind, text: String },
    /// Run a robustness plan. One that was run before goes on where it was.
    Test(TestOptions),
    /// What a model of the last test took images for, clean and in this condition; where none is
    /// named, the one it got the fewest right in.
    CountConfusions { model: String, condition: String },
    /// Read a report that was saved as JSON, here or by the command line, to compare with.
    ReadReport { bytes: Bytes },
    /// What was recorded of the images of the set taken last, for the Align tab, in a file handed
    /// over beside this message. Without a file: forget what was taken of this kind.
    ReadRecording { kind: Recorded, name: String },
    /// Align a model that was brought. What was begun before goes on where it was.
    Align(AlignOptions),
    /// Run the model on a batch of numbers and hand the numbers back: what a script asks for, not
    /// the page.
    #[cfg(feature = "compute")]
    Run(Box<RunOptions>),
}

/// The noise of a stochastic front-end (VOneBlock). Models without one ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontEndNoise {
    #[default]
    Off,
    /// One sample drawn from this seed.
    Seed(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeeOptions {
    pub noise: FrontEndNoise,
    /// How many of an area's most active channels come back as maps.
    pub channels: usize,
}

/// A perturbation of the current image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerturbOptions {
    /// Done to the image one after the other.
    pub stages: Vec<Stage>,
    pub noise: FrontEndNoise,
    /// Fresh passes by which the success against a stochastic model is judged; at least 1.
    pub passes: usize,
    /// Also what takes a while: pictures of the attack's way, the spectrum.
    pub details: bool,
}

/// A link of a chain of perturbations: a corruption, then pixel noise, then an attack. Any may be
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage {
    pub corruption: Option<Setting>,
    pub pixel_noise: Option<PixelNoise>,
    pub attack: Option<AttackOptions>,
}

impl Stage {
    /// Nothing is done to the image.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a plan is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    Test,
    Align,
}

/// A robustness test of models that were brought.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestOptions {
    /// A preset by its name; not looked at where there is a plan.
    pub preset: String,
    /// A plan as TOML or JSON. Its models are replaced by those below.
    pub plan: Option<String>,
    /// By the names they were brought under, the reference first.
    pub models: Vec<String>,
    /// `None`: as the plan has it.
    pub images: Option<usize>,
    pub seed: u64,
    /// Which class of the models a class of the set is, "" to leave it out; the others are as the
    /// plan has them, or matched by name.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
}

/// What was recorded of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recorded {
    /// Stimuli × neuroids, or stimuli × repetitions × neuroids: NumPy, CSV, HDF5, NetCDF-4.
    Responses,
    /// Where people looked: an array, or a zip archive of pictures named as the images are.
    HeatMaps,
    /// The images' classes: a CSV file.
    Labels,
}

/// An alignment of a model that was brought.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlignOptions {
    /// The plan, TOML or JSON. Its models go by the names they were brought under.
    pub plan: String,
    /// Runs to compare with, by name: `shuffled`, `gaussian`, `unaligned`.
    pub controls: Vec<String>,
    /// Images of the robustness quick look before and after; 0 for none.
    pub robustness: usize,
    /// From the pretrained weights: what was begun before is thrown away.
    pub fresh: bool,
    /// Which class of the models a class of the set is, "" to leave it out; the others are matched
    /// by name.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
}

/// A batch for the current model, and what of the pass to return.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// f32 `[n, 3, h, w]`, in [0, 1] unless `normalised`.
    pub input: RawTensor,
    /// The input has been through the model's normalisation already.
    pub normalised: bool,
    /// Taps by name, `logits` among them. A recurrent area's name alone is its last time step.
    pub taps: Vec<String>,
    /// Standard normal draws for a stochastic front-end.
    pub noise: Option<RawTensor>,
    /// With one class an image, the gradient of their mean cross-entropy with respect to the
    /// input comes back as `gradient`.
    pub labels: Vec<usize>,
    /// With labels: an attack away from them (or towards its target) instead of the gradient. The
    /// attacked pixels come back as `adv`, and `logits` are theirs.
    #[serde(default)]
    pub attack: Option<AttackOptions>,
}

/// An array of numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RawTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// f32 little-endian, row-major.
    pub data: Bytes,
}

/// An attack on the current image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackOptions {
    /// Its name in [`registry`](crate::perturb::attack::registry).
    pub name: String,
    pub settings: Settings,
    pub seed: u64,
    /// Gradient samples a step on a stochastic model (expectation over transformation).
    pub eot: usize,
    /// One noise sample for all passes of the attack: for inspection, not for a robustness number.
    #[serde(default)]
    pub fixed_noise: bool,
    /// Push towards this class; `None`: away from the clean prediction.
    pub target: Option<usize>,
    /// Round the result to 8 bits a channel, inside the ball.
    pub eight_bit: bool,
}

/// What a session reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The device in use. Sent after `Start`, and again whenever it changes (a lost GPU).
    Backend(BackendInfo),
    Progress(Progress),
    Model(Box<ModelInfo>),
    Image(ImageInfo),
    Analysis(Box<Analysis>),
    /// After every step of an attack.
    Step(AttackStep),
    Perturbed(Box<Perturbed>),
    /// The answer to `CheckKernels`: the largest error, relative to a result's largest value.
    Kernels {
        max_relative_error: f32,
    },
    /// The answer to `CheckGradient`.
    Masking(Box<Masking>),
    /// The answer to `Transfer`.
    Transferred(Box<Transferred>),
    /// The answer to `ReadModel`.
    ModelRead(ModelSummary),
    /// The answer to `ReadImages`.
    Set(SetInfo),
    /// The answer to `ReadPlan`: the models it names, that to align before its target.
    Plan {
        models: Vec<String>,
    },
    /// What a test has come to so far; the last one has the documents.
    Tested(Box<TestReport>),
    /// The answer to `CountConfusions`.
    Confusions(Box<Confusions>),
    /// The answer to `ReadReport`.
    Report(Box<TestReport>),
    /// The answer to `ReadRecording`.
    Recording(RecordingInfo),
    /// How far an alignment is; the last one has the documents.
    Aligned(Box<AlignReport>),
    /// The answer to `Run`.
    #[cfg(feature = "compute")]
    Tensors(Vec<RawTensor>),
    Done,
    Cancelled,
    Failed(Failure),
}

/// An error as the user reads it, with the cause for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One or two plain sentences: what is wrong and what to do.
    pub sentence: String,
    /// The chain of causes, for the log.
    pub cause: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// "Downloading weights", "Reading V4.conv2.weight", "PGD step".
    pub stage: String,
    pub done: u64,
    /// 0 when unknown.
    pub total: u64,
    /// In bytes rather than in steps.
    pub bytes: bool,
    pub seconds_left: Option<f32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Catalog name or file name.
    pub name: String,
    /// "CORnet-S", "VOneResNet-50".
    pub family: String,
    pub parameters: u64,
    /// First 16 hex digits of the SHA-256 of the weights as loaded.
    pub hash: String,
    pub classes: Vec<String>,
    pub preprocessing: Preprocessing,
    /// Taps in the order of the signal: `V1`, `V2.t0`, `V2.t1`, …, `logits`.
    pub taps: Vec<TapInfo>,
    pub stochastic: bool,
    pub filters: Option<FilterBank>,
    pub load_milliseconds: f32,
    /// Remarks from the loader: tensors that were dropped, and why.
    pub remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub format: String,
}

/// A picture ready for a canvas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rgba {
    pub width: usize,
    pub height: usize,
    pub data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub class: usize,
    pub label: String,
    pub probability: f32,
}

/// What one tap made of the image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    pub tap: TapInfo,
    /// `[channels, height, width]`.
    pub shape: [usize; 3],
    /// Mean over channels, f32 little-endian, `[height, width]`.
    pub mean_map: Bytes,
    /// The channels of `maps`, most active first.
    pub channels: Vec<usize>,
    /// f32 little-endian, `[channels.len(), height, width]`.
    pub maps: Bytes,
    pub mean: f32,
    pub max: f32,
    /// Fraction of units above zero.
    pub active: f32,
}

/// The prediction when the network is read out at a recurrent time step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Readout {
    /// `V4` read at `time_step`: later areas run in full on what V4 held then.
    pub area: String,
    pub time_step: usize,
    pub top: Vec<Prediction>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Analysis {
    pub model: String,
    pub image: String,
    /// The network's own view: resized and cropped, before normalisation.
    pub input: Rgba,
    pub top: Vec<Prediction>,
    /// All class probabilities, in class order.
    pub probabilities: Vec<f32>,
    pub responses: Vec<Response>,
    pub readouts: Vec<Readout>,
    pub milliseconds: f32,
    /// Bytes held by the worker (wasm memory) after the pass.
    pub memory: u64,
    pub backend: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackStep {
    pub step: usize,
    pub steps: usize,
    /// Cross-entropy of the class that is being left (or reached).
    pub loss: f32,
    /// Probability of the clean prediction.
    pub probability: f32,
    pub seconds_left: f32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Perturbed {
    pub original: Rgba,
    pub perturbed: Rgba,
    /// `0.5 + gain · (perturbed − original)`.
    pub difference: Rgba,
    /// The amplification of `difference`.
    pub gain: f32,
    /// Log10 of the change's amplitude spectrum, f32 little-endian, `[side, side]`, the frequency 0
    /// in the middle; empty unless details were asked for.
    pub spectrum: Bytes,
    /// The perturbed pixels as an `.npy` file, f32 `[1, 3, side, side]` in [0, 1].
    pub npy: Bytes,
    pub before: Vec<Prediction>,
    pub after: Vec<Prediction>,
    /// Where frost textures came from, when a corruption was frost.
    pub textures: Option<String>,
    /// Norms of the perturbation in pixel space [0, 1].
    pub l1: f32,
    pub l2: f32,
    pub linf: f32,
    pub success: bool,
    /// Share of `passes` fresh passes of a stochastic model in which the criterion was met.
    pub met: f32,
    pub passes: usize,
    /// The attack found its criterion met before it did anything.
    pub met_before: bool,
    pub trajectory: Vec<AttackStep>,
    /// The attack's way, evenly chosen; empty unless details were asked for.
    pub frames: Vec<Frame>,
    /// Relative change of every area's activations, ‖a′ − a‖ / ‖a‖, in the order of the signal.
    pub area_change: Vec<(String, f32)>,
    pub milliseconds: f32,
    pub backend: String,
}

/// A picture of an attack's way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    pub step: usize,
    pub perturbed: Rgba,
    /// With the gain of the end result.
    pub difference: Rgba,
    /// Probability of the clean prediction at that step.
    pub probability: f32,
    /// The most probable class at that step.
    pub best: Prediction,
}

/// What another model makes of a perturbation that was not made for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transferred {
    pub model: String,
    pub family: String,
    pub before: Vec<Prediction>,
    pub after: Vec<Prediction>,
    /// Its own prediction changed.
    pub fooled: bool,
    /// Side of its images, px; the perturbed image is resampled when it has another.
    pub side: usize,
    pub milliseconds: f32,
}

/// A model that was read for the Test tab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Under this name it can be tested.
    pub name: String,
    pub family: String,
    pub classes: Vec<String>,
    /// Side of its images, px.
    pub side: usize,
    pub stochastic: bool,
    /// What of it can be aligned: areas, in the order of the signal.
    pub areas: Vec<String>,
    /// What of it can be frozen: the stages that have weights to train.
    pub stages: Vec<String>,
}

/// What was recorded, as it was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingInfo {
    pub kind: Recorded,
    pub name: String,
    /// Shapes, what matched, what was dropped and why.
    pub sentences: Vec<String>,
}

/// An alignment on its way, or at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlignReport {
    /// Of the plan.
    pub name: String,
    /// Steps done and steps to do, over all runs.
    pub done: usize,
    pub steps: usize,
    /// What was understood of the data, what the ceiling is.
    pub remarks: Vec<String>,
    /// Did it beat its control? Empty before the end.
    pub verdict: String,
    /// A table: its heads, and a row for the model before and one for each run that ended.
    pub heads: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Curves as they grow; at the end similarities of areas and dissimilarity matrices too.
    pub charts: Vec<Chart>,
    /// Files to take away, by name; none before the end. The aligned weights come first.
    pub documents: Vec<(String, Bytes)>,
}

/// Labelled images as they were understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInfo {
    pub name: String,
    pub images: usize,
    /// Each class with its number of images.
    pub classes: Vec<(String, usize)>,
    /// How many files could not be read, and the first of them with the reason.
    pub unreadable: usize,
    pub skipped: Vec<(String, String)>,
    /// The folder that was taken of a set of several parts: `Test`.
    #[serde(default)]
    pub part: Option<String>,
}

/// A robustness test on its way, or at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// Of the plan.
    pub title: String,
    pub models: Vec<ModelReport>,
    /// Of each model with the first, condition by condition.
    pub comparisons: Vec<Comparison>,
    pub conditions: Vec<ConditionSummary>,
    /// Rows there are, and rows there will be.
    pub rows: usize,
    pub expected: usize,
    /// k, n, seeds, images: what stands under a table.
    pub remark: String,
    /// Drawings of it.
    pub charts: Vec<Chart>,
    /// Images that the first model gets wrong in most conditions; none before the end.
    pub lost: Vec<FragileImage>,
    /// Files to take away, by name; none before the end.
    pub documents: Vec<(String, Bytes)>,
}

/// What a model took images for, without and with a perturbation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusions {
    pub model: String,
    pub condition: String,
    /// A matrix each; none with too many classes.
    pub charts: Vec<Chart>,
    /// In their place, for each a title and a table of the wrong answers given most often, its
    /// heads first.
    pub tables: Vec<(String, Vec<Vec<String>>)>,
}
