//! Figures and documents of a report.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::measure::chart::Chart;
use ventral::session::protocol::Bytes;

use super::parts::{self, icon};
use crate::files;

/// Buttons that save a report's documents.
pub fn documents<R: Send + Sync + 'static>(
    report: Arc<R>,
    of: fn(&R) -> &[(String, Bytes)],
) -> AnyView {
    let button = |(place, (name, _)): (usize, &(String, Bytes))| {
        let (report, label) = (report.clone(), name.clone());
        let save = move |_| {
            let (name, bytes) = &of(&report)[place];
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
    let all = of(&report).iter().enumerate().map(button);
    all.collect_view().into_any()
}

/// Drawings, each to be saved.
pub fn figures(charts: &[Chart]) -> AnyView {
    let figure = |chart: &Chart| {
        let (name, svg) = (chart.name.clone(), chart.svg.clone());
        let (again, drawn) = (name.clone(), svg.clone());
        let save = move || {
            files::download(
                &format!("ventral-{name}.svg"),
                "image/svg+xml",
                svg.as_bytes(),
            );
        };
        let paint = move || files::save_drawing(&format!("ventral-{again}.png"), &drawn);
        view! {
            <figure class="figure" data-testid="figure" data-name=chart.name.clone()>
                <div inner_html=unstyled(&chart.svg)></div>
                <figcaption class="tools">
                    {parts::save("SVG", "Save this figure as SVG", save)}
                    {parts::save("PNG", "Save this figure as PNG", paint)}
                </figcaption>
            </figure>
        }
    };
    let all = charts.iter().map(figure).collect_view();
    view! { <div class="figures">{all}</div> }.into_any()
}

/// A drawing without its style element: the page's security policy allows only its own style sheet.
fn unstyled(svg: &str) -> String {
    let cut = svg.split_once("<style>").zip(svg.split_once("</style>"));
    cut.map_or_else(
        || svg.to_owned(),
        |((before, _), (_, after))| format!("{before}{after}"),
    )
}
