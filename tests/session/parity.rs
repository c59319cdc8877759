//! The networks against the reference implementations, natively on the CPU, through the session:
//! the same requests that the browser's worker answers.

use ventral::compute::description::BackendChoice;
use ventral::session::Session;
use ventral::session::protocol::{Event, Request, RunOptions};

use crate::common::native::{NativeHost, done};
use crate::common::parity::{self, CASES, Case, MORE_IMAGES, errors, hold, requests};

/// Largest relative error natively; single precision against the reference's single precision.
const TOLERANCE: f32 = 1e-4;

fn run(case: &Case) -> Option<Vec<(String, f32)>> {
    let requests = requests(case)?;
    let (mut session, host) = (Session::default(), NativeHost::default());
    let backend = BackendChoice::Cpu;
    done(&host, &mut session, Request::Start { backend }, None);
    let file_name = case.weights.to_owned();
    let weights = Some(parity::weights(case));
    done(
        &host,
        &mut session,
        Request::LoadFile { file_name },
        weights,
    );
    let mut answer = |options: &RunOptions| {
        let run = Request::Run(Box::new(options.clone()));
        done(&host, &mut session, run, None);
        match host.last() {
            Some(Event::Tensors(tensors)) => tensors,
            other => panic!("{}: no tensors came back but {other:?}", case.weights),
        }
    };
    let ask = &mut |runs: &[RunOptions]| runs.iter().map(&mut answer).collect();
    Some(errors(&requests, ask))
}

/// How many tensors were compared.
fn agree(cases: &[Case]) -> usize {
    let mut compared = 0;
    for case in cases {
        let Some(errors) = run(case) else { continue };
        hold("native", case, &errors, TOLERANCE);
        compared += errors.len();
    }
    compared
}

#[test]
fn every_family_agrees_with_its_reference() {
    let compared = agree(CASES);
    assert!(compared >= 70, "{compared} tensors were compared");
}

#[test]
fn every_family_agrees_at_other_images() {
    agree(MORE_IMAGES);
}
