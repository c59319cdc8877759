//! The worker in Chromium against the reference implementations, on the CPU and on WebGPU: the
//! same table of tensors as the native test, through the same messages that the page sends.
#![cfg(feature = "compute")]

mod common;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::arrays::{array, fixture, full_fixture};
use common::browser::{Browser, Gpu};
use common::parity::{CASES, Case, errors, hold, move_by_rounding, requests};
use common::roundtrip::{WIDTHS, logit_requests, published, rewritten, worst_logit};
use serde_json::{Value, json};
use ventral::archive::npy::Array;
use ventral::perturb::attack::criterion::argmax;
use ventral::perturb::attack::{Norm, Setting, Settings};
use ventral::session::protocol::{AttackOptions, Bytes, RawTensor, RunOptions};

/// Largest relative error in the browser.
const TOLERANCE: f32 = 1e-3;

/// Where the worker computes.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// On one thread of the CPU, in the program that every browser can run.
    Cpu,
    /// On all the CPU's cores, in the other.
    AllCores,
    WebGpu,
}

impl Place {
    fn gpu(self) -> Gpu {
        match self {
            Self::WebGpu => Gpu::Software,
            _ => Gpu::Absent,
        }
    }

    /// The backend as a request names it.
    fn backend(self) -> &'static str {
        match self {
            Self::WebGpu => "web-gpu",
            _ => "cpu",
        }
    }

    /// What tells the loader which program to take.
    fn query(self) -> &'static str {
        match self {
            Self::AllCores => "?device=cpu",
            _ => "",
        }
    }

    /// Whether a backend that answered is the one that was meant.
    fn is(self, info: &Value) -> bool {
        let name = info["name"].as_str().unwrap_or_default();
        let one = name.ends_with(" 1 thread");
        let threads = match self {
            Self::Cpu => one,
            Self::AllCores => {
                !one || std::thread::available_parallelism().is_ok_and(|n| n.get() == 1)
            }
            Self::WebGpu => true,
        };
        info["kind"] == self.backend() && threads
    }
}

/// A client of the worker: `ask(body, files)` resolves to the events of a request.
const CLIENT: &str = r#"
const [weights, name, runs, backend, query, shapes] = arguments_;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = (bytes) => {
  let all = "";
  for (let i = 0; i < bytes.length; i += 8192) all += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(all);
};
const worker = new Worker("./worker_boot.js" + query);
const waiting = new Map();
const hello = new Promise((resolve, reject) => {
  worker.onerror = (e) => reject(new Error(e.message));
  worker.onmessage = ({ data }) => {
    if (data.crashed) reject(new Error(data.crashed));
    if (data.hello) resolve();
    if (!data.envelope) return;
    const { id, body } = data.envelope;
    const request = waiting.get(id);
    request.events.push(body);
    if (body === "Done" || body === "Cancelled" || body.Failed) request.resolve(request.events);
  };
});
let last = 0;
const ask = (body, files = []) => new Promise((resolve, reject) => {
  last += 1;
  waiting.set(last, { events: [], resolve });
  worker.onerror = (e) => reject(new Error(e.message));
  worker.postMessage({ envelope: { id: last, body }, files });
});
const raw = (t) => ({ ...t, data: bytes(t.data) });
await hello;
const started = await ask({ Start: { backend } });
const loaded = await ask({ LoadFile: { file_name: name } }, [new Blob([bytes(weights)])]);
const failed = [...started, ...loaded].find((e) => e.Failed);
if (failed) throw new Error(failed.Failed.sentence);
if (shapes) {
  const events = await ask({ CheckKernels: { shapes } });
  return events.find((e) => e.Kernels).Kernels.max_relative_error;
}
const answers = [];
for (const run of runs) {
  const options = { ...run, input: raw(run.input), noise: run.noise ? raw(run.noise) : undefined };
  const events = await ask({ Run: options });
  const found = events.find((e) => e.Tensors);
  if (!found) throw new Error(JSON.stringify(events));
  answers.push(found.Tensors.map((t) => ({ ...t, data: text(t.data) })));
}
worker.terminate();
return { backend: started.find((e) => e.Backend).Backend, answers };
"#;

fn as_json(options: &RunOptions) -> Value {
    let raw = |t: &RawTensor| json!({ "name": t.name, "shape": t.shape, "data": STANDARD.encode(&t.data) });
    json!({
        "input": raw(&options.input),
        "normalised": options.normalised,
        "taps": options.taps,
        "noise": options.noise.as_ref().map(raw),
        "labels": options.labels,
        "attack": options.attack,
    })
}

fn from_json(tensors: &Value) -> Vec<RawTensor> {
    let tensors = tensors.as_array().expect("a list of tensors");
    tensors
        .iter()
        .map(|t| RawTensor {
            name: t["name"].as_str().expect("a name").to_owned(),
            shape: t["shape"]
                .as_array()
                .expect("a shape")
                .iter()
                .map(|d| d.as_u64().expect("a length") as usize)
                .collect(),
            data: Bytes::from(
                STANDARD
                    .decode(t["data"].as_str().expect("text"))
                    .expect("base64"),
            ),
        })
        .collect()
}

/// Asks a worker with these weights; the tensors of each request.
fn ask(
    browser: &mut Browser,
    (name, weights): (&str, &[u8]),
    runs: &[RunOptions],
    place: Place,
) -> Vec<Vec<RawTensor>> {
    let runs: Vec<Value> = runs.iter().map(as_json).collect();
    let arguments = [
        json!(STANDARD.encode(weights)),
        json!(name),
        json!(runs),
        json!(place.backend()),
        json!(place.query()),
    ];
    let body = CLIENT.replace("arguments_", "arguments");
    let answer = browser.run_within(&body, &arguments, 900);
    let answers = answer["answers"].as_array().expect("one answer a request");
    assert!(
        place.is(&answer["backend"]),
        "{place:?}: {}",
        answer["backend"]
    );
    answers.iter().map(from_json).collect()
}

/// The errors.
fn run(browser: &mut Browser, case: &Case, place: Place) -> Option<Vec<(String, f32)>> {
    let requests = requests(case)?;
    let weights = published(case);
    let mut answers = |runs: &[RunOptions]| ask(browser, (case.weights, &weights), runs, place);
    Some(errors(&requests, &mut answers))
}

fn parity(place: Place) {
    let Some(mut browser) = Browser::on_built_page(place.gpu()) else {
        return;
    };
    browser.goto("");
    for case in CASES {
        let Some(errors) = run(&mut browser, case, place) else {
            continue;
        };
        hold(&format!("{place:?}"), case, &errors, TOLERANCE);
    }
}

#[test]
fn every_family_agrees_on_the_cpu() {
    parity(Place::Cpu);
}

#[test]
fn every_family_agrees_on_all_cores() {
    parity(Place::AllCores);
}

#[test]
fn every_family_agrees_on_webgpu() {
    parity(Place::WebGpu);
}

/// Every kernel against the CPU's, values and gradients, on two hundred shapes drawn at random; the
/// CPU's are held to Burn's by the native test.
fn kernels(place: Place) {
    let Some(mut browser) = Browser::on_built_page(place.gpu()) else {
        return;
    };
    browser.goto("");
    let case = &CASES[0];
    let arguments = [
        json!(STANDARD.encode(published(case))),
        json!(case.weights),
        json!([]),
        json!(place.backend()),
        json!(place.query()),
        json!(200),
    ];
    let body = CLIENT.replace("arguments_", "arguments");
    let error = browser.run_within(&body, &arguments, 900);
    println!("{place:?}: {error} apart");
    let error = error.as_f64().expect("a number");
    assert!(error < 2e-5, "{place:?}: {error}");
}

#[test]
fn every_kernel_agrees_on_webgpu() {
    kernels(Place::WebGpu);
}

/// A worker that counts the bytes of its buffers: those of memory that a GPU holds for it.
const COUNTING: &str = r#"
"use strict";
let bytes = 0;
const { createBuffer } = GPUDevice.prototype;
GPUDevice.prototype.createBuffer = function (wanted) {
  bytes += wanted.size;
  return createBuffer.call(this, wanted);
};
const { destroy } = GPUBuffer.prototype;
GPUBuffer.prototype.destroy = function () {
  bytes -= this.size;
  return destroy.call(this);
};
self.addEventListener("message", (event) => {
  if (!event.data.count) return;
  event.stopImmediatePropagation();
  self.postMessage({ bytes });
});
importScripts("./worker_boot.js");
"#;

/// Forwards, and a gradient after every ten of them; the bytes held before and after.
const RUNS: &str = r#"
const side = 32;
const input = () => {
  const pixels = new Float32Array(3 * side * side).map((_, i) => (i % 251) / 251);
  return { name: "input", shape: [1, 3, side, side], data: new Uint8Array(pixels.buffer) };
};
const run = async (labels) => {
  const options = { input: input(), normalised: false, taps: ["logits"], noise: null, labels, attack: null };
  const events = await ask({ Run: options });
  if (!events.find((e) => e.Tensors)) throw new Error(JSON.stringify(events));
};
const held = () => new Promise((resolve) => {
  const take = ({ data }) => {
    if (data.bytes === undefined) return;
    worker.removeEventListener("message", take);
    resolve(data.bytes);
  };
  worker.addEventListener("message", take);
  worker.postMessage({ count: true });
});
const many = async (count) => {
  for (let i = 0; i < count; i += 1) {
    await run([]);
    if (i % 10 === 0) await run([0]);
  }
  return held();
};
const found = [await many(50), await many(1000)];
worker.terminate();
return found;
"#;

#[test]
fn memory_of_a_gpu_does_not_grow_over_a_thousand_runs() {
    let Some(dist) = std::env::var_os("VENTRAL_DIST").map(PathBuf::from) else {
        common::skip("VENTRAL_DIST is not set");
        return;
    };
    let weights = fs::read(dist.join("models/resnet-cifar10.safetensors")).expect("it is shipped");
    let site = tempfile::tempdir().expect("a folder");
    let listed = fs::read_dir(&dist).expect("the built page").flatten();
    for file in listed.filter(|entry| entry.path().is_file()) {
        let to = site.path().join(file.file_name());
        fs::copy(file.path(), to).expect("it can be copied");
    }
    fs::write(site.path().join("counting.js"), COUNTING).expect("it can be written");
    let Some(mut browser) = Browser::on(site.path(), Gpu::Software) else {
        return;
    };
    browser.goto("");
    let client = CLIENT.replace("arguments_", "arguments");
    let client = client.replace("./worker_boot.js", "./counting.js");
    let (client, _) = client.split_once("if (shapes)").expect("it has this part");
    let place = Place::WebGpu;
    let arguments = [
        json!(STANDARD.encode(weights)),
        json!("resnet-cifar10.safetensors"),
        json!([]),
        json!(place.backend()),
        json!(place.query()),
        json!(0),
    ];
    let held = browser.run_within(&format!("{client}{RUNS}"), &arguments, 900);
    println!("bytes after 50 and after 1,050 runs: {held}");
    let bytes = |place: usize| held[place].as_u64().expect("a number");
    assert!(bytes(0) > 1 << 20, "{held}: buffers were not counted");
    assert!(bytes(1) <= bytes(0), "{held}: it grew");
}

fn roundtrip(place: Place) {
    let Some(mut browser) = Browser::on_built_page(place.gpu()) else {
        return;
    };
    browser.goto("");
    for case in CASES {
        let Some(requests) = logit_requests(case) else {
            continue;
        };
        let runs: Vec<RunOptions> = requests.iter().map(|(run, _)| run.clone()).collect();
        for width in WIDTHS {
            let (name, bytes) = rewritten(case, width.f16);
            let answers = ask(&mut browser, (&name, &bytes), &runs, place);
            let error = worst_logit(&answers, &requests);
            println!("{place:8?} {name:32} f16 {:5} {error:.2e}", width.f16);
            assert!(error <= width.bound, "{name} {width:?}: {error:e}");
        }
    }
}

#[test]
fn checkpoints_written_again_keep_their_logits_on_the_cpu() {
    roundtrip(Place::Cpu);
}

#[test]
fn checkpoints_written_again_keep_their_logits_on_webgpu() {
    roundtrip(Place::WebGpu);
}

/// Norms of adversarial images may differ by this, relative to the reference's.
const NORMS_APART: f64 = 0.01;

/// Stored attacks: `(name, norm, ε, steps, step ÷ ε)`, the network and its images.
struct Attacked {
    weights: &'static str,
    /// In the full reference set only.
    full: bool,
    suffix: &'static str,
    stored: &'static str,
    runs: &'static [(&'static str, Norm, f32, usize, f32)],
}

const ATTACKED: [Attacked; 2] = [
    Attacked {
        weights: "small_cnn.safetensors",
        full: false,
        suffix: "small",
        stored: "attacks_small_cnn.npz",
        runs: &[
            ("linf_pgd/eps0", Norm::Linf, 4.0 / 255.0, 10, 1.0 / 30.0),
            ("linf_pgd/eps1", Norm::Linf, 16.0 / 255.0, 10, 1.0 / 30.0),
            ("l2_pgd/eps0", Norm::L2, 1.0, 10, 0.1),
            ("l1_pgd/eps0", Norm::L1, 10.0, 10, 0.1),
        ],
    },
    Attacked {
        weights: "cornet_s_div8.pth",
        full: true,
        suffix: "cornet_s",
        stored: "attacks_cornet_s_div8.npz",
        runs: &[
            ("linf_pgd/eps0", Norm::Linf, 16.0 / 255.0, 10, 1.0 / 30.0),
            ("l2_pgd/eps0", Norm::L2, 4.0, 10, 0.1),
            ("l1_pgd/eps0", Norm::L1, 40.0, 10, 0.1),
        ],
    },
];

/// An array of the reference; `None` for what is in the full set only, where that is not here.
fn read(case: &Attacked, npz: &str, key: &str) -> Option<Array> {
    match case.full {
        true => Some(array(&mut full_fixture(npz)?, key)),
        false => Some(array(&mut fixture(npz), key)),
    }
}

fn floats(tensors: &[RawTensor], name: &str) -> Vec<f32> {
    let found = tensors.iter().find(|t| t.name == name);
    let words = found
        .expect("a tensor of that name")
        .data
        .as_chunks::<4>()
        .0;
    words.iter().map(|w| f32::from_le_bytes(*w)).collect()
}

/// Runs that follow an answer that is off, from images moved by less than they resolve.
const MOVED: usize = 4;

/// A case's images, as they are or moved, and what is done to them.
fn attacked(
    case: &Attacked,
    x: &Array,
    labels: &[usize],
    moved: usize,
) -> (Vec<f32>, Vec<RunOptions>) {
    let mut clean = x.data.to_f32();
    if moved > 0 {
        move_by_rounding(&mut clean, moved);
        clean.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    }
    let bytes: Vec<u8> = clean.iter().flat_map(|v| v.to_le_bytes()).collect();
    let run = |(_, norm, eps, steps, rel_step): &(&str, Norm, f32, usize, f32)| RunOptions {
        input: RawTensor {
            name: "x".to_owned(),
            shape: x.shape.clone(),
            data: Bytes::from(bytes.clone()),
        },
        labels: labels.to_vec(),
        attack: Some(AttackOptions {
            name: "pgd".to_owned(),
            settings: Settings::of([
                (Setting::Eps, f64::from(*eps)),
                (Setting::Steps, *steps as f64),
                (Setting::RelStep, f64::from(*rel_step)),
            ])
            .in_norm(*norm),
            seed: 0,
            eot: 1,
            fixed_noise: false,
            target: None,
            eight_bit: false,
        }),
        ..RunOptions::default()
    };
    let runs = case.runs.iter().map(run).collect();
    (clean, runs)
}

/// How far the norms of our adversarial images are from those of theirs, relative to these: for each
/// image in each norm.
fn apart(n: usize, [ours, our_clean]: [&[f32]; 2], [theirs, clean]: [&[f32]; 2]) -> Vec<f64> {
    let length = clean.len() / n;
    let image = |all: &[f32], i: usize| all[i * length..][..length].to_vec();
    let of = |i: usize| {
        Norm::ALL.map(|norm| {
            let a = norm.distance(&image(ours, i), &image(our_clean, i));
            let b = norm.distance(&image(theirs, i), &image(clean, i));
            (a - b).abs() / b
        })
    };
    (0..n).flat_map(of).collect()
}

fn largest(all: &[f64]) -> f64 {
    all.iter().copied().fold(0.0, f64::max)
}

/// The median of each place.
fn medians(runs: &[Vec<f64>]) -> Vec<f64> {
    let of = |place: usize| {
        let mut all: Vec<f64> = runs.iter().map(|run| run[place]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    (0..runs[0].len()).map(of).collect()
}

/// Success flags equal, norms within 1 %, as the native test has it.
///
/// A step of an attack makes roundings large where a unit is at the kink of its ReLU: of two equal
/// programs one may go one way and one the other. An attack whose norms are off is therefore run
/// again from images moved by a rounding, and most of the runs must agree.
fn pgd(place: Place) {
    let Some(mut browser) = Browser::on_built_page(place.gpu()) else {
        return;
    };
    browser.goto("");
    for case in ATTACKED {
        let Some(x) = read(&case, "attack_inputs.npz", &format!("x_{}", case.suffix)) else {
            continue;
        };
        let labels = read(&case, "attack_inputs.npz", &format!("y_{}", case.suffix));
        let labels = labels
            .and_then(|l| l.data.to_i64())
            .expect("labels are integers");
        let labels: Vec<usize> = labels.into_iter().map(|l| l as usize).collect();
        let (clean, n) = (x.data.to_f32(), x.shape[0]);
        let path = match case.full {
            true => common::shared(&format!("fixtures/{}", case.weights)).expect("it was there"),
            false => common::reference(case.weights),
        };
        let weights = fs::read(path).expect("a fixture reads");
        let mut run = |which: Option<usize>, moved: usize| {
            let (from, mut runs) = attacked(&case, &x, &labels, moved);
            if let Some(which) = which {
                runs = vec![runs.swap_remove(which)];
            }
            let answers = ask(&mut browser, (case.weights, &weights), &runs, place);
            (from, answers)
        };
        let (_, answers) = run(None, 0);
        for (which, ((name, ..), tensors)) in case.runs.iter().zip(&answers).enumerate() {
            let what = format!("{} {name} on {place:?}", case.weights);
            let logits = floats(tensors, "logits");
            let rows = logits.chunks(logits.len() / n).zip(&labels);
            let success: Vec<bool> = rows.map(|(row, label)| argmax(row) != *label).collect();
            let flags = read(&case, case.stored, &format!("{name}/success")).expect("stored");
            let flags: Vec<bool> = flags.data.to_f32().iter().map(|f| *f != 0.0).collect();
            assert_eq!(success, flags, "{what}: success");
            let theirs = read(&case, case.stored, &format!("{name}/adv"));
            let theirs = theirs.expect("stored").data.to_f32();
            let compare = |tensors: &[RawTensor], from: &[f32]| {
                let ours = floats(tensors, "adv");
                apart(n, [&ours, from], [&theirs, &clean])
            };
            let mut found = vec![compare(tensors, &clean)];
            if largest(&found[0]) > NORMS_APART {
                for moved in 1..=MOVED {
                    let (from, answers) = run(Some(which), moved);
                    found.push(compare(&answers[0], &from));
                }
            }
            let each: Vec<String> = found
                .iter()
                .map(|run| format!("{:.1e}", largest(run)))
                .collect();
            let worst = largest(&medians(&found));
            println!(
                "{what}: norms within {worst:.1e} (runs: {})",
                each.join(", ")
            );
            assert!(worst < NORMS_APART, "{what}: norms differ by {worst}");
        }
    }
}

#[test]
fn pgd_agrees_on_the_cpu() {
    pgd(Place::Cpu);
}

#[test]
fn pgd_agrees_on_all_cores() {
    pgd(Place::AllCores);
}

#[test]
fn pgd_agrees_on_webgpu() {
    pgd(Place::WebGpu);
}
