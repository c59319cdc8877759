//! An alignment, as the page asks for one.

use std::io::Cursor;
use std::path::Path;

use ventral::model::checkpoint::Source;
use ventral::session::Session;
use ventral::session::protocol::{
    AlignOptions, AlignReport, Event, Recorded, RecordingInfo, Request,
};

use crate::common::native::{NativeHost, done, shipped};

const MODEL: &str = "cornet-s-cifar10";

const PLAN: &str = r#"
name = "small"
model = "cornet-s-cifar10"
tap = "IT"
target = { kind = "model", model = "cornet-s-cifar10", tap = "V2" }
steps = 6
batch = 20
flip = true
data = { stimuli = 60 }
losses = { cka = 1.0, distillation = 1.0 }
validation = { every = 3, stimuli = 0.2, neuroids = 0.2 }
schedule = { peak = 5e-3 }
"#;

/// A session with the shipped model and images.
fn workshop(host: &NativeHost, set: &str, images: Box<dyn Source>) -> Session {
    let mut session = Session::default();
    let name = MODEL.to_owned();
    let file = shipped("models/cornet-s-cifar10.safetensors");
    done(host, &mut session, Request::ReadModel { name }, Some(file));
    let name = set.to_owned();
    done(
        host,
        &mut session,
        Request::ReadImages { name },
        Some(images),
    );
    session
}

fn shipped_images(host: &NativeHost) -> Session {
    let set = "cifar10-1000.tar.gz";
    workshop(host, set, shipped("testset/cifar10-1000.tar.gz"))
}

fn options() -> AlignOptions {
    AlignOptions {
        plan: PLAN.to_owned(),
        controls: vec!["shuffled".to_owned()],
        robustness: 4,
        ..AlignOptions::default()
    }
}

/// The reports of a request, the last one last.
fn reports(host: &NativeHost) -> Vec<AlignReport> {
    let events = host.events.borrow();
    let reports = events.iter().filter_map(|event| match event {
        Event::Aligned(report) => Some((**report).clone()),
        _ => None,
    });
    reports.collect()
}

fn document<'a>(report: &'a AlignReport, name: &str) -> &'a [u8] {
    let found = report.documents.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn an_alignment_that_was_stopped_goes_on_and_ends_in_the_same_weights() {
    let host = NativeHost::default();
    let mut session = shipped_images(&host);
    done(&host, &mut session, Request::Align(options()), None);
    let whole = reports(&host).pop().expect("a report came");
    assert_eq!((whole.done, whole.steps), (12, 12));
    assert!(
        whole.verdict.contains("shuffled control"),
        "{}",
        whole.verdict
    );
    let runs: Vec<&str> = whole.rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(runs, ["before", "aligned", "shuffled"]);
    // Curves of similarity, accuracy and loss; two tables of areas; three matrices.
    assert_eq!(whole.charts.len(), 8);
    assert!(
        whole.heads.len() > 5,
        "robustness is in it: {:?}",
        whole.heads
    );
    // Python reads what came of it, by the names of the published checkpoints.
    let weights = document(&whole, "small.safetensors");
    let read = safetensors::SafeTensors::deserialize(weights).expect("it is one");
    assert!(read.tensor("V1.conv1.weight").is_ok(), "{:?}", read.names());
    let card = String::from_utf8_lossy(document(&whole, "small.md")).into_owned();
    assert!(card.contains("ventral align small.toml --controls shuffled"));
    let plan = String::from_utf8_lossy(document(&whole, "small.toml")).into_owned();
    let plan = ventral::align::plan::Plan::parse(&plan).expect("the saved plan is one");
    // It names the images that were in use.
    let mut asked = ventral::align::plan::Plan::parse(PLAN).unwrap();
    asked.data.images = "cifar10-1000".to_owned();
    assert_eq!(plan, asked);

    // The aligned model is a model like any other.
    let file = Cursor::new(weights.to_vec());
    let file_name = "small.safetensors".to_owned();
    done(
        &host,
        &mut session,
        Request::ReadModelFile { file_name },
        Some(Box::new(file)),
    );

    // Another tab, stopped at the look in the middle; what it wrote last, the fourth, is torn, as a
    // crash leaves it, and the third is gone on from.
    let other = NativeHost::default();
    let mut session = shipped_images(&other);
    other.stop_after.set(Some(2));
    let end = other.answer(&mut session, Request::Align(options()), None);
    assert!(matches!(end, Event::Cancelled), "{end:?}");
    let third = NativeHost::default();
    for (name, bytes) in other.journals.borrow().iter() {
        let torn = if name.ends_with("-0") { 5 } else { 0 };
        let bytes = bytes[..bytes.len() - torn].to_vec();
        third.journals.borrow_mut().insert(name.clone(), bytes);
    }
    let mut session = shipped_images(&third);
    done(&third, &mut session, Request::Align(options()), None);
    let resumed = reports(&third);
    assert!(resumed[0].done > 0, "it went on where it was");
    let last = resumed.last().expect("a report came");
    assert!(
        document(last, "small.safetensors") == weights,
        "other weights"
    );
    assert_eq!(document(last, "small.csv"), document(&whole, "small.csv"));
    assert_eq!(last.rows, whole.rows);

    // What is finished is there at once; afresh it is not.
    done(&third, &mut session, Request::Align(options()), None);
    assert_eq!(reports(&third)[0].done, 12);
    let afresh = AlignOptions {
        fresh: true,
        ..options()
    };
    done(&third, &mut session, Request::Align(afresh), None);
    assert_eq!(reports(&third)[0].done, 0);
}

/// A `.tar` of pictures, in folders or not.
fn archive(names: &[String], picture: &[u8]) -> Box<dyn Source> {
    let mut builder = tar::Builder::new(Vec::new());
    for (i, name) in names.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        // Bytes behind a PNG's end make no other picture, but each file has its own.
        let mut bytes = picture.to_vec();
        bytes.push(i as u8);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    Box::new(Cursor::new(builder.into_inner().unwrap()))
}

fn picture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples/cifar");
    std::fs::read(path.join(name)).unwrap()
}

fn take(
    host: &NativeHost,
    session: &mut Session,
    kind: Recorded,
    name: &str,
    bytes: Vec<u8>,
) -> Result<RecordingInfo, String> {
    let request = Request::ReadRecording {
        kind,
        name: name.to_owned(),
    };
    match host.answer(session, request, Some(Box::new(Cursor::new(bytes)))) {
        Event::Done => match host.last() {
            Some(Event::Recording(understood)) => Ok(understood),
            other => panic!("{other:?}"),
        },
        Event::Failed(failure) => Err(failure.sentence),
        other => panic!("{other:?}"),
    }
}

/// Responses to 40 of 48 flat pictures whose classes are in a table.
#[test]
fn recorded_responses_labels_and_heat_maps_are_understood_and_used() {
    let host = NativeHost::default();
    let names: Vec<String> = (0..48).map(|i| format!("stim_{i:02}.png")).collect();
    let mut session = workshop(&host, "mine.tar", archive(&names, &picture("ship.png")));

    let mut responses = "image,n1,n2,n3,n4,n5,constant\n".to_owned();
    for (i, name) in names.iter().enumerate().skip(8) {
        let cells: Vec<String> = (0..5).map(|k| format!("{}", (i * (k + 3)) % 17)).collect();
        responses += &format!("{name},{},1\n", cells.join(","));
    }
    let kind = Recorded::Responses;
    let told = take(
        &host,
        &mut session,
        kind,
        "mine.csv",
        responses.into_bytes(),
    )
    .unwrap();
    let told = told.sentences.join(" ");
    assert!(
        told.contains("40 stimuli") && told.contains("5 neuroids"),
        "{told}"
    );

    let mut labels = "image,class\n".to_owned();
    for (i, name) in names.iter().enumerate() {
        labels += &format!("{name},{}\n", ["ship", "cat"][i % 2]);
    }
    let kind = Recorded::Labels;
    let told = take(&host, &mut session, kind, "labels.csv", labels.into_bytes()).unwrap();
    assert!(
        told.sentences.join(" ").contains("48 images of 2 classes"),
        "{told:?}"
    );

    let mut maps = npy_header(&[48, 16, 16]);
    maps.extend((0..48 * 256).flat_map(|i| ((i % 7) as f32).to_le_bytes()));
    let told = take(&host, &mut session, Recorded::HeatMaps, "maps.npy", maps).unwrap();
    assert!(
        told.sentences[0].contains("48 heat maps of 16 × 16 px"),
        "{told:?}"
    );

    let plan = r#"
name = "mine"
model = "cornet-s-cifar10"
target = { kind = "responses", file = "mine.csv" }
steps = 2
batch = 12
losses = { cka = 1.0, harmonizer = 0.5 }
"#;
    let options = AlignOptions {
        plan: plan.to_owned(),
        ..AlignOptions::default()
    };
    done(&host, &mut session, Request::Align(options.clone()), None);
    let report = reports(&host).pop().expect("a report came");
    let remarks = report.remarks.join(" ");
    assert!(
        remarks.contains("40 stimuli; accuracy on 8 other images"),
        "{remarks}"
    );
    assert!(
        remarks.contains("40 of the stimuli have a heat map"),
        "{remarks}"
    );
    let curves = String::from_utf8_lossy(document(&report, "mine.csv")).into_owned();
    for term in ["cross-entropy", "cka", "harmonizer"] {
        assert!(
            curves.contains(&format!("aligned,2,{term},")),
            "{term}: {curves}"
        );
    }

    // Forgotten responses are missed by name.
    let forget = Request::ReadRecording {
        kind: Recorded::Responses,
        name: String::new(),
    };
    done(&host, &mut session, forget, None);
    let end = host.answer(&mut session, Request::Align(options), None);
    assert!(
        matches!(&end, Event::Failed(f) if f.sentence.contains("Choose a file of responses")),
        "{end:?}"
    );
}

fn npy_header(shape: &[usize]) -> Vec<u8> {
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    let mut text = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}",
        shape.join(", ")
    );
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn wrong_inputs_say_what_to_change() {
    let host = NativeHost::default();
    let mut session = shipped_images(&host);
    // (kind, name, bytes, part of the sentence)
    let text = |t: &str| t.as_bytes().to_vec();
    let mut cut = npy_header(&[1000, 4]);
    cut.extend([0; 40]);
    let mut holes = npy_header(&[4, 2]);
    holes.extend([f32::NAN; 8].iter().flat_map(|v| v.to_le_bytes()));
    let wrong: Vec<(Recorded, &str, Vec<u8>, &str)> = vec![
        (
            Recorded::Responses,
            "a.csv",
            text("image,n1\na.png,fast\nb.png,slow\n"),
            "no lines of numbers",
        ),
        (Recorded::Responses, "b.npy", cut, "b.npy"),
        (Recorded::Responses, "c.npy", holes, "c.npy"),
        (
            Recorded::Responses,
            "d.h5",
            text("\u{89}HDF no more"),
            "d.h5",
        ),
        (Recorded::Responses, "e.csv", Vec::new(), "e.csv"),
        (
            Recorded::Labels,
            "f.csv",
            text("image,class\na.png,\n"),
            "line 2",
        ),
        (Recorded::HeatMaps, "g.npy", npy_header(&[3, 4]), "g.npy"),
    ];
    for (kind, name, bytes, part) in wrong {
        let sentence = take(&host, &mut session, kind, name, bytes).unwrap_err();
        assert!(sentence.contains(part), "{name}: {sentence}");
    }
    let plans = [
        (PLAN.replace("tap = \"IT\"", "tap = \"V9\""), "V9"),
        (
            PLAN.replace("batch = 20", "batch = 200"),
            "fewer than a batch",
        ),
        (PLAN.replace("steps = 6", "steps = 0"), "Steps is 0"),
        (
            PLAN.replace("model = \"cornet-s-cifar10\"\n", "model = \"other\"\n"),
            "other",
        ),
        ("steps = ".to_owned(), "plan cannot be read"),
    ];
    for (plan, part) in plans {
        let options = AlignOptions { plan, ..options() };
        let end = host.answer(&mut session, Request::Align(options), None);
        assert!(
            matches!(&end, Event::Failed(f) if f.sentence.contains(part)),
            "{part}: {end:?}"
        );
    }
}
