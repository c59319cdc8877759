//! A robustness test, as the page asks for one.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use ventral::model::checkpoint::Source;
use ventral::session::Session;
use ventral::session::protocol::{Event, Request, SetInfo, TestOptions, TestReport};

use crate::common::native::{NativeHost, done, shipped};

const MODEL: &str = "cornet-s-cifar10";

/// Two conditions with randomness in them, so that a run that went on elsewhere would show.
const PLAN: &str = r#"
version = 1
name = "small"
images = 30
batch = 10

[[corruptions]]
kinds = ["gaussian_noise"]
severities = [1, 5]

[[attacks]]
attack = "pgd"
eps = ["1/255", "8/255"]
in-mean = 1
steps = 3
random-start = true
"#;

fn take_set(host: &NativeHost, session: &mut Session, name: &str, file: Box<dyn Source>) -> Event {
    let name = name.to_owned();
    host.answer(session, Request::ReadImages { name }, Some(file))
}

/// A session with the shipped model twice, under two names, and the shipped images.
fn prepared_session(host: &NativeHost) -> Session {
    let mut session = Session::default();
    for name in [MODEL, "copy"] {
        let bring = Request::ReadModel {
            name: name.to_owned(),
        };
        let file = shipped("models/cornet-s-cifar10.safetensors");
        done(host, &mut session, bring, Some(file));
    }
    let set = "cifar10-1000.tar.gz";
    let end = take_set(
        host,
        &mut session,
        set,
        shipped("testset/cifar10-1000.tar.gz"),
    );
    assert!(matches!(end, Event::Done), "{end:?}");
    session
}

fn options() -> TestOptions {
    TestOptions {
        plan: Some(PLAN.to_owned()),
        models: vec![MODEL.to_owned(), "copy".to_owned()],
        ..TestOptions::default()
    }
}

/// A document of a report, as text.
fn document(report: &TestReport, name: &str) -> String {
    let found = report.documents.iter().find(|(known, _)| known == name);
    String::from_utf8(found.expect(name).1.to_vec()).expect("it is text")
}

/// The last report of the events.
fn report(host: &NativeHost) -> TestReport {
    let events = host.events.borrow();
    let found = events.iter().rev().find_map(|event| match event {
        Event::Tested(report) => Some((**report).clone()),
        _ => None,
    });
    found.expect("a report came")
}

#[test]
fn a_test_that_was_stopped_goes_on_and_ends_the_same() {
    let host = NativeHost::default();
    let mut session = prepared_session(&host);
    done(&host, &mut session, Request::Test(options()), None);
    let whole = report(&host);
    assert_eq!((whole.rows, whole.expected), (300, 300));
    assert_eq!(whole.conditions.len(), 5);
    let clean = whole.models[0].clean.expect("clean images were tested");
    assert!(clean.value > 0.6 && clean.images == 30, "{clean:?}");
    let strong = whole.models[0].cells[4].accuracy;
    assert!(strong.value < clean.value, "{strong:?}");
    // The second model is the first.
    assert_eq!(whole.models[0].cells, whole.models[1].cells);
    let p: Vec<Option<f64>> = whole.comparisons.iter().map(|c| Some(c.p)).collect();
    assert_eq!(p, vec![Some(1.0); 5]);
    let names: Vec<&str> = whole
        .documents
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(names.contains(&"summary.tex") && names.contains(&"rows.csv"));
    assert!(names.contains(&"report.html"));
    let charts: Vec<&str> = whole.charts.iter().map(|c| c.name.as_str()).collect();
    assert!(
        charts.contains(&"corruptions-cornet-s-cifar10"),
        "{charts:?}"
    );
    // A stronger corruption moves an area further, and the first area least of all.
    let areas = document(&whole, "areas.csv");
    let moved = |condition: &str, area: &str| -> f32 {
        let start = format!("{condition},{MODEL},{area},");
        let line = areas.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{start} in {areas}"))
    };
    let corruption = &whole.conditions[1];
    assert!(corruption.corruption, "{corruption:?}");
    for area in ["V1", "V2", "V4", "IT"] {
        let found = moved(&corruption.name, area);
        assert!(found > 0.0 && found < 3.0, "{area}: {found}");
        assert!(moved("pgd linf 8/255", area) > moved("pgd linf 1/255", area));
    }
    assert!(charts.contains(&"areas-cornet-s-cifar10"), "{charts:?}");

    // What images were taken for: as many answers as images, in the condition that was asked for or
    // the hardest.
    let asked = [
        ("", "pgd linf 8/255"),
        (corruption.name.as_str(), corruption.name.as_str()),
    ];
    for (condition, expected) in asked {
        let (model, condition) = (MODEL.to_owned(), condition.to_owned());
        done(
            &host,
            &mut session,
            Request::CountConfusions { model, condition },
            None,
        );
        let Some(Event::Confusions(confused)) = host.last() else {
            panic!("no answers came");
        };
        assert_eq!(confused.condition, expected);
        let titles: Vec<&str> = confused.charts.iter().map(|c| c.title.as_str()).collect();
        assert!(
            titles[0].contains(", clean:") && titles[1].contains(expected),
            "{titles:?}"
        );
    }

    // Something falls to PGD at 8/255; the picture of it is one.
    let lost = whole.lost.first().expect("some image is lost");
    assert!(lost.wrong > 0 && lost.of == 5 && lost.png.starts_with(b"\x89PNG"));

    // What was saved is read again, as the page saved it and as the command line would have.
    let saved = whole
        .documents
        .iter()
        .find(|(name, _)| name == "report.json");
    let saved = saved.expect("it is there").1.to_vec();
    let wrapped = [b"{\"head\": {}, \"report\": ", &saved[..], b"}"].concat();
    for bytes in [saved, wrapped] {
        let bytes = bytes.into();
        done(&host, &mut session, Request::ReadReport { bytes }, None);
        let Some(Event::Report(read)) = host.last() else {
            panic!("no report came");
        };
        // Figures are of rounded numbers; a parser may be off by the last bit of one.
        assert_eq!(read.charts, whole.charts);
        assert_eq!(read.conditions, whole.conditions);
        assert_eq!(read.models.len(), whole.models.len());
    }
    let bytes = b"{}".to_vec().into();
    let end = host.answer(&mut session, Request::ReadReport { bytes }, None);
    assert!(matches!(end, Event::Failed(f) if f.sentence.contains("no saved report")));

    // Another tab: the same test, stopped after seven units (and the head), then gone on with in
    // yet another session from what was kept.
    let other = NativeHost::default();
    let mut session = prepared_session(&other);
    other.stop_after.set(Some(7));
    let end = other.answer(&mut session, Request::Test(options()), None);
    assert!(matches!(end, Event::Cancelled), "{end:?}");
    let kept = other.journals.borrow().clone();
    let (name, bytes) = kept.iter().next().expect("a journal was kept");
    assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 8);
    let third = NativeHost::default();
    let mut session = prepared_session(&third);
    // The last line is torn, as a crash in the middle of writing it leaves it.
    let torn = bytes[..bytes.len() - 5].to_vec();
    third.journals.borrow_mut().insert(name.clone(), torn);
    done(&third, &mut session, Request::Test(options()), None);
    let begun = third.events.borrow().iter().find_map(|event| match event {
        Event::Tested(report) => Some(report.rows),
        _ => None,
    });
    assert_eq!(begun, Some(60), "six of the seven units were sound");
    assert_eq!(report(&third), whole);
}

#[test]
fn presets_run_and_images_are_limited() {
    let host = NativeHost::default();
    let mut session = prepared_session(&host);
    let quick = TestOptions {
        preset: "quick".to_owned(),
        models: vec![MODEL.to_owned()],
        images: Some(10),
        ..TestOptions::default()
    };
    done(&host, &mut session, Request::Test(quick), None);
    let report = report(&host);
    assert_eq!(
        (report.rows, report.models.len()),
        (10 * report.conditions.len(), 1)
    );
    assert!(report.remark.contains("10 images"), "{}", report.remark);
}

/// A `.tar` of pictures in class folders.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn files_that_are_no_pictures_are_listed_and_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples");
    let ship = fs::read(root.join("cifar/ship.png")).unwrap();
    let cat = fs::read(root.join("cifar/cat.png")).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..12 {
        files.push((format!("ship/{i}.png"), ship.clone()));
        files.push((format!("cat/{i}.png"), cat.clone()));
    }
    let broken: [&[u8]; 6] = [
        b"",
        b"no picture",
        &ship[..60],
        b"\x89PNG",
        b"GIF89a",
        b"BM",
    ];
    for (i, bytes) in broken.iter().enumerate() {
        files.push((format!("cat/bad {i}.png"), bytes.to_vec()));
    }
    let listed: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    let host = NativeHost::default();
    let mut session = prepared_session(&host);
    let bytes = archive(&listed);
    let end = take_set(
        &host,
        &mut session,
        "mine.tar",
        Box::new(Cursor::new(bytes)),
    );
    assert!(matches!(end, Event::Done), "{end:?}");
    let Some(Event::Set(SetInfo {
        images,
        classes,
        skipped,
        ..
    })) = host.last()
    else {
        panic!("no set came");
    };
    assert_eq!((images, skipped.len()), (24, 6), "{skipped:?}");
    assert_eq!(classes, [("cat".to_owned(), 12), ("ship".to_owned(), 12)]);
    let mut small = options();
    small.models.truncate(1);
    done(&host, &mut session, Request::Test(small), None);
    assert_eq!(report(&host).rows, 24 * 5);
}

#[test]
fn folders_of_other_names_are_mapped_or_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples/cifar");
    let picture = |name: &str| fs::read(root.join(name)).unwrap();
    let (ship, cat) = (picture("ship.png"), picture("cat.png"));
    let files: [(&str, &[u8]); 4] = [
        ("vessel/1.png", &ship),
        ("vessel/2.png", &ship),
        ("cat/1.png", &cat),
        ("background/1.png", &cat),
    ];
    let host = NativeHost::default();
    let mut session = prepared_session(&host);
    let set = Box::new(Cursor::new(archive(&files)));
    let end = take_set(&host, &mut session, "mine.tar", set);
    assert!(matches!(end, Event::Done), "{end:?}");
    let mut options = options();
    options.models.truncate(1);
    let end = host.answer(&mut session, Request::Test(options.clone()), None);
    let Event::Failed(failure) = end else {
        panic!("{end:?}");
    };
    let said = "no class for “background”, “vessel”";
    assert!(failure.sentence.contains(said), "{}", failure.sentence);
    let classes = [("vessel", "ship"), ("background", "")];
    options.classes = classes.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    done(&host, &mut session, Request::Test(options), None);
    let report = report(&host);
    assert_eq!(report.rows, 3 * 5);
    let clean = report.models[0].clean.expect("clean images were tested");
    assert_eq!((clean.value, clean.images), (1.0, 3));
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_lost() {
    let host = NativeHost::default();
    let mut session = prepared_session(&host);
    let mut said =
        |request, file: Option<Box<dyn Source>>| match host.answer(&mut session, request, file) {
            Event::Failed(failure) => failure.sentence,
            other => panic!("{other:?}"),
        };
    let dogs = archive(&[("poodle/a.png", b"no picture")]);
    let take = |name: &str| Request::ReadImages {
        name: name.to_owned(),
    };
    let table: [(&str, Vec<u8>, &str); 4] = [
        ("photos.rar", vec![1, 2, 3], "not a folder"),
        ("photos.zip", vec![1, 2, 3], "is cut off"),
        ("dogs.tar", dogs, "holds no labelled"),
        ("test_batch.bin", vec![0; 100], "not a whole number"),
    ];
    for (name, bytes, expected) in table {
        let sentence = said(take(name), Some(Box::new(Cursor::new(bytes))));
        assert!(sentence.contains(expected), "{name}: {sentence}");
    }
    let wrong = |change: &dyn Fn(&mut TestOptions)| {
        let mut options = options();
        change(&mut options);
        Request::Test(options)
    };
    let table: [(Request, &str); 4] = [
        (wrong(&|o| o.models.clear()), "at least one model"),
        (
            wrong(&|o| o.models = vec!["nothing".into()]),
            "was not read",
        ),
        (
            wrong(&|o| o.plan = Some("version = 3".into())),
            "no robustness plan",
        ),
        (wrong(&|o| o.images = Some(0)), "at least one image"),
    ];
    for (request, expected) in table {
        let sentence = said(request, None);
        assert!(sentence.contains(expected), "{sentence}");
    }
    // The shipped images are still there.
    let mut small = options();
    small.images = Some(10);
    done(&host, &mut session, Request::Test(small), None);
}
