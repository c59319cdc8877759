//! The device: which, why, how well it agrees with the CPU, and the choice of another.

use leptos::prelude::*;
use ventral::compute::description::{BackendChoice, BackendInfo};

use super::parts;
use crate::numbers;
use crate::state::{App, backend_word};

const CHOICES: [(BackendChoice, &str); 4] = [
    (BackendChoice::Auto, "Auto"),
    (BackendChoice::Cpu, "CPU"),
    (BackendChoice::WebGpu, "WebGPU"),
    (BackendChoice::WebGpuHalf, "GPU\u{a0}f16"),
];

/// The backend picker and what is known of the device.
pub fn panel(app: App) -> AnyView {
    let body = view! {
        {parts::segmented(
            "backend",
            "Backend",
            CHOICES.map(|(choice, label)| (choice, backend_word(choice), label)).to_vec(),
            move || app.backend_choice.get(),
            move |choice| app.choose_backend(choice),
        )}
        {move || app.compiling.get().then(|| view! {
            <p class="hint" data-testid="compiling">
                "The program for the GPU is still being compiled. Until it is there, the CPU computes."
            </p>
        })}
        {move || match app.backend.get() {
            Some(info) => facts(app, &info),
            None => parts::skeleton(3),
        }}
    };
    parts::panel("compute", "Compute", "", ().into_any(), body.into_any())
}

fn facts(app: App, info: &BackendInfo) -> AnyView {
    let name = match info.software {
        true => format!("{} (software)", info.name),
        false => info.name.clone(),
    };
    let check = info.self_check.map(|check| {
        format!(
            "{} off the CPU, in {}",
            numbers::scientific(check.max_relative_error),
            numbers::duration(check.milliseconds),
        )
    });
    let memory = move || app.analysis.get().map(|a| numbers::bytes(a.memory as f64));
    let pass = move || {
        app.analysis
            .get()
            .map(|a| numbers::duration(a.milliseconds))
    };
    view! {
        <dl class="table">
            {row("In use", "backend-in-use", move || Some(name.clone()))}
            {row("Adapter", "adapter", {
                let adapter = info.adapter.clone();
                move || Some(adapter.clone().unwrap_or_else(|| "no WebGPU adapter".to_owned()))
            })}
            {row("Self-check", "self-check", move || check.clone())}
            {row("One pass", "backend-pass", pass)}
            {row("Memory", "backend-memory", memory)}
        </dl>
        <p class="hint" data-testid="backend-note">{info.note.clone()}</p>
    }
    .into_any()
}

fn row(
    name: &'static str,
    testid: &'static str,
    value: impl Fn() -> Option<String> + Send + 'static,
) -> AnyView {
    let value = move || value().unwrap_or_else(|| "–".to_owned());
    view! {
        <div>
            <dt>{name}</dt>
            <dd class="num" data-testid=testid>{value}</dd>
        </div>
    }
    .into_any()
}
