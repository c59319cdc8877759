//! Serving the built page.

use std::process::{Command, Stdio};

use anyhow::Result;
use ventral::serve::{ServeOptions, serve_blocking};

use crate::page::dist;
use crate::shell::Shell;

/// Serves the page until Ctrl-C; opens the browser where there is a desktop and `open` asks for it.
///
/// # Errors
/// When the page is missing or no port is free.
pub fn run(shell: &Shell, port: u16, open: bool) -> Result<()> {
    let options = ServeOptions::new(dist(shell)).port(port);
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
