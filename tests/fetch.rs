//! Downloads from a server in this process that behaves as badly as servers do.
#![cfg(feature = "fetch")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use ventral::fetch::{Download, FetchError, Fetched, Progress, Stage, fetch};

/// A request as the server saw it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    path: String,
    /// The first byte asked for.
    from: Option<usize>,
    if_range: Option<String>,
}

/// What the server does with it.
#[derive(Clone, Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    cut: Option<usize>,
    /// Say nothing for this long before the body.
    pause: Duration,
}

type Script = Box<dyn Fn(&Seen, usize) -> Reply + Send>;

struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers each request by `script`, which is also told how many came before.
    fn start(script: impl Fn(&Seen, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let script: Script = Box::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that has gone is part of the tests.
                let _ = answer(stream.unwrap(), &log, &script);
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("{}/weights.pth", self.address)
    }
}

fn answer(stream: TcpStream, log: &Mutex<Vec<Seen>>, script: &Script) -> std::io::Result<()> {
    let mut stream = stream;
    let mut seen = Seen::default();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let mut words = line.split_whitespace();
        match words.next().unwrap().to_ascii_lowercase().as_str() {
            "get" => seen.path = words.next().unwrap().to_owned(),
            "range:" => {
                let range = words.next().unwrap();
                let from = range.trim_start_matches("bytes=").trim_end_matches('-');
                seen.from = Some(from.parse().unwrap());
            }
            "if-range:" => seen.if_range = Some(words.collect::<Vec<_>>().join(" ")),
            _ => {}
        }
    }
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    send(&mut stream, &script(&seen, before))
}

fn send(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {} Answer\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    let length = reply.body.len();
    write!(
        stream,
        "Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    std::thread::sleep(reply.pause);
    let part = &reply.body[..reply.cut.unwrap_or(length)];
    stream.write_all(part)?;
    stream.flush()
}

/// A server as it should be: one file with an entity tag, pieces on request.
fn good(body: &[u8], etag: &str, seen: &Seen) -> Reply {
    let tag = ("ETag", etag.to_owned());
    let same = seen.if_range.as_deref().is_none_or(|wanted| wanted == etag);
    match seen.from {
        Some(from) if same && from < body.len() => piece(body, from, vec![tag]),
        Some(from) if same && from >= body.len() => Reply {
            status: 416,
            headers: vec![tag, ("Content-Range", format!("bytes */{}", body.len()))],
            ..Reply::default()
        },
        _ => whole(body, vec![tag]),
    }
}

fn whole(body: &[u8], headers: Vec<(&'static str, String)>) -> Reply {
    Reply {
        status: 200,
        headers,
        body: body.to_vec(),
        ..Reply::default()
    }
}

fn piece(body: &[u8], from: usize, mut headers: Vec<(&'static str, String)>) -> Reply {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    headers.push(("Content-Range", range));
    Reply {
        status: 206,
        headers,
        body: body[from..].to_vec(),
        ..Reply::default()
    }
}

fn status(status: u16) -> Reply {
    Reply {
        status,
        ..Reply::default()
    }
}

const TAG: &str = "\"one\"";

/// 200,000 bytes that differ everywhere.
fn weights(seed: u32) -> Vec<u8> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(seed), next);
    states.take(200_000).map(|s| (s >> 24) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder and a download into it that does not wait long.
fn download(folder: &tempfile::TempDir, url: String, hash: Option<&str>) -> Download {
    Download {
        retries: 0,
        pause: Duration::from_millis(1),
        ..Download::new(url, folder.path().join("deep/weights.pth"), hash)
    }
}

fn run(download: &Download) -> Result<Fetched, FetchError> {
    fetch(download, &mut |_| ControlFlow::Continue(()))
}

fn beside(to: &Path, suffix: &str) -> PathBuf {
    let name = to.file_name().unwrap().to_str().unwrap();
    to.with_file_name(format!("{name}{suffix}"))
}

/// Only the finished file is left.
fn assert_clean(to: &Path) {
    let files = fs::read_dir(to.parent().unwrap()).unwrap();
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [to.file_name().unwrap()]);
}

#[test]
fn a_whole_file() {
    let body = weights(1);
    let hash = sha256(&body);
    let served = body.clone();
    let server = Server::start(move |seen, _| good(&served, TAG, seen));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), Some(&hash[..8]));
    let mut told: Vec<Progress> = Vec::new();
    let fetched = fetch(&wanted, &mut |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    });
    let fetched = fetched.unwrap();
    let expected = Fetched {
        path: wanted.to.clone(),
        bytes: 200_000,
        sha256: hash,
        resumed_from: 0,
        already_there: false,
    };
    assert_eq!(fetched, expected);
    assert_eq!(fs::read(&wanted.to).unwrap(), body);
    assert_clean(&wanted.to);
    let sent: Vec<_> = told
        .iter()
        .filter(|told| told.stage == Stage::Downloading)
        .collect();
    assert!(sent.iter().all(|told| told.total == 200_000));
    assert!(sent.is_sorted_by_key(|told| told.done));
    assert_eq!(told.last().unwrap().stage, Stage::Checking);
    // A second call finds the file and asks no server.
    let again = run(&wanted).unwrap();
    assert!(again.already_there && again.sha256 == fetched.sha256);
    assert_eq!(server.seen().len(), 1);
}

/// Leaves 60,000 bytes of `body`, as a connection that broke leaves them.
fn leave_a_part(wanted: &Download, server: &Server) {
    let error = run(wanted).unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("60000 bytes") && text.contains("goes on from there"),
        "{text}"
    );
    assert!(!wanted.to.exists());
    assert_eq!(
        fs::metadata(beside(&wanted.to, ".part")).unwrap().len(),
        60_000
    );
    assert_eq!(server.seen().len(), 1);
}

/// As `reply` for the first request, but broken off.
fn cut_first(number: usize, reply: Reply) -> Reply {
    Reply {
        cut: (number == 0).then_some(60_000),
        ..reply
    }
}

#[test]
fn a_broken_download_goes_on() {
    let body = weights(2);
    let served = body.clone();
    let server = Server::start(move |seen, n| cut_first(n, good(&served, TAG, seen)));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), None);
    leave_a_part(&wanted, &server);
    let fetched = run(&wanted).unwrap();
    assert_eq!(fetched.resumed_from, 60_000);
    assert_eq!(fs::read(&wanted.to).unwrap(), body);
    let second = &server.seen()[1];
    assert_eq!(second.from, Some(60_000));
    assert_eq!(second.if_range.as_deref(), Some(TAG));
    assert_clean(&wanted.to);
}

#[test]
fn one_call_tries_again_by_itself() {
    let body = weights(3);
    let served = body.clone();
    let server = Server::start(move |seen, n| match n {
        0 => status(503),
        1 => cut_first(0, good(&served, TAG, seen)),
        2 => status(429),
        _ => good(&served, TAG, seen),
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = Download {
        retries: 2,
        ..download(&folder, server.url(), Some(&sha256(&body)))
    };
    let mut reasons = Vec::new();
    let fetched = fetch(&wanted, &mut |progress| {
        if let Stage::Waiting { reason } = progress.stage {
            reasons.push(reason);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(fetched.unwrap().resumed_from, 0);
    assert_eq!(fs::read(&wanted.to).unwrap(), body);
    let asked: Vec<_> = server.seen().iter().map(|seen| seen.from).collect();
    assert_eq!(asked, [None, None, Some(60_000), Some(60_000)]);
    assert!(
        reasons.iter().any(|reason| reason.contains("503")),
        "{reasons:?}"
    );
}

#[test]
fn a_server_without_pieces_sends_all_again() {
    let body = weights(4);
    let served = body.clone();
    let server =
        Server::start(move |_, n| cut_first(n, whole(&served, vec![("ETag", TAG.to_owned())])));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), None);
    leave_a_part(&wanted, &server);
    run(&wanted).unwrap();
    assert_eq!(fs::read(&wanted.to).unwrap(), body);
}

#[test]
fn a_changed_file_is_fetched_from_its_start() {
    let (old, new) = (weights(5), weights(6));
    let served = new.clone();
    let server = Server::start(move |seen, n| match n {
        0 => cut_first(0, good(&old, TAG, seen)),
        _ => good(&served, "\"two\"", seen),
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), None);
    leave_a_part(&wanted, &server);
    run(&wanted).unwrap();
    assert!(fs::read(&wanted.to).unwrap() == new, "two files were mixed");
}

#[test]
fn a_server_that_ignores_the_condition_is_caught() {
    let (old, new) = (weights(7), weights(8));
    let served = new.clone();
    let server = Server::start(move |seen, n| match (n, seen.from) {
        (0, _) => cut_first(0, good(&old, TAG, seen)),
        (_, Some(from)) => piece(&served, from, vec![("ETag", "\"two\"".to_owned())]),
        (_, None) => whole(&served, vec![("ETag", "\"two\"".to_owned())]),
    });
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = download(&folder, server.url(), None);
    leave_a_part(&wanted, &server);
    wanted.retries = 1;
    run(&wanted).unwrap();
    assert!(fs::read(&wanted.to).unwrap() == new, "two files were mixed");
}

#[test]
fn without_validators_only_a_known_hash_lets_it_go_on() {
    let body = weights(9);
    for known in [false, true] {
        let served = body.clone();
        let server = Server::start(move |seen, n| match seen.from {
            Some(from) => piece(&served, from, vec![]),
            None => cut_first(n, whole(&served, vec![])),
        });
        let folder = tempfile::tempdir().unwrap();
        let hash = sha256(&body);
        let wanted = download(&folder, server.url(), known.then_some(&hash[..]));
        leave_a_part(&wanted, &server);
        let fetched = run(&wanted).unwrap();
        assert_eq!(fetched.resumed_from, if known { 60_000 } else { 0 });
        assert_eq!(server.seen()[1].from, known.then_some(60_000));
        assert_eq!(fs::read(&wanted.to).unwrap(), body);
    }
}

#[test]
fn a_part_that_spoils_the_hash_is_dropped_once() {
    let (old, new) = (weights(10), weights(11));
    let served = new.clone();
    let server = Server::start(move |seen, n| match (n, seen.from) {
        (0, _) => cut_first(0, whole(&old, vec![])),
        (_, Some(from)) => piece(&served, from, vec![]),
        (_, None) => whole(&served, vec![]),
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), Some(&sha256(&new)));
    leave_a_part(&wanted, &server);
    let fetched = run(&wanted).unwrap();
    assert_eq!(fetched.resumed_from, 0);
    assert_eq!(fs::read(&wanted.to).unwrap(), new);
    assert_clean(&wanted.to);
}

#[test]
fn a_wrong_hash_is_kept_aside_and_never_used() {
    let body = weights(12);
    let served = body.clone();
    let server = Server::start(move |seen, _| good(&served, TAG, seen));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), Some("1d3f7974"));
    let error = run(&wanted).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("1d3f7974") && text.contains(&sha256(&body)),
        "{text}"
    );
    assert!(text.contains("weights.pth.bad"), "{text}");
    assert!(!wanted.to.exists());
    assert_eq!(fs::read(beside(&wanted.to, ".bad")).unwrap(), body);
    assert!(!beside(&wanted.to, ".part").exists());
    assert!(!beside(&wanted.to, ".part.json").exists());
}

#[test]
fn a_finished_file_with_the_wrong_hash_is_replaced() {
    let body = weights(13);
    let served = body.clone();
    let server = Server::start(move |seen, _| good(&served, TAG, seen));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), Some(&sha256(&body)));
    fs::create_dir_all(wanted.to.parent().unwrap()).unwrap();
    fs::write(&wanted.to, b"half of something").unwrap();
    assert!(!run(&wanted).unwrap().already_there);
    assert_eq!(fs::read(&wanted.to).unwrap(), body);
    let bad = fs::read(beside(&wanted.to, ".bad")).unwrap();
    assert_eq!(bad, b"half of something");
}

#[test]
fn a_part_that_is_whole_is_not_asked_for_again() {
    // Broken off behind the last byte: with the length known no request is needed, without it
    // the server answers 416.
    for known in [true, false] {
        let body = weights(14);
        let served = body.clone();
        let server = Server::start(move |seen, _| good(&served, TAG, seen));
        let folder = tempfile::tempdir().unwrap();
        let wanted = download(&folder, server.url(), Some(&sha256(&body)));
        fs::create_dir_all(wanted.to.parent().unwrap()).unwrap();
        fs::write(beside(&wanted.to, ".part"), &body).unwrap();
        let total = if known { "200000" } else { "null" };
        let note = format!(
            r#"{{"url":"{}","etag":"\"one\"","last_modified":null,"total":{total}}}"#,
            wanted.url
        );
        fs::write(beside(&wanted.to, ".part.json"), note).unwrap();
        let fetched = run(&wanted).unwrap();
        assert_eq!(fetched.resumed_from, 200_000);
        assert_eq!(server.seen().len(), usize::from(!known));
        assert_clean(&wanted.to);
    }
}

#[test]
fn a_part_of_another_address_is_dropped() {
    let body = weights(15);
    let served = body.clone();
    let server = Server::start(move |seen, _| good(&served, TAG, seen));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), None);
    fs::create_dir_all(wanted.to.parent().unwrap()).unwrap();
    fs::write(beside(&wanted.to, ".part"), b"other").unwrap();
    let note = r#"{"url":"http://other/x","etag":"\"one\"","last_modified":null,"total":9}"#;
    fs::write(beside(&wanted.to, ".part.json"), note).unwrap();
    run(&wanted).unwrap();
    assert_eq!(server.seen()[0].from, None);
    assert_eq!(fs::read(&wanted.to).unwrap(), body);
}

#[test]
fn redirects_are_followed() {
    let body = weights(16);
    let served = body.clone();
    let server = Server::start(move |seen, _| match seen.path.as_str() {
        "/weights.pth" => Reply {
            status: 302,
            headers: vec![("Location", "/moved".to_owned())],
            ..Reply::default()
        },
        _ => good(&served, TAG, seen),
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), Some(&sha256(&body)));
    run(&wanted).unwrap();
    assert_eq!(server.seen()[1].path, "/moved");
}

#[test]
fn refusals_are_sentences() {
    let table = [
        (404, "there is no file at", 1),
        (410, "there is no file at", 1),
        (403, "the server refuses", 1),
        (401, "the server refuses", 1),
        (400, "with the error 400", 1),
        (500, "with the error 500", 3),
    ];
    for (code, sentence, requests) in table {
        let server = Server::start(move |_, _| status(code));
        let folder = tempfile::tempdir().unwrap();
        let wanted = Download {
            retries: 2,
            ..download(&folder, server.url(), None)
        };
        let text = run(&wanted).unwrap_err().to_string();
        assert!(
            text.contains(sentence) && text.contains("--from"),
            "{code}: {text}"
        );
        assert!(text.contains(&server.url()), "{text}");
        assert_eq!(server.seen().len(), requests, "{code}");
        assert!(!wanted.to.exists());
    }
}

#[test]
fn bad_requests_are_refused_before_any_connection() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(&download(&folder, "ftp://here/weights".to_owned(), None)).unwrap_err();
    assert!(matches!(error, FetchError::Address { .. }), "{error}");
    for hash in ["1d3f", "not a hash", &"0".repeat(65)] {
        let error = run(&download(&folder, "http://here/".to_owned(), Some(hash))).unwrap_err();
        assert!(matches!(error, FetchError::Hash(_)), "{error}");
    }
}

#[test]
fn nobody_there_is_said_with_the_host() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let error = run(&download(&folder, format!("http://{host}/x"), None)).unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&host) && text.contains("online"), "{text}");
}

#[test]
fn a_silent_server_is_given_up() {
    let body = weights(17);
    let server = Server::start(move |seen, _| Reply {
        pause: Duration::from_secs(20),
        ..good(&body, TAG, seen)
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = Download {
        silence: Duration::from_millis(300),
        ..download(&folder, server.url(), None)
    };
    let begun = Instant::now();
    let error = run(&wanted).unwrap_err();
    assert!(matches!(error, FetchError::Silent { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn cancel_answers_at_once() {
    let body = weights(18);
    let server = Server::start(move |seen, _| Reply {
        pause: Duration::from_secs(20),
        ..good(&body, TAG, seen)
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), None);
    let mut asked = None;
    let mut count = 0;
    let error = fetch(&wanted, &mut |_| {
        count += 1;
        if count < 4 {
            return ControlFlow::Continue(());
        }
        asked = Some(Instant::now());
        ControlFlow::Break(())
    });
    let waited = asked.unwrap().elapsed();
    assert!(matches!(error.unwrap_err(), FetchError::Cancelled));
    assert!(waited < Duration::from_millis(200), "{waited:?}");
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, "http://127.0.0.1:9/x".to_owned(), None);
    fs::create_dir_all(wanted.to.parent().unwrap()).unwrap();
    let part = fs::File::create(beside(&wanted.to, ".part")).unwrap();
    part.lock().unwrap();
    let error = run(&wanted).unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error:?}");
}

/// Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said() {
    let body = weights(19);
    let server = Server::start(move |seen, _| good(&body, TAG, seen));
    let folder = tempfile::tempdir().unwrap();
    let wanted = download(&folder, server.url(), None);
    fs::create_dir_all(wanted.to.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", beside(&wanted.to, ".part")).unwrap();
    let error = run(&wanted).unwrap_err();
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
}
