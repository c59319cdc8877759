//! Small charts as SVG.

use leptos::prelude::*;

use crate::numbers;

const WIDTH: f32 = 280.0;
const HEIGHT: f32 = 92.0;
const LEFT: f32 = 38.0;
const BOTTOM: f32 = 18.0;
const TOP: f32 = 8.0;
const RIGHT: f32 = 8.0;

/// A line over steps 0, 1, 2, …; `total` steps are expected. `floor` and `ceiling` fix the ends of
/// the vertical axis where they have a meaning.
pub fn line(
    title: &'static str,
    values: &[f32],
    total: usize,
    floor: Option<f32>,
    ceiling: Option<f32>,
) -> AnyView {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = floor.unwrap_or_else(|| finite().fold(f32::INFINITY, f32::min));
    let high = ceiling.unwrap_or_else(|| finite().fold(f32::NEG_INFINITY, f32::max));
    let (low, high) = if low.is_finite() && high > low {
        (low, high)
    } else {
        (0.0, 1.0)
    };
    let last = total.max(values.len().saturating_sub(1)).max(1);
    let x = move |step: usize| LEFT + (WIDTH - LEFT - RIGHT) * step as f32 / last as f32;
    let y = move |v: f32| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (v - low) / (high - low));
    let points = values.iter().enumerate().filter(|(_, v)| v.is_finite());
    let points: Vec<String> = points
        .map(|(i, v)| format!("{:.1},{:.1}", x(i), y(*v)))
        .collect();
    let label = match (values.first(), values.last()) {
        (Some(first), Some(end)) => format!(
            "{title}: from {} to {} in {} steps",
            numbers::short(*first),
            numbers::short(*end),
            values.len().saturating_sub(1)
        ),
        _ => title.to_owned(),
    };
    let end = values.last().map(|v| {
        view! { <circle class="dot" cx=x(values.len() - 1).to_string() cy=y(*v).to_string() r="3"></circle> }
    });
    let tick = |value: f32| {
        view! {
            <line class="grid" x1=LEFT.to_string() x2=(WIDTH - RIGHT).to_string() y1=y(value).to_string() y2=y(value).to_string()></line>
            <text class="tick" x=(LEFT - 5.0).to_string() y=(y(value) + 3.5).to_string() text-anchor="end">
                {numbers::short(value)}
            </text>
        }
    };
    let step = |at: usize, anchor: &'static str| {
        view! {
            <text class="tick" x=x(at).to_string() y=(HEIGHT - 4.0).to_string() text-anchor=anchor>{at}</text>
        }
    };
    view! {
        <figure class="chart">
            <figcaption>{title}</figcaption>
            <svg viewBox=format!("0 0 {WIDTH} {HEIGHT}") role="img" aria-label=label>
                {tick(low)}
                {tick(high)}
                {step(0, "middle")}
                {step(last, "end")}
                <polyline class="line" points=points.join(" ")></polyline>
                {end}
            </svg>
        </figure>
    }
    .into_any()
}

/// A point of a curve with its interval.
pub struct Point {
    pub x: f32,
    /// `x` as it is written.
    pub label: String,
    /// All three in [0, 1].
    pub y: f32,
    pub low: f32,
    pub high: f32,
}

/// A curve of a chart.
pub struct Curve {
    pub name: String,
    /// Of the palette of classes.
    pub colour: usize,
    pub points: Vec<Point>,
}

/// Shares against strength. The strengths stand side by side, the weakest first, whatever lies
/// between them: published radii double or quadruple from one to the next.
pub fn curves(title: &str, curves: Vec<Curve>) -> AnyView {
    let mut ticks: Vec<(f32, String)> = Vec::new();
    for point in curves.iter().flat_map(|c| &c.points) {
        if !ticks.iter().any(|(x, _)| *x == point.x) {
            ticks.push((point.x, point.label.clone()));
        }
    }
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = ticks.len().saturating_sub(1).max(1) as f32;
    let height = 150.0;
    let places: Vec<f32> = ticks.iter().map(|(x, _)| *x).collect();
    let x = move |value: f32| {
        let place = places.iter().position(|known| *known == value).unwrap_or(0);
        LEFT + (WIDTH - LEFT - RIGHT) * place as f32 / last
    };
    let y = move |share: f32| TOP + (height - TOP - BOTTOM) * (1.0 - share);
    let grid = [0.0_f32, 0.5, 1.0].map(|share| {
        view! {
            <line class="grid" x1=LEFT.to_string() x2=(WIDTH - RIGHT).to_string() y1=y(share).to_string() y2=y(share).to_string()></line>
            <text class="tick" x=(LEFT - 5.0).to_string() y=(y(share) + 3.5).to_string() text-anchor="end">
                {format!("{:.0} %", 100.0 * share)}
            </text>
        }
    });
    // Every tick where there is room, every other otherwise.
    let every = ticks.len().div_ceil(8).max(1);
    let tick = |(value, label): &(f32, String)| {
        view! {
            <text class="tick" x=x(*value).to_string() y=(height - 4.0).to_string() text-anchor="middle">{label.clone()}</text>
        }
    };
    let curve = |curve: &Curve| {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|p| format!("{:.1},{:.1}", x(p.x), y(p.y)))
            .collect();
        let whisker = |p: &Point| {
            let (at, hint) = (
                x(p.x).to_string(),
                format!("{}, ε = {}: {:.1} %", curve.name, p.label, 100.0 * p.y),
            );
            view! {
                <line class="whisk" x1=at.clone() x2=at.clone() y1=y(p.low).to_string() y2=y(p.high).to_string()></line>
                <circle class="spot" cx=at cy=y(p.y).to_string() r="2.6"><title>{hint}</title></circle>
            }
        };
        view! {
            <g class=format!("c{}", curve.colour % 6)>
                <polyline class="curve" points=points.join(" ")></polyline>
                {curve.points.iter().map(whisker).collect_view()}
            </g>
        }
    };
    let label = format!(
        "{title}: accuracy against the radius for {} models",
        curves.len()
    );
    view! {
        <figure class="chart" data-testid="curve">
            <figcaption>{title.to_owned()}</figcaption>
            <svg viewBox=format!("0 0 {WIDTH} {height}") role="img" aria-label=label>
                {grid.collect_view()}
                {ticks.iter().step_by(every).map(tick).collect_view()}
                {curves.iter().map(curve).collect_view()}
            </svg>
        </figure>
    }
    .into_any()
}
