//! Everything that is drawn. Views read the signals of [`App`] and call its methods; none of them
//! talks to the worker.

mod align;
mod camera;
mod charts;
mod compute;
mod figures;
mod filters;
mod image;
mod images;
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
use crate::state::{App, Tab};

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
        <main id="main" class="tab" tabindex="-1" data-tab=move || app.tab.get().word() data-busy=move || app.busy().to_string()>
            <div class="side">
                {move || match app.tab.get() {
                    Tab::See => [image::panel(app), top::panel(app), image::pipeline(app), models::panel(app)].into_any(),
                    Tab::Perturb => [image::panel(app), perturb::controls(app), models::panel(app)].into_any(),
                    Tab::Test => test::controls(app),
                    Tab::Align => align::controls(app),
                }}
                {compute::panel(app)}
            </div>
            <div class="work">
                {move || match app.tab.get() {
                    Tab::See => see(app),
                    Tab::Perturb => perturbed::results(app),
                    Tab::Test => test::results(app),
                    Tab::Align => align::results(app),
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
