//! The report of an alignment: verdict, table, figures.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::session::protocol::AlignReport;

use super::super::figures;
use super::super::parts::{self, icon};
use crate::state::App;

/// Table, verdict and figures.
pub fn results(app: App) -> AnyView {
    let tools = move || {
        app.align
            .report
            .get()
            .map(|report| figures::documents(report, |r| &r.documents))
    };
    let body = move || match app.align.report.get() {
        Some(report) => summary(app, &report),
        None => invitation(app),
    };
    view! {
        <h1 class="visually-hidden">"Align: fine-tune an area towards a target"</h1>
        {parts::panel("aligned", "Before and after", "", view! { {tools} }.into_any(), view! { {body} }.into_any())}
        {move || app.align.report.get().and_then(|report| panel(&report))}
    }
    .into_any()
}

/// Shown before anything has run.
fn invitation(app: App) -> AnyView {
    if app.align.run.is_on() {
        return view! {
            <p class="hint" data-testid="align-waiting">"Preparing images, models and the target's responses. The first numbers are those of the model before alignment."</p>
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
                "Alignment fine-tunes a model until the responses of one of its areas resemble a target: another model's area, recorded neurons, or a population with known noise. "
                "Dapello et al. (2023) aligned a network's IT with that of macaques in this way; its errors became more like those of people, and it withstood attacks better. The controls here show whether the target is the cause."
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

/// What to do with the aligned model.
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
            <span class="hint">"It is among the models of all tabs."</span>
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

fn panel(report: &Arc<AlignReport>) -> Option<AnyView> {
    (!report.charts.is_empty()).then(|| {
        parts::panel(
            "figures",
            "Figures",
            "",
            ().into_any(),
            figures::figures(&report.charts),
        )
    })
}
