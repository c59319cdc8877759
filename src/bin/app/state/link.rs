//! The address of the page holds everything but the visitor's own images and files.
//!
//! `#perturb?model=cornet-s-cifar10&sample=cifar/cat.png&backend=cpu&eps=4&steps=10`

use ventral::compute::description::BackendChoice;
use ventral::perturb::attack::{Norm, Setting, registry};
use ventral::perturb::noise::PixelNoiseKind;

use super::knobs::Knobs;
use super::tab::Tab;
use crate::dom;

/// Steps or queries that an address can ask for.
const MOST_STEPS: f32 = 20_000.0;

/// The state in an address. Missing parts are `None` and keep what the page has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    pub tab: Option<Tab>,
    pub model: Option<String>,
    pub sample: Option<String>,
    pub backend: Option<BackendChoice>,
    pub knobs: Option<Knobs>,
}

const BACKENDS: [(&str, BackendChoice); 4] = [
    ("auto", BackendChoice::Auto),
    ("cpu", BackendChoice::Cpu),
    ("webgpu", BackendChoice::WebGpu),
    ("webgpu-f16", BackendChoice::WebGpuHalf),
];

/// The word for a backend in an address, and in the picker's test ids.
pub fn backend_word(choice: BackendChoice) -> &'static str {
    BACKENDS
        .iter()
        .find(|(_, c)| *c == choice)
        .map_or("auto", |(word, _)| word)
}

/// Reads the address of the page. What cannot be read is left out.
pub fn read() -> Link {
    let hash = dom::window().location().hash().unwrap_or_default();
    parse(hash.trim_start_matches('#'))
}

/// Puts the state into the address without adding to the history.
pub fn write(link: &Link) {
    let Ok(history) = dom::window().history() else {
        return;
    };
    let hash = format!("#{}", format_link(link));
    // Refused only in sandboxed documents, where there is no address to share.
    let _ = history.replace_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some(&hash));
}

fn parse(text: &str) -> Link {
    let (tab, query) = text.split_once('?').unwrap_or((text, ""));
    let mut link = Link {
        tab: Tab::from_word(tab),
        ..Link::default()
    };
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decode(value);
        match key {
            "model" => link.model = Some(value),
            "sample" => link.sample = Some(value),
            "backend" => link.backend = BACKENDS.iter().find(|(w, _)| *w == value).map(|b| b.1),
            _ => read_knob(link.knobs.get_or_insert_default(), key, &value),
        }
    }
    if let Some(knobs) = &mut link.knobs {
        let norms = knobs.attack.norms;
        if !norms.is_empty() && !norms.contains(&knobs.norm) {
            knobs.norm = norms[0];
        }
    }
    link
}

fn read_knob(knobs: &mut Knobs, key: &str, value: &str) {
    let number = || value.parse::<f32>().ok().filter(|n| n.is_finite());
    match key {
        "eps" => set(
            &mut knobs.eps,
            number().map(|n| n.clamp(0.0, 255.0) / 255.0),
        ),
        "steps" => {
            if let Some(count) = number().map(|n| f64::from(n.trunc().clamp(1.0, MOST_STEPS))) {
                // One key, whichever of the two the attack counts.
                knobs.settings.set(Setting::Steps, count);
                knobs.settings.set(Setting::Queries, count);
            }
        }
        "step" => {
            if let Some(step) = number().map(|n| n.clamp(0.001, 2.0)) {
                knobs.settings.set(Setting::RelStep, f64::from(step));
            }
        }
        "attack" => set(&mut knobs.attack, registry::find(value)),
        "norm" => set(&mut knobs.norm, Norm::from_word(value)),
        "bits" => knobs.eight_bit = value == "8",
        "corruption" => knobs.corruption = value.parse().ok(),
        "severity" => set(&mut knobs.severity, number().map(|n| (n as u8).clamp(1, 5))),
        "random" => knobs
            .settings
            .set(Setting::RandomStart, f64::from(value == "1")),
        "target" => knobs.target = value.parse().ok(),
        "seed" => set(&mut knobs.seed, value.parse().ok()),
        "noise" => set(&mut knobs.noise_scale, number().map(|n| n.clamp(0.0, 1.0))),
        "kind" if value == "uniform" => knobs.noise_kind = PixelNoiseKind::Uniform,
        "front" => knobs.front_end_noise = value == "1",
        "eot" => set(&mut knobs.eot, number().map(|n| (n as usize).clamp(1, 64))),
        "fixed" => knobs.fixed_noise = value == "1",
        "passes" => set(
            &mut knobs.passes,
            number().map(|n| (n as usize).clamp(1, 200)),
        ),
        "chain" => knobs.kept = value.split('|').map(read_knobs).collect(),
        _ => {}
    }
}

/// Settings in the form of an address's query. What is not there is at rest.
fn read_knobs(text: &str) -> Knobs {
    let mut knobs = Knobs::default().rested();
    for (key, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
        if key != "chain" {
            read_knob(&mut knobs, key, value);
        }
    }
    knobs
}

/// A stage of a chain in that form. Its values hold no `&` and no `|`.
fn stage_text(stage: &Knobs) -> String {
    let mut parts: Vec<String> = Vec::new();
    write_knobs(stage, &mut |key, value| {
        parts.push(format!("{key}={value}"))
    });
    parts.join("&")
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn format_link(link: &Link) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut put = |key: &str, value: String| parts.push(format!("{key}={}", encode(&value)));
    if let Some(model) = &link.model {
        put("model", model.clone());
    }
    if let Some(sample) = &link.sample {
        put("sample", sample.clone());
    }
    if let Some(backend) = link.backend.filter(|b| *b != BackendChoice::Auto) {
        put("backend", backend_word(backend).to_owned());
    }
    if let (Some(Tab::Perturb), Some(knobs)) = (link.tab, &link.knobs) {
        write_knobs(knobs, &mut put);
    }
    let tab = link.tab.unwrap_or_default().word();
    match parts.is_empty() {
        true => tab.to_owned(),
        false => format!("{tab}?{}", parts.join("&")),
    }
}

fn write_knobs(knobs: &Knobs, put: &mut dyn FnMut(&str, String)) {
    let usual = Knobs::default();
    if knobs.attack != usual.attack {
        put("attack", knobs.attack.name.to_owned());
    }
    if knobs.norm != usual.norm {
        put("norm", knobs.norm.word().to_owned());
    }
    if knobs.eight_bit {
        put("bits", "8".to_owned());
    }
    if let Some(corruption) = knobs.corruption {
        put("corruption", corruption.name().to_owned());
        put("severity", knobs.severity.to_string());
    }
    put(
        "eps",
        format!("{}", (knobs.eps * 255.0 * 1000.0).round() / 1000.0),
    );
    put("steps", knobs.count().to_string());
    put("step", (knobs.value(Setting::RelStep) as f32).to_string());
    put("noise", knobs.noise_scale.to_string());
    if knobs.noise_kind != usual.noise_kind {
        put("kind", "uniform".to_owned());
    }
    if knobs.value(Setting::RandomStart) > 0.0 {
        put("random", "1".to_owned());
    }
    if let Some(target) = knobs.target {
        put("target", target.to_string());
    }
    if knobs.seed != usual.seed {
        put("seed", knobs.seed.to_string());
    }
    if knobs.front_end_noise {
        put("front", "1".to_owned());
        put("eot", knobs.eot.to_string());
        put("passes", knobs.passes.to_string());
        if knobs.fixed_noise {
            put("fixed", "1".to_owned());
        }
    }
    if !knobs.kept.is_empty() {
        let stages: Vec<String> = knobs.kept.iter().map(stage_text).collect();
        put("chain", stages.join("|"));
    }
}

fn encode(text: &str) -> String {
    // A path's slash may stand in a fragment, and reads better.
    String::from(js_sys::encode_uri_component(text)).replace("%2F", "/")
}

fn decode(text: &str) -> String {
    js_sys::decode_uri_component(text).map_or_else(|_| text.to_owned(), String::from)
}
