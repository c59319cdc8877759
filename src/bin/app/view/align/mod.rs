//! The tab Align: what is aligned with what, and how.

mod report;

use leptos::prelude::*;
use ventral::align::fields::{FIELDS, place};
use ventral::session::protocol::{PlanKind, Recorded};

use super::images;
use super::models::short_facts;
use super::parts::{self, chooser, icon, number};
use crate::state::{App, CONTROLS, Choice, FORMS, Form, KINDS, OPTIMISERS, ROBUSTNESS};

pub use report::results;

/// A number of the plan: its key and its test id.
type Number = (&'static str, &'static str);

/// Weights of the terms.
const TERMS: [Number; 6] = [
    ("losses.cross_entropy", "align-ce"),
    ("losses.cka", "align-cka"),
    ("losses.similarity", "align-similarity"),
    ("losses.harmonizer", "align-harmonizer"),
    ("losses.distillation", "align-distil"),
    ("losses.stay", "align-stay"),
];

/// Numbers that are always shown.
const TRAINING: [Number; 4] = [
    ("steps", "align-steps"),
    ("batch", "align-batch"),
    ("schedule.peak", "align-rate"),
    ("seed", "align-seed"),
];

/// Numbers under "More settings".
const DETAILS: [Number; 10] = [
    ("losses.temperature", "align-temperature"),
    ("losses.label_smoothing", "align-smoothing"),
    ("losses.warm_up", "align-warm-up"),
    ("schedule.warm_up", "align-rate-warm-up"),
    ("optimiser.weight_decay", "align-decay"),
    ("clip", "align-clip"),
    ("validation.stimuli", "align-held-stimuli"),
    ("validation.neuroids", "align-held-neuroids"),
    ("validation.every", "align-every"),
    ("validation.patience", "align-patience"),
];

const POPULATION: [Number; 3] = [
    ("target.neuroids", "align-neuroids"),
    ("target.repetitions", "align-repetitions"),
    ("target.rate", "align-spikes"),
];

const STIMULI: Number = ("data.stimuli", "align-stimuli");

/// A kind of recording: button, endings, test id.
type Opening = (Recorded, &'static str, &'static str, &'static str);

const RESPONSES: Opening = (
    Recorded::Responses,
    "Open responses",
    ".npy,.npz,.csv,.tsv,.h5,.hdf5,.nc",
    "align-responses",
);

const LABELS: Opening = (
    Recorded::Labels,
    "Labels (CSV)",
    ".csv,.tsv",
    "align-labels",
);

const HEAT_MAPS: Opening = (
    Recorded::HeatMaps,
    "Heat maps",
    ".npy,.npz,.zip",
    "align-maps",
);

/// The form.
pub fn controls(app: App) -> AnyView {
    let tools = view! {
        {chooser("Own plan", ".toml,.json", "align-plan-file", move |file| app.take_plan(PlanKind::Align, file))}
        <button class="tool" title="Save the settings as a plan, for this page or ventral align" data-testid="align-save-plan" on:click=move |_| app.save_align_plan()>
            {icon("down")}
            "Save plan"
        </button>
    };
    let body = view! {
        {move || own_plan(app)}
        <div class="numbered">
            {model(app)}
            {target(app)}
            {labelled(app)}
            {losses(app)}
            {training(app)}
            {controls_of_it(app)}
        </div>
        {move || run(app)}
    };
    parts::panel("align", "Alignment", "", tools.into_any(), body.into_any())
}

/// Says that the form below is not what will be run.
fn own_plan(app: App) -> Option<AnyView> {
    let name = app.align.plan.get()?.file;
    Some(
        view! {
            <p class="note" data-testid="align-plan">
                <span>"The plan in " <strong>{name}</strong> " replaces the settings in 1 to 5, until one of them is changed."</span>
                <button class="tool bare" aria-label="Dismiss the plan" data-testid="align-plan-dismiss" on:click=move |_| app.align.dismiss_plan()>
                    {icon("close")}
                </button>
            </p>
        }
        .into_any(),
    )
}

/// A row of a label and a choice.
fn choice(
    label: &'static str,
    testid: &'static str,
    options: Signal<Vec<(String, String)>>,
    now: Signal<String>,
    choose: Callback<String>,
) -> AnyView {
    let option = move |(value, text): (String, String)| {
        let this = value.clone();
        view! { <option value=value prop:selected=move || now.get() == this>{text}</option> }
    };
    view! {
        <label class="field wide">
            <span class="field-name">{label}</span>
            <select data-testid=testid on:change:target=move |e| choose.run(e.target().value())>
                {move || options.get().into_iter().map(option).collect_view()}
            </select>
        </label>
    }
    .into_any()
}

/// A choice among a few words, kept in the form.
fn word(
    app: App,
    label: &'static str,
    testid: &'static str,
    words: &'static [Choice],
    of: fn(&mut Form) -> &mut String,
) -> AnyView {
    let pairs = words
        .iter()
        .map(|(word, title)| ((*word).to_owned(), (*title).to_owned()));
    let pairs: Vec<_> = pairs.collect();
    choice(
        label,
        testid,
        Signal::stored(pairs),
        current(app, of),
        Callback::new(move |word| app.align.set(|form| *of(form) = word)),
    )
}

/// A text of the form. The accessor is the one that changes it, on a copy.
fn current(app: App, of: fn(&mut Form) -> &mut String) -> Signal<String> {
    Signal::derive(move || of(&mut app.align.form.get()).clone())
}

/// A choice among the models at hand. Another model has other areas.
fn model_choice(
    app: App,
    label: &'static str,
    testid: &'static str,
    of: fn(&mut Form) -> [&mut String; 2],
) -> AnyView {
    choice(
        label,
        testid,
        Signal::derive(move || app.available_models()),
        Signal::derive(move || of(&mut app.align.form.get())[0].clone()),
        Callback::new(move |name| {
            app.align.set(|form| {
                let [model, area] = of(form);
                *model = name;
                area.clear();
            });
        }),
    )
}

/// A choice among a model's areas; the usual one until they are known.
fn area_choice(
    app: App,
    testid: &'static str,
    now: fn(App) -> String,
    of: fn(&mut Form) -> [&mut String; 2],
) -> AnyView {
    let areas = move || {
        let model = of(&mut app.align.form.get())[0].clone();
        let known = app.models.facts(&model).map(|m| m.areas);
        let areas = known
            .filter(|all| !all.is_empty())
            .unwrap_or_else(|| vec![now(app)]);
        areas.into_iter().map(|area| (area.clone(), area)).collect()
    };
    choice(
        "Area",
        testid,
        Signal::derive(areas),
        Signal::derive(move || now(app)),
        Callback::new(move |area| app.align.set(|form| *of(form)[1] = area)),
    )
}

fn aligned(form: &mut Form) -> [&mut String; 2] {
    [&mut form.model, &mut form.area]
}

fn targeted(form: &mut Form) -> [&mut String; 2] {
    [&mut form.target_model, &mut form.target_area]
}

/// A number of the plan.
fn setting(app: App, (key, testid): Number) -> Option<AnyView> {
    let field = &FIELDS[place(key)?];
    let set = move |n| app.align.set(|form| form.set_number(key, n));
    Some(number(
        field.label,
        field.help,
        field.offer,
        testid,
        Signal::derive(move || app.align.form.with(|form| form.number(key))),
        Callback::new(set),
    ))
}

fn settings(app: App, all: &[Number]) -> AnyView {
    let fields = all.iter().map(|n| setting(app, *n)).collect_view();
    view! { <div class="fields even">{fields}</div> }.into_any()
}

fn robustness(app: App) -> AnyView {
    let set = move |n| {
        app.align.set_beside_plan(|form| form.robustness = n);
    };
    let field = number(
        "Robustness images",
        "Images of the robustness test",
        ROBUSTNESS,
        "align-robustness",
        Signal::derive(move || app.align.form.with(|form| form.robustness)),
        Callback::new(set),
    );
    view! { <div class="fields even">{field}</div> }.into_any()
}

/// A box to tick.
fn tick(
    testid: String,
    label: String,
    hint: &'static str,
    now: Signal<bool>,
    set: Callback<bool>,
) -> AnyView {
    view! {
        <label class="check">
            <input type="checkbox" data-testid=testid prop:checked=move || now.get() on:change:target=move |e| set.run(e.target().checked()) />
            <span>{label} " " <span class="hint">{hint}</span></span>
        </label>
    }
    .into_any()
}

fn model(app: App) -> AnyView {
    let summary = move || {
        let name = app.align.form.with(|form| form.model.clone());
        app.models.facts(&name).map(|m| short_facts(&m))
    };
    view! {
        <fieldset class="knobs">
            <legend>"Model and area"</legend>
            {model_choice(app, "Model", "align-model", aligned)}
            {area_choice(app, "align-area", App::align_area, aligned)}
            <div class="beside">
                {chooser("Add weights", ".safetensors,.pth,.pt,.tar,.ckpt", "align-weights", move |file| app.add_weights_to_align(file))}
                <span class="hint">{summary}</span>
            </div>
        </fieldset>
    }
    .into_any()
}

fn target(app: App) -> AnyView {
    let kind = Memo::new(move |_| app.align.form.with(|form| form.kind.clone()));
    let own_plan = Memo::new(move |_| app.align.plan.with(Option::is_some));
    let rest = move || {
        let kind = kind.get();
        let of_model = matches!(kind.as_str(), "model" | "population").then(|| {
            view! {
                {model_choice(app, "Model", "align-target-model", targeted)}
                {area_choice(app, "align-target-area", App::align_target_area, targeted)}
            }
        });
        let numbers = (kind == "population").then(|| settings(app, &POPULATION));
        // The visitor's own plan may be about responses, too.
        let file = (kind == "responses" || own_plan.get()).then(|| recorded(app, RESPONSES));
        let hint = match kind.as_str() {
            "responses" => {
                "Stimuli × neuroids, or stimuli × repetitions × neuroids, for the images below."
            }
            "population" => {
                "Random weighted sums of the area's units as Poisson spike counts; the noise, and so the ceiling, is known."
            }
            "pixels" => "A baseline that any representation of the images shares.",
            _ => "The responses of an area to the same images.",
        };
        view! { {of_model} {numbers} {file} <p class="hint">{hint}</p> }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Target"</legend>
            {word(app, "Kind", "align-target", &KINDS, |form| &mut form.kind)}
            {rest}
        </fieldset>
    }
    .into_any()
}

/// The way to a recording, and what the worker read in it.
fn recorded(app: App, (kind, label, endings, testid): Opening) -> AnyView {
    let file = move || {
        let name = app.align.recordings.file_of(kind)?;
        let forget = format!("Forget {name}");
        Some(view! {
            <span class="taken">
                <span class="hint">{name}</span>
                <button class="tool bare" aria-label=forget data-testid=format!("{testid}-forget") on:click=move |_| app.take_recording(kind, None)>
                    {icon("close")}
                </button>
            </span>
        })
    };
    let said = move || {
        let all = app.align.recordings.read.get();
        let found = all.into_iter().find(|u| u.kind == kind)?;
        let lines = found
            .sentences
            .into_iter()
            .map(|line| view! { <li>{line}</li> });
        Some(view! {
            <ul class="understood" data-testid="align-understood" data-kind=testid data-file=found.name>{lines.collect_view()}</ul>
        })
    };
    view! {
        <div class="beside">
            {chooser(label, endings, testid, move |file| app.take_recording(kind, Some(file)))}
            {file}
        </div>
        {said}
    }
    .into_any()
}

fn labelled(app: App) -> AnyView {
    let rest = view! {
        {recorded(app, LABELS)}
        {recorded(app, HEAT_MAPS)}
        {settings(app, &[STIMULI])}
        <p class="hint">"Stimuli are the images trained on, 0 for all; accuracy is measured on the others."</p>
        {move || images::mapping(app, app.align.form.with(|form| form.model.clone()))}
    };
    images::fieldset(app, rest.into_any())
}

fn losses(app: App) -> AnyView {
    let wanted = Memo::new(move |_| {
        let wanted = app
            .align
            .form
            .with(|form| form.number("losses.harmonizer") > 0.0);
        wanted && app.align.recordings.file_of(Recorded::HeatMaps).is_none()
    });
    let warning = move || {
        wanted.get().then(|| {
            view! { <p class="hint warn" data-testid="align-no-maps">"There are no heat maps yet: open some under Images."</p> }
        })
    };
    view! {
        <fieldset class="knobs">
            <legend>"Losses"</legend>
            {settings(app, &TERMS)}
            {word(app, "CKA as", "align-form", &FORMS, |form| &mut form.form)}
            <p class="hint">"Weights of the terms, 0 to leave one out. The harmonizer needs heat maps of where people looked."</p>
            {warning}
        </fieldset>
    }
    .into_any()
}

fn training(app: App) -> AnyView {
    let model = Memo::new(move |_| app.align.form.with(|form| form.model.clone()));
    let flip = tick(
        "align-flip".to_owned(),
        "Mirror half of the images".to_owned(),
        "",
        Signal::derive(move || app.align.form.with(|form| form.flip)),
        Callback::new(move |on| app.align.set(|form| form.flip = on)),
    );
    let head = tick(
        "align-new-head".to_owned(),
        "New class head".to_owned(),
        "the images' classes in place of the model's own; there is no distillation then",
        Signal::derive(move || app.align.form.with(|form| form.new_head)),
        Callback::new(move |on| {
            app.align.set(|form| {
                form.new_head = on;
                let weight = if on { 0.0 } else { 1.0 };
                form.set_number("losses.distillation", weight);
            });
        }),
    );
    view! {
        <fieldset class="knobs">
            <legend>"Training"</legend>
            {settings(app, &TRAINING)}
            <details class="more" data-testid="align-details">
                <summary>"More settings"</summary>
                <div class="more-body">
                    {word(app, "Optimiser", "align-optimiser", &OPTIMISERS, |form| &mut form.optimiser)}
                    {settings(app, &DETAILS)}
                    {flip}
                    {head}
                    {move || frozen(app, &model.get())}
                </div>
            </details>
        </fieldset>
    }
    .into_any()
}

/// The stages of the model that can be frozen.
fn frozen(app: App, model: &str) -> Option<AnyView> {
    let stages = app.models.facts(model)?.stages;
    let stage = |name: String| {
        let (known, kept) = (name.clone(), name.clone());
        tick(
            format!("align-freeze-{name}"),
            name,
            "",
            Signal::derive(move || app.align.form.with(|form| form.frozen.contains(&known))),
            Callback::new(move |on| {
                app.align.set(|form| include(&mut form.frozen, &kept, on));
            }),
        )
    };
    let all = stages.into_iter().map(stage).collect_view();
    Some(
        view! {
            <div role="group" aria-label="Stages to freeze" class="ticks">
                <span class="hint">"Freeze"</span>
                {all}
            </div>
        }
        .into_any(),
    )
}

/// Takes a word into a list or out of it.
fn include(list: &mut Vec<String>, word: &str, wanted: bool) {
    list.retain(|known| known != word);
    if wanted {
        list.push(word.to_owned());
    }
}

fn controls_of_it(app: App) -> AnyView {
    let control = |(word, title, hint): (&'static str, &'static str, &'static str)| {
        tick(
            format!("align-control-{word}"),
            title.to_owned(),
            hint,
            Signal::derive(move || {
                app.align
                    .form
                    .with(|form| form.controls.iter().any(|c| c == word))
            }),
            Callback::new(move |on| {
                app.align
                    .set_beside_plan(|form| include(&mut form.controls, word, on))
            }),
        )
    };
    view! {
        <fieldset class="knobs">
            <legend>"Controls"</legend>
            <div class="choices">{CONTROLS.map(control).collect_view()}</div>
            {robustness(app)}
            <p class="hint">"Each control is a separate run. Robustness is tested before and after, 0 to leave it out."</p>
        </fieldset>
    }
    .into_any()
}

fn run(app: App) -> AnyView {
    if app.align.run.is_on() {
        return view! {
            <div class="launch">
                <button class="button" data-testid="align-pause" on:click=move |_| app.pause_align()>
                    {icon("stop")}
                    "Pause"
                </button>
            </div>
        }
        .into_any();
    }
    let words = match app.align.run.paused.get() {
        true => "Resume",
        false => "Align",
    };
    view! {
        <div class="launch">
            <button class="button primary" data-testid="align-run" on:click=move |_| app.run_align(false)>
                {icon("play")}
                {words}
            </button>
            <button
                class="button"
                title="Discards the run and aligns the pretrained weights"
                data-testid="align-fresh"
                on:click=move |_| app.run_align(true)
            >
                {icon("undo")}
                "Start over"
            </button>
        </div>
        <p class="hint">"It can be paused, and resumes after a reload. Requests of other tabs interrupt it; it resumes when they are done."</p>
    }
    .into_any()
}
