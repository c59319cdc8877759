//! Ventral beside ONNX Runtime Web and TensorFlow.js in one Chromium, and beside PyTorch natively,
//! on the same weights and in turns. `cargo xtask bench` gets the peers and runs it.

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/common/browser.rs"]
mod browser;
#[path = "../tests/common/skip.rs"]
mod skip;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use browser::{Browser, Gpu};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::{Value, json};
use ventral::compute::description::BackendChoice;
use ventral::compute::device::{Active, Devices};
use ventral::compute::kernel::use_f16_weights;
use ventral::model::checkpoint::Source;
use ventral::model::config::{ModelConfig, Preprocessing};
use ventral::model::family::BodyConfig;
use ventral::model::family::cornet_s::CornetSConfig;
use ventral::model::family::resnet::{ResBlock, ResNetConfig};
use ventral::model::family::traits::Family;
use ventral::model::family::vone::VOneConfig;
use ventral::model::graph::Graph;
use ventral::model::init::initialise;
use ventral::model::load::{Loaded, read};
use ventral::model::network::Network;
use ventral::model::probe::CancelToken;
use ventral::model::{onnx, save};

const ROUNDS: usize = 7;

/// A model by name, at these batches.
struct Subject {
    name: &'static str,
    make: fn() -> Loaded,
    batches: &'static [usize],
    /// Small enough for a WebGPU adapter in software.
    is_light: bool,
}

const SUBJECTS: [Subject; 7] = [
    Subject {
        name: "cornet-s-224",
        make: || {
            fresh(
                "cornet-s-224",
                BodyConfig::CornetS(CornetSConfig::official()),
                None,
            )
        },
        batches: &[1, 8],
        is_light: false,
    },
    Subject {
        name: "resnet50-224",
        make: || {
            fresh(
                "resnet50-224",
                BodyConfig::ResNet(ResNetConfig::resnet50()),
                None,
            )
        },
        batches: &[1, 8],
        is_light: false,
    },
    Subject {
        name: "voneresnet50-224",
        make: || behind_vone("voneresnet50-224", ResNetConfig::resnet50()),
        batches: &[1, 8],
        is_light: false,
    },
    // With as little behind it as a model may have: 1 % of its multiply-adds.
    Subject {
        name: "voneblock-224",
        make: || behind_vone("voneblock-224", LITTLE),
        batches: &[1, 8],
        is_light: false,
    },
    Subject {
        name: "cornet-s-cifar10",
        make: || shipped("cornet-s-cifar10"),
        batches: &[1, 8, 50],
        is_light: true,
    },
    Subject {
        name: "resnet-cifar10",
        make: || shipped("resnet-cifar10"),
        batches: &[1, 8, 50],
        is_light: true,
    },
    Subject {
        name: "voneresnet-cifar10",
        make: || shipped("voneresnet-cifar10"),
        batches: &[1, 8, 50],
        is_light: true,
    },
];

/// Engines in the browser, Ventral's first: it is what others are compared with.
const ON_CPU: [&str; 6] = [
    "Ventral, CPU, 1 thread",
    "Ventral, CPU, 1 thread, no fused multiply-add",
    "Ventral, CPU, all threads",
    "ONNX Runtime Web, WASM, 1 thread",
    "ONNX Runtime Web, WASM, all threads",
    "TensorFlow.js, WASM, 1 thread",
];
const ON_WEBGPU: [&str; 3] = [
    "Ventral, WebGPU",
    "ONNX Runtime Web, WebGPU",
    "TensorFlow.js, WebGPU",
];

fn fresh(name: &str, body: BodyConfig, front: Option<VOneConfig>) -> Loaded {
    let config = ModelConfig {
        body,
        front,
        classes: 1000,
        preprocessing: Preprocessing::imagenet(),
    };
    let network = initialise(&config, 0, &Device::flex());
    let weights = pollster::block_on(save::to_host(&network)).expect("the CPU does not fail");
    Loaded {
        name: name.to_owned(),
        family: name.to_owned(),
        config,
        classes: (0..1000).map(|class| class.to_string()).collect(),
        weights,
        hash: String::new(),
        remarks: Vec::new(),
        milliseconds: 0.0,
    }
}

/// One block of 8 channels.
const LITTLE: ResNetConfig = ResNetConfig {
    stem: None,
    width: 8,
    block: ResBlock::Basic,
    planes: [8; 4],
    layers: [1, 0, 0, 0],
};

fn behind_vone(name: &str, body: ResNetConfig) -> Loaded {
    let body = ResNetConfig { stem: None, ..body };
    let front = VOneConfig {
        bottleneck: body.width,
        ..VOneConfig::official()
    };
    fresh(name, BodyConfig::ResNet(body), Some(front))
}

fn shipped(name: &str) -> Loaded {
    let file = format!("static/models/{name}.safetensors");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
    let source: Box<dyn Source> =
        Box::new(BufReader::new(File::open(path).expect("it is shipped")));
    read(&file, vec![source], &CancelToken::default(), |_, _, _| {}).expect("it is sound")
}

/// The words of the command line that are no options.
struct Wanted {
    words: Vec<String>,
    webgpu: bool,
    native: bool,
    browser: bool,
    /// Natively on a GPU in the place of PyTorch.
    gpu: bool,
    /// Memory in the place of times.
    memory: bool,
    /// How Ventral's times grow in the place of others' times.
    growth: bool,
    /// Engines whose name holds one of these; all where there are none.
    only: Vec<String>,
    /// Of the batches only this one.
    batch: Option<usize>,
    /// Times of which the median is told, in the browser.
    rounds: usize,
}

impl Wanted {
    fn read() -> Self {
        let all: Vec<String> = std::env::args().skip(1).collect();
        let has = |option: &str| all.iter().any(|word| word == option);
        let places = has("--native") || has("--browser") || has("--gpu");
        let value = |option: &str| all.iter().find_map(|word| word.strip_prefix(option));
        let number = |option: &str| value(option).and_then(|number| number.parse().ok());
        Self {
            batch: number("--batch="),
            rounds: number("--rounds=").unwrap_or(ROUNDS).max(1),
            only: all
                .iter()
                .filter_map(|word| word.strip_prefix("--only="))
                .map(str::to_owned)
                .collect(),
            webgpu: has("--webgpu"),
            gpu: has("--gpu"),
            memory: has("--memory"),
            growth: has("--growth"),
            native: !places || has("--native"),
            browser: !places || has("--browser"),
            words: all
                .iter()
                .filter(|w| !w.starts_with('-'))
                .cloned()
                .collect(),
        }
    }

    /// Engines in the browser.
    fn engines(&self) -> Vec<&'static str> {
        let engines: &[&str] = if self.webgpu { &ON_WEBGPU } else { &ON_CPU };
        let wanted = |engine: &&str| {
            self.only.is_empty() || self.only.iter().any(|part| engine.contains(part))
        };
        engines.iter().copied().filter(wanted).collect()
    }

    fn takes(&self, subject: &Subject) -> bool {
        let named = self.words.is_empty() || self.words.iter().any(|word| word == subject.name);
        named && (subject.is_light || !self.webgpu)
    }
}

fn main() {
    let wanted = Wanted::read();
    let site = tempfile::tempdir().expect("a temporary folder");
    let mut results = Vec::new();
    let gpu = wanted.gpu.then(start_gpu).flatten();
    if wanted.browser || wanted.memory {
        lay_out(site.path());
    }
    let mut browser = (wanted.browser && !wanted.memory)
        .then(|| open(site.path(), wanted.webgpu))
        .flatten();
    for subject in SUBJECTS.iter().filter(|subject| wanted.takes(subject)) {
        let loaded = (subject.make)();
        let files = site.path().join(subject.name);
        write_files(&loaded, &files);
        let takes = |batch: &&usize| wanted.batch.is_none_or(|only| only == **batch);
        if let Some(browser) = browser.as_mut().filter(|_| wanted.growth) {
            tell_growth(browser, subject, &loaded, wanted.rounds);
            continue;
        }
        for &batch in subject.batches.iter().filter(takes) {
            if wanted.memory {
                tell_memory(site.path(), subject, batch, &loaded, &wanted);
                continue;
            }
            if let Some(browser) = &mut browser {
                let lines = in_browser(browser, subject, batch, &loaded, &wanted);
                results.push(told(subject.name, batch, "Chromium", lines));
            }
            if let Some(gpu) = &gpu {
                let lines = on_gpu(&loaded, gpu, batch, wanted.rounds);
                results.push(told(subject.name, batch, "native", lines));
            }
            if wanted.native && !wanted.webgpu {
                for threads in [1, 2] {
                    let lines = natively(&loaded, &files, batch, threads, wanted.rounds);
                    results.push(told(
                        subject.name,
                        batch,
                        &format!("native, {threads} threads"),
                        lines,
                    ));
                }
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
    let written = fs::create_dir_all(path.parent().expect("it has one"))
        .and_then(|()| fs::write(&path, json!(results).to_string()));
    match written {
        Ok(()) => println!("\nall numbers in {}", path.display()),
        Err(error) => eprintln!("{}: {error}", path.display()),
    }
}

/// This machine's GPU through its own driver; a program that plays one will do.
fn start_gpu() -> Option<Active> {
    let mut devices = Devices::default();
    let chosen = devices.choose_native(BackendChoice::WebGpu);
    let active = pollster::block_on(chosen);
    if active.info.kind == BackendChoice::Cpu {
        eprintln!("no GPU can be used: {}", active.info.note);
        return None;
    }
    Some(active)
}

/// The built page's files, the bench's and the peers'.
fn lay_out(site: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dist = std::env::var_os("VENTRAL_DIST").map_or_else(|| here.join("dist"), PathBuf::from);
    let peers = std::env::var_os("VENTRAL_PEERS").map(PathBuf::from);
    let Some(peers) = peers.filter(|peers| peers.is_dir()) else {
        eprintln!("the peers are missing: run `cargo xtask bench`, which gets them");
        return;
    };
    let listed = fs::read_dir(&dist).into_iter().flatten().flatten();
    // The page itself stays away, its compressed forms too.
    let is_page = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("index.html")
    };
    for entry in listed.filter(|entry| !is_page(entry)) {
        link(&entry.path(), &site.join(entry.file_name()));
    }
    for name in ["index.html", "bench.js", "spin.js"] {
        link(&here.join("bench").join(name), &site.join(name));
    }
    link(&peers, &site.join("peers"));
}

/// Chromium on them.
fn open(site: &Path, webgpu: bool) -> Option<Browser> {
    if !site.join("peers").exists() {
        return None;
    }
    let gpu = if webgpu { Gpu::Software } else { Gpu::Absent };
    let mut browser = Browser::on(site, gpu)?;
    browser.goto("");
    let ready = "return document.body?.dataset.ready === 'yes'";
    browser.wait_for("the bench", ready, 60);
    Some(browser)
}

fn link(from: &Path, to: &Path) {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(from, to);
    #[cfg(windows)]
    let linked = match from.is_dir() {
        true => std::os::windows::fs::symlink_dir(from, to),
        false => std::os::windows::fs::symlink_file(from, to),
    };
    linked.unwrap_or_else(|e| panic!("{}: {e}", to.display()));
}

/// The model for every engine, as `FILES.…`.
fn write_files(loaded: &Loaded, files: &Path) {
    let create = |ending: &str| {
        let path = PathBuf::from(format!("{}.{ending}", files.display()));
        BufWriter::new(File::create(path).expect("it can be written"))
    };
    save::write(loaded, false, create("safetensors")).expect("it is written");
    let graph = Graph::of(loaded).expect("it has a graph");
    onnx::write(&graph, &mut create("onnx")).expect("it is written");
    let mut bin = create("graph.bin");
    let (mut offset, mut weights) = (0, Vec::new());
    for (name, tensor) in &graph.weights {
        weights.push(json!({ "name": name, "shape": tensor.shape, "offset": offset }));
        offset += 4 * tensor.values.len();
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        bin.write_all(&bytes).expect("it is written");
    }
    let document = json!({ "nodes": graph.nodes, "weights": weights });
    serde_json::to_writer(create("graph.json"), &document).expect("it is written");
}

fn in_browser(
    browser: &mut Browser,
    subject: &Subject,
    batch: usize,
    loaded: &Loaded,
    wanted: &Wanted,
) -> Vec<Value> {
    let job = job(subject, batch, loaded, wanted.engines(), wanted.rounds);
    let lines = browser.run_within("return await window.bench(arguments[0]);", &[job], 3000);
    lines.as_array().cloned().unwrap_or_default()
}

fn job(
    subject: &Subject,
    batch: usize,
    loaded: &Loaded,
    engines: Vec<&str>,
    rounds: usize,
) -> Value {
    json!({
        "name": subject.name,
        "files": subject.name,
        "side": loaded.config.preprocessing.crop,
        "batch": batch,
        "rounds": rounds,
        "gradients": rounds,
        "engines": engines,
    })
}

/// How the time of a forward grows with batch and side, and an attack's with its steps.
fn tell_growth(browser: &mut Browser, subject: &Subject, loaded: &Loaded, rounds: usize) {
    let side = loaded.config.preprocessing.crop;
    let grown = [1, 2, 4, 8];
    let by_batch = grown.map(|batch| [batch, side, 0]);
    let by_side = [side / 2, side, side * 3 / 2, side * 2].map(|side| [1, side, 0]);
    let by_steps = grown.map(|steps| [1, side, steps]);
    let cases: Vec<[usize; 3]> = [by_batch, by_side, by_steps].concat();
    let told =
        |[batch, side, steps]: &[usize; 3]| json!({ "batch": batch, "side": side, "steps": steps });
    let mut job = job(subject, 1, loaded, Vec::new(), rounds);
    job["cases"] = cases.iter().map(told).collect();
    let times = browser.run_within("return await window.growth(arguments[0]);", &[job], 3000);
    println!(
        "\n{}, Ventral on the CPU, 1 thread: milliseconds\n",
        subject.name
    );
    println!(
        "| batch | side | steps of PGD | median (least to most) of {rounds} |\n|---|---|---|---|"
    );
    for (place, [batch, side, steps]) in cases.iter().enumerate() {
        let spread = spread(&times[place]).unwrap_or_default();
        println!("| {batch} | {side} | {steps} | {spread} |");
    }
}

/// The most that the tab's process has held for each engine, in a Chromium of its own, above what
/// it holds before: the model loaded, three forwards, two gradients where the engine has them.
fn tell_memory(site: &Path, subject: &Subject, batch: usize, loaded: &Loaded, wanted: &Wanted) {
    println!("\n{}, batch {batch}: peak memory, MB\n", subject.name);
    println!("| engine | MB |\n|---|---|");
    for engine in wanted.engines() {
        let Some(mut browser) = open(site, wanted.webgpu) else {
            return;
        };
        let before = browser.resident();
        let job = job(subject, batch, loaded, vec![engine], 2);
        let lines = browser.run_within("return await window.bench(arguments[0]);", &[job], 3000);
        let held = browser.peak().zip(before);
        match (lines[0]["failed"].as_str(), held) {
            (Some(why), _) => println!("| {engine} | {why} |"),
            (_, Some((peak, before))) => {
                let megabytes = peak.saturating_sub(before) / 1000;
                println!("| {engine} | {megabytes} |");
            }
            _ => println!("| {engine} | this system does not tell |"),
        }
    }
}

/// PyTorch as a process that is asked for one run at a time.
struct Torch {
    process: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Torch {
    fn start(files: &Path, batch: usize, side: usize, threads: usize) -> Result<Self, String> {
        let python = std::env::var("VENTRAL_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/torch_peer.py");
        let mut process = Command::new(&python)
            .arg(script)
            .arg(files)
            .args([batch, side, threads].map(|n| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{python}: {error}"))?;
        let (ask, answer) = (process.stdin.take(), process.stdout.take());
        let (Some(ask), Some(answer)) = (ask, answer) else {
            return Err("its pipes were not made".to_owned());
        };
        let mut torch = Self {
            process,
            ask,
            answer: BufReader::new(answer),
        };
        torch.run("infer").map(|_| torch)
    }

    /// Milliseconds of one run.
    fn run(&mut self, what: &str) -> Result<f64, String> {
        let missing =
            || "PyTorch is not at hand: set VENTRAL_PYTHON to a Python that has it".to_owned();
        writeln!(self.ask, "{what}").map_err(|_| missing())?;
        let mut line = String::new();
        self.answer
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        line.trim().parse().map_err(|_| missing())
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A network on a device of this process.
struct Native {
    device: Device,
    network: Network,
    /// The same, for gradients.
    tracked: Network,
    shape: [usize; 4],
    values: Vec<f32>,
}

impl Native {
    fn new(loaded: &Loaded, device: Device, batch: usize) -> Self {
        let side = loaded.config.preprocessing.crop;
        let shape = [batch, 3, side, side];
        let count = shape.iter().product();
        Self {
            network: loaded.to_network(&device),
            tracked: loaded.to_network(&device.clone().autodiff()),
            device,
            shape,
            values: (0..count).map(|i| (i % 251) as f32 / 251.0).collect(),
        }
    }

    fn pixels(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape), device)
    }

    fn infer(&self) -> TensorData {
        let pixels = self.pixels(&self.device);
        self.network.forward(pixels, None).into_data()
    }

    fn gradient(&self) -> TensorData {
        let x = self.pixels(&self.device.clone().autodiff()).require_grad();
        let logits = self.tracked.forward(x.clone(), None);
        let gradients = logits.sum().backward();
        let gradient = x.grad(&gradients);
        gradient.expect("it was asked for").into_data()
    }

    /// Milliseconds of one of [`WORK`].
    fn timed(&self, what: &str) -> f64 {
        let start = Instant::now();
        let made = match what {
            "infer" => self.infer(),
            _ => self.gradient(),
        };
        // What a GPU holds comes when it is looked at.
        std::hint::black_box(made.as_bytes().first());
        start.elapsed().as_secs_f64() * 1e3
    }
}

/// What is measured.
const WORK: [&str; 2] = ["infer", "gradient"];

fn natively(
    loaded: &Loaded,
    files: &Path,
    batch: usize,
    threads: usize,
    rounds: usize,
) -> Vec<Value> {
    let side = loaded.config.preprocessing.crop;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.build().expect("threads can be started");
    let native = Native::new(loaded, Device::flex(), batch);
    let timed = |what: &str| pool.install(|| native.timed(what));
    let mut torch = Torch::start(files, batch, side, threads);
    let mut own = json!({ "engine": "Ventral", "first": timed("infer") });
    let mut other = json!({ "engine": "PyTorch" });
    for what in WORK {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first of either is not counted: caches are cold.
        for round in 0..=rounds {
            let mine = timed(what);
            let peer = torch
                .as_mut()
                .map_err(|e| e.clone())
                .and_then(|t| t.run(what));
            if round == 0 {
                continue;
            }
            ours.push(mine);
            match peer {
                Ok(peer) => theirs.push(peer),
                Err(why) => other["failed"] = json!(why),
            }
        }
        own[what] = json!(ours);
        other[what] = json!(theirs);
    }
    vec![own, other]
}

/// Ventral on the GPU, with weights in 16 bits too where it reads such, and on all threads of the CPU, in
/// turns.
fn on_gpu(loaded: &Loaded, gpu: &Active, batch: usize, rounds: usize) -> Vec<Value> {
    let name = &gpu.info.name;
    let cpu = ("CPU, all threads".to_owned(), Device::flex(), false);
    let mut places = vec![(name.clone(), gpu.device.clone(), false)];
    if gpu.device.supports_dtype(DType::F16) {
        places.push((format!("{name}, weights in f16"), gpu.device.clone(), true));
    }
    places.push(cpu);
    let natives: Vec<Native> = places
        .iter()
        .map(|(_, device, _)| Native::new(loaded, device.clone(), batch))
        .collect();
    let reference = natives[places.len() - 1].infer();
    let mut lines: Vec<Value> = Vec::new();
    for (native, (name, _, half)) in natives.iter().zip(&places) {
        use_f16_weights(*half);
        let first = native.timed("infer");
        let apart = apart(&native.infer(), &reference);
        let engine = format!("Ventral, {name}");
        lines.push(json!({ "engine": engine, "first": first, "apart": apart }));
    }
    for what in WORK {
        let mut times = vec![Vec::new(); places.len()];
        for round in 0..=rounds {
            for ((native, (.., half)), times) in natives.iter().zip(&places).zip(&mut times) {
                use_f16_weights(*half);
                let time = native.timed(what);
                // In the first round a gradient's kernels are compiled.
                if round > 0 {
                    times.push(time);
                }
            }
        }
        for (line, times) in lines.iter_mut().zip(times) {
            line[what] = json!(times);
        }
    }
    lines
}

/// The largest difference over the largest value.
fn apart(values: &TensorData, reference: &TensorData) -> f32 {
    let pairs = values.iter::<f32>().zip(reference.iter::<f32>());
    let most = pairs.fold(0.0, |most: f32, (v, r)| most.max((v - r).abs()));
    most / reference
        .iter::<f32>()
        .fold(1e-9, |m: f32, v| m.max(v.abs()))
}

/// Prints a table of the lines and returns them with what they are of.
fn told(name: &str, batch: usize, place: &str, lines: Vec<Value>) -> Value {
    let rounds = lines.iter().filter_map(|line| line["infer"].as_array());
    let rounds = rounds.map(Vec::len).max().unwrap_or_default();
    println!(
        "\n{name}, batch {batch}, {place}: milliseconds, median (least to most) of {rounds}\n"
    );
    println!("| engine | load | first | forward | ratio | forward + gradient | ratio | apart |");
    println!("|---|---|---|---|---|---|---|---|");
    let middle = |line: &Value, what: &str| sorted(&line[what]).map(|all| all[all.len() / 2]);
    let is_own = |line: &&Value| {
        let engine = line["engine"].as_str().unwrap_or_default();
        engine.starts_with("Ventral")
    };
    let own = lines.iter().find(is_own);
    for line in &lines {
        let engine = line["engine"].as_str().unwrap_or_default();
        if let Some(why) = line["failed"].as_str() {
            println!("| {engine} | {why} |");
            continue;
        }
        let one = |what: &str| {
            line[what]
                .as_f64()
                .map_or("–".to_owned(), |ms| format!("{ms:.1}"))
        };
        // Ventral's time over theirs: what the targets are written in.
        let ratio = |what: &str| Some(format!("{:.2}", middle(own?, what)? / middle(line, what)?));
        let apart = line["apart"]
            .as_f64()
            .map_or("–".to_owned(), |v| format!("{v:.1e}"));
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        println!(
            "| {engine} | {} | {} | {} | {} | {} | {} | {apart} |",
            one("load"),
            one("first"),
            or_dash(spread(&line["infer"])),
            or_dash(ratio("infer")),
            or_dash(spread(&line["gradient"])),
            or_dash(ratio("gradient")),
        );
    }
    tell_cold(&lines);
    tell_cores(&lines);
    json!({ "model": name, "batch": batch, "place": place, "lines": lines })
}

/// Medians of forwards that came straight after another engine's.
fn tell_cold(lines: &[Value]) {
    let cold = lines.iter().filter_map(|line| {
        let all = sorted(&line["cold"]["infer"])?;
        let engine = line["engine"].as_str()?;
        Some(format!("{engine} {:.1}", all[all.len() / 2]))
    });
    let cold: Vec<String> = cold.collect();
    if !cold.is_empty() {
        println!(
            "\nforward straight after another engine's: {}",
            cold.join("; ")
        );
    }
}

/// What a second core added beside each forward on all threads: some machines share theirs.
fn tell_cores(lines: &[Value]) {
    let shares = lines.iter().find_map(|line| sorted(&line["cores"]));
    if let Some(all) = shares {
        let [middle, last] = [all.len() / 2, all.len() - 1];
        println!(
            "\ntwo workers that share nothing took {:.2} ({:.2} to {:.2}) of one's time for the same arithmetic",
            all[middle], all[0], all[last]
        );
    }
}

/// Median, least and most.
fn spread(times: &Value) -> Option<String> {
    let all = sorted(times)?;
    let [middle, last] = [all.len() / 2, all.len() - 1];
    Some(format!(
        "{:.1} ({:.1} to {:.1})",
        all[middle], all[0], all[last]
    ))
}

fn sorted(times: &Value) -> Option<Vec<f64>> {
    let mut all: Vec<f64> = times.as_array()?.iter().filter_map(Value::as_f64).collect();
    all.sort_by(f64::total_cmp);
    (!all.is_empty()).then_some(all)
}
