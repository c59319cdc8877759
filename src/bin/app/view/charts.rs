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
