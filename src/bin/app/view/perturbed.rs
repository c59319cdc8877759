//! The results of the Perturb bench: the picture before, after and the difference, the attack's
//! way, what each area made of it, whether the gradient can be trusted, what other models say.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::perturb::attack::masking::{Flag, Masking};
use ventral::session::protocol::{AttackStep, Perturbed, Prediction, Transferred};
use web_sys::HtmlInputElement;

use super::charts;
use super::parts::{self, icon};
use super::perturb::stage_words;
use crate::export;
use crate::json;
use crate::numbers;
use crate::paint::{Map, Palette, Picture, Range};
use crate::state::{App, DifferenceView, Knobs};

const SHOWN: usize = 5;

/// What came of it.
pub fn results(app: App) -> AnyView {
    view! {
        <h1 class="visually-hidden">"Perturb: corruptions and adversarial attacks"</h1>
        {parts::panel("triptych", "Original, perturbed, difference", "", tools(app), triptych(app))}
        <div class="two">
            {parts::panel("outcome", "Prediction before and after", "", ().into_any(), outcome(app))}
            {parts::panel("areas-change", "Change along the stream", "‖a′ − a‖ ÷ ‖a‖, area by area", ().into_any(), view! { {move || change(app)} }.into_any())}
        </div>
        {parts::panel("trajectory", "Course of the attack", "", csv_tool(app), view! { {move || trajectory(app)} }.into_any())}
        <div class="two">
            {parts::panel("trust", "Can the gradient be trusted?", "signs of gradient masking", check_tool(app), view! { {move || trust(app)} }.into_any())}
            {parts::panel("transfer", "Other models", "the same picture, not made for them", transfer_tool(app), view! { {move || transfers(app)} }.into_any())}
        </div>
    }
    .into_any()
}

fn triptych(app: App) -> AnyView {
    let pictures = move || match (app.perturbed.get(), app.image.get()) {
        (Some(p), _) => exhibits(app, &p),
        (None, shown) => rest(app, shown.map(|s| s.url.clone())),
    };
    let views = vec![
        (DifferenceView::Signed, "signed", "Signed"),
        (DifferenceView::Spectrum, "spectrum", "Spectrum"),
    ];
    let choice = parts::segmented(
        "difference-view",
        "How the difference is shown",
        views,
        move || app.difference_view.get(),
        move |view| app.difference_view.set(view),
    );
    view! {
        <div class="triptych">{pictures}</div>
        <div class="under-triptych">
            {move || playback(app)}
            {choice}
        </div>
        <p class="verdict" data-testid="verdict">{move || verdict(app)}</p>
        {move || app.perturbed.get().map(|p| norms(&p))}
    }
    .into_any()
}

fn exhibits(app: App, p: &Arc<Perturbed>) -> AnyView {
    let (perturbed, difference) = (p.clone(), p.clone());
    let middle = move || {
        let frame = app.frame.get().and_then(|i| perturbed.frames.get(i));
        match frame {
            Some(frame) => exhibit(
                "perturbed",
                format!("step {}: {}", frame.step, frame.best.label),
                Picture::from(&frame.perturbed),
            ),
            None => exhibit(
                "perturbed",
                "perturbed".to_owned(),
                Picture::from(&perturbed.perturbed),
            ),
        }
    };
    let right = move || {
        let (caption, picture) = difference_picture(app, &difference);
        exhibit("difference", caption, picture)
    };
    view! {
        {exhibit("original", "original".to_owned(), Picture::from(&p.original))}
        {middle}
        {right}
    }
    .into_any()
}

fn difference_picture(app: App, p: &Perturbed) -> (String, Picture) {
    let side = p.original.width;
    match app.difference_view.get() {
        DifferenceView::Spectrum if !p.spectrum.is_empty() => {
            let map = Map::nth(&p.spectrum, 0, side, side);
            let picture = map.picture(Range::of(&map.values), Palette::Viridis);
            ("log amplitude".to_owned(), picture)
        }
        _ => {
            let frame = app.frame.get().and_then(|i| p.frames.get(i));
            let shown = frame.map_or(&p.difference, |f| &f.difference);
            let caption = format!("difference × {}", numbers::short(p.gain));
            (caption, Picture::from(shown))
        }
    }
}

fn exhibit(name: &'static str, caption: String, picture: Picture) -> AnyView {
    view! {
        <figure data-testid=format!("picture-{name}")>
            {parts::canvas(picture, caption.clone())}
            <figcaption>{caption}</figcaption>
        </figure>
    }
    .into_any()
}

/// The attack's way, picture by picture.
fn playback(app: App) -> Option<AnyView> {
    let result = app.perturbed.get()?;
    let last = result.frames.len().checked_sub(1).filter(|l| *l > 0)?;
    let words = {
        let result = result.clone();
        move || match app.frame.get().and_then(|i| result.frames.get(i)) {
            Some(frame) => format!(
                "step {}, {} {}",
                frame.step,
                frame.best.label,
                numbers::percent(frame.best.probability)
            ),
            None => "the result".to_owned(),
        }
    };
    Some(
        view! {
            <div class="playback" data-testid="playback">
                <button
                    class="tool"
                    data-testid="play"
                    aria-label=move || if app.playing.get() { "Stop" } else { "Play the attack's way" }
                    on:click=move |_| app.play()
                >
                    {move || icon(if app.playing.get() { "stop" } else { "play" })}
                </button>
                <input
                    type="range"
                    min="0"
                    max=last
                    data-testid="frame"
                    aria-label="Step of the attack"
                    prop:value=move || app.frame.get().unwrap_or(last).to_string()
                    on:input:target=move |e| {
                        app.playing.set(false);
                        app.frame.set(e.target().value().parse().ok());
                    }
                />
                <output class="num">{words}</output>
            </div>
        }
        .into_any(),
    )
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
    if result.met_before {
        return format!(
            "Nothing left to attack: with {means} the model says {} instead of {} already.",
            is(after),
            is(before)
        );
    }
    let target = knobs
        .target
        .filter(|_| knobs.eps > 0.0 && knobs.attack.targeted)
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
    let stage = stage_words(knobs, side);
    match (knobs.kept.is_empty(), stage.is_empty()) {
        (true, _) => stage,
        (false, true) => "what was done first".to_owned(),
        (false, false) => "what was done first and ".to_owned() + &stage,
    }
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
            {(p.passes > 1).then(|| fact("Success", format!("{} of {} passes", (p.met * p.passes as f32).round(), p.passes)))}
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
    let npy = move || {
        let Some((p, name)) = result() else { return };
        export::bytes(&export::file_name(&[&name, "perturbed"], "npy"), &p.npy);
    };
    let recipe = move || {
        let Some((p, name)) = result() else { return };
        let knobs = app.perturbed_knobs.get_untracked().unwrap_or_default();
        let model = app.model.get_untracked();
        let value = json::object(&[
            ("perturbation", json::of(&knobs.options(false, app.side()))),
            ("image", json::of(&name)),
            ("model", json::of(&model.as_ref().map(|m| m.name.clone()))),
            (
                "weights_sha256_16",
                json::of(&model.as_ref().map(|m| m.hash.clone())),
            ),
            ("backend", json::of(&p.backend)),
            ("version", json::of(&env!("CARGO_PKG_VERSION"))),
            (
                "steps_run",
                json::of(&p.trajectory.first().map_or(0, |s| s.steps)),
            ),
            ("before", json::of(&p.before)),
            ("after", json::of(&p.after)),
            ("success", json::of(&p.success)),
            ("met", json::of(&p.met)),
            ("passes", json::of(&p.passes)),
            ("l1", json::of(&p.l1)),
            ("l2", json::of(&p.l2)),
            ("linf", json::of(&p.linf)),
            ("area_change", json::of(&p.area_change)),
        ]);
        let file = export::file_name(&[&name, "recipe"], "json");
        export::json(&file, &value);
    };
    view! {
        {parts::save("Image", "Save the perturbed image as PNG", png)}
        {parts::save("npy", "Save the perturbed pixels without loss, f32 in [0, 1], as .npy", npy)}
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

fn check_tool(app: App) -> AnyView {
    let possible = move || {
        app.perturbed.with(Option::is_some)
            && app
                .perturbed_knobs
                .with(|k| k.as_ref().is_some_and(|k| k.eps > 0.0))
    };
    view! {
        <button
            class="tool"
            data-testid="check-gradient"
            disabled=move || !possible()
            on:click=move |_| app.check_gradient()
        >
            "Check"
        </button>
    }
    .into_any()
}

/// The checks, each with what was found.
fn trust(app: App) -> AnyView {
    let Some(found) = app.masking.get() else {
        return view! {
            <p class="hint">
                "An attack that fails says little until its gradient has been checked (Athalye et al. 2018)."
            </p>
        }
        .into_any();
    };
    let row = |(flag, title, value): (Flag, &'static str, String)| {
        let raised = found.flags.contains(&flag);
        view! {
            <li class:raised=raised data-testid="trust-row">
                <span class="mark" aria-hidden="true">{if raised { "!" } else { "✓" }}</span>
                <span>{title}</span>
                <span class="num value">{value}</span>
                {raised.then(|| view! { <p>{flag.sentence()}</p> })}
            </li>
        }
    };
    let verdict = match found.flags.is_empty() {
        true => "No sign of gradient masking.",
        false => "Signs of gradient masking: read the robustness with care.",
    };
    view! {
        <p class="lead" data-testid="trust-verdict">{verdict}</p>
        <ol class="trust">{facts(&found).map(row).into_iter().collect_view()}</ol>
        {charts::line("Loss from the clean image to the perturbed one, in tenths", &found.path, found.path.len().saturating_sub(1), None, None)}
    }
    .into_any()
}

fn facts(found: &Masking) -> [(Flag, &'static str, String); 5] {
    let slope = found
        .slope_error
        .map_or("not on a stochastic model".to_owned(), |e| {
            format!("off by {}", numbers::percent(e))
        });
    let scores = match found.stood {
        0 => "it fell to the gradient".to_owned(),
        _ if found.beaten_by_scores > 0 => "found what the gradient missed".to_owned(),
        _ => "found nothing either".to_owned(),
    };
    let large = match found.large_radius >= 1.0 {
        true => "fooled",
        false => "not fooled",
    };
    [
        (Flag::WrongSlope, "Slope against finite differences", slope),
        (
            Flag::VanishedGradient,
            "Gradient entries that are 0",
            numbers::percent(found.zero_gradient),
        ),
        (Flag::NotMonotone, "Loss along the path", String::new()),
        (
            Flag::LargeRadiusFails,
            "Half the pixel range as radius",
            large.to_owned(),
        ),
        (Flag::ScoresBeatGradient, "Search by scores alone", scores),
    ]
}

fn transfer_tool(app: App) -> AnyView {
    let off = move || app.perturbed.with(Option::is_none);
    let take = move |input: HtmlInputElement| {
        if let Some(file) = input.files().and_then(|files| files.get(0)) {
            app.transfer_to_file(file);
        }
        input.set_value("");
    };
    view! {
        <button class="tool" data-testid="transfer-all" disabled=off on:click=move |_| app.transfer_to_all()>
            "Shipped ones"
        </button>
        <label class="tool file" class:off=off>
            {icon("open")}
            "Weights file"
            <input
                type="file"
                class="visually-hidden"
                accept=".pth,.pt,.tar,.safetensors"
                data-testid="transfer-file"
                disabled=off
                on:change:target=move |e| take(e.target())
            />
        </label>
    }
    .into_any()
}

/// What other models make of the same picture.
fn transfers(app: App) -> AnyView {
    let all = app.transfers.get();
    if all.is_empty() {
        return view! {
            <p class="hint">
                "A perturbation made for one model often fools others."
            </p>
        }
        .into_any();
    }
    let cell = |p: Option<&Prediction>| {
        let words = p.map(|p| format!("{} {}", p.label, numbers::percent(p.probability)));
        view! { <td>{words.unwrap_or_default()}</td> }
    };
    let row = |t: &Transferred| {
        let said = if t.fooled { "fooled" } else { "not fooled" };
        view! {
            <tr data-testid="transfer-row" data-fooled=t.fooled.to_string()>
                <th scope="row">{t.model.clone()}</th>
                {cell(t.before.first())}
                {cell(t.after.first())}
                <td class:raised=t.fooled>{said}</td>
            </tr>
        }
    };
    view! {
        <div class="scroll">
            <table class="grid-table">
                <thead><tr><th>"Model"</th><th>"Before"</th><th>"After"</th><th></th></tr></thead>
                <tbody>{all.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
    .into_any()
}
