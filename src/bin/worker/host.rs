//! What the session needs of the browser.

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use js_sys::{Array, Atomics, Int32Array, Object, Promise, Reflect, Uint8Array};
use serde::Serialize;
use ventral::compute::device::Adapter;
use ventral::experiment::journal::JournalStore;
use ventral::model::probe::CancelToken;
use ventral::session::Host;
use ventral::session::protocol::{Envelope, Event, Failure};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{DedicatedWorkerGlobalScope, MessageChannel};

use crate::journal::BrowserStore;

thread_local! {
    /// The page's shared flag: holds the id that is to stop.
    static FLAG: RefCell<Option<Int32Array>> = const { RefCell::new(None) };
    /// Ids cancelled by message.
    static CANCELLED: RefCell<HashSet<u32>> = RefCell::default();
}

/// The worker's own scope.
pub fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Remembers the page's shared flag.
pub fn share_flag(buffer: &JsValue) {
    FLAG.set(Some(Int32Array::new(buffer)));
}

/// Marks a request as cancelled.
pub fn cancel(id: u32) {
    CANCELLED.with_borrow_mut(|ids| ids.insert(id));
}

/// Forgets a request that has ended.
pub fn forget(id: u32) {
    CANCELLED.with_borrow_mut(|ids| ids.remove(&id));
}

fn is_cancelled(id: u32) -> bool {
    let flagged = FLAG.with_borrow(|flag| {
        let flag = flag.as_ref()?;
        Atomics::load(flag, 0).ok()
    });
    flagged == i32::try_from(id).ok().filter(|id| *id != 0) && flagged.is_some()
        || CANCELLED.with_borrow(|ids| ids.contains(&id))
}

/// The host of one request.
pub struct WorkerHost {
    id: u32,
    adapter: Option<Adapter>,
    token: CancelToken,
}

impl WorkerHost {
    pub fn new(id: u32, adapter: Option<Adapter>) -> Self {
        Self {
            id,
            adapter,
            token: CancelToken::watching(Arc::new(move || is_cancelled(id))),
        }
    }
}

impl Host for WorkerHost {
    fn tell(&self, event: Event) {
        post(self.id, event);
    }

    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(next_task())
    }

    fn cancel(&self) -> &CancelToken {
        &self.token
    }

    fn adapter(&self) -> Option<Adapter> {
        self.adapter.clone()
    }

    fn memory(&self) -> u64 {
        let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
        let buffer: js_sys::ArrayBuffer = memory.buffer().unchecked_into();
        u64::from(buffer.byte_length())
    }

    fn journals(&self) -> &(dyn JournalStore + 'static) {
        &BrowserStore
    }
}

/// Sends an event to the page, its buffers transferred rather than copied.
pub fn post(id: u32, event: Event) {
    let envelope = Envelope { id, body: event };
    let serializer = serde_wasm_bindgen::Serializer::new();
    let sent = match envelope.serialize(&serializer) {
        Ok(value) => value,
        Err(error) => {
            let failure = Envelope {
                id,
                body: Event::Failed(Failure {
                    sentence: "A result could not be sent to the page.".to_owned(),
                    cause: error.to_string(),
                }),
            };
            failure.serialize(&serializer).unwrap_or(JsValue::NULL)
        }
    };
    let buffers = Array::new();
    collect_buffers(&sent, &buffers);
    post_object("envelope", &sent, &buffers);
}

/// Posts `{ key: value }`.
pub fn post_object(key: &str, value: &JsValue, transfer: &Array) {
    let message = Object::new();
    // Setting a property of a fresh plain object cannot fail.
    let _ = Reflect::set(&message, &key.into(), value);
    if let Err(error) = scope().post_message_with_transfer(&message, transfer) {
        web_sys::console::error_2(&"the page did not take a message".into(), &error);
    }
}

fn collect_buffers(value: &JsValue, buffers: &Array) {
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        buffers.push(&bytes.buffer());
        return;
    }
    if let Some(array) = value.dyn_ref::<Array>() {
        array
            .iter()
            .for_each(|item| collect_buffers(&item, buffers));
        return;
    }
    if value.is_object() {
        let object: &Object = value.unchecked_ref();
        let values = Object::values(object);
        values
            .iter()
            .for_each(|item| collect_buffers(&item, buffers));
    }
}

/// Resolves in a later task of the event loop, after waiting messages were handled.
pub async fn next_task() {
    let Ok(channel) = MessageChannel::new() else {
        return;
    };
    let promise = Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(Some(&resolve));
        if channel.port2().post_message(&JsValue::NULL).is_err() {
            let _ = resolve.call0(&JsValue::NULL);
        }
    });
    // The promise is never rejected.
    let _ = JsFuture::from(promise).await;
    channel.port1().close();
}

/// Resolves after this many milliseconds.
pub async fn sleep(milliseconds: i32) {
    let promise = Promise::new(&mut |resolve, _| {
        let set =
            scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
        if set.is_err() {
            let _ = resolve.call0(&JsValue::NULL);
        }
    });
    // The promise is never rejected.
    let _ = JsFuture::from(promise).await;
}

/// What `navigator.gpu` offers.
pub async fn find_adapter() -> Option<Adapter> {
    let navigator = scope().navigator();
    let gpu = defined(Reflect::get(&navigator, &"gpu".into()).ok()?)?;
    let request: js_sys::Function = Reflect::get(&gpu, &"requestAdapter".into())
        .ok()?
        .dyn_into()
        .ok()?;
    let options = Object::new();
    let preference = "high-performance".into();
    Reflect::set(&options, &"powerPreference".into(), &preference).ok()?;
    let promise: Promise = request.call1(&gpu, &options).ok()?.dyn_into().ok()?;
    let adapter = defined(JsFuture::from(promise).await.ok()?)?;
    let info = defined(Reflect::get(&adapter, &"info".into()).ok()?)?;
    let text = |key: &str| {
        let value = Reflect::get(&info, &key.into()).ok();
        value.and_then(|v| v.as_string()).unwrap_or_default()
    };
    let truth = |holder: &JsValue| {
        let value = Reflect::get(holder, &"isFallbackAdapter".into()).ok();
        value.is_some_and(|v| v.is_truthy())
    };
    Some(Adapter {
        vendor: text("vendor"),
        architecture: text("architecture"),
        description: text("description"),
        fallback: truth(&info) || truth(&adapter),
    })
}

fn defined(value: JsValue) -> Option<JsValue> {
    (!value.is_undefined() && !value.is_null()).then_some(value)
}
