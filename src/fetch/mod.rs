//! Downloads of published weights, with resume and hash check.
//!
//! A download is written to `FILE.part`; `FILE.part.json` beside it holds address, validators and
//! length. A later call resumes it with an HTTP range request that the server honours only while
//! the file is unchanged (RFC 9110, sections 13.1.5 and 14). The complete file is hashed and then
//! renamed; a file with the wrong hash is kept as `FILE.bad` and never used.
//!
//! Native and blocking; the caller's callback is asked at least ten times a second and may cancel.

mod official;
mod part;
mod wire;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use official::{OFFICIAL, Official, official};

use part::Part;
use wire::{Head, News, Wire};

/// The largest file that is accepted, in bytes; no published file is near this.
const MAX_FILE: u64 = 8 << 30;

/// The longest time between two progress reports, at which the caller can cancel.
const TICK: Duration = Duration::from_millis(100);

/// The longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What to download, and where to.
#[derive(Clone, Debug)]
pub struct Download {
    /// `http` or `https`.
    pub url: String,
    /// The finished file. Its folder is made when it is missing.
    pub to: PathBuf,
    /// The first digits of the SHA-256 in hex (8, as in official file names, up to all 64);
    /// `None` where none was published.
    pub sha256: Option<String>,
    /// How often a connection that fails or breaks without a byte of progress is tried again.
    pub retries: u32,
    /// The first pause before another attempt; it doubles each time, up to 30 s.
    pub pause: Duration,
    /// How long a server may stay silent, in connecting or in sending.
    pub silence: Duration,
}

impl Download {
    /// With five retries, pauses from half a second on, and 30 s of silence.
    pub fn new(url: impl Into<String>, to: impl Into<PathBuf>, sha256: Option<&str>) -> Self {
        Self {
            url: url.into(),
            to: to.into(),
            sha256: sha256.map(str::to_ascii_lowercase),
            retries: 5,
            pause: Duration::from_millis(500),
            silence: Duration::from_secs(30),
        }
    }

    /// For messages: the file's name.
    fn name(&self) -> String {
        let name = self.to.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Progress of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    /// Bytes, those of an earlier part included.
    pub done: u64,
    /// Bytes; 0 when the server does not say.
    pub total: u64,
}

/// Stage of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    Downloading,
    /// Reading the file for its hash.
    Checking,
    /// Waiting before another attempt, and why.
    Waiting {
        reason: String,
    },
}

/// Called at least ten times a second; [`ControlFlow::Break`] cancels.
type Report<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// A downloaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// All 64 hex digits, whether or not a hash was expected.
    pub sha256: String,
    /// Bytes of an earlier call that were not downloaded again.
    pub resumed_from: u64,
    /// The file existed already, and nothing was downloaded.
    pub already_there: bool,
}

/// Why a download failed. Every message is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("`{url}` is not an http or https address")]
    Address { url: String },
    #[error(
        "there is no file at {url} (404); the address may have changed, try a mirror with --from URL"
    )]
    NotFound { url: String },
    #[error("the server refuses {url} ({status}); try a mirror with --from URL")]
    Refused { url: String, status: u16 },
    #[error(
        "the server answers {url} with the error {status}; try again later, or a mirror with --from URL"
    )]
    Status { url: String, status: u16 },
    #[error("{host} cannot be reached; are you online? A mirror can be given with --from URL")]
    Offline {
        host: String,
        #[source]
        cause: Box<ureq::Error>,
    },
    #[error("no secure connection to {host} could be made")]
    Insecure {
        host: String,
        #[source]
        cause: Box<ureq::Error>,
    },
    #[error("{host} has been silent for {} s", .seconds)]
    Silent { host: String, seconds: u64 },
    #[error(
        "the connection to {host} broke after {done} bytes; run the same command again and it goes \
         on from there"
    )]
    Broken {
        host: String,
        done: u64,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{host} sent an answer that makes no sense: {what}")]
    Nonsense { host: String, what: String },
    #[error("{url} is larger than {} GB, so it is not the file that is wanted", MAX_FILE >> 30)]
    TooLarge { url: String },
    #[error(
        "{name} arrived with the SHA-256 {found} where {expected} was expected; it was kept as {} and \
         is not used", .kept.display()
    )]
    WrongHash {
        name: String,
        expected: String,
        found: String,
        kept: PathBuf,
    },
    #[error("`{0}` is not the beginning of a SHA-256: 8 to 64 hex digits are")]
    Hash(String),
    #[error(
        "the disk is full after {done} bytes of {}; make room and run the same command again, it goes \
         on from there", .path.display()
    )]
    DiskFull { path: PathBuf, done: u64 },
    #[error("{} cannot be written", .path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("another download of {} is running", .path.display())]
    Busy { path: PathBuf },
    #[error("the download was cancelled; run the same command again to resume it")]
    Cancelled,
}

impl FetchError {
    /// Whether another attempt may succeed.
    fn passes(&self) -> bool {
        match self {
            Self::Offline { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}

/// Downloads a file, or finds it already there.
///
/// # Errors
/// A [`FetchError`]; unless it is [`FetchError::WrongHash`], the received bytes are kept for the
/// next call.
pub fn fetch(download: &Download, report: Report<'_>) -> Result<Fetched, FetchError> {
    check_request(download)?;
    if let Some(fetched) = already_there(download, report)? {
        return Ok(fetched);
    }
    let mut part = Part::open(&download.to, &download.url)?;
    let mut resumed_from = part.resumable(download.sha256.is_some());
    complete(download, &mut part, report)?;
    let mut found = hash(part.file(), part.path(), report)?;
    if !fits(download, &found) && resumed_from > 0 {
        // The old part may have been of another file, where no validator could tell: once more,
        // from the start.
        part.restart()?;
        resumed_from = 0;
        complete(download, &mut part, report)?;
        found = hash(part.file(), part.path(), report)?;
    }
    if !fits(download, &found) {
        return Err(set_aside(download, part.path(), found));
    }
    let bytes = part.finish(&download.to)?;
    Ok(Fetched {
        path: download.to.clone(),
        bytes,
        sha256: found,
        resumed_from,
        already_there: false,
    })
}

fn check_request(download: &Download) -> Result<(), FetchError> {
    let known = ["http://", "https://"];
    if !known.iter().any(|scheme| download.url.starts_with(scheme)) {
        let url = download.url.clone();
        return Err(FetchError::Address { url });
    }
    match &download.sha256 {
        Some(hash)
            if !(8..=64).contains(&hash.len()) || !hash.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Err(FetchError::Hash(hash.clone()))
        }
        _ => Ok(()),
    }
}

fn fits(download: &Download, found: &str) -> bool {
    let expected = download.sha256.as_deref().unwrap_or_default();
    found.starts_with(&expected.to_ascii_lowercase())
}

/// The finished file of an earlier call. One with the wrong hash is set aside and fetched anew.
fn already_there(download: &Download, report: Report<'_>) -> Result<Option<Fetched>, FetchError> {
    let Ok(meta) = fs::metadata(&download.to) else {
        return Ok(None);
    };
    let file = File::open(&download.to).map_err(|cause| file_error(&download.to, cause))?;
    let found = hash(&file, &download.to, report)?;
    drop(file);
    if !fits(download, &found) {
        rename(&download.to, &aside(&download.to))?;
        return Ok(None);
    }
    Ok(Some(Fetched {
        path: download.to.clone(),
        bytes: meta.len(),
        sha256: found,
        resumed_from: 0,
        already_there: true,
    }))
}

fn aside(path: &Path) -> PathBuf {
    with_suffix(path, ".bad")
}

/// `FILE` and a suffix, which `Path::with_extension` would put in place of `.pth`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn set_aside(download: &Download, part: &Path, found: String) -> FetchError {
    let kept = aside(&download.to);
    if let Err(error) = rename(part, &kept) {
        return error;
    }
    part::forget(&download.to);
    FetchError::WrongHash {
        name: download.name(),
        expected: download.sha256.clone().unwrap_or_default(),
        found,
        kept,
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), FetchError> {
    fs::rename(from, to).map_err(|cause| file_error(to, cause))
}

fn file_error(path: &Path, cause: io::Error) -> FetchError {
    let path = path.to_owned();
    FetchError::File { path, cause }
}

/// SHA-256 of a file, in hex. By its handle: where locks bind, a part can be read by no other.
fn hash(mut file: &File, path: &Path, report: Report<'_>) -> Result<String, FetchError> {
    let fail = |cause| file_error(path, cause);
    file.rewind().map_err(fail)?;
    let total = file.metadata().map_err(fail)?.len();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let stage = Stage::Checking;
        tell(report, Progress { stage, done, total })?;
        let read = file.read(&mut buffer).map_err(fail)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        done += read as u64;
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tell(report: Report<'_>, progress: Progress) -> Result<(), FetchError> {
    match report(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(FetchError::Cancelled),
    }
}

/// Attempts until the part is complete. Retries are counted anew after an attempt that received
/// bytes.
fn complete(download: &Download, part: &mut Part, report: Report<'_>) -> Result<(), FetchError> {
    let mut failures = 0;
    loop {
        let before = part.len();
        let Err(error) = attempt(download, part, report) else {
            return Ok(());
        };
        if !error.passes() {
            return Err(error);
        }
        failures = if part.len() > before { 1 } else { failures + 1 };
        if failures > download.retries {
            return Err(error);
        }
        let pause = download.pause * 2_u32.saturating_pow(failures - 1);
        wait(pause.min(MAX_PAUSE), &error, part, report)?;
    }
}

/// Sleeps, reporting progress meanwhile.
fn wait(
    pause: Duration,
    why: &FetchError,
    part: &Part,
    report: Report<'_>,
) -> Result<(), FetchError> {
    let until = Instant::now() + pause;
    loop {
        let stage = Stage::Waiting {
            reason: why.to_string(),
        };
        tell(report, progress(stage, part))?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}

fn progress(stage: Stage, part: &Part) -> Progress {
    Progress {
        stage,
        done: part.len(),
        total: part.total().unwrap_or(0),
    }
}

/// One request for the missing bytes, or all, which are appended to the part.
fn attempt(download: &Download, part: &mut Part, report: Report<'_>) -> Result<(), FetchError> {
    let from = part.resumable(download.sha256.is_some());
    if from > 0 && part.total() == Some(from) {
        return Ok(());
    }
    let wire = Wire::open(download, from, part.validator());
    let mut heard = Instant::now();
    let mut begun = false;
    loop {
        let stage = if begun {
            Stage::Downloading
        } else {
            Stage::Connecting
        };
        tell(report, progress(stage, part))?;
        let Some(news) = wire.next(TICK) else {
            // The connection's own timeouts do not cover everything: not the look-up of a name.
            if heard.elapsed() > download.silence * 2 {
                return Err(wire.silent());
            }
            continue;
        };
        heard = Instant::now();
        match news {
            News::Head(head) => {
                begun = true;
                if begin(download, part, from, head)?.is_break() {
                    return Ok(());
                }
            }
            News::Chunk(bytes) => append(download, part, &bytes)?,
            News::End => return end(&wire, part),
            News::Failed(failure) => return Err(wire.explain(failure, part.len())),
        }
    }
}

/// Makes the part ready for the body: to be continued, or from the start. Breaks where the part is
/// whole already.
fn begin(
    download: &Download,
    part: &mut Part,
    from: u64,
    head: Head,
) -> Result<ControlFlow<()>, FetchError> {
    let url = || download.url.clone();
    match head.status {
        200 => part.restart()?,
        206 if head.start == Some(from) && part.is_of(&head) => {}
        // A piece of another file, or another piece: ask for all of it. 416: the part is as long as
        // the file or longer.
        416 if head.total == Some(from) && part.is_of(&head) => {
            return Ok(ControlFlow::Break(()));
        }
        206 | 416 if from > 0 => {
            part.restart()?;
            let what = "another piece than the one it was asked for".into();
            return Err(wire::broken(download, part.len(), what));
        }
        404 | 410 => return Err(FetchError::NotFound { url: url() }),
        status @ (401 | 403) => return Err(FetchError::Refused { url: url(), status }),
        status => return Err(FetchError::Status { url: url(), status }),
    }
    if head.total.is_some_and(|total| total > MAX_FILE) {
        return Err(FetchError::TooLarge { url: url() });
    }
    part.describe(&head)?;
    Ok(ControlFlow::Continue(()))
}

fn append(download: &Download, part: &mut Part, bytes: &[u8]) -> Result<(), FetchError> {
    if part.len() + bytes.len() as u64 > MAX_FILE {
        let url = download.url.clone();
        return Err(FetchError::TooLarge { url });
    }
    part.append(bytes)
}

/// Checks the length after the end of the body.
fn end(wire: &Wire, part: &mut Part) -> Result<(), FetchError> {
    match part.total() {
        Some(total) if part.len() < total => {
            let cause = io::Error::from(io::ErrorKind::UnexpectedEof);
            Err(wire.broken(part.len(), cause.into()))
        }
        Some(total) if part.len() > total => {
            part.restart()?;
            Err(wire.nonsense("more bytes than it announced".to_owned()))
        }
        _ => Ok(()),
    }
}
