//! Requests are answered one after the other, in the order they came.

use std::cell::RefCell;
use std::collections::VecDeque;

use js_sys::{Array, Reflect};
use ventral::compute::device::Adapter;
use ventral::session::Session;
use ventral::session::protocol::{Envelope, Event, Failure, Request};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Blob, MessageEvent};

use crate::host::{self, WorkerHost};
use crate::weights;

/// A request as it waits.
struct Waiting {
    envelope: Envelope<Request>,
    file: Option<Blob>,
}

thread_local! {
    static QUEUE: RefCell<VecDeque<Waiting>> = RefCell::default();
    /// Taken by whoever is answering; put back when the queue is empty.
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

struct State {
    session: Session,
    adapter: Option<Adapter>,
}

/// Starts to listen and greets the page.
pub fn listen() {
    let on_message = Closure::<dyn FnMut(MessageEvent)>::new(|event: MessageEvent| {
        receive(&event.data());
    });
    host::scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // The listener lives as long as the worker.
    on_message.forget();
    spawn_local(async {
        let adapter = host::find_adapter().await;
        STATE.set(Some(State {
            session: Session::default(),
            adapter,
        }));
        host::post_object("hello", &JsValue::TRUE, &Array::new());
        answer_all().await;
    });
}

fn receive(message: &JsValue) {
    let field = |key: &str| Reflect::get(message, &key.into()).unwrap_or(JsValue::UNDEFINED);
    let flag = field("cancel_flag");
    if !flag.is_undefined() {
        host::share_flag(&flag);
        return;
    }
    if let Some(id) = field("cancel").as_f64() {
        host::cancel(id as u32);
        return;
    }
    let envelope = field("envelope");
    let id = Reflect::get(&envelope, &"id".into()).ok();
    match serde_wasm_bindgen::from_value::<Envelope<Request>>(envelope) {
        Ok(envelope) => {
            let file = Array::from(&field("files")).get(0).dyn_into().ok();
            QUEUE.with_borrow_mut(|queue| queue.push_back(Waiting { envelope, file }));
            spawn_local(answer_all());
        }
        Err(error) => host::post(
            id.and_then(|id| id.as_f64()).unwrap_or_default() as u32,
            Event::Failed(Failure {
                sentence: "The page and its worker are of different versions. Reload the page."
                    .to_owned(),
                cause: error.to_string(),
            }),
        ),
    }
}

/// Answers what waits. Only one runs at a time: the others find no state to take.
async fn answer_all() {
    let Some(mut state) = STATE.take() else {
        return;
    };
    loop {
        while let Some(next) = QUEUE.with_borrow_mut(VecDeque::pop_front) {
            answer(&mut state, next).await;
        }
        // Nobody waits. Each of its steps is as long as what is asked for next would be without it.
        if !state.session.warm_up().await {
            break;
        }
    }
    STATE.set(Some(state));
    // A request may have come between the last look and the state's return.
    if QUEUE.with_borrow(|queue| !queue.is_empty()) {
        spawn_local(answer_all());
    }
}

async fn answer(state: &mut State, waiting: Waiting) {
    let Envelope { id, body } = waiting.envelope;
    let host = WorkerHost::new(id, state.adapter.clone());
    let end = match weights::attach(&body, waiting.file, &host).await {
        Ok(attachment) => state.session.answer(body, attachment, &host).await,
        Err(end) => *end,
    };
    host::forget(id);
    host::post(id, end);
}
