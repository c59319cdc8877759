//! The Perturb bench: corruptions, noise and attacks, with the picture before, after, and the difference.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::perturb::attack::Norm;
use ventral::perturb::corruption::{Category, Corruption};
use ventral::session::protocol::{AttackStep, Perturbed, PixelNoiseKind, Prediction, Rgba};

use super::charts;
use super::parts::{self, icon};
use crate::export::{self, Tile};
use crate::link::norm_word;
use crate::numbers;
use crate::paint::Picture;
use crate::state::{App, Family, FamilyFacts, Knobs, radius};

/// Stops of the ε slider, in 255ths of the pixel range: fine where models fail first.
const EPSILONS: [f32; 16] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0,
];
/// Steps of the noise slider over half the pixel range.
const NOISE_STOPS: f32 = 100.0;
const NOISE_MOST: f32 = 0.5;
const SHOWN: usize = 5;

/// The sliders.
pub fn controls(app: App) -> AnyView {
    let again = move |_| {
        app.turn(false, |k| k.seed = (k.seed + 1) % 1_000_000);
    };
    let reset = view! {
        <button class="tool" data-testid="perturb-reset" on:click=move |_| app.turn(false, |k| *k = Knobs { eps: 0.0, ..Knobs::default() })>
            "Reset"
        </button>
    };
    let body = view! {
        {corruption(app)}
        {noise(app)}
        {attack(app)}
        <div class="seed">
            <label class="field">
                "Seed"
                <input
                    type="number"
                    min="0"
                    max="999999"
                    data-testid="seed"
                    prop:value=move || app.knobs.get().seed.to_string()
                    on:change:target=move |e| {
                        if let Ok(seed) = e.target().value().parse() {
                            app.turn(false, |k| k.seed = seed);
                        }
                    }
                />
            </label>
            <button class="tool" title="Another seed" on:click=again>{icon("dice")} "Draw again"</button>
        </div>
    };
    parts::panel(
        "perturb",
        "Perturbation",
        "",
        reset.into_any(),
        body.into_any(),
    )
}

fn nearest_stop(eps: f32) -> usize {
    let distance = |stop: &f32| (stop / 255.0 - eps).abs();
    let best = EPSILONS
        .iter()
        .enumerate()
        .min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    best.map_or(0, |(i, _)| i)
}

/// The corruption: which, and how severe.
fn corruption(app: App) -> AnyView {
    let knobs = app.knobs;
    let group = |category: Category| {
        let members = Corruption::ALL
            .into_iter()
            .filter(move |c| c.category() == category);
        let option = move |c: Corruption| {
            let chosen = move || knobs.with(|k| k.corruption == Some(c));
            view! { <option value=c.name() selected=chosen>{c.title()}</option> }
        };
        view! { <optgroup label=category.title()>{members.map(option).collect_view()}</optgroup> }
    };
    let off = move || knobs.with(|k| k.corruption.is_none());
    let frost = move || {
        let textures = app.perturbed.with(|p| p.as_ref()?.textures.clone());
        textures.map(|origin| {
            view! { <p class="hint" data-testid="textures">{format!("Frost textures: {origin}, not the published photographs.")}</p> }
        })
    };
    view! {
        <fieldset class="knobs">
            <legend>"Common corruption" <span class="hint">"ImageNet-C"</span></legend>
            <label class="field wide">
                "Kind"
                <select data-testid="corruption" on:change:target=move |e| {
                    let chosen = e.target().value().parse().ok();
                    app.turn(false, |k| k.corruption = chosen);
                }>
                    <option value="" selected=off>"none"</option>
                    {Category::ALL.into_iter().map(group).collect_view()}
                </select>
            </label>
            <label class="slider" class:off=off>
                <span>"Severity"</span>
                <output class="num">{move || knobs.with(|k| k.severity.to_string())}</output>
                <input
                    type="range"
                    min="1"
                    max="5"
                    step="1"
                    data-testid="severity"
                    prop:value=move || knobs.with(|k| k.severity.to_string())
                    on:input:target=move |e| severity(app, &e.target().value(), true)
                    on:change:target=move |e| severity(app, &e.target().value(), false)
                />
                <span class="ends num"><span>"1"</span><span>"3"</span><span>"5"</span></span>
            </label>
            {frost}
        </fieldset>
    }
    .into_any()
}

fn severity(app: App, value: &str, dragging: bool) {
    if let Ok(severity) = value.parse::<u8>() {
        app.turn(dragging, |k| k.severity = severity.clamp(1, 5));
    }
}

/// The radius in words: `2/255` in L∞, `0.17` in the others.
fn radius_words(knobs: &Knobs, side: usize) -> String {
    match knobs.norm {
        Norm::Linf => numbers::in_255(knobs.eps),
        norm => numbers::short(radius(norm, knobs.eps, side)),
    }
}

/// The attack: family, norm, radius, and what else the family has.
fn attack(app: App) -> AnyView {
    let knobs = app.knobs;
    let turn = move |value: String, dragging: bool| {
        let eps = value.parse::<usize>().ok().and_then(|i| EPSILONS.get(i));
        if let Some(eps) = eps {
            app.turn(dragging, |k| k.eps = eps / 255.0);
        }
    };
    let off = move || knobs.with(|k| k.eps <= 0.0);
    let words = move || {
        app.model.track();
        knobs.with(|k| radius_words(k, app.side()))
    };
    let stochastic = move || app.model.with(|m| m.as_ref().is_some_and(|m| m.stochastic));
    let family = Memo::new(move |_| knobs.with(|k| k.family));
    let option = move |f: &'static FamilyFacts| {
        let chosen = move || family.get() == f.family;
        view! { <option value=f.word selected=chosen>{f.title}</option> }
    };
    let ends = move |eps: f32| {
        app.model.track();
        knobs.with(|k| {
            radius_words(
                &Knobs {
                    eps: eps / 255.0,
                    ..k.clone()
                },
                app.side(),
            )
        })
    };
    view! {
        <fieldset class="knobs">
            <legend>"Adversarial attack" <span class="hint">{move || family.get().facts().paper}</span></legend>
            <label class="field wide">
                "Family"
                <select data-testid="attack-family" on:change:target=move |e| {
                    if let Some(family) = Family::from_word(&e.target().value()) {
                        app.turn(false, |k| k.choose(family));
                    }
                }>{Family::every().map(option).collect_view()}</select>
            </label>
            {move || norms_of(app, family.get())}
            <label class="slider">
                <span>"Radius ε"</span>
                <output class="num" data-testid="eps-value">
                    {move || if off() { "off".to_owned() } else { words() }}
                </output>
                <input
                    type="range"
                    min="0"
                    max=EPSILONS.len() - 1
                    step="1"
                    data-testid="pgd-eps"
                    prop:value=move || knobs.with(|k| nearest_stop(k.eps).to_string())
                    aria-valuetext=words
                    on:input:target=move |e| turn(e.target().value(), true)
                    on:change:target=move |e| turn(e.target().value(), false)
                />
                <span class="ends num"><span>"0"</span><span>{move || ends(2.0)}</span><span>{move || ends(16.0)}</span></span>
            </label>
            {move || settings(app, family.get())}
            <label class="check" class:off=off>
                <input
                    type="checkbox"
                    data-testid="eight-bit"
                    prop:checked=move || knobs.with(|k| k.eight_bit)
                    on:change=move |_| app.turn(false, |k| k.eight_bit = !k.eight_bit)
                />
                "Keep to 8 bits a channel"
            </label>
            {move || stochastic().then(|| front_end(app))}
        </fieldset>
    }
    .into_any()
}

/// The norms a family knows, where there is a choice.
fn norms_of(app: App, family: Family) -> Option<AnyView> {
    let norms = family.facts().norms;
    let choices: Vec<_> = norms
        .iter()
        .map(|n| (*n, norm_word(*n), n.title()))
        .collect();
    (choices.len() > 1).then(|| {
        parts::segmented(
            "norm",
            "Norm",
            choices,
            move || app.knobs.with(|k| k.norm),
            move |norm| app.turn(false, |k| k.norm = norm),
        )
    })
}

/// What a family lets one choose besides its radius.
fn settings(app: App, family: Family) -> AnyView {
    let facts = family.facts();
    let off = move || app.knobs.with(|k| k.eps <= 0.0);
    let most = if facts.steps > 1000 { "5000" } else { "200" };
    let steps = (facts.steps > 0).then(|| {
        number(
            app,
            facts.step_word,
            "pgd-steps",
            ("1", most, "1"),
            |k| k.steps.to_string(),
            |k, v| k.steps = (v as usize).clamp(1, k.family.facts().steps),
        )
    });
    let step = facts.has_step.then(|| {
        number(
            app,
            "Step ÷ ε",
            "pgd-rel-step",
            ("0.01", "1", "0.01"),
            |k| k.rel_step.to_string(),
            |k, v| k.rel_step = v.clamp(0.001, 2.0),
        )
    });
    let push = facts.has_target.then(|| {
        view! {
            <label class="field wide" class:off=off>
                "Push"
                <select data-testid="pgd-target" on:change:target=move |e| {
                    let target = e.target().value().parse().ok();
                    app.turn(false, |k| k.target = target);
                }>{move || targets(app)}</select>
            </label>
        }
    });
    let start = matches!(family, Family::Fgsm | Family::Pgd | Family::Bim).then(|| {
        view! {
            <label class="check" class:off=off>
                <input
                    type="checkbox"
                    data-testid="pgd-random-start"
                    prop:checked=move || app.knobs.with(|k| k.random_start)
                    on:change=move |_| app.turn(false, |k| k.random_start = !k.random_start)
                />
                "Start from a random point"
            </label>
        }
    });
    view! {
        <div class="fields" class:off=off>{steps}{step}</div>
        {push}
        {start}
    }
    .into_any()
}

/// The noise of a stochastic model while it is attacked.
fn front_end(app: App) -> AnyView {
    view! {
        <div class="front-end" class:off=move || app.knobs.with(|k| k.eps <= 0.0)>
            <label class="check">
                <input
                    type="checkbox"
                    data-testid="front-end-noise"
                    prop:checked=move || app.knobs.with(|k| k.front_end_noise)
                    on:change=move |_| app.turn(false, |k| k.front_end_noise = !k.front_end_noise)
                />
                "Neuronal noise of the model"
            </label>
            {number(app, "Samples a step", "pgd-eot", ("1", "64", "1"), |k| k.eot.to_string(), |k, v| k.eot = (v as usize).clamp(1, 64))}
        </div>
    }
    .into_any()
}

fn number(
    app: App,
    label: &'static str,
    testid: &'static str,
    (min, max, step): (&'static str, &'static str, &'static str),
    read: fn(&Knobs) -> String,
    write: fn(&mut Knobs, f32),
) -> AnyView {
    view! {
        <label class="field">
            {label}
            <input
                type="number"
                min=min
                max=max
                step=step
                data-testid=testid
                prop:value=move || app.knobs.with(read)
                on:change:target=move |e| {
                    if let Some(value) = e.target().value().parse::<f32>().ok().filter(|v| v.is_finite()) {
                        app.turn(false, |k| write(k, value));
                    }
                }
            />
        </label>
    }
    .into_any()
}

fn targets(app: App) -> AnyView {
    let classes = app
        .model
        .get()
        .map(|m| m.classes.clone())
        .unwrap_or_default();
    let chosen = app.knobs.with_untracked(|k| k.target);
    let option = |(class, label): (usize, String)| {
        view! { <option value=class selected=chosen == Some(class)>{format!("towards {label}")}</option> }
    };
    view! {
        <option value="" selected=chosen.is_none()>"away from the prediction"</option>
        {classes.into_iter().enumerate().map(option).collect_view()}
    }
    .into_any()
}

/// Pixel noise.
fn noise(app: App) -> AnyView {
    let knobs = app.knobs;
    let turn = move |value: String, dragging: bool| {
        if let Ok(stop) = value.parse::<f32>() {
            app.turn(dragging, |k| {
                k.noise_scale = (stop / NOISE_STOPS * NOISE_MOST).clamp(0.0, 1.0)
            });
        }
    };
    let words = move || {
        knobs.with(|k| match k.noise_scale > 0.0 {
            true => format!("{:.3}", k.noise_scale),
            false => "off".to_owned(),
        })
    };
    view! {
        <fieldset class="knobs">
            <legend>"Pixel noise"</legend>
            {parts::segmented(
                "noise-kind",
                "Kind of noise",
                vec![
                    (PixelNoiseKind::Gaussian, "gaussian", "Gaussian"),
                    (PixelNoiseKind::Uniform, "uniform", "Uniform"),
                ],
                move || knobs.with(|k| k.noise_kind),
                move |kind| app.turn(false, |k| k.noise_kind = kind),
            )}
            <label class="slider">
                <span>
                    {move || knobs.with(|k| match k.noise_kind {
                        PixelNoiseKind::Gaussian => "Standard deviation σ",
                        PixelNoiseKind::Uniform => "Half-width",
                    })}
                </span>
                <output class="num" data-testid="noise-value">{words}</output>
                <input
                    type="range"
                    min="0"
                    max=NOISE_STOPS
                    step="1"
                    data-testid="noise-scale"
                    prop:value=move || knobs.with(|k| (k.noise_scale / NOISE_MOST * NOISE_STOPS).round().to_string())
                    aria-valuetext=words
                    on:input:target=move |e| turn(e.target().value(), true)
                    on:change:target=move |e| turn(e.target().value(), false)
                />
                <span class="ends num"><span>"0"</span><span>"0.25"</span><span>"0.5"</span></span>
            </label>
        </fieldset>
    }
    .into_any()
}

/// What came of it.
pub fn results(app: App) -> AnyView {
    view! {
        <h1 class="visually-hidden">"Perturb: noise and adversarial attacks"</h1>
        {parts::panel("triptych", "Original, perturbed, difference", "", tools(app), triptych(app))}
        <div class="two">
            {parts::panel("outcome", "Prediction before and after", "", ().into_any(), outcome(app))}
            {parts::panel("areas-change", "Change along the stream", "‖a′ − a‖ ÷ ‖a‖, area by area", ().into_any(), view! { {move || change(app)} }.into_any())}
        </div>
        {parts::panel("trajectory", "Course of the attack", "", csv_tool(app), view! { {move || trajectory(app)} }.into_any())}
    }
    .into_any()
}

fn triptych(app: App) -> AnyView {
    let pictures = move || match (app.perturbed.get(), app.image.get()) {
        (Some(p), _) => {
            let gain = format!("difference × {}", numbers::short(p.gain));
            view! {
                {exhibit("original", "original".to_owned(), &p.original)}
                {exhibit("perturbed", "perturbed".to_owned(), &p.perturbed)}
                {exhibit("difference", gain, &p.difference)}
            }
            .into_any()
        }
        (None, shown) => rest(app, shown.map(|s| s.url.clone())),
    };
    view! {
        <div class="triptych">{pictures}</div>
        <p class="verdict" data-testid="verdict">{move || verdict(app)}</p>
        {move || app.perturbed.get().map(|p| norms(&p))}
    }
    .into_any()
}

fn exhibit(name: &'static str, caption: String, rgba: &Rgba) -> AnyView {
    view! {
        <figure data-testid=format!("picture-{name}")>
            {parts::canvas(Picture::from(rgba), caption.clone())}
            <figcaption>{caption}</figcaption>
        </figure>
    }
    .into_any()
}

/// Before there is a result: three frames.
fn rest(app: App, url: Option<String>) -> AnyView {
    let waiting = move || app.knobs.with(|k| !k.at_rest());
    let frame = move |caption: &'static str| {
        view! {
            <figure>
                <span class="frame" class:bone=waiting></span>
                <figcaption>{caption}</figcaption>
            </figure>
        }
    };
    view! {
        <figure>
            <span class="frame">{url.map(|url| view! { <img src=url alt="" /> })}</span>
            <figcaption>"original"</figcaption>
        </figure>
        {frame("perturbed")}
        {frame("difference")}
    }
    .into_any()
}

/// The outcome in a sentence.
fn verdict(app: App) -> String {
    let Some(result) = app.perturbed.get() else {
        return match app.knobs.with(Knobs::at_rest) {
            true => "Choose a corruption or move a slider to perturb the image.".to_owned(),
            false => String::new(),
        };
    };
    let (Some(before), Some(after)) = (result.before.first(), result.after.first()) else {
        return String::new();
    };
    let knobs = app.perturbed_knobs.get().unwrap_or_default();
    let means = means(&knobs, app.side());
    let is = |p: &Prediction| format!("“{}” ({})", p.label, numbers::percent(p.probability));
    let target = knobs
        .target
        .and_then(|t| app.model.with(|m| m.as_ref()?.classes.get(t).cloned()));
    match (target, result.success, before.class == after.class) {
        (Some(target), true, _) => format!(
            "Reached: with {means} the model says {}, the target, instead of {}.",
            is(after),
            quoted(before, &target)
        ),
        (Some(target), false, _) => format!(
            "Not reached: with {means} the model says {}, not “{target}”.",
            is(after)
        ),
        (None, _, false) => format!(
            "Fooled: with {means} the model says {} instead of {}.",
            is(after),
            is(before)
        ),
        (None, _, true) => format!(
            "Not fooled: with {means} the model still says {}, before {}.",
            is(after),
            numbers::percent(before.probability)
        ),
    }
}

/// What was done to the image, in words.
fn means(knobs: &Knobs, side: usize) -> String {
    let corruption = knobs.corruption.map(|c| {
        format!(
            "{} of severity {}",
            c.title().to_lowercase(),
            knobs.severity
        )
    });
    let noise = (knobs.noise_scale > 0.0).then(|| format!("noise of {:.3}", knobs.noise_scale));
    let attack =
        (knobs.eps > 0.0).then(|| format!("an attack of ε = {}", radius_words(knobs, side)));
    let done: Vec<String> = [corruption, noise, attack].into_iter().flatten().collect();
    done.join(" and ")
}

fn quoted(before: &Prediction, target: &str) -> String {
    match before.label == target {
        true => "anything else".to_owned(),
        false => format!("“{}”", before.label),
    }
}

fn norms(p: &Perturbed) -> AnyView {
    let fact = |name: &'static str, value: String| {
        view! { <div><dt>{name}</dt><dd class="num">{value}</dd></div> }
    };
    view! {
        <dl class="facts" data-testid="norms">
            {fact("L∞", numbers::in_255(p.linf))}
            {fact("L2", numbers::short(p.l2))}
            {fact("L1", numbers::short(p.l1))}
            {fact("Time", numbers::duration(p.milliseconds))}
            {fact("Device", p.backend.clone())}
        </dl>
    }
    .into_any()
}

/// Classes of either side with a bar before and a bar after.
fn outcome(app: App) -> AnyView {
    let body = move || {
        let result = app.perturbed.get();
        let (before, after) = match (&result, app.analysis.get()) {
            (Some(p), _) => (p.before.clone(), p.after.clone()),
            (None, Some(a)) => (a.top.clone(), a.top.clone()),
            (None, None) => return parts::skeleton(SHOWN),
        };
        pairs(&before, &after)
    };
    view! { {body} }.into_any()
}

fn pairs(before: &[Prediction], after: &[Prediction]) -> AnyView {
    let mut classes: Vec<&Prediction> = Vec::new();
    let interleaved = (0..before.len().max(after.len()))
        .flat_map(|i| [before.get(i), after.get(i)])
        .flatten();
    for p in interleaved {
        if classes.iter().all(|c| c.class != p.class) {
            classes.push(p);
        }
    }
    let share = |side: &[Prediction], class: usize| {
        side.iter()
            .find(|p| p.class == class)
            .map(|p| p.probability)
    };
    let bar = |p: Option<f32>, side: &'static str| {
        let width = format!("{:.2}%", p.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0);
        let words = p.map_or("–".to_owned(), numbers::percent);
        view! {
            <span class=format!("bar {side}")><span style:width=width></span></span>
            <span class="num value">{words}</span>
        }
    };
    let best = after.first().map(|p| p.class);
    let row = |(i, class): (usize, &Prediction)| {
        view! {
            <li
                class=format!("pair c{i}")
                class:best=best == Some(class.class)
                data-testid="pair-row"
                data-label=class.label.clone()
            >
                <span class="label">{class.label.clone()}</span>
                {bar(share(before, class.class), "before")}
                {bar(share(after, class.class), "after")}
            </li>
        }
    };
    let head = |side: &'static str, testid: &'static str, p: Option<&Prediction>| {
        let (label, share) = p.map(|p| (p.label.clone(), p.probability)).unzip();
        let word = label.clone();
        view! {
            <div>
                <dt>{side}</dt>
                <dd data-testid=testid data-label=label data-probability=share>
                    <strong>{word}</strong>
                    " "
                    <span class="num">{share.map(numbers::percent)}</span>
                </dd>
            </div>
        }
    };
    view! {
        <dl class="facts big">
            {head("Before", "clean-prediction", before.first())}
            {head("After", "perturbed-prediction", after.first())}
        </dl>
        <ol class="pairs">{classes.into_iter().take(SHOWN + 1).enumerate().map(row).collect_view()}</ol>
        <ul class="key sides"><li class="before">"before"</li><li class="after">"after"</li></ul>
    }
    .into_any()
}

/// How far each area's activity moved.
fn change(app: App) -> AnyView {
    let Some(result) = app.perturbed.get() else {
        return match app.knobs.with(Knobs::at_rest) {
            true => view! { <p class="hint">"Nothing has been perturbed yet."</p> }.into_any(),
            false => parts::skeleton(5),
        };
    };
    let most = result
        .area_change
        .iter()
        .fold(f32::MIN_POSITIVE, |m, (_, v)| m.max(*v));
    let row = |(area, value): &(String, f32)| {
        let width = format!("{:.2}%", value / most * 100.0);
        view! {
            <li data-area=area.split('.').next().unwrap_or_default().to_owned() data-testid="area-change">
                <span class="label">{area.clone()}</span>
                <span class="bar"><span style:width=width></span></span>
                <span class="num value">{format!("{:.1} %", value * 100.0)}</span>
            </li>
        }
    };
    view! { <ol class="changes">{result.area_change.iter().map(row).collect_view()}</ol> }
        .into_any()
}

fn trajectory(app: App) -> AnyView {
    let steps: Vec<AttackStep> = app.attack_steps.get();
    if steps.is_empty() {
        let words = match app.knobs.with(|k| k.eps <= 0.0) {
            true => "No attack: the radius is 0.",
            false => {
                "The loss and the probability of the clean prediction appear here, step by step."
            }
        };
        return view! { <p class="hint">{words}</p> }.into_any();
    }
    let total = steps.first().map_or(1, |s| s.steps);
    let loss: Vec<f32> = steps.iter().map(|s| s.loss).collect();
    let probability: Vec<f32> = steps.iter().map(|s| s.probability).collect();
    let total = total.max(steps.len().saturating_sub(1));
    view! {
        <div class="charts">
            {charts::line("Loss", &loss, total, None, None)}
            {charts::line("Probability of the clean prediction", &probability, total, Some(0.0), Some(1.0))}
        </div>
    }
    .into_any()
}

fn csv_tool(app: App) -> AnyView {
    let csv = move || {
        let mut rows = vec![["step", "loss", "probability"].map(str::to_owned).to_vec()];
        rows.extend(app.attack_steps.get_untracked().iter().map(|s| {
            vec![
                s.step.to_string(),
                s.loss.to_string(),
                s.probability.to_string(),
            ]
        }));
        export::csv(&export::file_name(&["attack", "course"], "csv"), &rows);
    };
    parts::save("CSV", "Save the course of the attack as CSV", csv)
}

fn tools(app: App) -> AnyView {
    let result = move || -> Option<(Arc<Perturbed>, String)> {
        let name = app
            .image
            .get_untracked()
            .map(|i| i.name.clone())
            .unwrap_or_default();
        Some((app.perturbed.get_untracked()?, name))
    };
    let png = move || {
        let Some((p, name)) = result() else { return };
        if let Some(canvas) = Picture::from(&p.perturbed).canvas() {
            export::png(&export::file_name(&[&name, "perturbed"], "png"), canvas);
        }
    };
    let sheet = move || {
        let Some((p, name)) = result() else { return };
        let tile = |caption: String, rgba: &Rgba| Tile {
            caption,
            picture: Picture::from(rgba),
        };
        let tiles = [
            tile("original".into(), &p.original),
            tile("perturbed".into(), &p.perturbed),
            tile(
                format!("difference × {}", numbers::short(p.gain)),
                &p.difference,
            ),
        ];
        export::sheet(
            &export::file_name(&[&name, "triptych"], "png"),
            &name,
            3,
            &tiles,
        );
    };
    let recipe = move || {
        let Some((p, name)) = result() else { return };
        let knobs = app.perturbed_knobs.get_untracked().unwrap_or_default();
        let model = app.model.get_untracked();
        let value = serde_json::json!({
            "image": name,
            "model": model.as_ref().map(|m| m.name.clone()),
            "weights_sha256_16": model.as_ref().map(|m| m.hash.clone()),
            "backend": p.backend,
            "version": env!("CARGO_PKG_VERSION"),
            "perturbation": knobs.options(false, app.side()),
            "steps_run": p.trajectory.first().map_or(0, |s| s.steps),
            "before": p.before, "after": p.after, "success": p.success,
            "l1": p.l1, "l2": p.l2, "linf": p.linf, "area_change": p.area_change,
        });
        export::json(&export::file_name(&[&name, "recipe"], "json"), &value);
    };
    view! {
        {parts::save("Image", "Save the perturbed image as PNG", png)}
        {parts::save("PNG", "Save the three pictures as one PNG", sheet)}
        {parts::save("Recipe", "Save the settings and the outcome as JSON", recipe)}
        {copy_link(app)}
    }
    .into_any()
}

/// Copies the page's address, which holds the settings.
fn copy_link(app: App) -> AnyView {
    let copy = move |_| {
        let window = crate::dom::window();
        let address = window.location().href().unwrap_or_default();
        // A refusal comes back through the promise; the address stays in the bar either way.
        let _ = window.navigator().clipboard().write_text(&address);
        app.status.set("Address copied".to_owned());
    };
    view! {
        <button class="tool" title="Copy the address of these settings" data-testid="copy-link" on:click=copy>
            {icon("link")}
            "Link"
        </button>
    }
    .into_any()
}
