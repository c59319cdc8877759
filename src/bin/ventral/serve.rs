//! `ventral serve`.

use std::path::PathBuf;

use ventral::serve::{DEFAULT_PORT, ServeOptions, serve_blocking};

use crate::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// The built page.
    #[arg(default_value = "dist")]
    root: PathBuf,
    /// The first port tried; a taken one leads to the next.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let options = ServeOptions::new(args.root).port(args.port);
    serve_blocking(&options, |url| {
        println!("Ventral is at {url} (Ctrl+C stops it)")
    })?;
    Ok(())
}
