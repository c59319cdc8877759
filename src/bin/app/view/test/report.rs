//! The report of a test: tables, figures, images.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::experiment::robustness::summary::{FragileImage, ModelReport};
use ventral::model::catalog::Measured;
use ventral::session::protocol::{Confusions, TestReport};

use super::super::figures;
use super::super::parts::{self, chooser};
use crate::state::{App, Knobs, Tab};
use crate::{files, numbers};

/// Tables and charts.
pub fn results(app: App) -> AnyView {
    view! {
        <h1 class="visually-hidden">"Test: robustness of models"</h1>
        {parts::panel("summary", "Robustness", "accuracy in per cent, with 95 % intervals", view! { {move || tools(app)} }.into_any(), view! { {move || summary(app)} }.into_any())}
        {move || shown(app, panel)}
        {move || app.test.report.get().and_then(|report| gallery(app, &report))}
        {move || answers(app)}
        {move || shown(app, others)}
        {parts::panel("compare", "Another report", "saved as JSON, here or by ventral report", ().into_any(), compared(app))}
    }
    .into_any()
}

/// A part of the report, if it has one.
fn shown(app: App, part: fn(&Arc<TestReport>) -> Option<AnyView>) -> Option<AnyView> {
    app.test.report.get().and_then(|report| part(&report))
}

fn tools(app: App) -> Option<AnyView> {
    let report = app.test.report.get()?;
    Some(figures::documents(report, |report| &report.documents))
}

fn summary(app: App) -> AnyView {
    let Some(report) = app.test.report.get() else {
        return view! {
            <p class="hint" data-testid="test-empty">
                "Choose models and a plan. The first coarse numbers appear within seconds and are refined while the test runs."
            </p>
        }
        .into_any();
    };
    let done = match report.rows == report.expected {
        true => "complete".to_owned(),
        false => format!("{} of {} answers", report.rows, report.expected),
    };
    view! {
        <p class="lead">{report.title.clone()}</p>
        {results_table(&report, "test-table")}
        <p class="hint">
            <span data-testid="test-progress" data-rows=report.rows data-expected=report.expected>{done}</span>
            ". " {report.remark.clone()}
        </p>
    }
    .into_any()
}

fn results_table(report: &TestReport, testid: &'static str) -> AnyView {
    let row = |model: &ModelReport| {
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
    view! {
        <div class="scroll">
            <table class="grid-table results" data-testid=testid>
                <thead>
                    <tr>{heads.map(|h| view! { <th scope="col">{h}</th> }).collect_view()}</tr>
                </thead>
                <tbody>{report.models.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
    .into_any()
}

/// A saved report beside the one on show.
fn compared(app: App) -> AnyView {
    let choose = chooser(
        "Compare with a report",
        ".json",
        "test-compare",
        move |file| app.take_report(file),
    );
    let other = move || {
        let (name, report) = app.test.other.get()?;
        let drawings = figures::figures(&report.charts);
        Some(view! {
            <p class="lead" data-testid="test-other">{name} ": " {report.title.clone()}</p>
            {results_table(&report, "test-other-table")}
            <p class="hint">{report.remark.clone()}</p>
            {drawings}
        })
    };
    view! { {choose} {other} }.into_any()
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

/// The figures, each to be saved.
fn panel(report: &Arc<TestReport>) -> Option<AnyView> {
    (!report.charts.is_empty()).then(|| {
        parts::panel(
            "figures",
            "Figures",
            "accuracy in per cent; whiskers are 95 % intervals",
            ().into_any(),
            figures::figures(&report.charts),
        )
    })
}

/// The images that the first model gets wrong in most conditions.
fn gallery(app: App, report: &TestReport) -> Option<AnyView> {
    let item = move |lost: &FragileImage| {
        let url = files::object_url(&lost.png, "image/png").unwrap_or_default();
        let kept = url.clone();
        on_cleanup(move || files::release(&kept));
        let (png, name) = (lost.png.to_vec(), format!("test image {}", lost.image));
        let lost_here = lost.clone();
        let open = move |_| {
            app.set_picture(format!("{name}.png"), png.clone());
            let seed = app.test.seed.get_untracked();
            let knobs = Knobs::of_fragile(&lost_here, seed, app.side());
            app.turn(false, |k| *k = knobs);
            app.go(Tab::Perturb);
        };
        let caption = format!(
            "{} taken for {}, {}",
            lost.label, lost.prediction, lost.condition
        );
        view! {
            <li>
                <button class="thumb" title=format!("Open in Perturb: {caption}") data-testid="lost-image" on:click=open>
                    <img src=url alt=caption.clone() />
                    <span>{lost.label.clone()} " → " {lost.prediction.clone()}</span>
                    <span class="hint">{lost.condition.clone()} ", wrong in " {lost.wrong} " of " {lost.of}</span>
                </button>
            </li>
        }
    };
    (!report.lost.is_empty()).then(|| {
        let body = view! { <ul class="lost">{report.lost.iter().map(item).collect_view()}</ul> };
        parts::panel(
            "worst",
            "Most fragile images",
            "images the first model gets wrong in most conditions, each in the mildest of them",
            ().into_any(),
            body.into_any(),
        )
    })
}

/// The answers of a model, clean and in a chosen condition.
fn answers(app: App) -> Option<AnyView> {
    let report = app.test.report.get()?;
    let confused = app.test.confused.get()?;
    let Confusions {
        model, condition, ..
    } = &confused;
    let models = report.models.iter().map(|m| m.name.clone());
    let conditions = report.conditions.iter().map(|c| c.name.clone());
    let (of, under) = (model.clone(), condition.clone());
    let tables = confused.tables.iter().map(counted).collect_view();
    let body = view! {
        <div class="fields">
            {choice("Model", "answers-model", models, model, move |model| app.confuse(model, String::new()))}
            {choice("Condition", "answers-condition", conditions, &under, move |condition| app.confuse(of.clone(), condition))}
        </div>
        {figures::figures(&confused.charts)}
        {tables}
    };
    Some(parts::panel(
        "answers",
        "Answers",
        "the answers to the images of each class, clean and perturbed",
        ().into_any(),
        body.into_any(),
    ))
}

/// A choice among names.
fn choice(
    label: &'static str,
    testid: &'static str,
    names: impl Iterator<Item = String>,
    now: &str,
    choose: impl Fn(String) + 'static,
) -> AnyView {
    let option = |name: String| {
        let selected = name == now;
        view! { <option value=name.clone() selected=selected>{name.clone()}</option> }
    };
    view! {
        <label class="field">
            {label}
            <select data-testid=testid on:change:target=move |e| choose(e.target().value())>
                {names.map(option).collect_view()}
            </select>
        </label>
    }
    .into_any()
}

/// The wrong answers given most often in a condition, where there are too many classes to draw.
fn counted((condition, rows): &(String, Vec<Vec<String>>)) -> AnyView {
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().map(|cell| view! { <td>{cell.clone()}</td> });
        view! { <tr>{cells.collect_view()}</tr> }
    };
    let (heads, rows) = rows
        .split_first()
        .map_or((&[][..], &rows[..]), |(h, r)| (&h[..], r));
    let heads = heads
        .iter()
        .map(|head| view! { <th scope="col">{head.clone()}</th> });
    view! {
        <p class="hint">{condition.clone()}</p>
        <table class="grid-table">
            <thead><tr>{heads.collect_view()}</tr></thead>
            <tbody>{rows.iter().map(row).collect_view()}</tbody>
        </table>
    }
    .into_any()
}

/// Conditions that no chart shows: attacks without a radius, and McNemar's test between models.
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
    let cell = |model: &ModelReport, place: usize| {
        let condition = &report.conditions[place].name;
        let m = model.accuracy(condition);
        let mut compared = report.comparisons.iter().filter(|c| c.model == model.name);
        let p = compared.find(|c| c.condition == *condition).map(|c| c.p);
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
