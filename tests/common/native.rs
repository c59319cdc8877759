//! The session without a browser.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::{Future, ready};
use std::io::BufReader;
use std::path::Path;
use std::pin::Pin;

use ventral::compute::device::Adapter;
use ventral::experiment::journal::{JournalError, JournalStore, Later};
use ventral::model::checkpoint::Source;
use ventral::model::probe::CancelToken;
use ventral::session::protocol::{Event, Request};
use ventral::session::{Host, Session};

/// Keeps all events of a request.
#[derive(Default)]
pub struct NativeHost {
    pub events: RefCell<Vec<Event>>,
    pub token: CancelToken,
    /// What is kept of runs, by name.
    pub journals: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Raises the token once this many lines have been added to a journal.
    pub stop_after: Cell<Option<usize>>,
    /// The GPU that the session may start; none unless a test gives one.
    pub adapter: Option<Adapter>,
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
        self.adapter.clone()
    }

    fn memory(&self) -> u64 {
        0
    }

    fn journals(&self) -> &(dyn JournalStore + 'static) {
        self
    }
}

impl JournalStore for NativeHost {
    fn open<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>> {
        let mut journals = self.journals.borrow_mut();
        let bytes = journals.entry(name.to_owned()).or_default().clone();
        Box::pin(ready(Ok(bytes)))
    }

    fn truncate(&self, name: &str, length: usize) -> Result<(), JournalError> {
        let mut journals = self.journals.borrow_mut();
        journals.get_mut(name).unwrap().truncate(length);
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let mut journals = self.journals.borrow_mut();
        journals.get_mut(name).unwrap().extend(bytes);
        if let Some(left) = self.stop_after.get() {
            self.stop_after.set(left.checked_sub(1));
            if left == 0 {
                self.token.cancel();
            }
        }
        Ok(())
    }

    fn close(&self, _: &str) {}

    fn remove<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        self.journals.borrow_mut().remove(name);
        Box::pin(ready(()))
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

/// A file of the page's own.
pub fn shipped(path: &str) -> Box<dyn Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
    Box::new(BufReader::new(File::open(root.join(path)).unwrap()))
}

/// A request that is answered to its end.
#[track_caller]
pub fn done(
    host: &NativeHost,
    session: &mut Session,
    request: Request,
    file: Option<Box<dyn Source>>,
) {
    let end = host.answer(session, request, file);
    assert!(matches!(end, Event::Done), "{end:?}");
}
