//! One HTTP exchange on its own thread, so that the caller can cancel while it waits.

use std::error::Error as StdError;
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Response, header};

use super::{Download, FetchError};

/// Bytes of a chunk, and how many chunks may wait: enough to keep a disk busy.
const CHUNK: usize = 1 << 16;
const WAITING: usize = 16;

/// The header fields of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub status: u16,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// Length of the whole file.
    pub total: Option<u64>,
    /// First byte of a piece.
    pub start: Option<u64>,
}

/// Messages of the other thread, in this order: a head, chunks, an end; or a failure.
pub(super) enum News {
    Head(Head),
    Chunk(Vec<u8>),
    End,
    Failed(ureq::Error),
}

/// A running exchange. Dropping it ends the thread at its next chunk.
pub(super) struct Wire {
    news: Receiver<News>,
    host: String,
    silence: Duration,
}

impl Wire {
    /// Requests the bytes from `from` on; with a `validator`, the server sends all of the file where
    /// it has changed.
    pub(super) fn open(download: &Download, from: u64, validator: Option<&str>) -> Self {
        let (sender, news) = sync_channel(WAITING);
        let agent = agent(download);
        let mut request = agent.get(&download.url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(validator) = validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        std::thread::spawn(move || {
            let last = match request.call() {
                Ok(response) => pass_on(response, &sender),
                Err(error) => Some(News::Failed(error)),
            };
            if let Some(last) = last {
                // The receiver is gone: the download was cancelled.
                let _ = sender.send(last);
            }
        });
        Self {
            news,
            host: host(&download.url).to_owned(),
            silence: download.silence,
        }
    }

    /// The next news, or `None` when there is none within `patience`.
    pub(super) fn next(&self, patience: Duration) -> Option<News> {
        match self.news.recv_timeout(patience) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            // The thread always sends a last message, unless it panics.
            Err(RecvTimeoutError::Disconnected) => {
                Some(News::Failed(ureq::Error::ConnectionFailed))
            }
        }
    }

    pub(super) fn silent(&self) -> FetchError {
        FetchError::Silent {
            host: self.host.clone(),
            seconds: self.silence.as_secs(),
        }
    }

    pub(super) fn broken(&self, done: u64, cause: Box<dyn StdError + Send + Sync>) -> FetchError {
        FetchError::Broken {
            host: self.host.clone(),
            done,
            cause,
        }
    }

    pub(super) fn nonsense(&self, what: String) -> FetchError {
        let host = self.host.clone();
        FetchError::Nonsense { host, what }
    }

    /// An error for the user; `done` bytes have been received.
    pub(super) fn explain(&self, error: ureq::Error, done: u64) -> FetchError {
        use std::io::ErrorKind as Io;
        use ureq::{Error, Timeout};

        let host = self.host.clone();
        match error {
            Error::Timeout(Timeout::PerRead | Timeout::PerWrite | Timeout::RecvResponse) => {
                self.silent()
            }
            Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(_) => {
                let cause = Box::new(error);
                FetchError::Offline { host, cause }
            }
            Error::Io(ref io) if io.kind() == Io::TimedOut || io.kind() == Io::WouldBlock => {
                self.silent()
            }
            Error::Io(ref io) if never_connected(io.kind()) => {
                let cause = Box::new(error);
                FetchError::Offline { host, cause }
            }
            Error::Tls(_) | Error::Rustls(_) | Error::RequireHttpsOnly(_) => {
                let cause = Box::new(error);
                FetchError::Insecure { host, cause }
            }
            Error::Io(_) => self.broken(done, Box::new(error)),
            Error::BadUri(url) => FetchError::Address { url },
            // A connection cut in the middle of a header or a chunk also reads as bad protocol.
            Error::Protocol(_) => self.broken(done, Box::new(error)),
            other => self.nonsense(other.to_string()),
        }
    }
}

fn never_connected(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind as Io;
    matches!(
        kind,
        Io::ConnectionRefused
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::AddrNotAvailable
    )
}

/// As [`Wire::broken`], for a response that is refused before its body.
pub(super) fn broken(download: &Download, done: u64, what: String) -> FetchError {
    FetchError::Broken {
        host: host(&download.url).to_owned(),
        done,
        cause: what.into(),
    }
}

fn agent(download: &Download) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // From a secure address no redirect leads to an open one.
        .https_only(download.url.starts_with("https://"))
        // A packed body has other offsets than the file.
        .accept_encoding("identity")
        .user_agent(concat!("ventral/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(download.silence))
        .timeout_recv_response(Some(download.silence))
        .timeout_per_read(Some(download.silence))
        .build();
    config.into()
}

/// Sends the head and the body to the receiver; returns the last message, unless it is gone.
fn pass_on(response: Response<ureq::Body>, sender: &SyncSender<News>) -> Option<News> {
    sender.send(News::Head(head(&response))).ok()?;
    let mut body = response.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        match body.read(&mut chunk) {
            Ok(0) => return Some(News::End),
            Ok(read) => {
                chunk.truncate(read);
                sender.send(News::Chunk(chunk)).ok()?;
            }
            Err(error) => return Some(News::Failed(error.into())),
        }
    }
}

fn head(response: &Response<ureq::Body>) -> Head {
    let headers = response.headers();
    let status = response.status().as_u16();
    let range = text(headers, header::CONTENT_RANGE);
    let range = range.as_deref().and_then(content_range);
    let length = text(headers, header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.parse().ok());
    let (start, total) = match range {
        Some((start, total)) => (start, total),
        None if status == 200 => (None, length),
        None => (None, None),
    };
    Head {
        status,
        etag: text(headers, header::ETAG),
        last_modified: text(headers, header::LAST_MODIFIED),
        total,
        start,
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

/// `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`: the first byte and the length of the whole.
fn content_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let start = range
        .split_once('-')
        .and_then(|(start, _)| start.parse().ok());
    Some((start, total.parse().ok()))
}

/// The host of an address, for messages.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // The part before an @ may be a password.
    rest[..end].rsplit('@').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let table = [
            ("bytes 5-9/10", Some((Some(5), Some(10)))),
            ("bytes 5-9/*", Some((Some(5), None))),
            ("bytes */10", Some((None, Some(10)))),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
        ];
        for (value, wanted) in table {
            assert_eq!(content_range(value), wanted, "{value}");
        }
    }

    #[test]
    fn hosts_are_read() {
        let table = [
            ("https://here.org/a/b", "here.org"),
            ("http://127.0.0.1:80", "127.0.0.1:80"),
            ("http://me:secret@here.org/a@b", "here.org"),
            ("http://here.org?a=/b", "here.org"),
        ];
        for (url, wanted) in table {
            assert_eq!(host(url), wanted, "{url}");
        }
    }
}
