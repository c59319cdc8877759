//! Everything that is drawn. Views read the signals of [`App`] and call its methods; none of them
//! talks to the worker.

mod align;
mod camera;
mod charts;
mod compute;
mod filters;
mod image;
mod lightbox;
mod models;
mod parts;
mod perturb;
mod perturbed;
mod readouts;
mod shell;
mod stream;
mod test;
mod top;

use leptos::prelude::*;

use crate::dom;
use crate::state::{App, Bench};

/// Puts the page into the document in place of its skeleton.
pub fn mount(app: App) {
    if let Some(skeleton) = dom::document().get_element_by_id("boot") {
        skeleton.remove();
    }
    shell::listen(app);
    leptos::mount::mount_to_body(move || page(app));
}

fn page(app: App) -> impl IntoView {
    view! {
        {shell::header(app)}
        {shell::strip(app)}
        {shell::problems(app)}
        <main id="main" class="bench" tabindex="-1" data-bench=move || app.bench.get().word() data-busy=move || app.busy().to_string()>
            <div class="side">
                {move || match app.bench.get() {
                    Bench::See => [image::panel(app), top::panel(app), image::pipeline(app), models::panel(app)].into_any(),
                    Bench::Perturb => [image::panel(app), perturb::controls(app), models::panel(app)].into_any(),
                    Bench::Test => test::controls(app),
                    Bench::Align => align::controls(app),
                }}
                {compute::panel(app)}
            </div>
            <div class="work">
                {move || match app.bench.get() {
                    Bench::See => see(app),
                    Bench::Perturb => perturbed::results(app),
                    Bench::Test => test::results(app),
                    Bench::Align => align::results(app),
                }}
            </div>
        </main>
        {shell::footer()}
        {shell::drop_curtain(app)}
        {models::dialog(app)}
        {camera::dialog(app)}
        {lightbox::dialog(app)}
    }
}

fn see(app: App) -> AnyView {
    view! {
        <h1 class="visually-hidden">"See: what each area makes of the image"</h1>
        {stream::overview(app)}
        {readouts::panel(app)}
        {stream::details(app)}
        {filters::panel(app)}
    }
    .into_any()
}
