//! The session on this machine's GPU, natively through its own driver: Vulkan, Metal or DirectX. A
//! driver in software will do; without any the test says so and ends.

mod common;

use common::native::{NativeHost, done};
use common::parity::{CASES, Case, errors, hold, requests};
use ventral::compute::device::Adapter;
use ventral::session::Session;
use ventral::session::protocol::{
    BackendChoice, BackendInfo, Event, RawTensor, Request, RunOptions,
};

/// Largest relative error of a network, as natively on the CPU.
const TOLERANCE: f32 = 1e-4;

/// Largest relative error of a kernel on one shape, as in the browser.
const KERNEL_TOLERANCE: f32 = 2e-5;

/// Shapes drawn at random, each for every kernel, forward and gradients.
const SHAPES: usize = 200;

/// What the session computes on; the CPU where there is no GPU, with a note that says why.
fn start(session: &mut Session, host: &NativeHost) -> BackendInfo {
    let backend = BackendChoice::WebGpu;
    done(host, session, Request::Start { backend }, None);
    let events = host.events.borrow();
    let told = events.iter().find_map(|event| match event {
        Event::Backend(info) => Some(info.clone()),
        _ => None,
    });
    told.expect("a session says what it computes on")
}

/// The tensors of each request.
fn ask(session: &mut Session, host: &NativeHost, runs: &[RunOptions]) -> Vec<Vec<RawTensor>> {
    let answers = runs.iter().map(|run| {
        done(host, session, Request::Run(Box::new(run.clone())), None);
        match host.last() {
            Some(Event::Tensors(tensors)) => tensors,
            other => panic!("no tensors came back: {other:?}"),
        }
    });
    answers.collect()
}

fn check(case: &Case, session: &mut Session, host: &NativeHost) {
    let Some(requests) = requests(case) else {
        println!("skipped {}: ../shared/fixtures is not here", case.weights);
        return;
    };
    let load = Request::LoadFile {
        file_name: case.weights.to_owned(),
    };
    done(host, session, load, Some(common::parity::weights(case)));
    let found = errors(&requests, TOLERANCE, &mut |runs| ask(session, host, runs));
    hold("GPU", case, &found, TOLERANCE);
}

/// In one test: a process can start its GPU once.
#[test]
fn networks_and_kernels_agree_on_the_gpu() {
    let mut session = Session::default();
    let mut host = NativeHost::default();
    host.adapter = Some(Adapter {
        description: "GPU of this machine".to_owned(),
        ..Adapter::default()
    });
    let info = start(&mut session, &host);
    if info.kind == BackendChoice::Cpu {
        println!("skipped: {}", info.note);
        return;
    }
    for case in CASES {
        check(case, &mut session, &host);
    }
    done(
        &host,
        &mut session,
        Request::CheckKernels { shapes: SHAPES },
        None,
    );
    let Some(Event::Kernels { max_relative_error }) = host.last() else {
        panic!("no answer to the check of kernels");
    };
    println!("kernels on {SHAPES} shapes: {max_relative_error:e} apart");
    assert!(
        max_relative_error < KERNEL_TOLERANCE,
        "{max_relative_error:e}"
    );
}
