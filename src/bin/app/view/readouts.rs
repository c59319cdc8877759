//! The prediction when the later areas read an area at each recurrent time step.

use leptos::prelude::*;
use ventral::session::protocol::{Analysis, Prediction, Readout};

use super::parts;
use crate::export;
use crate::json;
use crate::numbers;
use crate::state::App;

/// Classes followed across the steps.
const FOLLOWED: usize = 5;

/// One small chart a time step, the same classes in the same colours in each.
pub fn panel(app: App) -> AnyView {
    let recurrent = move || {
        app.analysis
            .with(|a| a.as_ref().is_none_or(|a| !a.readouts.is_empty()))
    };
    let body = move || match app.analysis.get() {
        Some(analysis) => charts(&analysis),
        None => parts::skeleton(4),
    };
    view! {
        <div hidden=move || !recurrent()>
            {parts::panel(
                "readouts",
                "Prediction over time",
                "Later areas run in full on the area's activations at each recurrent step.",
                tools(app),
                view! { <div class:stale=move || app.stale.get()>{body}</div> }.into_any(),
            )}
        </div>
    }
    .into_any()
}

/// The classes that matter anywhere: the final top ones first, then by their largest probability.
fn followed(analysis: &Analysis) -> Vec<Prediction> {
    let mut classes: Vec<Prediction> = analysis.top.iter().take(3).cloned().collect();
    let mut others: Vec<&Prediction> = analysis.readouts.iter().flat_map(|r| &r.top).collect();
    others.extend(&analysis.top);
    others.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    for other in others {
        if classes.len() < FOLLOWED && classes.iter().all(|c| c.class != other.class) {
            classes.push(other.clone());
        }
    }
    classes
}

fn charts(analysis: &Analysis) -> AnyView {
    let classes = followed(analysis);
    let mut groups: Vec<(String, Vec<&Readout>)> = Vec::new();
    for readout in &analysis.readouts {
        match groups.last_mut().filter(|(area, _)| *area == readout.area) {
            Some((_, steps)) => steps.push(readout),
            None => groups.push((readout.area.clone(), vec![readout])),
        }
    }
    let group = |(area, steps): (String, Vec<&Readout>)| {
        let charts = steps.iter().map(|r| chart(r, &classes)).collect_view();
        let (name, words) = (area.clone(), format!("Read out at {area}"));
        let count = steps.len().to_string();
        view! {
            <section class="readout-area" style=("--steps", count) data-area=name aria-label=words>
                <h3>{area}</h3>
                <div class="readout-steps">{charts}</div>
            </section>
        }
    };
    let key = |(i, class): (usize, &Prediction)| {
        view! { <li class=format!("c{i}")>{class.label.clone()}</li> }
    };
    view! {
        <ul class="key">{classes.iter().enumerate().map(key).collect_view()}</ul>
        <div class="readouts">{groups.into_iter().map(group).collect_view()}</div>
    }
    .into_any()
}

fn chart(readout: &Readout, classes: &[Prediction]) -> AnyView {
    let best = readout
        .top
        .first()
        .map(|p| (p.class, p.label.clone(), p.probability));
    let words = best.as_ref().map_or(String::new(), |(_, label, p)| {
        format!(
            "{} t{}: {label}, {}",
            readout.area,
            readout.time_step,
            numbers::percent(*p)
        )
    });
    let bar = |(i, class): (usize, &Prediction)| {
        let share = readout
            .top
            .iter()
            .find(|p| p.class == class.class)
            .map(|p| p.probability);
        let width = share.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0;
        let title = match share {
            Some(p) => format!("{}: {}", class.label, numbers::percent(p)),
            None => format!("{}: not among the first {}", class.label, readout.top.len()),
        };
        view! {
            <li class=format!("c{i}") title=title>
                <span class="bar"><span style:width=format!("{width:.2}%")></span></span>
            </li>
        }
    };
    view! {
        <figure class="readout" data-testid="readout" data-area=readout.area.clone() data-step=readout.time_step>
            <figcaption>
                <span class="num step">{format!("t{}", readout.time_step)}</span>
                <span class="num value">{best.as_ref().map(|b| numbers::percent(b.2))}</span>
                <span class="label">{best.as_ref().map(|b| b.1.clone())}</span>
            </figcaption>
            <ol role="img" aria-label=words>{classes.iter().enumerate().map(bar).collect_view()}</ol>
        </figure>
    }
    .into_any()
}

fn tools(app: App) -> AnyView {
    let csv = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        let head = ["area", "time_step", "rank", "class", "label", "probability"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for readout in &a.readouts {
            rows.extend(readout.top.iter().enumerate().map(|(rank, p)| {
                vec![
                    readout.area.clone(),
                    readout.time_step.to_string(),
                    (rank + 1).to_string(),
                    p.class.to_string(),
                    p.label.clone(),
                    p.probability.to_string(),
                ]
            }));
        }
        export::csv(
            &export::file_name(&[&a.model, &a.image, "over-time"], "csv"),
            &rows,
        );
    };
    let json = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        export::json(
            &export::file_name(&[&a.model, &a.image, "over-time"], "json"),
            &json::of(&a.readouts),
        );
    };
    view! {
        {parts::save("CSV", "Save the predictions over time as CSV", csv)}
        {parts::save("JSON", "Save the predictions over time as JSON", json)}
    }
    .into_any()
}
