//! The controls of the Perturb bench: corruptions, noise, attacks, and chains of them.

use leptos::prelude::*;
use ventral::perturb::attack::registry::{AttackInfo, Family};
use ventral::perturb::attack::settings::Unit;
use ventral::perturb::attack::{Norm, Setting};
use ventral::perturb::corruption::{Category, Corruption};
use ventral::perturb::noise::PixelNoiseKind;

use super::parts::{self, icon};
use crate::numbers;
use crate::state::{self, App, Knobs, radius};

/// Stops of the ε slider, in 255ths of the pixel range: fine where models fail first.
const EPSILONS: [f32; 16] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0,
];
/// Steps of the noise slider over half the pixel range.
const NOISE_STOPS: f32 = 100.0;
const NOISE_MOST: f32 = 0.5;

/// The sliders.
pub fn controls(app: App) -> AnyView {
    let again = move |_| {
        app.turn(false, |k| k.seed = (k.seed + 1) % 1_000_000);
    };
    let reset = view! {
        <button
            class="tool"
            data-testid="undo"
            disabled=move || !app.can_undo()
            on:click=move |_| app.undo()
        >
            {icon("undo")}
            "Undo"
        </button>
        <button class="tool" data-testid="perturb-reset" on:click=move |_| app.turn(false, |k| *k = Knobs::default().rested())>
            "Reset"
        </button>
    };
    let body = view! {
        {move || chain(app)}
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
        <button
            class="button wide"
            data-testid="keep-stage"
            disabled=move || app.knobs.with(Knobs::stage_at_rest)
            on:click=move |_| app.keep_stage()
        >
            "Keep this and add another"
        </button>
    };
    parts::panel(
        "perturb",
        "Perturbation",
        "",
        reset.into_any(),
        body.into_any(),
    )
}

/// The perturbations that were kept, in their order.
fn chain(app: App) -> Option<AnyView> {
    let kept = app.knobs.with(|k| k.kept.clone());
    let item = |(place, stage): (usize, &Knobs)| {
        let words = stage_words(stage, app.side());
        let label = format!("Remove {words}");
        view! {
            <li data-testid="kept-stage">
                <span>{words}</span>
                <button
                    class="tool bare"
                    aria-label=label
                    on:click=move |_| app.turn(false, |k| if place < k.kept.len() { k.kept.remove(place); })
                >
                    {icon("close")}
                </button>
            </li>
        }
    };
    (!kept.is_empty()).then(|| {
        view! {
            <div class="chain" data-testid="chain">
                <h3>"Done first"</h3>
                <ol>{kept.iter().enumerate().map(item).collect_view()}</ol>
            </div>
        }
        .into_any()
    })
}

/// What a stage does, in words: `fog of severity 3 and an attack of ε = 2/255`.
pub fn stage_words(stage: &Knobs, side: usize) -> String {
    let corruption = stage.corruption.map(|c| {
        format!(
            "{} of severity {}",
            c.title().to_lowercase(),
            stage.severity
        )
    });
    let noise = (stage.noise_scale > 0.0).then(|| format!("noise of {:.3}", stage.noise_scale));
    let attack = (stage.eps > 0.0).then(|| match stage.attack.takes(Setting::Eps) {
        true => format!(
            "an attack of ε = {}",
            radius_words(stage.norm, stage.eps, side)
        ),
        false => "an attack without a radius".to_owned(),
    });
    let done: Vec<String> = [corruption, noise, attack].into_iter().flatten().collect();
    done.join(" and ")
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
    let frosty = Memo::new(move |_| knobs.with(|k| k.corruption == Some(Corruption::Frost)));
    let frost = move || frosty.get().then(|| textures(app));
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

/// What frost is taken from, and a way to bring the published photographs.
fn textures(app: App) -> AnyView {
    let words = move || {
        let origin = app.perturbed.with(|p| p.as_ref()?.textures.clone());
        origin.map(|origin| match origin.as_str() {
            "supplied" => "Frost from the pictures you brought.",
            _ => "Frost from textures of our own, not the published photographs.",
        })
    };
    let take = move |input: web_sys::HtmlInputElement| {
        if let Some(files) = input.files() {
            app.take_textures((0..files.length()).filter_map(|i| files.get(i)).collect());
        }
        input.set_value("");
    };
    view! {
        <p class="hint" data-testid="textures">{words}</p>
        <label class="tool file">
            {icon("open")}
            "Use other frost pictures"
            <input
                type="file"
                class="visually-hidden"
                accept="image/*"
                multiple
                data-testid="textures-file"
                on:change:target=move |e| take(e.target())
            />
        </label>
    }
    .into_any()
}

fn severity(app: App, value: &str, dragging: bool) {
    if let Ok(severity) = value.parse::<u8>() {
        app.turn(dragging, |k| k.severity = severity.clamp(1, 5));
    }
}

/// The radius in words: `2/255` in L∞, `0.17` in the others.
fn radius_words(norm: Norm, eps: f32, side: usize) -> String {
    match norm {
        Norm::Linf => numbers::in_255(eps),
        norm => numbers::short(radius(norm, eps, side)),
    }
}

/// The attack: family, norm, radius, and what else the family has.
fn attack(app: App) -> AnyView {
    let knobs = app.knobs;
    let off = move || knobs.with(|k| k.eps <= 0.0);
    let stochastic = move || app.model.with(|m| m.as_ref().is_some_and(|m| m.stochastic));
    // By name: rows of the table are compared by it, and a memo must not fire for nothing.
    let chosen = Memo::new(move |_| knobs.with(|k| k.attack.name));
    let info = move || state::attack(chosen.get());
    let option = move |a: &'static AttackInfo| {
        view! { <option value=a.name selected=move || chosen.get() == a.name>{a.title}</option> }
    };
    let group = move |family: Family| {
        let members = state::attacks(family).map(option).collect_view();
        view! { <optgroup label=family.title()>{members}</optgroup> }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Adversarial attack" <span class="hint">{move || info().paper}</span></legend>
            <label class="field wide">
                "Family"
                <select data-testid="attack-family" on:change:target=move |e| {
                    let found = state::attack(&e.target().value());
                    app.turn(false, |k| k.choose(found));
                }>{Family::ALL.map(group).into_iter().collect_view()}</select>
            </label>
            {move || norms_of(app, info())}
            {move || reach(app, info())}
            {move || settings(app, info())}
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

/// How far an attack may go: a slider, or a switch where it looks for the smallest perturbation.
fn reach(app: App, attack: &AttackInfo) -> AnyView {
    let knobs = app.knobs;
    let off = move || knobs.with(|k| k.eps <= 0.0);
    if !attack.takes(Setting::Eps) {
        let usual = Knobs::default().eps;
        return view! {
            <label class="check">
                <input
                    type="checkbox"
                    data-testid="attack-on"
                    prop:checked=move || !off()
                    on:change=move |_| app.turn(false, |k| k.eps = if k.eps > 0.0 { 0.0 } else { usual })
                />
                "Run it: it looks for the smallest perturbation by itself"
            </label>
        }
        .into_any();
    }
    let turn = move |value: String, dragging: bool| {
        let eps = value.parse::<usize>().ok().and_then(|i| EPSILONS.get(i));
        if let Some(eps) = eps {
            app.turn(dragging, |k| k.eps = eps / 255.0);
        }
    };
    let words = move |eps: Option<f32>| {
        app.model.track();
        knobs.with(|k| match eps {
            Some(eps) => radius_words(k.norm, eps / 255.0, app.side()),
            None => radius_words(k.norm, k.eps, app.side()),
        })
    };
    view! {
        <label class="slider">
            <span>"Radius ε"</span>
            <output class="num" data-testid="eps-value">
                {move || if off() { "off".to_owned() } else { words(None) }}
            </output>
            <input
                type="range"
                min="0"
                max=EPSILONS.len() - 1
                step="1"
                data-testid="pgd-eps"
                prop:value=move || knobs.with(|k| nearest_stop(k.eps).to_string())
                aria-valuetext=move || words(None)
                on:input:target=move |e| turn(e.target().value(), true)
                on:change:target=move |e| turn(e.target().value(), false)
            />
            <span class="ends num"><span>"0"</span><span>{move || words(Some(2.0))}</span><span>{move || words(Some(16.0))}</span></span>
        </label>
    }
    .into_any()
}

/// The norms an attack works in, where there is a choice.
fn norms_of(app: App, attack: &AttackInfo) -> Option<AnyView> {
    let choices: Vec<_> = attack
        .norms
        .iter()
        .map(|n| (*n, n.word(), n.title()))
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

/// A control of a setting: a number or a switch.
fn setting(app: App, setting: Setting) -> AnyView {
    let info = setting.info();
    let id = match setting {
        Setting::Queries => Setting::Steps.name(),
        _ => info.name,
    };
    let id = format!("pgd-{id}");
    let on = move || app.knobs.with(|k| k.value(setting) > 0.0);
    if info.unit != Unit::Switch {
        return number(app, info.title, &id, info.range, Knob::Setting(setting));
    }
    view! {
        <label class="check" class:off=move || app.knobs.with(|k| k.eps <= 0.0)>
            <input
                type="checkbox"
                data-testid=id
                prop:checked=on
                on:change=move |_| app.turn(false, |k| k.settings.set(setting, 1.0 - k.value(setting)))
            />
            {info.title}
        </label>
    }
    .into_any()
}

/// The settings of an attack besides its radius, and the class it pushes towards.
fn settings(app: App, attack: &AttackInfo) -> AnyView {
    let off = move || app.knobs.with(|k| k.eps <= 0.0);
    let controls = state::controls(attack).map(|(setting, _)| setting);
    let controls = controls.filter(|setting| *setting != Setting::Eps);
    let (switches, numbers): (Vec<Setting>, Vec<Setting>) =
        controls.partition(|setting| setting.info().unit == Unit::Switch);
    let of = |all: Vec<Setting>| all.into_iter().map(|s| setting(app, s)).collect_view();
    let push = attack.targeted.then(|| {
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
    view! {
        <div class="fields" class:off=off>{of(numbers)}</div>
        {push}
        {of(switches)}
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
            <div class="fields">
                {number(app, "Samples a gradient", "pgd-eot", [1.0, 64.0, 1.0], Knob::Eot)}
                {number(app, "Passes to judge", "passes", [1.0, 200.0, 1.0], Knob::Passes)}
            </div>
            <label class="check">
                <input
                    type="checkbox"
                    data-testid="fixed-noise"
                    prop:checked=move || app.knobs.with(|k| k.fixed_noise)
                    on:change=move |_| app.turn(false, |k| k.fixed_noise = !k.fixed_noise)
                />
                "One fixed sample, for inspection"
            </label>
        </div>
    }
    .into_any()
}

/// A number that a control sets.
#[derive(Clone, Copy)]
enum Knob {
    Setting(Setting),
    Eot,
    Passes,
}

impl Knob {
    fn read(self, knobs: &Knobs) -> f64 {
        match self {
            Knob::Setting(setting) => knobs.value(setting),
            Knob::Eot => knobs.eot as f64,
            Knob::Passes => knobs.passes as f64,
        }
    }

    fn write(self, knobs: &mut Knobs, value: f64) {
        match self {
            Knob::Setting(setting) => knobs.settings.set(setting, value),
            Knob::Eot => knobs.eot = value as usize,
            Knob::Passes => knobs.passes = value as usize,
        }
    }
}

fn number(
    app: App,
    label: &'static str,
    testid: &str,
    [min, max, step]: [f64; 3],
    knob: Knob,
) -> AnyView {
    // As an f32, whose shortest text is the one that was typed.
    let read = move || app.knobs.with(|k| (knob.read(k) as f32).to_string());
    let write = move |text: String| {
        let Some(value) = text.parse::<f64>().ok().filter(|v| v.is_finite()) else {
            return;
        };
        let value = value.clamp(min, max);
        let value = if step < 1.0 { value } else { value.trunc() };
        app.turn(false, |k| knob.write(k, value));
    };
    view! {
        <label class="field">
            {label}
            <input
                type="number"
                min=min
                max=max
                step=step
                data-testid=testid.to_owned()
                prop:value=read
                on:change:target=move |e| write(e.target().value())
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
