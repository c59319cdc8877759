//! The session without a browser.

use std::cell::RefCell;
use std::future::{Future, ready};
use std::pin::Pin;

use ventral::compute::device::Adapter;
use ventral::model::checkpoint::Source;
use ventral::model::probe::CancelToken;
use ventral::session::protocol::{Event, Request};
use ventral::session::{Host, Session};

/// Keeps all events of a request.
#[derive(Default)]
pub struct NativeHost {
    pub events: RefCell<Vec<Event>>,
    pub token: CancelToken,
}

impl Host for NativeHost {
    fn tell(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(ready(()))
    }

    fn cancel(&self) -> &CancelToken {
        &self.token
    }

    fn adapter(&self) -> Option<Adapter> {
        None
    }

    fn memory(&self) -> u64 {
        0
    }
}

impl NativeHost {
    /// Answers a request to its end; its events replace those of the one before.
    pub fn answer(
        &self,
        session: &mut Session,
        request: Request,
        attachment: Option<Box<dyn Source>>,
    ) -> Event {
        self.events.borrow_mut().clear();
        pollster::block_on(session.answer(request, attachment, self))
    }

    /// The last event but the one that ended the request.
    pub fn last(&self) -> Option<Event> {
        self.events.borrow().last().cloned()
    }
}
