//! The worker in Chromium against the reference implementations, on the CPU and on WebGPU: the
//! same table of tensors as the native test, through the same messages that the page sends.

mod common;
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::parity::{CASES, Case, requests, worst_error};
use serde_json::{Value, json};
use support::{Browser, Gpu};
use ventral::session::protocol::{Bytes, RawTensor, RunOptions};

/// Largest relative error in the browser.
const TOLERANCE: f32 = 1e-3;

/// A client of the worker: `ask(body, files)` resolves to the events of a request.
const CLIENT: &str = r#"
const [weights, name, runs, backend] = arguments_;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = (bytes) => {
  let all = "";
  for (let i = 0; i < bytes.length; i += 8192) all += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(all);
};
const worker = new Worker("./worker_boot.js");
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

/// The backend that answered, and the errors.
fn run(browser: &mut Browser, case: &Case, backend: &str) -> Option<(Value, Vec<(String, f32)>)> {
    let requests = requests(case)?;
    let mut weights = Vec::new();
    std::io::copy(&mut common::parity::weights(case), &mut weights).expect("a fixture reads");
    let runs: Vec<Value> = requests
        .iter()
        .map(|(options, _)| as_json(options))
        .collect();
    let arguments = [
        json!(STANDARD.encode(weights)),
        json!(case.weights),
        json!(runs),
        json!(backend),
    ];
    let body = CLIENT.replace("arguments_", "arguments");
    let answer = browser.run_within(&body, &arguments, 300);
    let answers = answer["answers"].as_array().expect("one answer a request");
    let mut errors = Vec::new();
    for (tensors, (_, reference)) in answers.iter().zip(&requests) {
        errors.extend(worst_error(&from_json(tensors), reference));
    }
    Some((answer["backend"].clone(), errors))
}

fn parity(gpu: Gpu, backend: &str) {
    let Some(mut browser) = Browser::on_built_page(gpu) else {
        return;
    };
    browser.goto("");
    for case in CASES {
        let Some((info, errors)) = run(&mut browser, case, backend) else {
            println!("skipped {}: ../shared/fixtures is not here", case.weights);
            continue;
        };
        assert_eq!(info["kind"], backend, "{info}");
        for (name, error) in &errors {
            println!("{backend:8} {:32} {name:12} {error:.2e}", case.weights);
            assert!(*error < TOLERANCE, "{} {name}: {error:e}", case.weights);
        }
        assert!(errors.len() >= 2, "{} compared too little", case.weights);
    }
}

#[test]
fn every_family_agrees_on_the_cpu() {
    parity(Gpu::Absent, "cpu");
}

#[test]
fn every_family_agrees_on_webgpu() {
    parity(Gpu::Software, "web-gpu");
}
