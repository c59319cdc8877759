//! The networks against the reference implementations, natively on the CPU, through the session:
//! the same requests that the browser's worker answers.

use ventral::compute::description::BackendChoice;
use ventral::session::Session;
use ventral::session::protocol::{Event, Request};

use crate::common::native::NativeHost;
use crate::common::parity::{CASES, Case, hold, requests, worst_error};

/// Largest relative error natively; single precision against the reference's single precision.
const TOLERANCE: f32 = 1e-4;

fn run(case: &Case) -> Option<Vec<(String, f32)>> {
    let requests = requests(case)?;
    let mut session = Session::default();
    let host = NativeHost::default();
    let mut errors = Vec::new();
    let start = Request::Start {
        backend: BackendChoice::Cpu,
    };
    assert!(matches!(
        host.answer(&mut session, start, None),
        Event::Done
    ));
    let load = Request::LoadFile {
        file_name: case.weights.to_owned(),
    };
    let end = host.answer(
        &mut session,
        load,
        Some(crate::common::parity::weights(case)),
    );
    assert!(matches!(end, Event::Done), "{}: {end:?}", case.weights);
    for (options, reference) in requests {
        let end = host.answer(&mut session, Request::Run(Box::new(options)), None);
        assert!(matches!(end, Event::Done), "{}: {end:?}", case.weights);
        let Some(Event::Tensors(tensors)) = host.last() else {
            panic!("{}: no tensors came back", case.weights);
        };
        errors.extend(worst_error(&tensors, &reference));
    }
    Some(errors)
}

#[test]
fn every_family_agrees_with_its_reference() {
    let mut checked = 0;
    for case in CASES {
        let Some(errors) = run(case) else { continue };
        hold("native", case, &errors, TOLERANCE);
        checked += errors.len();
    }
    println!("{checked} tensors compared");
    assert!(checked >= 70, "{checked} tensors were compared");
}
