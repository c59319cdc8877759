//! The page's end of the wire to the worker.
//!
//! Page to worker: `{ envelope, files: [Blob…] }` with the buffers of all byte arrays transferred,
//! `{ cancel: id }`, and once `{ cancel_flag: SharedArrayBuffer }` where the page is cross-origin
//! isolated. Worker to page: `{ hello: true }` when it can answer, `{ envelope }`, and from its
//! loader `{ loading: { done, total } }`, `{ compiled: … }` and `{ crashed: "…" }`.
//!
//! Requests are sent one at a time, in order: a queued request can then be dropped without the
//! worker ever hearing of it, and the order of events is the order of requests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::{Array, Atomics, Int32Array, Object, Reflect, SharedArrayBuffer, Uint8Array};
use serde::Serialize;
use ventral::session::protocol::{Envelope, Event, Failure, Request};
use wasm_bindgen::prelude::*;
use web_sys::{ErrorEvent, MessageEvent, Worker};

use crate::dom;

/// How long a click on Cancel waits for the worker before the worker is ended.
const PATIENCE_MS: i32 = 200;
/// The same where the worker can read the cancel flag in the middle of its work.
const PATIENCE_SHARED_MS: i32 = 2_000;
/// Where the worker's script is, unless the document names another place.
const WORKER_URL: &str = "./worker_loader.js";

type Listener = Rc<dyn Fn(Event)>;

/// What happens to the worker itself, as opposed to a request.
pub enum Signal {
    /// The worker's program is on its way; `total` is 0 when the server does not say.
    Loading { done: f64, total: f64 },
    /// It answers.
    Ready,
    /// The program for the GPU is not compiled yet, and the one for the CPU answers in its place; or
    /// it has been compiled since.
    Compiled(bool),
    /// It stopped with this message and has to be restarted.
    Crashed(String),
    /// It was ended because it did not heed a cancel, and a fresh one is on its way: whatever it
    /// held has to be sent again.
    Replaced,
}

struct Job {
    id: u32,
    request: Request,
    files: Vec<web_sys::File>,
    listener: Listener,
}

#[derive(Default)]
struct Bridge {
    worker: Option<Worker>,
    ready: bool,
    last_id: u32,
    queue: VecDeque<Job>,
    in_flight: Option<(u32, Listener)>,
    cancel_flag: Option<Int32Array>,
    /// What the worker is to compute on: it tells its loader which program to take.
    device: &'static str,
    on_signal: Option<Rc<dyn Fn(Signal)>>,
}

thread_local! {
    static BRIDGE: RefCell<Bridge> = RefCell::default();
}

/// Starts the worker. `on_signal` hears of its life until the page closes.
pub fn connect(device: &'static str, on_signal: impl Fn(Signal) + 'static) {
    BRIDGE.with_borrow_mut(|b| {
        b.on_signal = Some(Rc::new(on_signal));
        b.device = device;
    });
    spawn();
}

/// Ends the worker, if any, and starts a fresh one. Every request ends as `Cancelled`.
pub fn restart() {
    close();
    spawn();
}

/// What the next worker is to compute on.
pub fn set_device(device: &'static str) {
    BRIDGE.with_borrow_mut(|b| b.device = device);
}

/// A number for the next request.
pub fn next_id() -> u32 {
    BRIDGE.with_borrow_mut(|b| {
        b.last_id = b.last_id.wrapping_add(1).max(1);
        b.last_id
    })
}

/// Puts a request in the queue. `listener` hears every event that carries its number, the last of
/// which is `Done`, `Cancelled` or `Failed`.
pub fn ask(
    id: u32,
    request: Request,
    files: Vec<web_sys::File>,
    listener: impl Fn(Event) + 'static,
) {
    let listener: Listener = Rc::new(listener);
    BRIDGE.with_borrow_mut(|b| {
        b.queue.push_back(Job {
            id,
            request,
            files,
            listener,
        })
    });
    pump();
}

/// Nothing is waiting behind the request in flight.
pub fn queue_is_empty() -> bool {
    BRIDGE.with_borrow(|b| b.queue.is_empty())
}

/// Asks for a request to be given up, without insisting: it ends as `Cancelled` if the worker
/// notices in time, as `Done` otherwise.
pub fn cancel(id: u32) {
    let waiting = BRIDGE.with_borrow_mut(|b| {
        let place = b.queue.iter().position(|job| job.id == id)?;
        b.queue.remove(place)
    });
    if let Some(job) = waiting {
        (job.listener)(Event::Cancelled);
        return;
    }
    BRIDGE.with_borrow(|b| {
        if b.in_flight
            .as_ref()
            .is_none_or(|(running, _)| *running != id)
        {
            return;
        }
        if let Some(flag) = &b.cancel_flag {
            let _ = Atomics::store(flag, 0, id as i32);
        }
        if let Some(worker) = &b.worker {
            let _ = worker.post_message(&object(&[("cancel", id.into())]));
        }
    });
}

/// Asks for a request to be given up and insists: a worker that has not stopped in time is ended
/// and replaced.
pub fn cancel_now(id: u32) {
    cancel(id);
    let patience = match BRIDGE.with_borrow(|b| b.cancel_flag.is_some()) {
        true => PATIENCE_SHARED_MS,
        false => PATIENCE_MS,
    };
    dom::after(patience, move || {
        let running = BRIDGE.with_borrow(|b| b.in_flight.as_ref().map(|(running, _)| *running));
        if running == Some(id) {
            restart();
            signal(Signal::Replaced);
        }
    });
}

fn signal(what: Signal) {
    let heard = BRIDGE.with_borrow(|b| b.on_signal.clone());
    if let Some(heard) = heard {
        heard(what);
    }
}

/// Ends the worker and tells every request that it is over, also those that a listener adds in
/// answer to that.
fn close() {
    let orphan = BRIDGE.with_borrow_mut(|b| {
        if let Some(worker) = b.worker.take() {
            worker.set_onmessage(None);
            worker.set_onerror(None);
            worker.terminate();
        }
        b.ready = false;
        b.cancel_flag = None;
        b.in_flight.take()
    });
    if let Some((_, listener)) = orphan {
        listener(Event::Cancelled);
    }
    while let Some(job) = BRIDGE.with_borrow_mut(|b| b.queue.pop_front()) {
        (job.listener)(Event::Cancelled);
    }
}

fn spawn() {
    let url = dom::meta("ventral-worker").unwrap_or_else(|| WORKER_URL.to_owned());
    let device = BRIDGE.with_borrow(|b| b.device);
    let worker = match Worker::new(&format!("{url}?device={device}")) {
        Ok(worker) => worker,
        Err(cause) => return signal(Signal::Crashed(dom::js_message(&cause))),
    };
    worker.set_onmessage(Some(&forever(|e: MessageEvent| on_message(&e.data()))));
    worker.set_onerror(Some(&forever(|e: ErrorEvent| {
        e.prevent_default();
        crash(e.message());
    })));
    BRIDGE.with_borrow_mut(|b| b.worker = Some(worker));
}

fn crash(message: String) {
    close();
    let message = match message.is_empty() {
        true => "The worker's program could not be loaded.".to_owned(),
        false => message,
    };
    signal(Signal::Crashed(message));
}

fn on_message(data: &JsValue) {
    if let Some(envelope) = property(data, "envelope") {
        return on_envelope(envelope);
    }
    if let Some(loading) = property(data, "loading") {
        let number = |name| {
            property(&loading, name)
                .and_then(|v| v.as_f64())
                .unwrap_or(0.0)
        };
        return signal(Signal::Loading {
            done: number("done"),
            total: number("total"),
        });
    }
    if let Some(compiled) = property(data, "compiled") {
        return signal(Signal::Compiled(compiled.is_truthy()));
    }
    if let Some(message) = property(data, "crashed") {
        return crash(message.as_string().unwrap_or_default());
    }
    if property(data, "hello").is_some() {
        share_cancel_flag();
        BRIDGE.with_borrow_mut(|b| b.ready = true);
        signal(Signal::Ready);
        pump();
    }
}

fn on_envelope(value: JsValue) {
    let envelope: Envelope<Event> = match serde_wasm_bindgen::from_value(value) {
        Ok(envelope) => envelope,
        // A page and a worker of different versions, in a half-updated cache.
        Err(cause) => return crash(format!("The worker's answer could not be read: {cause}")),
    };
    let ends = matches!(
        envelope.body,
        Event::Done | Event::Cancelled | Event::Failed(_)
    );
    let listener = BRIDGE.with_borrow_mut(|b| {
        let listener = b
            .in_flight
            .as_ref()
            .filter(|(id, _)| *id == envelope.id)?
            .1
            .clone();
        if ends {
            b.in_flight = None;
        }
        Some(listener)
    });
    if let Some(listener) = listener {
        listener(envelope.body);
    }
    if ends {
        pump();
    }
}

/// Sends the next request when the worker is free.
fn pump() {
    let next = BRIDGE.with_borrow_mut(|b| {
        if !b.ready || b.in_flight.is_some() {
            return None;
        }
        let job = b.queue.pop_front()?;
        b.in_flight = Some((job.id, job.listener.clone()));
        Some((job, b.worker.clone()?))
    });
    let Some((job, worker)) = next else { return };
    if let Err(cause) = post(&worker, &job) {
        BRIDGE.with_borrow_mut(|b| b.in_flight = None);
        (job.listener)(Event::Failed(Failure {
            sentence: "The request could not be handed to the worker.".to_owned(),
            cause: dom::js_message(&cause),
        }));
        pump();
    }
}

fn post(worker: &Worker, job: &Job) -> Result<(), JsValue> {
    let envelope = Envelope {
        id: job.id,
        body: &job.request,
    };
    let envelope = envelope.serialize(&serde_wasm_bindgen::Serializer::new())?;
    let files: Array = job.files.iter().collect();
    let transfer = Array::new();
    collect_buffers(&envelope, &transfer);
    let message = object(&[("envelope", envelope), ("files", files.into())]);
    worker.post_message_with_transfer(&message, &transfer)
}

/// The buffers of every byte array inside a plain JavaScript value.
fn collect_buffers(value: &JsValue, found: &Array) {
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        found.push(&bytes.buffer());
    } else if let Some(inside) = value.dyn_ref::<Object>() {
        Object::values(inside).for_each(&mut |inner, _, _| collect_buffers(&inner, found));
    }
}

/// Gives the worker a word of shared memory that it reads in the middle of its work.
fn share_cancel_flag() {
    let isolated = property(&js_sys::global(), "crossOriginIsolated");
    if isolated.is_none_or(|v| !v.is_truthy()) {
        return;
    }
    let memory = SharedArrayBuffer::new(4);
    BRIDGE.with_borrow_mut(|b| {
        let Some(worker) = &b.worker else { return };
        if worker
            .post_message(&object(&[("cancel_flag", memory.clone().into())]))
            .is_ok()
        {
            b.cancel_flag = Some(Int32Array::new(&memory));
        }
    });
}

fn property(of: &JsValue, name: &str) -> Option<JsValue> {
    let value = Reflect::get(of, &name.into()).ok()?;
    (!value.is_undefined()).then_some(value)
}

fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let made = Object::new();
    for (name, value) in fields {
        // Setting a field of a fresh plain object cannot fail.
        let _ = Reflect::set(&made, &(*name).into(), value);
    }
    made.into()
}

/// A handler that lives as long as the page; a page starts few workers.
fn forever<E: wasm_bindgen::convert::FromWasmAbi + 'static>(
    handler: impl Fn(E) + 'static,
) -> js_sys::Function {
    Closure::<dyn Fn(E)>::new(handler)
        .into_js_value()
        .unchecked_into()
}
