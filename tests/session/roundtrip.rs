//! Published checkpoints through our own file format: `.pth` to safetensors to the session that
//! the page's worker runs, and the logits are still the reference's. The browser's half is in
//! `tests/browser.rs`.

use std::collections::BTreeMap;
use std::io::Cursor;

use safetensors::{Dtype, SafeTensors};
use ventral::compute::description::BackendChoice;
use ventral::model::checkpoint::{Checkpoint, Limits};
use ventral::session::Session;
use ventral::session::protocol::{Event, RawTensor, Request, RunOptions};

use crate::common::native::NativeHost;
use crate::common::parity::{CASES, Case, Reference};
use crate::common::roundtrip::{WIDTHS, logit_requests, published, read, rewritten, worst_logit};

/// Counts batches for PyTorch's own averaging; no network reads it, so none of ours has it.
const COUNTER: &str = ".num_batches_tracked";

type Shapes = BTreeMap<String, Vec<usize>>;

/// The cases whose fixtures are here, with their requests.
fn cases() -> impl Iterator<Item = (&'static Case, Vec<(RunOptions, Reference)>)> {
    let cases = CASES.iter();
    cases.filter_map(|case| Some((case, logit_requests(case)?)))
}

/// Names and shapes as published, without the `module.` of `DataParallel`.
fn published_shapes(case: &Case) -> Shapes {
    let file = Cursor::new(published(case));
    let mut shapes = match Checkpoint::open(file, &Limits::default()) {
        Ok(checkpoint) => checkpoint.shapes(),
        Err(e) => panic!("{}: {e}", case.weights),
    };
    shapes.retain(|name, _| !name.ends_with(COUNTER));
    shapes
}

/// What a session answers with these weights.
fn ask(name: &str, bytes: Vec<u8>, requests: &[(RunOptions, Reference)]) -> Vec<Vec<RawTensor>> {
    let (mut session, host) = (Session::default(), NativeHost::default());
    let start = Request::Start {
        backend: BackendChoice::Cpu,
    };
    let load = Request::LoadFile {
        file_name: name.to_owned(),
    };
    let end = host.answer(&mut session, start, None);
    assert!(matches!(end, Event::Done), "{end:?}");
    let end = host.answer(&mut session, load, Some(Box::new(Cursor::new(bytes))));
    assert!(matches!(end, Event::Done), "{name}: {end:?}");
    let answer = |(options, _): &(RunOptions, Reference)| {
        let run = Request::Run(Box::new(options.clone()));
        let end = host.answer(&mut session, run, None);
        assert!(matches!(end, Event::Done), "{name}: {end:?}");
        match host.last() {
            Some(Event::Tensors(tensors)) => tensors,
            other => panic!("{name}: no tensors came back but {other:?}"),
        }
    };
    requests.iter().map(answer).collect()
}

#[test]
fn logits_survive_the_way_from_pth_to_safetensors_to_a_session() {
    for (case, requests) in cases() {
        for width in WIDTHS {
            let (name, bytes) = rewritten(case, width.f16);
            let error = worst_logit(&ask(&name, bytes, &requests), &requests);
            println!("{:32} f16 {:5} {error:.2e}", case.weights, width.f16);
            assert!(
                error <= width.bound,
                "{} {width:?}: {error:e}",
                case.weights
            );
        }
    }
}

/// As another reader of safetensors finds them.
#[test]
fn published_names_shapes_and_bits_are_kept() {
    for (case, _) in cases() {
        let loaded = read(case.weights, crate::common::parity::weights(case));
        for (f16, dtype) in [(false, Dtype::F32), (true, Dtype::F16)] {
            let (_, bytes) = rewritten(case, f16);
            let file = SafeTensors::deserialize(&bytes);
            let file = file.unwrap_or_else(|e| panic!("{}: {e}", case.weights));
            let tensors = file.tensors();
            let found: Shapes = tensors
                .iter()
                .map(|(name, view)| (name.clone(), view.shape().to_vec()))
                .collect();
            assert_eq!(found, published_shapes(case), "{}", case.weights);
            for (name, view) in &tensors {
                assert_eq!(view.dtype(), dtype, "{} {name}", case.weights);
                let values = &loaded.weights[name].values;
                let single: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                assert!(f16 || view.data() == single, "{} {name}", case.weights);
            }
        }
    }
}

/// What a file says beside its tensors comes back too: sizes, noise, preprocessing, classes.
#[test]
fn the_description_is_kept() {
    for (case, _) in cases() {
        let before = read(case.weights, crate::common::parity::weights(case));
        for width in WIDTHS {
            let (name, bytes) = rewritten(case, width.f16);
            let after = read(&name, Box::new(Cursor::new(bytes)));
            assert_eq!(after.config, before.config, "{}", case.weights);
            assert_eq!(after.classes, before.classes, "{}", case.weights);
            assert_eq!(after.parameters(), before.parameters(), "{}", case.weights);
        }
    }
}
