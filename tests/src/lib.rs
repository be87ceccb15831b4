//! Helpers for the stories in `tests/tests/`: a home of its own for each story,
//! and the real `noisegate` binary.

pub mod gated;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies below the root")
}

/// The ONNX Runtime library that `cargo xtask setup` fetches.
pub fn onnxruntime() -> PathBuf {
    root().join("target/noisegate/onnxruntime/libonnxruntime.so.1.32.0")
}

/// The `noisegate` binary of this build, beside the folder of this test's binary.
///
/// # Panics
/// If it has not been built; `cargo xtask test` builds it first.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps");
    let binary = profile.join("noisegate");
    assert!(
        binary.is_file(),
        "`{}` is not built; run `cargo xtask test`",
        binary.display()
    );
    binary
}

/// A data set of the shared folder, or nothing (with a printed reason) where it is not there.
pub fn shared_data(file: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(file);
    if path.is_file() {
        return Some(path);
    }
    println!("skipped: `{}` is not on this machine", path.display());
    None
}

/// A story's own home folder.
pub struct Story {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Told {
    /// The exit code, or nothing after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Story {
    /// A story in an empty folder.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        }
    }

    /// The story's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the story and gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder"))
            .expect("a folder can be made");
        std::fs::write(&path, content).expect("a file of the story can be written");
        path
    }

    /// `noisegate` with this story's home and, unless it names others, the project's plugins.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("--home")
            .arg(self.path().join("home"))
            .args(arguments)
            .env("NOISEGATE_PLUGINS", root().join("plugins"))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `noisegate` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn tell(&self, arguments: &[&str]) -> Told {
        let output = self
            .command(arguments)
            .output()
            .expect("noisegate can be started");
        Told {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `noisegate` and leaves it running.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .spawn()
            .expect("noisegate can be started")
    }
}
