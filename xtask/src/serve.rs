//! Serving the built page.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;
use ventral::serve::{ServeOptions, serve_blocking};

use crate::page;
use crate::progress::{Outcome, Progress};
use crate::quick;
use crate::shell::Shell;
use crate::times::Times;

/// The times of the work before the first answer are kept under this name.
const FIRST: &str = "page that answers";

/// Serves the page until Ctrl-C; opens the browser where there is a desktop and `open` asks for it.
/// The page is the one in `dist` where that is of these sources, and else one that is compiled now.
///
/// # Errors
/// When something is missing or does not compile, and when no port is free.
pub fn run(shell: &Shell, port: u16, open: bool) -> Result<()> {
    if page::is_built(shell)? {
        return answer(shell, page::dist(shell), port, open);
    }
    let lock = shell.lock(&shell.state(), "page")?;
    let is_whole = quick::is_whole(shell)?;
    if !is_whole {
        begin(shell)?;
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if !is_whole {
                quick::follow(shell);
            }
            // From now on another may build.
            drop(lock);
        });
        let ended = answer(shell, quick::folder(shell), port, open);
        // Ctrl-C, which cargo has heard as well; or no port was free.
        std::process::exit(match ended {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("error: {error:#}");
                1
            }
        })
    })
}

/// Compiles until the page answers, and says before how long that may take.
fn begin(shell: &Shell) -> Result<()> {
    let mut times = Times::read(shell);
    eprintln!(
        "xtask: compiling the page and the program for the CPU: {}. The page then opens, and the \
         program for the GPU is compiled behind it.",
        times.estimate(FIRST, "the first time some 10 minutes on two cores")
    );
    let begun = Instant::now();
    let mut progress = Progress::new("serve", 1);
    progress.step(FIRST, || {
        quick::begin(shell)?;
        Ok(Outcome::Done("compiled".into()))
    })?;
    times.keep(FIRST, begun.elapsed());
    times.write(shell)
}

fn answer(shell: &Shell, folder: PathBuf, port: u16, open: bool) -> Result<()> {
    let options = ServeOptions::new(folder).port(port);
    serve_blocking(&options, |url| {
        println!("Ventral is at {url} (Ctrl-C ends it)");
        if open {
            open_browser(shell, url);
        }
    })?;
    Ok(())
}

fn open_browser(shell: &Shell, url: &str) {
    let Some(mut opener) = opener(shell) else {
        return;
    };
    let quiet = opener
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // The address has been printed: a browser that does not open is not an error.
    if let Err(error) = quiet.spawn() {
        eprintln!("xtask: the browser does not open ({error}): follow the address above");
    }
}

/// The system's command that opens an address; `None` without a desktop.
fn opener(shell: &Shell) -> Option<Command> {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match std::env::consts::OS {
        "macos" => Some(shell.command("open")),
        "windows" => Some(shell.command("explorer")),
        _ if has("DISPLAY") || has("WAYLAND_DISPLAY") => {
            shell.find("xdg-open").map(|_| shell.command("xdg-open"))
        }
        _ => None,
    }
}
