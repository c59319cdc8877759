//! The model in use and the ways to another one.

use leptos::html;
use leptos::prelude::*;
use ventral::model::catalog::Measured;
use ventral::session::protocol::{ModelInfo, ModelSummary};

use super::image::take_chosen;
use super::parts::{self, icon};
use crate::catalog::Entry;
use crate::numbers;
use crate::state::{App, Dialog, Source};

/// The model in use.
pub fn panel(app: App) -> AnyView {
    let body = move || match app.model.get() {
        Some(model) => facts(app, &model),
        None => parts::skeleton(3),
    };
    let change = view! {
        <button class="tool" data-testid="model-open" aria-haspopup="dialog" on:click=move |_| app.dialog.set(Some(Dialog::Models))>
            "Change"
        </button>
    };
    let body = view! { {body} };
    parts::panel("model", "Model", "", change.into_any(), body.into_any())
}

fn facts(app: App, model: &ModelInfo) -> AnyView {
    let entry = {
        let name = model.name.clone();
        move || {
            app.catalog
                .with(|all| all.iter().find(|e| e.name == name).cloned())
        }
    };
    let title = {
        let (entry, name) = (entry.clone(), model.name.clone());
        move || entry().map_or(name.clone(), |e| e.title)
    };
    let accuracy = entry.clone();
    let accuracy = move || accuracy().and_then(|e| e.accuracy).map(numbers::percent);
    let card = move || {
        entry().and_then(|e| e.card).map(|card| {
            view! { <a href=format!("models/{card}") target="_blank" rel="noopener">"Model card"</a> }
        })
    };
    let remarks = model
        .remarks
        .iter()
        .map(|r| view! { <li>{r.clone()}</li> })
        .collect_view();
    let has_remarks = !model.remarks.is_empty();
    view! {
        <p class="model-title" data-testid="model-name" data-name=model.name.clone()>{title}</p>
        <dl class="table">
            <div>
                <dt>"Family"</dt>
                <dd>{model.family.clone()}</dd>
            </div>
            <div>
                <dt>"Parameters"</dt>
                <dd class="num">{numbers::count(model.parameters)}</dd>
            </div>
            <div>
                <dt>"Classes"</dt>
                <dd class="num">{model.classes.len()}</dd>
            </div>
            <div>
                <dt>"Accuracy"</dt>
                <dd class="num">{move || accuracy().unwrap_or_else(|| "–".into())}</dd>
            </div>
            <div>
                <dt>"Loaded in"</dt>
                <dd class="num" data-testid="model-load-time">{numbers::duration(model.load_milliseconds)}</dd>
            </div>
            <div>
                <dt>"Weights"</dt>
                <dd class="num" title="First 16 hex digits of the SHA-256 of the weights" data-testid="model-hash">
                    {model.hash.clone()}
                </dd>
            </div>
        </dl>
        {has_remarks.then(|| view! {
            <details class="remarks">
                <summary>"Loader notes"</summary>
                <ul>{remarks}</ul>
            </details>
        })}
        <p class="hint">{card}</p>
    }
    .into_any()
}

/// The model picker.
pub fn dialog(app: App) -> AnyView {
    let node = NodeRef::<html::Dialog>::new();
    parts_dialog(app, Dialog::Models, node);
    let close = move || app.dialog.set(None);
    view! {
        <dialog
            node_ref=node
            class="sheet"
            data-testid="model-dialog"
            aria-labelledby="models-title"
            on:close=move |_| close()
        >
            <header class="panel-head">
                <h2 id="models-title">"Models"</h2>
                <div class="tools">
                    <button class="tool bare" aria-label="Close" data-testid="model-close" on:click=move |_| close()>
                        {icon("close")}
                    </button>
                </div>
            </header>
            <div class="cards" data-testid="model-picker">
                {move || app.catalog.get().into_iter().map(|e| card(app, e)).collect_view()}
            </div>
            {move || made(app)}
            {own(app)}
        </dialog>
    }
    .into_any()
}

/// Opens and closes a modal dialog as the state says.
pub fn parts_dialog(app: App, which: Dialog, node: NodeRef<html::Dialog>) {
    Effect::new(move |_| {
        let wanted = app.dialog.get() == Some(which);
        let Some(dialog) = node.get() else { return };
        match (wanted, dialog.open()) {
            // Fails only for a dialog outside the document.
            (true, false) => drop(dialog.show_modal()),
            (false, true) => dialog.close(),
            _ => {}
        }
    });
}

fn card(app: App, entry: Entry) -> AnyView {
    let (name, tested) = (entry.name.clone(), entry.name.clone());
    let in_use = {
        let name = name.clone();
        move || app.model_name.with(|m| m.as_ref() == Some(&name))
    };
    let facts = [
        entry.accuracy.map(|a| ("top-1", numbers::percent(a))),
        (entry.input > 0).then(|| ("input", format!("{} px", entry.input))),
        (entry.classes > 0).then(|| ("classes", entry.classes.to_string())),
        (entry.bytes > 0).then(|| ("size", numbers::bytes(entry.bytes as f64))),
    ];
    let fact = |(name, value): (&'static str, String)| {
        view! {
            <div>
                <dt>{name}</dt>
                <dd class="num">{value}</dd>
            </div>
        }
    };
    view! {
        <article class="card" data-testid="model-card" data-name=name aria-current=move || in_use().then_some("true")>
            <h3>{entry.title.clone()}</h3>
            <p>{entry.description.clone()}</p>
            {move || measures(app, &tested)}
            <dl class="facts">{facts.into_iter().flatten().map(fact).collect_view()}</dl>
            {way(app, &entry)}
        </article>
    }
    .into_any()
}

/// How robust a model was found to be, measure by measure.
fn measures(app: App, name: &str) -> Option<AnyView> {
    let found = app.robustness.with(|all| all.get(name).cloned())?;
    let all = [
        ("clean", found.clean),
        ("corruption", found.corruption),
        ("white box", found.white_box),
    ];
    let percent = |share: f64| format!("{:.1}%", 100.0 * share.clamp(0.0, 1.0));
    let row = |(label, measured): (&'static str, Option<Measured>)| {
        let m = measured?;
        let title = format!(
            "{label}: {} right, 95 % interval {} to {}, {} images",
            percent(m.value),
            percent(m.low),
            percent(m.high),
            m.images
        );
        Some(view! {
            <li title=title>
                <span>{label}</span>
                <span class="bar" aria-hidden="true">
                    <span style:width=percent(m.value)></span>
                    <i style:left=percent(m.low) style:right=percent(1.0 - m.high)></i>
                </span>
                <span class="num">{numbers::percent(m.value as f32)}</span>
            </li>
        })
    };
    let rows = all.into_iter().filter_map(row).collect_view();
    Some(view! { <ul class="measures" data-testid="model-measures" aria-label="Accuracy">{rows}</ul> }.into_any())
}

/// A model in a few words.
pub fn short_facts(model: &ModelSummary) -> String {
    let noise = if model.stochastic { ", stochastic" } else { "" };
    format!("{} px, {} classes{noise}", model.side, model.classes.len())
}

/// The visitor's own models from the tabs Test and Align.
fn made(app: App) -> Option<AnyView> {
    let files = app.models.own.get();
    let card = |file: &web_sys::File| {
        let (name, shown) = (file.name(), file.name());
        let in_use = move || {
            let own = app.model_name.with(Option::is_none);
            own && app
                .model
                .with(|m| m.as_ref().is_some_and(|m| m.name == shown))
        };
        let size = numbers::bytes(file.size());
        let file = file.clone();
        let load = move |_| {
            app.dialog.set(None);
            app.load(Source::File(file.clone()));
        };
        view! {
            <article class="card" data-testid="model-card" data-name=name.clone() aria-current=move || in_use().then_some("true")>
                <h3>{name.clone()}</h3>
                <dl class="facts"><div><dt>"size"</dt><dd class="num">{size}</dd></div></dl>
                <button class="button primary" data-testid=format!("use-{name}") on:click=load>"Use"</button>
            </article>
        }
    };
    (!files.is_empty()).then(|| {
        view! {
            <section class="own" aria-labelledby="made-title">
                <h3 id="made-title">"Your models"</h3>
                <div class="cards" data-testid="own-models">{files.iter().map(card).collect_view()}</div>
            </section>
        }
        .into_any()
    })
}

/// How a model gets here: shipped with the page, or downloaded.
fn way(app: App, entry: &Entry) -> AnyView {
    let load = move |source: Source| {
        app.dialog.set(None);
        app.load(source);
    };
    if entry.file.is_some() {
        let name = entry.name.clone();
        return view! {
            <button class="button primary" data-testid=format!("use-{name}") on:click=move |_| load(Source::Catalog(name.clone()))>
                "Use"
            </button>
        }
        .into_any();
    }
    let Some(url) = entry.url.clone() else {
        return ().into_any();
    };
    let fetched = url.clone();
    let fetch = entry.host_allows_cors.then(|| {
        view! {
            <button class="button" data-testid=format!("fetch-{}", entry.name) on:click=move |_| load(Source::Url(fetched.clone()))>
                {icon("down")}
                "Download and use"
            </button>
        }
    });
    let words = entry.instructions.clone();
    let words = words.unwrap_or_else(|| match entry.host_allows_cors {
        true => "Downloaded when you ask for it, and kept for your next visit.".to_owned(),
        false => "Download the file, then drop it anywhere on this page.".to_owned(),
    });
    view! {
        <p class="hint">{words}</p>
        <p class="card-actions">
            {fetch}
            <a class="button" href=url target="_blank" rel="noopener noreferrer">
                {icon("link")}
                "Published file"
            </a>
        </p>
    }
    .into_any()
}

/// The visitor's own weights: a file or an address.
fn own(app: App) -> AnyView {
    let url = RwSignal::new(String::new());
    let load = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let address = url.get_untracked().trim().to_owned();
        match address.starts_with("https://") || address.starts_with("http://") {
            true => {
                app.dialog.set(None);
                app.load(Source::Url(address));
            }
            false => app.problem("The address must start with https://.", &address),
        }
    };
    view! {
        <section class="own" aria-labelledby="own-title">
            <h3 id="own-title">"Your own weights"</h3>
            <p class="hint">
                "CORnet, VOneNet, ResNet or AlexNet, recognised by the tensors' names and shapes: "
                ".safetensors, .pth or .pth.tar. Read on this device; no code in the file is run."
            </p>
            <div class="own-ways">
                <label class="button">
                    {icon("file")}
                    "Open a weights file"
                    <input
                        class="visually-hidden"
                        type="file"
                        accept=".safetensors,.pth,.pt,.tar,.ckpt,.bin"
                        aria-label="Open a weights file"
                        data-testid="weights-input"
                        on:change:target=move |event| {
                            app.dialog.set(None);
                            take_chosen(app, &event.target());
                        }
                    />
                </label>
                <form on:submit=load>
                    <input
                        type="url"
                        placeholder="https://…/model.safetensors"
                        aria-label="Address of a weights file"
                        data-testid="weights-url"
                        prop:value=move || url.get()
                        on:input:target=move |event| url.set(event.target().value())
                    />
                    <button class="button" data-testid="weights-url-load">"Download"</button>
                </form>
            </div>
        </section>
    }
    .into_any()
}
