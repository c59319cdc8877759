//! `ventral serve`.

use std::path::PathBuf;

use ventral::serve::{DEFAULT_PORT, ServeOptions, serve_blocking};

use crate::{Failure, shipped};

#[derive(clap::Args)]
pub struct Args {
    /// The built page: `dist`, or the one that this program carries, unless given.
    root: Option<PathBuf>,
    /// The first port tried; a taken one leads to the next.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let options = ServeOptions::new(args.root.unwrap_or_else(shipped::page)).port(args.port);
    serve_blocking(&options, |url| {
        println!("Ventral is at {url} (Ctrl+C stops it)")
    })?;
    Ok(())
}
