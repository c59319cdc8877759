//! The tab Test: the models, the plan and the images.

mod report;

use leptos::prelude::*;
use ventral::experiment::robustness::fields::{IMAGES, SEED};
use ventral::experiment::robustness::summary::{PRESETS, Preset};
use ventral::session::protocol::PlanKind;

use super::images;
use super::models::short_facts;
use super::parts::{self, chooser, icon, number};
use crate::state::App;

pub use report::results;

/// The form.
pub fn controls(app: App) -> AnyView {
    let body = view! {
        {plan(app)}
        {models(app)}
        {labelled(app)}
        {move || run(app)}
    };
    parts::panel(
        "test",
        "Robustness test",
        "",
        ().into_any(),
        body.into_any(),
    )
}

fn plan(app: App) -> AnyView {
    let option = |preset: &'static Preset| {
        let (name, title) = (preset.name, preset.title);
        view! { <option value=name selected=move || app.test.preset.with(|p| p == name)>{title}</option> }
    };
    let hint = move || {
        let preset = app.test.preset.get();
        match app.test.plan.get() {
            Some(plan) => format!("The plan in {}", plan.file),
            None => PRESETS
                .iter()
                .find(|p| p.name == preset)
                .map_or("", |p| p.description)
                .to_owned(),
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Plan"</legend>
            <label class="field wide">
                <span class="visually-hidden">"Plan"</span>
                <select
                    data-testid="test-plan"
                    on:change:target=move |e| {
                        app.test.plan.set(None);
                        app.test.preset.set(e.target().value());
                    }
                >
                    {PRESETS.iter().map(option).collect_view()}
                </select>
                {chooser("Own plan", ".toml,.json", "test-plan-file", move |file| app.take_plan(PlanKind::Test, file))}
            </label>
            <p class="hint" data-testid="test-plan-hint">{hint}</p>
            <div class="fields">
                {number(IMAGES.label, IMAGES.help, IMAGES.offer, "test-images", Signal::derive(move || app.test.images.get() as f64), Callback::new(move |n| app.test.images.set(n as usize)))}
                {number(SEED.label, SEED.help, SEED.offer, "test-seed", Signal::derive(move || app.test.seed.get() as f64), Callback::new(move |n| app.test.seed.set(n as u64)))}
            </div>
        </fieldset>
    }
    .into_any()
}

fn models(app: App) -> AnyView {
    let row = move |(name, title): (String, String)| {
        let (checked, noted, testid) = (name.clone(), name.clone(), format!("test-model-{name}"));
        let choose = move |name: &str, wanted: bool| match wanted {
            true => app.test.add(name),
            false => app.test.remove(name),
        };
        let note = move || app.models.facts(&noted).map(|m| short_facts(&m));
        view! {
            <li>
                <label class="check">
                    <input
                        type="checkbox"
                        data-testid=testid
                        prop:checked=move || app.test.chosen.with(|all| all.contains(&checked))
                        on:change:target=move |e| choose(&name, e.target().checked())
                    />
                    <span>{title} " " <span class="hint">{note}</span></span>
                </label>
            </li>
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Models"</legend>
            <ul class="choices">
                <For each=move || app.available_models() key=|(name, _)| name.clone() children=row />
            </ul>
            <div>{chooser("Add weights", ".safetensors,.pth,.pt,.tar,.ckpt", "test-weights", move |file| app.add_weights_to_test(file))}</div>
        </fieldset>
    }
    .into_any()
}

fn labelled(app: App) -> AnyView {
    let first = move || app.test.chosen.with(|all| all.first().cloned());
    let classes = view! { {move || images::mapping(app, first()?)} };
    images::fieldset(app, classes.into_any())
}

fn run(app: App) -> AnyView {
    if app.test.run.is_on() {
        return view! {
            <button class="button wide" data-testid="test-pause" on:click=move |_| app.pause_test()>
                {icon("stop")}
                "Pause"
            </button>
        }
        .into_any();
    }
    let words = match app.test.run.paused.get() {
        true => "Resume",
        false => "Run the test",
    };
    view! {
        <button
            class="button primary wide"
            data-testid="test-run"
            disabled=move || !app.test.is_ready()
            on:click=move |_| app.run_test()
        >
            {icon("play")}
            {words}
        </button>
        <p class="hint">"It can be paused, and resumes after a reload. Requests of other tabs interrupt it; it resumes when they are done."</p>
    }
    .into_any()
}
