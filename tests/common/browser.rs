//! Driving headless Chromium from a test, over chromedriver's JSON protocol, and Firefox over
//! geckodriver's.
//!
//! ```ignore
//! mod common;
//! use common::browser::{Browser, Gpu};
//!
//! #[test]
//! fn a_dropped_photo_is_named() {
//!     let Some(mut page) = Browser::on_built_page(Gpu::Absent) else { return };
//!     page.goto("");
//!     page.wait_for("the gallery", "return document.querySelector('.sample')", 60);
//!     page.click(".sample");
//! }
//! ```
//!
//! `cargo xtask test` names the built page, Chromium and its driver in the environment
//! (`VENTRAL_DIST`, `VENTRAL_CHROMIUM`, `VENTRAL_CHROMEDRIVER`); without them a test says that it
//! is skipped and ends well.
//!
//! A helper that fails panics with the caller's line. When a test panics while it holds a
//! [`Browser`], a screenshot and the console's messages are left for the reader. Every wait is
//! bounded.
//!
//! The client is written out here, some hundred lines over plain HTTP, because half of what the
//! tests need (colour scheme, viewport, console, full-page pictures) are chromedriver's own
//! extensions, and a general client would add two minutes of compiling.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use ventral::serve::{BackgroundServer, ServeOptions};

/// Keys as [`Browser::keys`] takes them.
pub mod key {
    pub const TAB: &str = "\u{e004}";
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const SPACE: &str = " ";
    pub const LEFT: &str = "\u{e012}";
    pub const UP: &str = "\u{e013}";
    pub const RIGHT: &str = "\u{e014}";
    pub const DOWN: &str = "\u{e015}";
}

/// Chromium without a window, without traffic of its own, with a camera that shows a test picture.
const FLAGS: &[&str] = &[
    "--headless",
    // Chromium's sandbox refuses root, which containers usually run as; it loads our page only.
    "--no-sandbox",
    // Containers often have too small a /dev/shm.
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--window-size=1280,900",
];

/// What WebGPU looks like to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// There is no adapter, as on a machine without a usable GPU.
    Absent,
    /// SwiftShader, a WebGPU adapter in software: complete and slow.
    Software,
}

impl Gpu {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Absent => &["--disable-gpu", "--disable-features=WebGPU,Vulkan"],
            Self::Software => &[
                "--enable-unsafe-webgpu",
                "--use-webgpu-adapter=swiftshader",
                "--enable-features=Vulkan",
            ],
        }
    }
}

/// A browser with its driver.
struct Engine {
    program: PathBuf,
    driver: PathBuf,
    kind: Kind,
}

enum Kind {
    Chromium(Gpu),
    Firefox,
}

impl Engine {
    /// The browser and the driver that two variables of the environment name; where one is missing it
    /// says so.
    #[track_caller]
    fn named(program: &str, driver: &str, kind: Kind) -> Option<Self> {
        Some(Self {
            program: named(program)?,
            driver: named(driver)?,
            kind,
        })
    }

    /// What the driver is asked for.
    fn capabilities(&self, downloads: &Path) -> Value {
        match self.kind {
            Kind::Chromium(gpu) => {
                let flags: Vec<&str> = FLAGS.iter().chain(gpu.flags()).copied().collect();
                json!({
                    "browserName": "chrome",
                    "goog:chromeOptions": { "binary": self.program, "args": flags },
                    "goog:loggingPrefs": { "browser": "ALL" },
                })
            }
            Kind::Firefox => json!({
                "browserName": "firefox",
                "moz:firefoxOptions": {
                    "binary": self.program,
                    "args": ["-headless", "-width", "1280", "-height", "900"],
                    "prefs": {
                        "browser.download.folderList": 2,
                        "browser.download.dir": downloads,
                        "browser.helperApps.neverAsk.saveToDisk":
                            "application/json,text/csv,text/html,application/octet-stream",
                    },
                },
            }),
        }
    }
}

/// Longest wait for an ordinary command (a click, a short script).
const COMMAND: Duration = Duration::from_secs(60);

/// Longest wait for chromedriver and for Chromium to come up on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A failure as text; the public helpers turn it into a panic.
type Outcome<T> = Result<T, String>;

/// One line of the page's console, network errors and policy violations among them.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// `SEVERE`, `WARNING`, `INFO` or `DEBUG`.
    pub level: String,
    /// The text, with its source and line before it.
    pub message: String,
}

/// A file for [`Browser::drop_files`] and [`Browser::paste_files`].
pub struct DroppedFile<'a> {
    /// Name as the page sees it.
    pub name: &'a str,
    /// MIME type, such as `image/jpeg`; may be empty.
    pub kind: &'a str,
    /// Content.
    pub bytes: &'a [u8],
}

/// What stands before the port where chromedriver and geckodriver tell it.
const TOLD: [&str; 2] = ["successfully on port ", "Listening on 127.0.0.1:"];

/// chromedriver or geckodriver as a process; it ends with this value.
struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    fn start(program: &Path) -> Outcome<Self> {
        let mut process = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let output = process.stdout.take().expect("its output was asked for");
        let (found, port) = mpsc::channel();
        // The thread goes on reading after the port is known: a full pipe would stop the driver.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let told = TOLD.iter().find_map(|text| line.split_once(text));
                if let Some((_, rest)) = told {
                    let digits = rest.trim_end_matches('.').parse::<u16>();
                    let _ = found.send(digits);
                }
            }
        });
        // Built before the wait, so that a driver that says nothing is ended as well.
        let mut driver = Self { process, port: 0 };
        driver.port = match port.recv_timeout(START) {
            Ok(Ok(port)) => port,
            _ => return Err(format!("{} did not tell its port", program.display())),
        };
        Ok(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The parent of a process: the second field behind its name, which may hold anything.
fn parent_of(id: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = status.rsplit_once(") ")?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// A browser with one tab, and the server of the page it looks at.
pub struct Browser {
    agent: ureq::Agent,
    session: String,
    server: BackgroundServer,
    downloads: tempfile::TempDir,
    // Dropped after the session has been closed in `drop`.
    driver: Driver,
}

impl Browser {
    /// Opens Chromium for the page that `cargo xtask` built; prints why and returns nothing when
    /// the environment names none.
    #[track_caller]
    pub fn on_built_page(gpu: Gpu) -> Option<Self> {
        Self::on(&named("VENTRAL_DIST")?, gpu)
    }

    /// Opens Chromium and serves the folder `dist`, which holds an `index.html`; prints why and
    /// returns nothing when the environment names no Chromium.
    #[track_caller]
    pub fn on(dist: &Path, gpu: Gpu) -> Option<Self> {
        let (program, driver) = ("VENTRAL_CHROMIUM", "VENTRAL_CHROMEDRIVER");
        let engine = Engine::named(program, driver, Kind::Chromium(gpu))?;
        let browser = ok(Self::start(dist, &engine));
        ok(browser.try_cdp(
            "Browser.setDownloadBehavior",
            json!({ "behavior": "allow", "downloadPath": browser.downloads.path() }),
        ));
        Some(browser)
    }

    /// Opens Firefox for the page that `cargo xtask` built; prints why and returns nothing when the
    /// environment names no Firefox. What goes by DevTools' protocol (viewport, colour scheme, console)
    /// fails in it.
    #[track_caller]
    pub fn firefox_on_built_page() -> Option<Self> {
        let dist = named("VENTRAL_DIST")?;
        let (program, driver) = ("VENTRAL_FIREFOX", "VENTRAL_GECKODRIVER");
        let engine = Engine::named(program, driver, Kind::Firefox)?;
        Some(ok(Self::start(&dist, &engine)))
    }

    fn start(dist: &Path, engine: &Engine) -> Outcome<Self> {
        let options = ServeOptions::new(dist).port(0);
        let server = BackgroundServer::start(&options).map_err(|error| error.to_string())?;
        let downloads = tempfile::tempdir().map_err(|error| error.to_string())?;
        let driver = Driver::start(&engine.driver)?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let wanted = engine.capabilities(downloads.path());
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let base = format!("http://127.0.0.1:{}/session", driver.port);
        let made = send(&agent, "POST", &base, &wanted, START)?;
        let id = made["sessionId"]
            .as_str()
            .ok_or("the driver named no session")?;
        Ok(Self {
            agent,
            session: format!("{base}/{id}"),
            server,
            downloads,
            driver,
        })
    }

    /// The page's address, with a slash at the end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Goes to a path below the page's address (`""` is the page itself) and waits until it is
    /// loaded.
    #[track_caller]
    pub fn goto(&mut self, path: &str) {
        let url = format!("{}{path}", self.url());
        ok(self.post("url", json!({ "url": url })));
    }

    /// Goes to a page of another host, and waits until it is loaded.
    #[track_caller]
    pub fn goto_elsewhere(&mut self, url: &str) {
        ok(self.post("url", json!({ "url": url })));
    }

    /// Loads the page anew, as a visitor's reload does.
    #[track_caller]
    pub fn reload(&mut self) {
        ok(self.post("refresh", json!({})));
    }

    /// Runs the body of an async function in the page and returns what it returns, as JSON.
    /// `arguments` holds the arguments; `await` works; a thrown error fails the test.
    #[track_caller]
    pub fn run(&mut self, body: &str, arguments: &[Value]) -> Value {
        ok(self.try_run(body, arguments, COMMAND))
    }

    /// [`Browser::run`] with its own limit, in seconds.
    #[track_caller]
    pub fn run_within(&mut self, body: &str, arguments: &[Value], seconds: u64) -> Value {
        ok(self.try_run(body, arguments, Duration::from_secs(seconds)))
    }

    /// Runs the body again and again until what it returns is truthy, and returns that. `what`
    /// names the thing waited for. Elements come back as references, so return texts or numbers.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, body: &str, seconds: u64) -> Value {
        let begun = Instant::now();
        let mut last = Value::Null;
        while begun.elapsed() < Duration::from_secs(seconds) {
            last = ok(self.try_run(body, &[], COMMAND));
            if is_truthy(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what}: still {last} after {seconds} s");
    }

    /// Waits until the element is in the page.
    #[track_caller]
    pub fn wait_for_element(&mut self, css: &str, seconds: u64) {
        let body = format!("return !!document.querySelector({})", json!(css));
        self.wait_for(css, &body, seconds);
    }

    /// Whether the element is in the page.
    #[track_caller]
    pub fn has(&mut self, css: &str) -> bool {
        let found = self.run(
            "return !!document.querySelector(arguments[0])",
            &[json!(css)],
        );
        found == Value::Bool(true)
    }

    /// The element's text as it is shown.
    #[track_caller]
    pub fn text(&mut self, css: &str) -> String {
        let element = ok(self.element(css));
        let text = ok(self.get(&format!("element/{element}/text")));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Scrolls to the element and clicks on its middle; fails when another lies over it.
    #[track_caller]
    pub fn click(&mut self, css: &str) {
        let element = ok(self.element(css));
        ok(self.post(&format!("element/{element}/click"), json!({})));
    }

    /// Types into the element, after what stands there.
    #[track_caller]
    pub fn type_into(&mut self, css: &str, text: &str) {
        let element = ok(self.element(css));
        let path = format!("element/{element}/value");
        ok(self.post(&path, json!({ "text": text })));
    }

    /// Presses keys where the focus is: text, or the names of [`key`].
    #[track_caller]
    pub fn keys(&mut self, keys: &str) {
        let press = |key: char| {
            let value = key.to_string();
            [
                json!({ "type": "keyDown", "value": value }),
                json!({ "type": "keyUp", "value": value }),
            ]
        };
        let strokes: Vec<Value> = keys.chars().flat_map(press).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        ok(self.post("actions", json!({ "actions": [keyboard] })));
    }

    /// Gives files to an `<input type="file">`, shown or hidden.
    #[track_caller]
    pub fn upload(&mut self, css: &str, files: &[&Path]) {
        let names: Vec<String> = files
            .iter()
            .map(|file| std::path::absolute(file).unwrap_or(file.to_path_buf()))
            .map(|file| file.display().to_string())
            .collect();
        self.type_into(css, &names.join("\n"));
    }

    /// Drops files on the element, as a drag from the desktop does.
    #[track_caller]
    pub fn drop_files(&mut self, css: &str, files: &[DroppedFile]) {
        let body = "
            for (const type of ['dragenter', 'dragover', 'drop']) {
                const settings = { bubbles: true, cancelable: true, composed: true, dataTransfer: transfer };
                target.dispatchEvent(new DragEvent(type, settings));
            }";
        self.with_files(css, files, body);
    }

    /// Pastes files into the element, as Ctrl-V does.
    #[track_caller]
    pub fn paste_files(&mut self, css: &str, files: &[DroppedFile]) {
        let body = "
            const settings = { bubbles: true, cancelable: true, composed: true, clipboardData: transfer };
            target.dispatchEvent(new ClipboardEvent('paste', settings));";
        self.with_files(css, files, body);
    }

    #[track_caller]
    fn with_files(&mut self, css: &str, files: &[DroppedFile], then: &str) {
        let files: Vec<Value> = files
            .iter()
            .map(|file| {
                let data = BASE64.encode(file.bytes);
                json!({ "name": file.name, "kind": file.kind, "data": data })
            })
            .collect();
        let body = format!(
            "const [css, files] = arguments;
            const target = document.querySelector(css);
            if (!target) throw new Error('there is no ' + css);
            const transfer = new DataTransfer();
            for (const {{ name, kind, data }} of files) {{
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, {{ type: kind }}));
            }}
            {then}"
        );
        self.run(&body, &[json!(css), Value::Array(files)]);
    }

    /// Sets the value of an `<input>` (a slider, a number) or `<select>` and tells the page, as
    /// moving it by hand does.
    #[track_caller]
    pub fn set_value(&mut self, css: &str, value: &str) {
        let body = "
            const [css, value] = arguments;
            const target = document.querySelector(css);
            if (!target) throw new Error('there is no ' + css);
            target.value = value;
            for (const type of ['input', 'change']) {
                target.dispatchEvent(new Event(type, { bubbles: true, composed: true }));
            }";
        self.run(body, &[json!(css), json!(value)]);
    }

    /// Makes the viewport `width` by `height` CSS pixels, as on a phone when `mobile`.
    #[track_caller]
    pub fn viewport(&mut self, width: u32, height: u32, mobile: bool) {
        let scale = if mobile { 2 } else { 1 };
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile }),
        );
    }

    /// Makes the system's colour scheme `light` or `dark`, and its motion reduced so that pictures
    /// hold still.
    #[track_caller]
    pub fn colour_scheme(&mut self, scheme: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.cdp(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    /// Takes the network away, or gives it back. The page's own server is lost with it.
    #[track_caller]
    pub fn offline(&mut self, offline: bool) {
        self.cdp("Network.enable", json!({}));
        self.cdp(
            "Network.emulateNetworkConditions",
            json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 }),
        );
    }

    /// Writes what the viewport shows as a PNG.
    #[track_caller]
    pub fn screenshot(&mut self, file: &Path) {
        ok(self.try_screenshot(file, false));
    }

    /// Writes the whole page, beyond the viewport's lower edge, as a PNG.
    #[track_caller]
    pub fn screenshot_of_all(&mut self, file: &Path) {
        ok(self.try_screenshot(file, true));
    }

    /// The console's lines since the last call. A worker's own console is not among them.
    #[track_caller]
    pub fn log(&mut self) -> Vec<LogLine> {
        ok(self.try_log())
    }

    /// Fails when the console holds an error (a script's, the network's, the policy's) that none
    /// of the `expected` texts occurs in.
    #[track_caller]
    pub fn expect_no_errors(&mut self, expected: &[&str]) {
        let known = |line: &LogLine| expected.iter().any(|text| line.message.contains(text));
        let bad: Vec<String> = self
            .log()
            .into_iter()
            .filter(|line| line.level == "SEVERE" && !known(line))
            .map(|line| line.message)
            .collect();
        assert!(bad.is_empty(), "errors in the console: {bad:#?}");
    }

    /// Kilobytes that the tab's process holds, its worker included; nothing where there is no
    /// `/proc` to ask.
    pub fn resident(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most it has held.
    pub fn peak(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    /// A line of `/proc`'s status of the tab's process.
    fn memory(&self, line: &str) -> Option<u64> {
        let processes: Vec<(u32, u32)> = std::fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|id: u32| Some((id, parent_of(id)?)))
            .collect();
        let mut family = vec![self.driver.process.id()];
        let mut place = 0;
        while let Some(parent) = family.get(place).copied() {
            let children = processes.iter().filter(|(_, of)| *of == parent);
            family.extend(children.map(|(id, _)| *id));
            place += 1;
        }
        let of = |id: &u32| {
            let command = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find_map(|l| l.strip_prefix(line))?;
            let size = line.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
            command.contains("--type=renderer").then_some(size)
        };
        family.iter().filter_map(of).max()
    }

    /// The file that the page has saved whose name ends so, once it is whole.
    #[track_caller]
    pub fn download(&mut self, ending: &str, seconds: u64) -> PathBuf {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            let files = std::fs::read_dir(self.downloads.path()).expect("its own folder");
            // Chromium writes under another ending until the file is whole, and keeps its name for it
            // by an empty file.
            let is_whole = |file: &std::fs::DirEntry| file.metadata().is_ok_and(|m| m.len() > 0);
            let mut files = files.flatten().filter(is_whole).map(|file| file.path());
            if let Some(file) = files.find(|file| file.to_string_lossy().ends_with(ending)) {
                return file;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nothing that ends with {ending} was saved within {seconds} s");
    }

    /// Any command of the DevTools protocol.
    #[track_caller]
    pub fn cdp(&mut self, command: &str, parameters: Value) -> Value {
        ok(self.try_cdp(command, parameters))
    }

    fn try_cdp(&self, command: &str, parameters: Value) -> Outcome<Value> {
        self.post(
            "goog/cdp/execute",
            json!({ "cmd": command, "params": parameters }),
        )
    }

    fn try_run(&self, body: &str, arguments: &[Value], limit: Duration) -> Outcome<Value> {
        let timeout = json!({ "script": limit.as_millis() as u64 });
        self.post("timeouts", timeout)?;
        let script = format!("return (async function () {{ {body}\n}}).apply(null, arguments)");
        let call = json!({ "script": script, "args": arguments });
        // The driver's own limit gives the better sentence, so it comes first.
        let limit = limit + Duration::from_secs(10);
        let url = format!("{}/execute/sync", self.session);
        send(&self.agent, "POST", &url, &call, limit)
    }

    fn try_screenshot(&self, file: &Path, all: bool) -> Outcome<()> {
        let parameters = json!({ "format": "png", "captureBeyondViewport": all });
        let shot = match all {
            false => self.try_cdp("Page.captureScreenshot", parameters)?,
            true => {
                let metrics = self.try_cdp("Page.getLayoutMetrics", json!({}))?;
                let size = &metrics["cssContentSize"];
                let (width, height) = (&size["width"], &size["height"]);
                let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
                let parameters =
                    json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
                self.try_cdp("Page.captureScreenshot", parameters)?
            }
        };
        let data = shot["data"].as_str().ok_or("the screenshot is empty")?;
        let bytes = BASE64.decode(data).map_err(|error| error.to_string())?;
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        std::fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
    }

    fn try_log(&self) -> Outcome<Vec<LogLine>> {
        let lines = self.post("se/log", json!({ "type": "browser" }))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = lines.as_array().cloned().unwrap_or_default();
        Ok(lines
            .iter()
            .map(|line| LogLine {
                level: text(&line["level"]),
                message: text(&line["message"]),
            })
            .collect())
    }

    fn element(&self, css: &str) -> Outcome<String> {
        let query = json!({ "using": "css selector", "value": css });
        let found = self.post("element", query)?;
        let reference = found.as_object().and_then(|object| object.values().next());
        let id = reference.and_then(Value::as_str);
        id.map(str::to_owned).ok_or(format!("there is no {css}"))
    }

    fn post(&self, path: &str, body: Value) -> Outcome<Value> {
        let url = format!("{}/{path}", self.session);
        send(&self.agent, "POST", &url, &body, COMMAND)
    }

    fn get(&self, path: &str) -> Outcome<Value> {
        let url = format!("{}/{path}", self.session);
        send(&self.agent, "GET", &url, &Value::Null, COMMAND)
    }

    /// What a reader of a failed test wants to see.
    fn leave_traces(&self) {
        let name = std::thread::current()
            .name()
            .unwrap_or("test")
            .replace("::", "-");
        let folder = std::env::temp_dir().join("ventral-failed-tests");
        let file = folder.join(format!("{name}.png"));
        match self.try_screenshot(&file, false) {
            Ok(()) => eprintln!("the page as it was: {}", file.display()),
            Err(error) => eprintln!("no screenshot: {error}"),
        }
        for line in self.try_log().unwrap_or_default() {
            eprintln!("console: {}: {}", line.level, line.message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave_traces();
        }
        // Closing the session ends Chromium; killing the driver alone would leave it running.
        let limit = Duration::from_secs(15);
        let _ = send(&self.agent, "DELETE", &self.session, &Value::Null, limit);
    }
}

/// One command to the driver: its `value`, or the error it names.
fn send(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    body: &Value,
    limit: Duration,
) -> Outcome<Value> {
    let answer = match method {
        "POST" => {
            let request = agent.post(url).config().timeout_global(Some(limit)).build();
            request.send_json(body)
        }
        "GET" => {
            let request = agent.get(url).config().timeout_global(Some(limit)).build();
            request.call()
        }
        _ => {
            let request = agent
                .delete(url)
                .config()
                .timeout_global(Some(limit))
                .build();
            request.call()
        }
    };
    let command = url.rsplit('/').next().unwrap_or(url);
    let mut answer = answer.map_err(|error| format!("`{command}` was not answered: {error}"))?;
    let mut value: Value = answer
        .body_mut()
        .with_config()
        .limit(256 << 20)
        .read_json()
        .map_err(|error| format!("`{command}` was not answered in JSON: {error}"))?;
    let value = value["value"].take();
    if answer.status().is_success() {
        return Ok(value);
    }
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let message = text("message");
    // The driver adds its own stack, which tells nobody anything.
    let message = message.split("\nStacktrace").next().unwrap_or(&message);
    Err(format!("`{command}`: {}: {message}", text("error")))
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// A file or folder that a variable of the environment names; says that it is skipped where none does.
#[track_caller]
pub fn named(variable: &str) -> Option<PathBuf> {
    let file = std::env::var_os(variable).map(PathBuf::from);
    if file.is_none() {
        super::skip::skip(format!(
            "{variable} is not set (`cargo xtask test` sets it)"
        ));
    }
    file
}

#[track_caller]
fn ok<T>(outcome: Outcome<T>) -> T {
    match outcome {
        Ok(value) => value,
        Err(message) => panic!("{message}"),
    }
}
