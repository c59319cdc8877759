//! The five most probable classes.

use leptos::prelude::*;
use ventral::session::protocol::Analysis;

use super::parts;
use crate::export;
use crate::json;
use crate::numbers;
use crate::state::App;

/// Classes shown.
const SHOWN: usize = 5;

/// The top five with bars, and all probabilities to take away.
pub fn panel(app: App) -> AnyView {
    let rows = move || {
        app.analysis.get().map(|analysis| {
            let row = |(i, p)| parts::prediction_row(i + 1, p, i, "top5-row");
            analysis
                .top
                .iter()
                .take(SHOWN)
                .enumerate()
                .map(row)
                .collect_view()
        })
    };
    let body = view! {
        <ol class="predictions" class:stale=move || app.stale.get() data-testid="top5">{rows}</ol>
        {move || app.analysis.with(Option::is_none).then(|| parts::skeleton(SHOWN))}
        <p class="hint num">{move || app.analysis.get().map(|a| beneath(&a))}</p>
        {move || app.is_outdated().then(|| view! {
            <button class="button" data-testid="look-again" on:click=move |_| app.refresh()>
                "Run again"
            </button>
        })}
    };
    parts::panel("prediction", "Prediction", "", tools(app), body.into_any())
}

fn beneath(analysis: &Analysis) -> String {
    format!(
        "{} · {} · {}",
        analysis.model,
        numbers::duration(analysis.milliseconds),
        analysis.backend,
    )
}

fn tools(app: App) -> AnyView {
    let csv = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        let mut rows = vec![vec![
            "class".to_owned(),
            "label".to_owned(),
            "probability".to_owned(),
        ]];
        let labels = app
            .model
            .get_untracked()
            .map(|m| m.classes.clone())
            .unwrap_or_default();
        rows.extend(a.probabilities.iter().enumerate().map(|(class, p)| {
            vec![
                class.to_string(),
                labels.get(class).cloned().unwrap_or_default(),
                p.to_string(),
            ]
        }));
        export::csv(
            &export::file_name(&[&a.model, &a.image, "probabilities"], "csv"),
            &rows,
        );
    };
    let json = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        let model = app.model.get_untracked();
        let value = json::object(&[
            ("model", json::of(&a.model)),
            (
                "weights_sha256_16",
                json::of(&model.map(|m| m.hash.clone())),
            ),
            ("image", json::of(&a.image)),
            ("backend", json::of(&a.backend)),
            ("milliseconds", json::of(&a.milliseconds)),
            ("version", json::of(&env!("CARGO_PKG_VERSION"))),
            ("top", json::of(&a.top)),
            ("probabilities", json::of(&a.probabilities)),
        ]);
        export::json(
            &export::file_name(&[&a.model, &a.image, "prediction"], "json"),
            &value,
        );
    };
    view! {
        {parts::save("CSV", "Save all probabilities as CSV", csv)}
        {parts::save("JSON", "Save the prediction as JSON", json)}
    }
    .into_any()
}
