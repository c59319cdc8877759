//! The static server of the built page: on 127.0.0.1, with the headers that the page needs.
//!
//! * **Isolation.** `Cross-Origin-Opener-Policy: same-origin` with
//!   `Cross-Origin-Embedder-Policy: require-corp` makes the page cross-origin isolated, which gives
//!   it precise clocks, shared memory and memory figures. `require-corp` is chosen over
//!   `credentialless` because every browser supports it and the page embeds only its own files,
//!   `blob:` and `data:`; other origins are reached by CORS `fetch` only.
//! * **A strict Content-Security-Policy.** Scripts and styles are files of the page's own origin;
//!   inline scripts are refused, the bundler's loader too (`Trunk.toml` makes it a file).
//! * **Caching.** A name with a content hash is immutable; everything else is revalidated.
//! * **Compression.** A `.br` or `.gz` beside a file is sent as it is; small text without one is
//!   compressed for each request; large files without one are sent uncompressed.
//! * **Safe paths.** Nothing outside the root, and no name that begins with a dot.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Extensions, HeaderMap, StatusCode, Version};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_http::compression::CompressionLayer;
use tower_http::services::{ServeDir, ServeFile};

/// The port asked for first.
pub const DEFAULT_PORT: u16 = 8080;

/// Text from this size on (bytes) is worth compressing.
const COMPRESS_FROM: u64 = 512;

/// Files beyond this size (bytes) are not compressed per request.
const COMPRESS_UP_TO: u64 = 4 << 20;

/// Headers that every answer carries.
const EVERYWHERE: &[(&str, &str)] = &[
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    // A proxy must not send brotli to a client that cannot read it.
    ("vary", "accept-encoding"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "permissions-policy",
        "camera=(self), microphone=(), geolocation=()",
    ),
];

/// The policy's directives.
///
/// * `'wasm-unsafe-eval'` lets WebAssembly compile, and only that.
/// * `connect-src` is wide because users load weights from other addresses, or from another server
///   on their machine; `blob:` because dropped files are read that way.
const POLICY: &[(&str, &str)] = &[
    ("default-src", "'self'"),
    ("script-src", "'self' 'wasm-unsafe-eval'"),
    ("style-src", "'self'"),
    (
        "connect-src",
        "'self' https: http://localhost:* http://127.0.0.1:* blob:",
    ),
    ("img-src", "'self' blob: data:"),
    ("media-src", "'self' blob:"),
    ("worker-src", "'self' blob:"),
    ("object-src", "'none'"),
    ("base-uri", "'self'"),
    ("form-action", "'none'"),
    ("frame-ancestors", "'none'"),
];

/// Why the server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The root holds no `index.html`.
    #[error("there is no built page in {}: run `cargo xtask build` first", .root.display())]
    NotBuilt {
        /// The folder that was looked into.
        root: PathBuf,
    },
    /// Every port that was tried is taken.
    #[error("ports {first} to {last} are all taken: name a free one")]
    NoFreePort {
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server stopped by itself.
    #[error("the server stopped: {0}")]
    Stopped(#[from] std::io::Error),
}

/// The folder of the page and the address of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// Folder of the built page; it holds `index.html`.
    pub root: PathBuf,
    /// Address asked for first. Port 0 lets the system choose.
    pub address: SocketAddr,
    /// How many ports to try, counting up from the address's own; at least 1.
    pub attempts: u16,
}

impl ServeOptions {
    /// Serves `root` on `127.0.0.1:8080`, or on one of the 31 ports after it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            root: root.into(),
            address: SocketAddr::new(loopback, DEFAULT_PORT),
            attempts: 32,
        }
    }

    /// The same with another first port; 0 lets the system choose.
    pub fn port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }
}

/// A server that is bound to its port and does not answer yet.
pub struct Server {
    listener: TcpListener,
    router: Router,
    address: SocketAddr,
}

impl Server {
    /// Takes the first free port.
    ///
    /// # Errors
    /// [`ServeError::NotBuilt`] without an `index.html` in the root, [`ServeError::NoFreePort`] when
    /// all attempts met a taken port, [`ServeError::Address`] for any other refusal.
    pub async fn bind(options: &ServeOptions) -> Result<Self, ServeError> {
        if !options.root.join("index.html").is_file() {
            return Err(ServeError::NotBuilt {
                root: options.root.clone(),
            });
        }
        let listener = first_free(options.address, options.attempts.max(1)).await?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            router: router(&options.root),
        })
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for a browser, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers until `stop` is ready.
    ///
    /// # Errors
    /// [`ServeError::Stopped`] when accepting connections fails for good.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self {
            listener, router, ..
        } = self;
        // Open downloads are dropped on purpose: waiting for them would make Ctrl-C look broken.
        tokio::select! {
            ended = axum::serve(listener, router).into_future() => Ok(ended?),
            () = stop => Ok(()),
        }
    }
}

/// Binds, calls `announce` with the address, and answers until Ctrl-C.
///
/// # Errors
/// As [`Server::bind`] and [`Server::run_until`].
pub async fn serve(options: &ServeOptions, announce: impl FnOnce(&str)) -> Result<(), ServeError> {
    let server = Server::bind(options).await?;
    announce(&server.url());
    server.run_until(interrupted()).await
}

/// [`serve`] with its own runtime.
///
/// # Errors
/// As [`serve`].
pub fn serve_blocking(
    options: &ServeOptions,
    announce: impl FnOnce(&str),
) -> Result<(), ServeError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(serve(options, announce))
}

/// A server on its own thread that stops when it is dropped, for tests.
pub struct BackgroundServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundServer {
    /// Binds and begins to answer.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn start(options: &ServeOptions) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let server = runtime.block_on(Server::bind(options))?;
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("serve".into())
            .spawn(move || {
                let until = async {
                    // A dropped sender means the same as a message: stop.
                    let _ = stopped.await;
                };
                let _ = runtime.block_on(server.run_until(until));
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for a browser, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for BackgroundServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The routes and headers, for another listener.
pub fn router(root: &Path) -> Router {
    let files = ServeDir::new(root)
        .append_index_html_on_directories(false)
        .precompressed_br()
        .precompressed_gzip()
        .fallback(get(not_found));
    let page = ServeFile::new(root.join("index.html"))
        .precompressed_br()
        .precompressed_gzip();
    let policy: Vec<String> = POLICY
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let policy: Arc<str> = policy.join("; ").into();
    Router::new()
        .route_service("/", page)
        .fallback_service(files)
        .layer(CompressionLayer::new().compress_when(worth_compressing))
        .layer(middleware::from_fn_with_state(policy, guard))
}

async fn first_free(address: SocketAddr, attempts: u16) -> Result<TcpListener, ServeError> {
    let first = address.port();
    let last = first.saturating_add(attempts - 1);
    for port in first..=last {
        let address = SocketAddr::new(address.ip(), port);
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(ServeError::Address { address, source }),
        }
    }
    Err(ServeError::NoFreePort { first, last })
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a signal handler the process can only be ended from outside.
        std::future::pending::<()>().await;
    }
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "There is no such file.\n").into_response()
}

/// Refuses hidden names and sets the headers of every response.
async fn guard(State(policy): State<Arc<str>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = match has_hidden_segment(&path) {
        true => not_found().await,
        false => next.run(request).await,
    };
    let found = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    // An error must not be remembered under an immutable name.
    let caching = match found && carries_hash(&path) {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let own = [
        (header::CONTENT_SECURITY_POLICY.as_str(), policy.as_ref()),
        (header::CACHE_CONTROL.as_str(), caching),
    ];
    for (name, value) in EVERYWHERE.iter().copied().chain(own) {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Whether a segment begins with a dot, written plainly or as `%2e`: hidden files and `..` alike.
fn has_hidden_segment(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%2f", "/");
    lower
        .split(['/', '\\'])
        .any(|segment| segment.starts_with('.') || segment.starts_with("%2e"))
}

/// Whether the last two parts of a path carry a content hash of at least 12 hexadecimal digits, as
/// in `app-3f2a…9c.js`, `app-3f2a…9c_bg.wasm` or `snippets/crate-3f2a…9c/inline0.js`.
fn carries_hash(path: &str) -> bool {
    path.rsplit('/').take(2).any(|segment| {
        segment
            .split(['-', '_', '.'])
            .any(|part| part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// Text of a middling size: see [`COMPRESS_FROM`] and [`COMPRESS_UP_TO`].
fn worth_compressing(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).unwrap_or("");
    let is_text = ["text/", "application/json", "application/wasm", "image/svg"]
        .iter()
        .any(|known| kind.starts_with(known));
    let size = text(header::CONTENT_LENGTH)
        .and_then(|length| length.parse().ok())
        .unwrap_or(COMPRESS_FROM);
    is_text && (COMPRESS_FROM..=COMPRESS_UP_TO).contains(&size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    const PAGE: &str = "<!doctype html><title>t</title><script src=\"/app.js\"></script>";

    struct Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    }

    impl Answer {
        fn header(&self, name: &str) -> &str {
            let found = self.headers.iter().find(|(key, _)| key == name);
            found.map_or("", |(_, value)| value)
        }
    }

    /// Sends the path as it stands: a client library would tidy `..` away first.
    fn ask(server: &BackgroundServer, method: &str, path: &str, extra: &str) -> Answer {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let split = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        Answer {
            status: status.parse().unwrap(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: bytes[split + 4..].to_vec(),
        }
    }

    fn site() -> (tempfile::TempDir, BackgroundServer) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dist");
        std::fs::create_dir_all(root.join("models")).unwrap();
        std::fs::create_dir_all(root.join(".stage")).unwrap();
        let files: &[(&str, &[u8])] = &[
            ("../secret.txt", b"secret"),
            ("index.html", PAGE.as_bytes()),
            ("app.js", &[b' '; 4000]),
            ("app-0123456789abcdef.js", b"export {}"),
            ("app-0123456789abcdef_bg.wasm", b"\0asm plain"),
            ("app-0123456789abcdef_bg.wasm.br", b"as brotli"),
            ("app-0123456789abcdef_bg.wasm.gz", b"as gzip"),
            ("models/tiny.safetensors", b"0123456789"),
            (".stage/half.js", b"hidden"),
        ];
        for (name, bytes) in files {
            std::fs::write(root.join(name), bytes).unwrap();
        }
        std::fs::write(root.join("large.wasm"), vec![0; 5 << 20]).unwrap();
        let server = BackgroundServer::start(&ServeOptions::new(root).port(0)).unwrap();
        (folder, server)
    }

    #[test]
    fn every_answer_is_isolated_and_sniffed_by_nobody() {
        let (_folder, server) = site();
        let paths = [
            "/",
            "/app.js",
            "/models/tiny.safetensors",
            "/none",
            "/.stage/half.js",
        ];
        for path in paths {
            let answer = ask(&server, "GET", path, "");
            for (name, value) in EVERYWHERE {
                assert_eq!(answer.header(name), *value, "{name} of {path}");
            }
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("default-src 'self';"), "{path}: {policy}");
            assert!(policy.contains("'wasm-unsafe-eval'"), "{path}: {policy}");
            assert!(!policy.contains("unsafe-inline"), "{path}: {policy}");
        }
    }

    #[test]
    fn the_page_answers_at_both_names_and_a_removed_one_is_missed() {
        let (folder, server) = site();
        for path in ["/", "/index.html"] {
            let page = ask(&server, "GET", path, "");
            assert_eq!((page.status, page.body.as_slice()), (200, PAGE.as_bytes()));
        }
        let index = folder.path().join("dist/index.html");
        std::fs::write(&index, "rebuilt").unwrap();
        assert_eq!(ask(&server, "GET", "/", "").body, b"rebuilt");
        std::fs::remove_file(&index).unwrap();
        assert_eq!(ask(&server, "GET", "/", "").status, 404);
    }

    #[test]
    fn nothing_outside_the_root_and_nothing_hidden_is_sent() {
        let (_folder, server) = site();
        let attempts = [
            "/../secret.txt",
            "/models/../../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/%2e%2e%2fsecret.txt",
            "/models/..%2F..%2Fsecret.txt",
            "/..\\secret.txt",
            "/..%5csecret.txt",
            "//../secret.txt",
            "/models/%252e%252e/%252e%252e/secret.txt",
            "/.stage/half.js",
            "/%2estage/half.js",
            "/models%2f..%2f.stage/half.js",
            "/%00",
            "/models",
            "/models/",
        ];
        for path in attempts {
            let answer = ask(&server, "GET", path, "");
            assert!(
                (400..500).contains(&answer.status),
                "{path}: {}",
                answer.status
            );
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                !body.contains("secret") && !body.contains("hidden"),
                "{path}"
            );
        }
        assert_eq!(ask(&server, "POST", "/app.js", "").status, 405);
        assert_eq!(ask(&server, "DELETE", "/", "").status, 405);
    }

    #[test]
    fn types_and_caching_follow_the_name() {
        let (_folder, server) = site();
        let immutable = "public, max-age=31536000, immutable";
        let table = [
            ("/", 200, "text/html", "no-cache"),
            ("/app.js", 200, "text/javascript", "no-cache"),
            (
                "/app-0123456789abcdef.js",
                200,
                "text/javascript",
                immutable,
            ),
            (
                "/app-0123456789abcdef_bg.wasm",
                200,
                "application/wasm",
                immutable,
            ),
            ("/large.wasm", 200, "application/wasm", "no-cache"),
            (
                "/models/tiny.safetensors",
                200,
                "application/octet-stream",
                "no-cache",
            ),
            (
                "/none-0123456789abcdef.js",
                404,
                "text/plain; charset=utf-8",
                "no-cache",
            ),
        ];
        for (path, status, kind, caching) in table {
            let answer = ask(&server, "GET", path, "");
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header("content-type"), kind, "{path}");
            assert_eq!(answer.header("cache-control"), caching, "{path}");
        }
        let first = ask(&server, "GET", "/app.js", "");
        let since = format!("If-Modified-Since: {}\r\n", first.header("last-modified"));
        let again = ask(&server, "GET", "/app.js", &since);
        assert_eq!((again.status, again.body.len()), (304, 0));
        let part = ask(
            &server,
            "GET",
            "/models/tiny.safetensors",
            "Range: bytes=2-4\r\n",
        );
        assert_eq!(
            (part.status, part.body.as_slice()),
            (206, b"234".as_slice())
        );
        let head = ask(&server, "HEAD", "/", "");
        assert_eq!((head.status, head.body.len()), (200, 0));
    }

    #[test]
    fn compression_is_taken_from_the_disk_or_done_for_small_text() {
        let (_folder, server) = site();
        let wasm = "/app-0123456789abcdef_bg.wasm";
        let table: [(&str, &str, &str, &[u8]); 3] = [
            ("br, gzip", "br", "application/wasm", b"as brotli"),
            ("gzip", "gzip", "application/wasm", b"as gzip"),
            ("identity", "", "application/wasm", b"\0asm plain"),
        ];
        for (accepted, encoding, kind, body) in table {
            let answer = ask(
                &server,
                "GET",
                wasm,
                &format!("Accept-Encoding: {accepted}\r\n"),
            );
            assert_eq!(answer.header("content-encoding"), encoding, "{accepted}");
            assert_eq!(answer.header("content-type"), kind, "{accepted}");
            assert_eq!(answer.body, body, "{accepted}");
        }
        let small = ask(&server, "GET", "/app.js", "Accept-Encoding: gzip\r\n");
        assert_eq!(small.header("content-encoding"), "gzip");
        assert!(small.body.len() < 400, "{} bytes", small.body.len());
        let large = ask(
            &server,
            "GET",
            "/large.wasm",
            "Accept-Encoding: gzip, br\r\n",
        );
        assert_eq!(large.header("content-encoding"), "");
        assert_eq!(large.body.len(), 5 << 20);
    }

    #[test]
    fn a_taken_port_moves_on_and_a_missing_page_is_named() {
        let (folder, server) = site();
        let root = folder.path().join("dist");
        let taken = ServeOptions::new(&root).port(server.address().port());
        let second = BackgroundServer::start(&taken).unwrap();
        assert!(second.address().port() > server.address().port());
        assert_eq!(ask(&second, "GET", "/", "").status, 200);
        let only = ServeOptions {
            attempts: 1,
            ..taken
        };
        let error = BackgroundServer::start(&only).err().unwrap().to_string();
        assert!(error.contains("taken"), "{error}");
        let empty = ServeOptions::new(folder.path());
        let error = BackgroundServer::start(&empty).err().unwrap().to_string();
        assert!(error.contains("cargo xtask build"), "{error}");
    }
}
