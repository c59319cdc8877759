//! Ctrl-C as a wish, not an end: work stops where nothing is half done.

use std::io;

use ventral::model::probe::CancelToken;

/// What ends a command that was stopped before it wrote anything.
pub const STOPPED: &str = "stopped; nothing was written";

/// Raised by Ctrl-C; a second one ends the program at once.
pub fn on_ctrl_c() -> CancelToken {
    let token = CancelToken::default();
    let raised = token.clone();
    // Where signals cannot be listened to, Ctrl-C ends the program as it always does.
    std::thread::spawn(move || listen(&raised));
    token
}

fn listen(token: &CancelToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        tokio::signal::ctrl_c().await?;
        token.cancel();
        tokio::signal::ctrl_c().await?;
        // What a shell reports of a program that SIGINT has ended.
        std::process::exit(130)
    })
}
