//! Where things lie, and starting other programs with a clean environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// How long a program may take that only reports its version or the like.
pub const QUICK: Duration = Duration::from_secs(30);

/// Variables that cargo sets for the program it runs. Handed on, they would steer the cargo and
/// rustc that we start: crates rebuild without need, and another toolchain runs with this one's
/// compiler.
const CARGO_LEFTOVERS: &[&str] = &[
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_CRATE_NAME",
    "CARGO_BIN_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
    "RUST_RECURSION_COUNT",
];

/// Library paths to which cargo adds folders.
const LIBRARY_PATHS: &[&str] = &["LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// The workspace, the caches and the search path.
pub struct Shell {
    /// Root of the workspace.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// Where tools are installed: outside the clone, so that the next clone finds them.
    pub tools: PathBuf,
    path: OsString,
}

impl Shell {
    /// Looks around.
    ///
    /// # Errors
    /// When the workspace or the user's cache folder cannot be determined.
    pub fn new() -> Result<Self> {
        // Asked for at run time first: a target folder shared by two clones must not mix them up.
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .context("xtask lies in no workspace: run it as `cargo xtask`")?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => env::current_dir()?.join(folder),
            None => root.join("target"),
        };
        let tools = cache_folder()?.join("tools");
        let own = [tools.join("bin"), tools.join("node_modules/.bin")];
        let given = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(own.into_iter().chain(env::split_paths(&given)))?;
        Ok(Self {
            root,
            target,
            tools,
            path,
        })
    }

    /// Folder for what xtask itself remembers between runs.
    pub fn state(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// The search path with `folder` right after the installed tools.
    pub fn with_first(&self, folder: &Path) -> Result<OsString> {
        let mut folders: Vec<PathBuf> = env::split_paths(&self.path).collect();
        folders.insert(2.min(folders.len()), folder.to_owned());
        Ok(env::join_paths(folders)?)
    }

    /// Waits until no other xtask works in `folder`. The lock ends with the returned file, or with
    /// the process.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn lock(&self, folder: &Path, what: &str) -> Result<File> {
        let open = || {
            std::fs::create_dir_all(folder)?;
            File::create(folder.join(".lock"))
        };
        let file = open().with_context(|| format!("{} cannot be written", folder.display()))?;
        if file.try_lock().is_err() {
            Progress::announce(what, "waiting for another xtask that is at it");
            file.lock().context("the lock cannot be taken")?;
        }
        Ok(file)
    }

    /// The program's file, when it is on the search path.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        find_in(&self.path, program)
    }

    /// A command that runs in the workspace's root, with our search path and without what cargo
    /// left in the environment. An unknown program fails when it is started.
    pub fn command(&self, program: &str) -> Command {
        let file = self.find(program).unwrap_or_else(|| program.into());
        let mut command = Command::new(file);
        command.current_dir(&self.root).env("PATH", &self.path);
        for (name, _) in env::vars_os() {
            if is_leftover(&name) {
                command.env_remove(name);
            }
        }
        for name in LIBRARY_PATHS {
            let Some(given) = env::var_os(name) else {
                continue;
            };
            match without_cargo_folders(&given, &self.target) {
                Some(kept) => command.env(name, kept),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// The first line that `program` prints when it is asked with `arguments`, or nothing when it
    /// is missing or fails.
    pub fn first_line(&self, program: &str, arguments: &[&str]) -> Option<String> {
        self.find(program)?;
        let text = read(self.command(program).args(arguments), QUICK).ok()?;
        text.lines().next().map(str::to_owned)
    }
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("VENTRAL_CACHE") {
        return Ok(env::current_dir()?.join(folder));
    }
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let base = folder("XDG_CACHE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .map(PathBuf::from)
        .or_else(|| folder("HOME").map(|home| Path::new(&home).join(".cache")));
    let base = base.context("no folder for the tools: set VENTRAL_CACHE to one")?;
    Ok(base.join("ventral"))
}

fn is_leftover(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    CARGO_LEFTOVERS.contains(&name) || name.starts_with("CARGO_PKG_")
}

/// A library path less the folders of cargo's target and of rustup's toolchains.
fn without_cargo_folders(given: &OsStr, target: &Path) -> Option<OsString> {
    let foreign = |folder: &PathBuf| {
        let toolchain = folder
            .components()
            .any(|part| part.as_os_str() == "toolchains");
        !toolchain && !folder.starts_with(target)
    };
    let kept: Vec<PathBuf> = env::split_paths(given).filter(foreign).collect();
    match kept.is_empty() {
        true => None,
        false => env::join_paths(kept).ok(),
    }
}

fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(path)
        .map(|folder| folder.join(&name))
        .find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// Runs a command to its end with this process's output.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command
        .status()
        .with_context(|| format!("`{name}` cannot be started"))?;
    judge(&name, status)
}

/// [`run`], stopped after `limit`.
///
/// # Errors
/// As [`run`], and when the time is up.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("`{name}` cannot be started"))?;
    judge(&name, wait_within(&mut child, &name, limit)?)
}

/// The output of a command, read within `limit`. For short output.
///
/// # Errors
/// As [`run_within`].
pub fn read(command: &mut Command, limit: Duration) -> Result<String> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("`{name}` cannot be started"))?;
    let status = wait_within(&mut child, &name, limit)?;
    let output = child.wait_with_output()?;
    judge(&name, status)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn wait_within(child: &mut Child, name: &str, limit: Duration) -> Result<ExitStatus> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > limit {
            // It may just have ended by itself; the time is up either way.
            let _ = child.kill();
            let _ = child.wait();
            bail!("`{name}` was stopped after {} s", limit.as_secs());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn judge(name: &str, status: ExitStatus) -> Result<()> {
    match status.success() {
        true => Ok(()),
        false => bail!("`{name}` ended with {status}"),
    }
}

/// The command line, without the folder of the program.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_leaves_nothing_behind() {
        for name in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
            assert!(is_leftover(OsStr::new(name)), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "PATH"] {
            assert!(!is_leftover(OsStr::new(name)), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn library_paths_keep_what_is_the_users() {
        let target = Path::new("/w/target");
        let given = OsStr::new("/w/target/release/deps:/h/.rustup/toolchains/stable/lib:/opt/lib");
        let kept = without_cargo_folders(given, target).unwrap();
        assert_eq!(kept, "/opt/lib");
        let ours = OsStr::new("/w/target/release");
        assert_eq!(without_cargo_folders(ours, target), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_slow_program_is_stopped_and_named() {
        let begun = Instant::now();
        let limit = Duration::from_millis(200);
        let error = run_within(Command::new("sleep").arg("20"), limit).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().contains("sleep 20"), "{error}");
        let error = read(Command::new("sleep").arg("20"), limit).unwrap_err();
        assert!(error.to_string().contains("stopped"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn answers_failures_and_missing_programs_are_told_apart() {
        let text = read(Command::new("echo").arg("hello"), QUICK).unwrap();
        assert_eq!(text, "hello");
        let error = run(&mut Command::new("false")).unwrap_err().to_string();
        assert!(error.contains("ended with"), "{error}");
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("cannot be started"));
    }
}
