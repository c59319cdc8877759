//! The session without a browser.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::{Future, ready};
use std::io::BufReader;
use std::path::Path;
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
    /// The journals of tests, by name, and the one that is open.
    pub journals: RefCell<BTreeMap<String, Vec<u8>>>,
    open: RefCell<String>,
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

    fn open_journal<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Vec<u8>> + 'a>> {
        self.open.replace(name.to_owned());
        let mut journals = self.journals.borrow_mut();
        Box::pin(ready(journals.entry(name.to_owned()).or_default().clone()))
    }

    fn cut_journal(&self, length: usize) {
        let mut journals = self.journals.borrow_mut();
        journals
            .get_mut(&*self.open.borrow())
            .unwrap()
            .truncate(length);
    }

    fn append_journal(&self, bytes: &[u8]) {
        let mut journals = self.journals.borrow_mut();
        journals
            .get_mut(&*self.open.borrow())
            .unwrap()
            .extend(bytes);
        if let Some(left) = self.stop_after.get() {
            self.stop_after.set(left.checked_sub(1));
            if left == 0 {
                self.token.cancel();
            }
        }
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
