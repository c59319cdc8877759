//! The frame of the page: header, status strip, problems, drag and drop, paste.

use leptos::prelude::*;
use leptos::wasm_bindgen::prelude::*;
use web_sys::{ClipboardEvent, DataTransfer, DragEvent, File};

use super::parts::icon;
use crate::state::{App, Engine, Problem, Tab, Task, Theme};
use crate::{dom, numbers};

/// Name, tabs, theme.
pub fn header(app: App) -> AnyView {
    let tab = move |(tab, word, title, hint): (Tab, &'static str, &'static str, &'static str)| {
        view! {
            <button
                data-testid=format!("nav-{word}")
                title=hint
                aria-current=move || (app.tab.get() == tab).then_some("page")
                on:click=move |_| app.go(tab)
            >
                {title}
            </button>
        }
    };
    view! {
        <a class="skip" href="#main" on:click=skip>"Skip to the content"</a>
        <header class="top">
            <a class="brand" href="./" aria-label="Ventral, start again">
                <svg viewBox="0 0 32 32" aria-hidden="true">
                    <path class="b1" d="M3 16a13 13 0 0 1 26 0"></path>
                    <path class="b2" d="M7.5 16a8.5 8.5 0 0 0 17 0"></path>
                    <path class="b3" d="M11.5 16a4.5 4.5 0 0 1 9 0"></path>
                    <circle class="b4" cx="16" cy="16" r="1.7"></circle>
                </svg>
                <span>"Ventral"</span>
            </a>
            <nav class="tabs" aria-label="Tabs">{Tab::ALL.map(tab).collect_view()}</nav>
            <p class="private">"Everything runs on this device. Nothing is uploaded."</p>
            <button
                class="theme"
                data-testid="theme"
                on:click=move |_| app.turn_theme()
                aria-label=move || format!("Colours: {}", theme_words(app.theme.get()))
                title=move || format!("Colours: {}", theme_words(app.theme.get()))
            >
                {move || icon(theme_icon(app.theme.get()))}
            </button>
        </header>
    }
    .into_any()
}

fn theme_words(theme: Theme) -> &'static str {
    match theme {
        Theme::Auto => "follow the system",
        Theme::Light => "light",
        Theme::Dark => "dark",
    }
}

fn theme_icon(theme: Theme) -> &'static str {
    match theme {
        Theme::Auto => "half",
        Theme::Light => "sun",
        Theme::Dark => "moon",
    }
}

fn skip(event: web_sys::MouseEvent) {
    // The address belongs to the state, so the jump is made by hand.
    event.prevent_default();
    let main = dom::document().get_element_by_id("main");
    if let Some(main) = main.and_then(|m| m.dyn_into::<web_sys::HtmlElement>().ok()) {
        let _ = main.focus();
    }
}

/// One line: what is going on, on what device, how fast, how much memory.
pub fn strip(app: App) -> AnyView {
    let engine = move || match app.engine.get() {
        Engine::Loading { .. } => "loading",
        Engine::Ready if app.tasks.with(Vec::is_empty) => "ready",
        Engine::Ready => "busy",
        Engine::Crashed => "crashed",
    };
    view! {
        <div class="strip" data-engine=engine data-testid="strip">
            <span class="lamp" aria-hidden="true"></span>
            <p class="status" role="status" aria-live="polite" data-testid="status">
                {move || app.status.get()}
            </p>
            <div class="doing">{move || doing(app)}</div>
            <dl class="facts">
                {fact("Device", "backend-name", move || app.backend.get().map(|b| b.name))}
                {fact("Pass", "pass-time", move || {
                    app.analysis.get().map(|a| numbers::duration(a.milliseconds))
                })}
                {fact("Memory", "memory", move || {
                    app.analysis.get().map(|a| numbers::bytes(a.memory as f64))
                })}
                {fact("First prediction", "first-prediction", move || {
                    app.first_prediction.get().map(|ms| numbers::duration(ms as f32))
                })}
            </dl>
        </div>
    }
    .into_any()
}

fn fact(
    name: &'static str,
    testid: &'static str,
    value: impl Fn() -> Option<String> + Send + 'static,
) -> AnyView {
    let value = move || value().unwrap_or_else(|| "–".to_owned());
    view! {
        <div>
            <dt>{name}</dt>
            <dd class="num" data-testid=testid>{value}</dd>
        </div>
    }
    .into_any()
}

/// The request under way, with its progress and a way to give it up.
fn doing(app: App) -> AnyView {
    if let Engine::Loading { done, total } = app.engine.get() {
        return loading(done, total);
    }
    app.tasks
        .with(|tasks| tasks.first().map(|task| running(app, task)))
        .into_any()
}

fn loading(done: f64, total: f64) -> AnyView {
    let words = match (done > 0.0, total > 0.0) {
        (_, true) => format!("{} of {}", numbers::bytes(done), numbers::bytes(total)),
        (true, false) => numbers::bytes(done),
        _ => String::new(),
    };
    let share = (total > 0.0).then(|| (done / total).clamp(0.0, 1.0) as f32);
    view! {
        <div class="task" data-testid="engine-loading">
            <span>"Loading the compute engine " <span class="num">{words}</span></span>
            {meter(share)}
        </div>
    }
    .into_any()
}

fn running(app: App, task: &Task) -> AnyView {
    let id = task.id;
    let progress = task.progress.as_ref();
    let share = progress
        .filter(|p| p.total > 0)
        .map(|p| p.done as f32 / p.total as f32);
    let label = progress.map_or(task.label.to_owned(), |p| p.stage.clone());
    let words = progress.map(|p| match (p.bytes, p.total) {
        (true, 0) => numbers::bytes(p.done as f64),
        (true, total) => {
            format!(
                "{} of {}",
                numbers::bytes(p.done as f64),
                numbers::bytes(total as f64)
            )
        }
        (false, 0) => p.done.to_string(),
        (false, total) => format!("{} of {total}", p.done),
    });
    let left = progress
        .and_then(|p| p.seconds_left)
        .filter(|s| *s > 0.5)
        .map(|s| format!("{} left", numbers::duration(s * 1000.0)));
    let cancelling = task.cancelling;
    view! {
        <div class="task" data-testid="progress">
            <span>{label} " " <span class="num">{words} " " {left}</span></span>
            {meter(share)}
            <button class="tool" data-testid="cancel" disabled=cancelling on:click=move |_| app.cancel(id)>
                {if cancelling { "Cancelling" } else { "Cancel" }}
            </button>
        </div>
    }
    .into_any()
}

/// A progress bar; `None`: no telling how far.
fn meter(share: Option<f32>) -> AnyView {
    let known = share.is_some();
    let width = format!("{:.1}%", share.unwrap_or(0.3).clamp(0.0, 1.0) * 100.0);
    view! {
        <span
            class="meter"
            class:unknown=!known
            role="progressbar"
            aria-label="Progress"
            aria-valuemin="0"
            aria-valuemax="100"
            aria-valuenow=share.map(|s| (s * 100.0) as u32)
        >
            <span style:width=width></span>
        </span>
    }
    .into_any()
}

/// What went wrong, until dismissed.
pub fn problems(app: App) -> AnyView {
    view! {
        <div class="problems" role="alert">
            <For each=move || app.problems.get() key=|p| p.id children=move |p| banner(app, p) />
        </div>
    }
    .into_any()
}

fn banner(app: App, problem: Problem) -> AnyView {
    let id = problem.id;
    let details = (!problem.cause.is_empty()).then(|| {
        view! {
            <details>
                <summary>"Details"</summary>
                <p class="cause" data-testid="error-cause">{problem.cause}</p>
            </details>
        }
    });
    let restart = problem.restart.then(|| {
        view! {
            <button class="button" data-testid="restart" on:click=move |_| app.restart()>
                "Restart"
            </button>
        }
    });
    view! {
        <div class="problem" data-testid="error-banner">
            {icon("alert")}
            <div>
                <p data-testid="error-sentence">{problem.sentence}</p>
                {details}
            </div>
            {restart}
            <button class="tool bare" aria-label="Dismiss" data-testid="error-dismiss" on:click=move |_| app.dismiss(id)>
                {icon("close")}
            </button>
        </div>
    }
    .into_any()
}

/// What the page is, for those who scroll to its end.
pub fn footer() -> AnyView {
    view! {
        <footer class="foot">
            <p>
                "Ventral runs brain-inspired vision models in your browser, on WebGPU or CPU. "
                "Images and weights stay on this device."
            </p>
        </footer>
    }
    .into_any()
}

/// Files are taken anywhere on the page, dropped or pasted.
pub fn listen(app: App) {
    on("dragover", |event: DragEvent| {
        if carries_files(&event) {
            event.prevent_default();
        }
    });
    on("drop", move |event: DragEvent| {
        if carries_files(&event) {
            event.prevent_default();
            take(app, event.data_transfer());
        }
    });
    on("paste", move |event: ClipboardEvent| {
        let files = event.clipboard_data();
        if files
            .as_ref()
            .and_then(DataTransfer::files)
            .is_some_and(|f| f.length() > 0)
        {
            event.prevent_default();
            take(app, files);
        }
    });
}

fn on<E: wasm_bindgen::convert::FromWasmAbi + 'static>(name: &str, handler: impl Fn(E) + 'static) {
    let handler = Closure::<dyn Fn(E)>::new(handler).into_js_value();
    // The document is there: this program runs in it.
    let _ = dom::document().add_event_listener_with_callback(name, handler.unchecked_ref());
}

fn carries_files(event: &DragEvent) -> bool {
    let types = event.data_transfer().map(|t| t.types());
    types.is_some_and(|t| t.includes(&"Files".into(), 0))
}

fn take(app: App, from: Option<DataTransfer>) {
    let Some(files) = from.and_then(|f| f.files()) else {
        return;
    };
    (0..files.length())
        .filter_map(|i| files.get(i))
        .for_each(|file: File| app.take_file(file));
}

/// The curtain that says a dragged file may be let go anywhere.
pub fn drop_curtain(app: App) -> AnyView {
    // Entering a child comes before leaving its parent, so the depth is counted.
    let depth = RwSignal::new(0_i32);
    on("dragenter", move |event: DragEvent| {
        if carries_files(&event) {
            depth.update(|d| *d += 1);
        }
    });
    on("dragleave", move |_: DragEvent| {
        depth.update(|d| *d = (*d - 1).max(0))
    });
    on("drop", move |_: DragEvent| depth.set(0));
    let ready = move || app.model.with(Option::is_some);
    view! {
        <div class="curtain" class:up=move || { depth.get() > 0 } aria-hidden="true">
            <div>
                {icon("file")}
                <p>"Drop it to open it"</p>
                <p class="hint">"A picture, or weights: .safetensors, .pth, .pth.tar"</p>
                <p class="hint">{move || (!ready()).then_some("It opens once the engine has loaded.")}</p>
            </div>
        </div>
    }
    .into_any()
}
