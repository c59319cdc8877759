//! The bench Test: what is tested, how, and the tables and charts that come of it.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::model::catalog::Measured;
use ventral::session::protocol::{SetInfo, TestReport, TestedModel};
use web_sys::{File, HtmlInputElement};

use super::charts::{self, Curve, Point};
use super::parts::{self, icon};
use crate::state::{App, PLANS, SHIPPED_SET};
use crate::{files, numbers};

/// What is to be tested.
pub fn controls(app: App) -> AnyView {
    let body = view! {
        {plan(app)}
        {models(app)}
        {images(app)}
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
    let option = |(name, title, _): (&'static str, &'static str, &'static str)| {
        view! { <option value=name selected=move || app.lab.preset.with(|p| p == name)>{title}</option> }
    };
    let hint = move || {
        let preset = app.lab.preset.get();
        match app.lab.plan.get() {
            Some((name, _)) => format!("The plan in {name}"),
            None => PLANS
                .iter()
                .find(|p| p.0 == preset)
                .map_or("", |p| p.2)
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
                        app.lab.plan.set(None);
                        app.lab.preset.set(e.target().value());
                    }
                >
                    {PLANS.map(option).collect_view()}
                </select>
                {chooser("Own plan", ".toml,.json", "test-plan-file", move |file| app.take_plan(file))}
            </label>
            <p class="hint" data-testid="test-plan-hint">{hint}</p>
            <div class="fields">
                {number("Images", 1, 100_000, "test-images", move || app.lab.images.get() as u64, move |n| app.lab.images.set(n as usize))}
                {number("Seed", 0, 999_999, "test-seed", move || app.lab.seed.get(), move |n| app.lab.seed.set(n))}
            </div>
        </fieldset>
    }
    .into_any()
}

fn number(
    label: &'static str,
    least: u64,
    most: u64,
    testid: &'static str,
    value: impl Fn() -> u64 + Send + 'static,
    set: impl Fn(u64) + 'static,
) -> AnyView {
    view! {
        <label class="field">
            {label}
            <input
                type="number"
                min=least
                max=most
                data-testid=testid
                prop:value=move || value().to_string()
                on:change:target=move |e| {
                    if let Ok(n) = e.target().value().parse::<u64>() {
                        set(n.clamp(least, most));
                    }
                }
            />
        </label>
    }
    .into_any()
}

/// A button that opens a file.
fn chooser(
    label: &'static str,
    accept: &'static str,
    testid: &'static str,
    take: impl Fn(File) + 'static,
) -> AnyView {
    let chosen = move |input: HtmlInputElement| {
        if let Some(file) = input.files().and_then(|f| f.get(0)) {
            take(file);
        }
        // The same file may be chosen again.
        input.set_value("");
    };
    view! {
        <label class="tool file">
            {icon("file")}
            {label}
            <input
                class="visually-hidden"
                type="file"
                accept=accept
                aria-label=label
                data-testid=testid
                on:change:target=move |e| chosen(e.target())
            />
        </label>
    }
    .into_any()
}

fn models(app: App) -> AnyView {
    let names = move || {
        let mut all: Vec<(String, String)> = app.catalog.with(|all| {
            let at_hand = all.iter().filter(|e| e.file.is_some());
            at_hand.map(|e| (e.name.clone(), e.title.clone())).collect()
        });
        all.extend(
            app.lab
                .own
                .with(|all| all.iter().map(|f| (f.name(), f.name())).collect::<Vec<_>>()),
        );
        all
    };
    let row = move |(name, title): (String, String)| {
        let (checked, noted, testid) = (name.clone(), name.clone(), format!("test-model-{name}"));
        let note = move || {
            let found = app
                .lab
                .brought
                .with(|all| all.iter().find(|b| b.name == noted).cloned());
            found.map(|b| {
                let noise = if b.stochastic { ", stochastic" } else { "" };
                format!("{} px, {} classes{noise}", b.side, b.classes)
            })
        };
        view! {
            <li>
                <label class="check">
                    <input
                        type="checkbox"
                        data-testid=testid
                        prop:checked=move || app.lab.chosen.with(|all| all.contains(&checked))
                        on:change:target=move |e| app.choose_for_test(&name, e.target().checked())
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
                <For each=names key=|(name, _)| name.clone() children=row />
            </ul>
            <div>{chooser("Add weights", ".safetensors,.pth,.pt,.tar,.ckpt", "test-weights", move |file| app.add_weights_to_test(file))}</div>
        </fieldset>
    }
    .into_any()
}

fn images(app: App) -> AnyView {
    let told = move || match app.lab.set.get() {
        Some(set) => set_told(&set),
        None => {
            view! { <p class="hint">"The page's own: 1,000 test images of CIFAR-10"</p> }.into_any()
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Images"</legend>
            {told}
            <div>
                {chooser("Open an archive", ".tar,.gz,.tgz,.xz,.txz,.bin", "test-set", move |file| app.take_test_set(file))}
            </div>
            <p class="hint">"Class folders in a .tar, .tar.gz or .tar.xz, or a CIFAR-10 batch (.bin). They stay on this device."</p>
        </fieldset>
    }
    .into_any()
}

fn set_told(set: &SetInfo) -> AnyView {
    let name = match set.name == SHIPPED_SET {
        true => "The page's own CIFAR-10 test images".to_owned(),
        false => set.name.clone(),
    };
    let skipped = (!set.skipped.is_empty()).then(|| {
        let file =
            |(name, why): &(String, String)| view! { <li>{name.clone()} ": " {why.clone()}</li> };
        view! {
            <details class="remarks" data-testid="test-skipped">
                <summary>{set.skipped.len()} " files could not be read and are left out"</summary>
                <ul>{set.skipped.iter().map(file).collect_view()}</ul>
            </details>
        }
    });
    view! {
        <p data-testid="test-set-told">
            {name} ": " <span class="num">{set.images}</span> " images of "
            <span class="num">{set.classes.len()}</span> " classes"
        </p>
        {skipped}
    }
    .into_any()
}

fn run(app: App) -> AnyView {
    if app.lab.running.get().is_some() {
        return view! {
            <button class="button wide" data-testid="test-pause" on:click=move |_| app.pause_test()>
                {icon("stop")}
                "Pause"
            </button>
        }
        .into_any();
    }
    let words = match app.lab.paused.get() {
        true => "Go on",
        false => "Run the test",
    };
    view! {
        <button
            class="button primary wide"
            data-testid="test-run"
            disabled=move || !app.lab.is_ready()
            on:click=move |_| app.run_test()
        >
            {icon("play")}
            {words}
        </button>
        <p class="hint">"It can be paused, and goes on after a reload where it was. It rests while another bench is open."</p>
    }
    .into_any()
}

/// Tables and charts.
pub fn results(app: App) -> AnyView {
    view! {
        <h1 class="visually-hidden">"Test: robustness of models"</h1>
        {parts::panel("summary", "Robustness", "accuracy in per cent, with 95 % intervals", view! { {move || tools(app)} }.into_any(), view! { {move || summary(app)} }.into_any())}
        {move || shown(app, curves)}
        {move || shown(app, maps)}
        {move || shown(app, others)}
    }
    .into_any()
}

/// What a report has to show, if anything.
fn shown(app: App, part: fn(&Arc<TestReport>) -> Option<AnyView>) -> Option<AnyView> {
    app.lab.report.get().and_then(|report| part(&report))
}

fn tools(app: App) -> Option<AnyView> {
    let report = app.lab.report.get()?;
    let button = |(place, (name, _)): (usize, &(String, ventral::session::protocol::Bytes))| {
        let (report, label) = (report.clone(), name.clone());
        let save = move |_| {
            let (name, bytes) = &report.documents[place];
            files::download(
                &format!("ventral-{name}"),
                "application/octet-stream",
                bytes,
            );
        };
        view! {
            <button class="tool" title=format!("Save {label}") data-testid=format!("save-{label}") on:click=save>
                {icon("down")}
                {label.clone()}
            </button>
        }
    };
    Some(
        report
            .documents
            .iter()
            .enumerate()
            .map(button)
            .collect_view()
            .into_any(),
    )
}

fn summary(app: App) -> AnyView {
    let Some(report) = app.lab.report.get() else {
        return view! {
            <p class="hint" data-testid="test-empty">
                "Choose models and a plan. The first coarse numbers come within seconds and are refined while the test runs."
            </p>
        }
        .into_any();
    };
    let row = |model: &TestedModel| {
        view! {
            <tr data-testid="test-row" data-model=model.name.clone() data-clean=model.clean.map(|m| m.value.to_string())>
                <th scope="row">{model.name.clone()}</th>
                <td class="num">{model.overall.map(plain)}</td>
                <td class="num">{model.perturbation.map(plain)}</td>
                <td class="num">{model.white_box.map(share)}</td>
                <td class="num">{model.corruption.map(share)}</td>
                <td class="num">{model.clean.map(share)}</td>
                <td class="num">{model.mce.map(plain)}</td>
            </tr>
        }
    };
    let heads = [
        "model",
        "overall",
        "perturbation",
        "white box",
        "corruption",
        "clean",
        "mCE",
    ];
    let done = match report.rows == report.expected {
        true => "complete".to_owned(),
        false => format!("{} of {} answers", report.rows, report.expected),
    };
    view! {
        <p class="lead">{report.title.clone()}</p>
        <div class="scroll">
            <table class="grid-table results" data-testid="test-table">
                <thead>
                    <tr>{heads.map(|h| view! { <th scope="col">{h}</th> }).collect_view()}</tr>
                </thead>
                <tbody>{report.models.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
        <p class="hint">
            <span data-testid="test-progress" data-rows=report.rows data-expected=report.expected>{done}</span>
            ". " {report.remark.clone()}
        </p>
    }
    .into_any()
}

fn plain(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

/// A share with its interval as a whisker.
fn share(m: Measured) -> AnyView {
    let at = |v: f64| format!("{:.1}%", 100.0 * v.clamp(0.0, 1.0));
    let title = format!(
        "95 % interval {} to {}, {} images",
        plain(m.low),
        plain(m.high),
        m.images
    );
    view! {
        <span class="share" title=title>
            {plain(m.value)}
            <span class="whisker" aria-hidden="true">
                <span style:left=at(m.low) style:right=at(1.0 - m.high)></span>
                <i style:left=at(m.value)></i>
            </span>
        </span>
    }
    .into_any()
}

/// Accuracy against strength, a chart for each attack.
fn curves(report: &Arc<TestReport>) -> Option<AnyView> {
    let clean = report.conditions.iter().position(|c| c.title == "Clean");
    let mut titles: Vec<&str> = Vec::new();
    for condition in report
        .conditions
        .iter()
        .filter(|c| !c.corruption && c.value > 0.0)
    {
        if !titles.contains(&condition.title.as_str()) {
            titles.push(&condition.title);
        }
    }
    let chart = |title: &str| {
        let curve = |(i, model): (usize, &TestedModel)| {
            let at = |place: usize, value: f32, label: String| {
                let m = model.cells.get(place).copied().flatten()?;
                Some(Point {
                    x: value,
                    label,
                    y: m.value as f32,
                    low: m.low as f32,
                    high: m.high as f32,
                })
            };
            let own = report
                .conditions
                .iter()
                .enumerate()
                .filter(|(_, c)| c.title == title);
            let points = own.filter_map(|(place, c)| at(place, c.value, c.strength.clone()));
            let clean = clean.and_then(|place| at(place, 0.0, "0".to_owned()));
            Curve {
                name: model.name.clone(),
                colour: i,
                points: clean.into_iter().chain(points).collect(),
            }
        };
        charts::curves(title, report.models.iter().enumerate().map(curve).collect())
    };
    (!titles.is_empty()).then(|| {
        let body = view! {
            {key(report)}
            <div class="charts">{titles.iter().map(|t| chart(t)).collect_view()}</div>
        };
        parts::panel(
            "curves",
            "Accuracy against ε",
            "the radii evenly spaced; bars are 95 % intervals",
            ().into_any(),
            body.into_any(),
        )
    })
}

fn key(report: &TestReport) -> AnyView {
    let item = |(i, model): (usize, &TestedModel)| {
        view! { <li class=format!("c{}", i % 6)>{model.name.clone()}</li> }
    };
    view! { <ul class="key">{report.models.iter().enumerate().map(item).collect_view()}</ul> }
        .into_any()
}

/// Corruptions by severity, a map for each model.
fn maps(report: &Arc<TestReport>) -> Option<AnyView> {
    let mut titles: Vec<&str> = Vec::new();
    let mut severities: Vec<&str> = Vec::new();
    for condition in report.conditions.iter().filter(|c| c.corruption) {
        if !titles.contains(&condition.title.as_str()) {
            titles.push(&condition.title);
        }
        if !severities.contains(&condition.strength.as_str()) {
            severities.push(&condition.strength);
        }
    }
    if titles.is_empty() {
        return None;
    }
    severities.sort_unstable();
    let cell = |model: &TestedModel, title: &str, severity: &str| {
        let place = report
            .conditions
            .iter()
            .position(|c| c.title == title && c.strength == severity);
        let found = place.and_then(|p| model.cells.get(p).copied().flatten());
        match found {
            Some(m) => {
                let hint = format!(
                    "{title} {severity}: {} ({} to {})",
                    plain(m.value),
                    plain(m.low),
                    plain(m.high)
                );
                view! { <td class="num heat" title=hint style:--share=format!("{:.3}", m.value)>{format!("{:.0}", 100.0 * m.value)}</td> }.into_any()
            }
            None => view! { <td class="num heat none">"–"</td> }.into_any(),
        }
    };
    let map = |model: &TestedModel| {
        let row = |title: &&str| {
            view! {
                <tr>
                    <th scope="row">{(*title).to_owned()}</th>
                    {severities.iter().map(|s| cell(model, title, s)).collect_view()}
                </tr>
            }
        };
        view! {
            <figure class="heat-map">
                <figcaption>{model.name.clone()}</figcaption>
                <table>
                    <thead>
                        <tr>
                            <th scope="col">"severity"</th>
                            {severities.iter().map(|s| view! { <th scope="col">{(*s).to_owned()}</th> }).collect_view()}
                        </tr>
                    </thead>
                    <tbody>{titles.iter().map(row).collect_view()}</tbody>
                </table>
            </figure>
        }
    };
    let body =
        view! { <div class="heat-maps">{report.models.iter().map(map).collect_view()}</div> };
    Some(parts::panel(
        "corruption-map",
        "Corruption by severity",
        "accuracy in per cent",
        ().into_any(),
        body.into_any(),
    ))
}

/// Attacks without a radius: how many images stand, and McNemar's test where there are two models.
fn others(report: &Arc<TestReport>) -> Option<AnyView> {
    let rest: Vec<usize> = (0..report.conditions.len())
        .filter(|place| {
            let c = &report.conditions[*place];
            !c.corruption && (report.models.len() > 1 || (c.value == 0.0 && c.title != "Clean"))
        })
        .collect();
    if rest.is_empty() {
        return None;
    }
    let cell = |model: &TestedModel, place: usize| {
        let m = model.cells.get(place).copied().flatten();
        let p = model.p.get(place).copied().flatten();
        let p = p.map(|p| view! { <span class="hint">" p = " {numbers::short(p as f32)}</span> });
        view! { <td class="num">{m.map(|m| format!("{} ({} to {})", plain(m.value), plain(m.low), plain(m.high)))} {p}</td> }
    };
    let row = |place: &usize| {
        view! {
            <tr>
                <th scope="row">{report.conditions[*place].name.clone()}</th>
                {report.models.iter().map(|m| cell(m, *place)).collect_view()}
            </tr>
        }
    };
    let body = view! {
        <div class="scroll">
            <table class="grid-table">
                <thead>
                    <tr>
                        <th scope="col">"condition"</th>
                        {report.models.iter().map(|m| view! { <th scope="col">{m.name.clone()}</th> }).collect_view()}
                    </tr>
                </thead>
                <tbody>{rest.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    };
    Some(parts::panel(
        "conditions",
        "Condition by condition",
        "p: McNemar's exact test against the first model, on the same images",
        ().into_any(),
        body.into_any(),
    ))
}
