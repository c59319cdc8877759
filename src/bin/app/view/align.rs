//! The bench Align: what is aligned with what, and the table and curves that come of it.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::session::protocol::{AlignReport, Recorded};

use super::parts::{self, icon};
use super::test::{chooser, documents, facts, figures_of, images_and, mapping, number};
use crate::state::{App, CONTROLS, Choice, FORMS, Form, KINDS, NUMBERS, OPTIMISERS, Setting};

/// Weights of the terms, in the order of the form.
const TERMS: [Setting; 6] = [
    Setting::CrossEntropy,
    Setting::Cka,
    Setting::Similarity,
    Setting::Harmonizer,
    Setting::Distillation,
    Setting::Stay,
];

/// What is set before the rest.
const TRAINING: [Setting; 4] = [Setting::Steps, Setting::Batch, Setting::Rate, Setting::Seed];

/// What is seldom set.
const DETAILS: [Setting; 10] = [
    Setting::Temperature,
    Setting::Smoothing,
    Setting::TermsWarmUp,
    Setting::RateWarmUp,
    Setting::Decay,
    Setting::Clip,
    Setting::HeldOutStimuli,
    Setting::HeldOutNeuroids,
    Setting::Every,
    Setting::Patience,
];

const POPULATION: [Setting; 3] = [Setting::Neuroids, Setting::Repetitions, Setting::Spikes];

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

/// What is to be aligned, and how.
pub fn controls(app: App) -> AnyView {
    let tools = view! {
        {chooser("Own plan", ".toml,.json", "align-plan-file", move |file| app.take_plan(file, app.align.plan))}
        <button class="tool" title="Save what is set as a plan, for here or for ventral align" data-testid="align-save-plan" on:click=move |_| app.save_align_plan()>
            {icon("down")}
            "Save plan"
        </button>
    };
    let body = view! {
        {move || own_plan(app)}
        <div class="numbered">
            {model(app)}
            {target(app)}
            {images(app)}
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
    let (name, _) = app.align.plan.get()?;
    Some(
        view! {
            <p class="note" data-testid="align-plan">
                <span>"The plan in " <strong>{name}</strong> " stands in for what is set in 1 to 5, until something there is changed."</span>
                <button class="tool bare" aria-label="Dismiss the plan" data-testid="align-plan-dismiss" on:click=move |_| app.dismiss_align_plan()>
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
        Callback::new(move |word| app.set_align(|form| *of(form) = word)),
    )
}

/// A text of the form, read from a copy of it by the way it is written.
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
        Signal::derive(move || app.at_hand()),
        Signal::derive(move || of(&mut app.align.form.get())[0].clone()),
        Callback::new(move |name| {
            app.set_align(|form| {
                let [model, area] = of(form);
                *model = name;
                area.clear();
            });
        }),
    )
}

/// A choice among a model's areas, or what is usual until they are known.
fn area_choice(
    app: App,
    testid: &'static str,
    now: fn(App) -> String,
    of: fn(&mut Form) -> [&mut String; 2],
) -> AnyView {
    let areas = move || {
        let model = of(&mut app.align.form.get())[0].clone();
        let known = app.brought(&model).map(|b| b.areas);
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
        Callback::new(move |area| app.set_align(|form| *of(form)[1] = area)),
    )
}

fn aligned(form: &mut Form) -> [&mut String; 2] {
    [&mut form.model, &mut form.area]
}

fn targeted(form: &mut Form) -> [&mut String; 2] {
    [&mut form.target_model, &mut form.target_area]
}

/// A number of the form.
fn setting(app: App, setting: Setting) -> AnyView {
    let about = &NUMBERS[setting as usize];
    let set = move |n| match setting {
        Setting::Robustness => app.set_beside_plan(|form| form.set_number(setting, n)),
        _ => app.set_align(|form| form.set_number(setting, n)),
    };
    number(
        about.label,
        about.range,
        about.step,
        about.testid,
        Signal::derive(move || app.align.form.with(|form| form.number(setting))),
        Callback::new(set),
    )
}

fn settings(app: App, all: &[Setting]) -> AnyView {
    let fields = all.iter().map(|s| setting(app, *s)).collect_view();
    view! { <div class="fields even">{fields}</div> }.into_any()
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
    let told = move || {
        let name = app.align.form.with(|form| form.model.clone());
        app.brought(&name).map(|found| facts(&found))
    };
    view! {
        <fieldset class="knobs">
            <legend>"Model and area"</legend>
            {model_choice(app, "Model", "align-model", aligned)}
            {area_choice(app, "align-area", App::align_area, aligned)}
            <div class="beside">
                {chooser("Add weights", ".safetensors,.pth,.pt,.tar,.ckpt", "align-weights", move |file| app.add_weights_to_align(file))}
                <span class="hint">{told}</span>
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
                "Stimuli × neuroids, or stimuli × repetitions × neuroids, of the images below."
            }
            "population" => {
                "Random sums of the area's units as Poisson spike counts: its noise, and so its ceiling, is known."
            }
            "pixels" => "What any code of images shares: a baseline.",
            _ => "The area answers to the same images.",
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

/// A way to a file of what was recorded, and what was understood of it.
fn recorded(app: App, (kind, label, endings, testid): Opening) -> AnyView {
    let file = move || {
        let name = app.align.file_of(kind)?;
        let forget = format!("Forget {name}");
        Some(view! {
            <span class="taken">
                <span class="hint">{name}</span>
                <button class="tool bare" aria-label=forget data-testid=format!("{testid}-forget") on:click=move |_| app.take_recorded(kind, None)>
                    {icon("close")}
                </button>
            </span>
        })
    };
    let said = move || {
        let all = app.align.understood.get();
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
            {chooser(label, endings, testid, move |file| app.take_recorded(kind, Some(file)))}
            {file}
        </div>
        {said}
    }
    .into_any()
}

fn images(app: App) -> AnyView {
    let rest = view! {
        {recorded(app, LABELS)}
        {recorded(app, HEAT_MAPS)}
        {settings(app, &[Setting::Stimuli])}
        <p class="hint">"Stimuli are trained on, 0 for all; accuracy is measured on the other images."</p>
        {move || mapping(app, app.align.form.with(|form| form.model.clone()))}
    };
    images_and(app, rest.into_any())
}

fn losses(app: App) -> AnyView {
    let wanted = Memo::new(move |_| {
        let wanted = app
            .align
            .form
            .with(|form| form.number(Setting::Harmonizer) > 0.0);
        wanted && app.align.file_of(Recorded::HeatMaps).is_none()
    });
    let warning = move || {
        wanted.get().then(|| {
            view! { <p class="hint warn" data-testid="align-no-maps">"There are none yet: open some under Images."</p> }
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
        Callback::new(move |on| app.set_align(|form| form.flip = on)),
    );
    let head = tick(
        "align-new-head".to_owned(),
        "New class head".to_owned(),
        "the images' classes in the place of the model's own; distillation has no teacher then",
        Signal::derive(move || app.align.form.with(|form| form.new_head)),
        Callback::new(move |on| {
            app.set_align(|form| {
                form.new_head = on;
                let weight = if on { 0.0 } else { 1.0 };
                form.set_number(Setting::Distillation, weight);
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

/// The stages of the model whose weights may stay as they are.
fn frozen(app: App, model: &str) -> Option<AnyView> {
    let stages = app.brought(model)?.stages;
    let stage = |name: String| {
        let (known, kept) = (name.clone(), name.clone());
        tick(
            format!("align-freeze-{name}"),
            name,
            "",
            Signal::derive(move || app.align.form.with(|form| form.frozen.contains(&known))),
            Callback::new(move |on| {
                app.set_align(|form| include(&mut form.frozen, &kept, on));
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
                app.set_beside_plan(|form| include(&mut form.controls, word, on))
            }),
        )
    };
    view! {
        <fieldset class="knobs">
            <legend>"Controls"</legend>
            <div class="choices">{CONTROLS.map(control).collect_view()}</div>
            {settings(app, &[Setting::Robustness])}
            <p class="hint">"Each control is a run of its own. Robustness is looked at before and after, 0 for not at all."</p>
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
        true => "Go on",
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
                title="Throws away what was begun and aligns the pretrained weights"
                data-testid="align-fresh"
                on:click=move |_| app.run_align(true)
            >
                {icon("undo")}
                "Start over"
            </button>
        </div>
        <p class="hint">"What was begun goes on where it was, after a reload as well. Other benches come first; it goes on when they have nothing to do."</p>
    }
    .into_any()
}

/// Table, verdict and figures.
pub fn results(app: App) -> AnyView {
    let tools = move || {
        app.align
            .report
            .get()
            .map(|report| documents(report, |r| &r.documents))
    };
    let body = move || match app.align.report.get() {
        Some(report) => summary(app, &report),
        None => invitation(app),
    };
    view! {
        <h1 class="visually-hidden">"Align: fine-tune an area towards a target"</h1>
        {parts::panel("aligned", "Before and after", "", view! { {tools} }.into_any(), view! { {body} }.into_any())}
        {move || app.align.report.get().and_then(|report| figures(&report))}
    }
    .into_any()
}

/// What there is to see before anything ran.
fn invitation(app: App) -> AnyView {
    if app.align.run.is_on() {
        return view! {
            <p class="hint" data-testid="align-waiting">"Preparing: images, models and the target's responses. The first numbers are those of the model as it is."</p>
            {parts::skeleton(4)}
        }
        .into_any();
    }
    view! {
        <div class="invitation" data-testid="align-empty">
            <svg viewBox="0 0 82 32" aria-hidden="true">
                <path class="b0" d="M3 16a13 13 0 0 1 26 0M7.5 16a8.5 8.5 0 0 0 17 0M11.5 16a4.5 4.5 0 0 1 9 0M36 16h10m-4-4 4 4-4 4"></path>
                <path class="b1" d="M53 16a13 13 0 0 1 26 0"></path>
                <path class="b2" d="M57.5 16a8.5 8.5 0 0 0 17 0"></path>
                <path class="b3" d="M61.5 16a4.5 4.5 0 0 1 9 0"></path>
                <circle class="b4" cx="66" cy="16" r="1.7"></circle>
            </svg>
            <p>
                "Alignment fine-tunes a model until one of its areas answers to images as a target does: another model's area, neurons that were recorded, or a population with known noise. "
                "Dapello et al. (2023) aligned a network's IT with that of macaques in this way, and it came to err more as people do and to withstand attacks better; the controls here say whether it is the target that does it."
            </p>
            <p class="hint">
                "J. Dapello, K. Kar, M. Schrimpf et al., “Aligning model and macaque inferior temporal cortex representations improves model-to-human behavioral alignment and adversarial robustness”, ICLR 2023."
            </p>
        </div>
    }
    .into_any()
}

fn summary(app: App, report: &AlignReport) -> AnyView {
    let finished = !report.documents.is_empty();
    let verdict = (!report.verdict.is_empty()).then(
        || view! { <p class="verdict" data-testid="align-verdict">{report.verdict.clone()}</p> },
    );
    let remarks = report
        .remarks
        .iter()
        .map(|line| view! { <li>{line.clone()}</li> });
    view! {
        {verdict}
        <p class="lead">{report.name.clone()}</p>
        {progress(report)}
        {finished.then(|| uses(app))}
        {table(report)}
        <ul class="remarks plain" data-testid="align-remarks">{remarks.collect_view()}</ul>
    }
    .into_any()
}

fn progress(report: &AlignReport) -> AnyView {
    let (done, steps) = (report.done, report.steps);
    let complete = done >= steps && !report.documents.is_empty();
    let words = match complete {
        true => format!("complete, {steps} steps"),
        false => format!("{done} of {steps} steps"),
    };
    let share = 100.0 * done as f64 / steps.max(1) as f64;
    let bar = (!complete).then(|| {
        view! { <span class="bar" aria-hidden="true"><span style:width=format!("{share:.1}%")></span></span> }
    });
    view! {
        <div class="progress">
            <p class="hint num" data-testid="align-progress" data-done=done data-steps=steps>{words}</p>
            {bar}
        </div>
    }
    .into_any()
}

/// Where the aligned model can go.
fn uses(app: App) -> AnyView {
    view! {
        <p class="actions">
            <button class="button primary" data-testid="align-use" on:click=move |_| app.open_aligned()>
                {icon("open")}
                "Open in See"
            </button>
            <button class="button" data-testid="align-test" on:click=move |_| app.test_aligned()>
                {icon("play")}
                "Test it"
            </button>
            <span class="hint">"It is among the models of all benches."</span>
        </p>
    }
    .into_any()
}

fn table(report: &AlignReport) -> AnyView {
    let head = |text: &String| view! { <th scope="col">{text.clone()}</th> };
    let row = |cells: &Vec<String>| {
        let (run, rest) = cells
            .split_first()
            .map_or((String::new(), &[][..]), |(f, r)| (f.clone(), r));
        let cell = |text: &String| view! { <td class="num">{text.clone()}</td> };
        view! {
            <tr data-testid="align-row" data-run=run.clone()>
                <th scope="row">{run.clone()}</th>
                {rest.iter().map(cell).collect_view()}
            </tr>
        }
    };
    view! {
        <div class="scroll">
            <table class="grid-table results" data-testid="align-table">
                <thead><tr>{report.heads.iter().map(head).collect_view()}</tr></thead>
                <tbody>{report.rows.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
    .into_any()
}

fn figures(report: &Arc<AlignReport>) -> Option<AnyView> {
    (!report.charts.is_empty()).then(|| {
        parts::panel(
            "figures",
            "Figures",
            "",
            ().into_any(),
            figures_of(&report.charts),
        )
    })
}
