//! What makes a session leave its device, and what does not.

use std::cell::{Cell, RefCell};
use std::future::{Future, ready};
use std::io::Cursor;
use std::pin::Pin;

use burn::tensor::Device;

use super::engine::{Host, Session};
use super::error::SessionError;
use super::protocol::{AlignOptions, Event, Recorded, Request, TestOptions};
use crate::compute::description::{BackendChoice, BackendInfo};
use crate::compute::device::{Active, Adapter};
use crate::compute::lost::DeviceLost;
use crate::experiment::journal::{JournalStore, MemoryStore};
use crate::model::probe::CancelToken;

const MODEL: &str = "cornet-s-cifar10";

#[derive(Default)]
struct TestHost {
    events: RefCell<Vec<Event>>,
    token: CancelToken,
    store: MemoryStore,
}

impl Host for TestHost {
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

    fn journals(&self) -> &(dyn JournalStore + 'static) {
        &self.store
    }
}

/// A session that takes its device for a GPU, with a model and pictures in these folders.
fn on_gpu(host: &TestHost, folders: [&str; 2]) -> Session {
    let mut session = Session::default();
    session.active = Some(Active {
        device: Device::flex(),
        info: BackendInfo {
            kind: BackendChoice::WebGpu,
            name: "a GPU".to_owned(),
            f16_weights: false,
            software: false,
            note: String::new(),
            adapter: None,
            self_check: None,
        },
    });
    let name = MODEL.to_owned();
    done(
        host,
        &mut session,
        Request::ReadModel { name },
        &shipped("models/cornet-s-cifar10.safetensors"),
    );
    let picture = shipped("samples/cifar/ship.png");
    let mut builder = tar::Builder::new(Vec::new());
    for i in 0..40 {
        let mut header = tar::Header::new_gnu();
        header.set_size(picture.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let name = format!("{}/{i:02}.png", folders[i % 2]);
        builder
            .append_data(&mut header, name, &picture[..])
            .expect("memory takes it");
    }
    let archive = builder.into_inner().expect("memory takes it");
    let name = "mine.tar".to_owned();
    done(host, &mut session, Request::ReadImages { name }, &archive);
    session
}

fn shipped(path: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
    std::fs::read(root.join(path)).expect(path)
}

fn answer(host: &TestHost, session: &mut Session, request: Request, file: &[u8]) -> Event {
    let file = (!file.is_empty()).then(|| Box::new(Cursor::new(file.to_vec())) as _);
    pollster::block_on(session.answer(request, file, host))
}

#[track_caller]
fn done(host: &TestHost, session: &mut Session, request: Request, file: &[u8]) {
    let end = answer(host, session, request, file);
    assert!(matches!(end, Event::Done), "{end:?}");
}

/// The request fails with this sentence, and the device is left alone.
#[track_caller]
fn stays(host: &TestHost, session: &mut Session, request: Request, part: &str) {
    host.events.borrow_mut().clear();
    match answer(host, session, request, &[]) {
        Event::Failed(failure) => assert!(failure.sentence.contains(part), "{failure:?}"),
        other => panic!("{other:?}"),
    }
    let kind = session.active.as_ref().map(|active| active.info.kind);
    assert_eq!(kind, Some(BackendChoice::WebGpu));
    let events = host.events.borrow();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Backend(_)))
    );
}

fn align(target: &str) -> Request {
    let plan =
        format!("name = \"mine\"\nmodel = \"{MODEL}\"\ntarget = {target}\nsteps = 2\nbatch = 8\n");
    Request::Align(AlignOptions {
        plan,
        ..AlignOptions::default()
    })
}

#[test]
fn a_class_the_model_does_not_have_leaves_the_gpu_alone() {
    let host = TestHost::default();
    let mut session = on_gpu(&host, ["vessel", "cat"]);
    let test = Request::Test(TestOptions {
        preset: "quick".to_owned(),
        models: vec![MODEL.to_owned()],
        images: Some(4),
        ..TestOptions::default()
    });
    stays(&host, &mut session, test, "no class for “vessel”");
}

#[test]
fn responses_to_other_images_leave_the_gpu_alone() {
    let host = TestHost::default();
    let mut session = on_gpu(&host, ["ship", "cat"]);
    let rows = (0..20).map(|i| format!("other_{i}.png,{i},{}\n", i * i % 7));
    let responses = format!("image,n1,n2\n{}", rows.collect::<String>());
    let kind = Recorded::Responses;
    let name = "mine.csv".to_owned();
    let take = Request::ReadRecording { kind, name };
    done(&host, &mut session, take, responses.as_bytes());
    let request = align("{ kind = \"responses\", file = \"mine.csv\" }");
    stays(
        &host,
        &mut session,
        request,
        "no stimulus has the name of a picture",
    );
}

#[test]
fn a_label_for_another_image_leaves_the_gpu_alone() {
    let host = TestHost::default();
    let mut session = on_gpu(&host, ["ship", "cat"]);
    // Labels that come before the images they are of are only matched when a run begins.
    session.inputs.set = None;
    let kind = Recorded::Labels;
    let name = "labels.csv".to_owned();
    let take = Request::ReadRecording { kind, name };
    done(
        &host,
        &mut session,
        take,
        b"image,class\nother.png,cat\nanother.png,ship\n",
    );
    session.inputs.set = on_gpu(&host, ["ship", "cat"]).inputs.set;
    stays(&host, &mut session, align("{ kind = \"pixels\" }"), "");
}

#[test]
fn what_a_lost_gpu_has_not_done_the_cpu_does() {
    let host = TestHost::default();
    let mut session = on_gpu(&host, ["ship", "cat"]);
    let tries = Cell::new(0);
    let work = async |_: &Session, active: &Active| {
        tries.set(tries.get() + 1);
        match active.info.kind {
            BackendChoice::Cpu => Ok(active.info.kind),
            _ => Err(SessionError::Device(DeviceLost {
                cause: "out of memory".to_owned(),
            })),
        }
    };
    let kind = pollster::block_on(session.on_device(&host, work)).expect("the CPU computes");
    assert_eq!((kind, tries.get()), (BackendChoice::Cpu, 2));
    // There is nothing behind the CPU.
    let lost = async |_: &Session, _: &Active| {
        Err::<(), _>(SessionError::Device(DeviceLost {
            cause: "gone".to_owned(),
        }))
    };
    let ended = pollster::block_on(session.on_device(&host, lost));
    assert!(matches!(ended, Err(SessionError::Device(_))), "{ended:?}");
}
