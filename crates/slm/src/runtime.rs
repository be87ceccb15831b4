//! The ONNX Runtime library, loaded once per process from a path the caller names.
//!
//! Nothing is looked up in the environment or in system folders: which library runs is the
//! caller's decision, and `cargo xtask setup` fetches the one that was tested.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider as _};
use ort::logging::LogLevel;

use crate::error::SlmError;

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card, by number: needs the library of the `onnxruntime-gpu` package.
    Cuda(i32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(card) => write!(f, "cuda:{card}"),
        }
    }
}

impl FromStr for Device {
    type Err = SlmError;

    /// `cpu`, `cuda` or `cuda:1`.
    fn from_str(text: &str) -> Result<Self, SlmError> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|card| card.parse().ok())
                .filter(|card| *card >= 0)
                .map(Self::Cuda)
                .ok_or_else(|| SlmError::Option {
                    name: "device",
                    value: text.to_owned(),
                    remedy: "it must be `cpu`, `cuda`, or `cuda:` and the number of a card",
                }),
        }
    }
}

/// A loaded ONNX Runtime; cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
}

impl Runtime {
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The library that is in use.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a device that this library was not built for.
    ///
    /// # Errors
    /// [`SlmError::NoCuda`] with the remedy.
    pub fn expect_device(&self, device: Device) -> Result<(), SlmError> {
        match device {
            Device::Cpu => Ok(()),
            Device::Cuda(_) if ep::CUDA::is_available().unwrap_or(false) => Ok(()),
            Device::Cuda(_) => Err(SlmError::NoCuda {
                path: self.path.clone(),
            }),
        }
    }

    /// Version, commit and flags of the library, in its own words.
    #[must_use]
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }
}

static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// Loads the library at `path`, or hands out the one already loaded from there.
///
/// # Errors
/// [`SlmError::LibraryMissing`], [`SlmError::LibraryUnusable`] (damaged, or for another platform),
/// [`SlmError::LibraryTooOld`], [`SlmError::LibraryAlreadyLoaded`] for a second path.
pub fn load(path: &Path) -> Result<Runtime, SlmError> {
    if !path.is_file() {
        return Err(SlmError::LibraryMissing {
            path: path.to_owned(),
        });
    }
    let path = path.canonicalize().map_err(SlmError::read(path))?;
    let mut loaded = LOADED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return match runtime.path == path {
            true => Ok(runtime.clone()),
            false => Err(SlmError::LibraryAlreadyLoaded {
                loaded: runtime.path.clone(),
                asked: path,
            }),
        };
    }
    whole(&path)?;
    let builder = ort::init_from(&path).map_err(|error| refused(&path, error))?;
    // The library's log goes nowhere: what matters comes back as an error.
    let environment = builder
        .with_name("noisegate")
        .with_telemetry(false)
        .with_logger(Arc::new(|_, _, _, _, _| {}))
        .build()
        .map_err(SlmError::runtime("start its environment"))?;
    environment.set_log_level(LogLevel::Fatal);
    let runtime = Runtime { environment, path };
    *loaded = Some(runtime.clone());
    Ok(runtime)
}

/// Refuses an ELF file that ends before its segments do: the loader would map it all the same, and
/// the process would die of a bus error at the first touch of what is missing.
///
/// Other formats are left to the loader.
fn whole(path: &Path) -> Result<(), SlmError> {
    let bytes = std::fs::read(path).map_err(SlmError::read(path))?;
    if elf_end(&bytes).is_none_or(|end| end <= bytes.len() as u64) {
        return Ok(());
    }
    Err(SlmError::LibraryUnusable {
        path: path.to_owned(),
        reason: "the file is cut short".to_owned(),
    })
}

/// Where the last segment of a 64-bit little-endian ELF file ends; `None` for anything else.
///
/// Source: Tool Interface Standard, "Executable and Linking Format", 1995, figures 1-3 and 2-1.
fn elf_end(bytes: &[u8]) -> Option<u64> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let cut = || Some(u64::MAX);
    let (Some(table), Some(size), Some(count)) = (long(0x20), short(0x36), short(0x38)) else {
        return cut();
    };
    let mut end = 0;
    for index in 0..u64::from(count) {
        let entry = table.checked_add(index * u64::from(size))?;
        let entry = usize::try_from(entry).ok()?;
        let (Some(offset), Some(length)) = (long(entry + 8), long(entry + 32)) else {
            return cut();
        };
        end = end.max(offset.saturating_add(length));
    }
    Some(end)
}

fn refused(path: &Path, error: ort::LoadDynamicError) -> SlmError {
    let path = path.to_owned();
    match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => SlmError::LibraryTooOld {
            path,
            found: version_str,
            needed: ort::MINOR_VERSION,
        },
        ort::LoadDynamicError::Dlopen { error, .. } => SlmError::LibraryUnusable {
            path,
            reason: error.to_string(),
        },
        other => SlmError::LibraryUnusable {
            path,
            reason: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_names_the_remedy() {
        let error = load(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, b"not a library").unwrap();
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, SlmError::LibraryUnusable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    }

    /// A shared library made of a source file's text, or `None` with the reason printed.
    #[cfg(unix)]
    fn compiled(folder: &Path, text: &str) -> Option<PathBuf> {
        let source = folder.join("source.rs");
        std::fs::write(&source, text).unwrap();
        let library = folder.join("libonnxruntime.so");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let made = std::process::Command::new(rustc)
            .args([
                "--edition=2024",
                "--crate-type=cdylib",
                "--crate-name=runtime",
                "-o",
            ])
            .args([&library, &source])
            .output();
        match made {
            Ok(output) if output.status.success() => Some(library),
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                println!("skipped: no `rustc` to make a library with: {error}");
                None
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_old_library_says_its_version_and_which_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../fixtures/old_runtime.rs");
        let Some(library) = compiled(folder.path(), text) else {
            return;
        };
        let error = load(&library).unwrap_err().to_string();
        assert!(
            error.contains("is version 1.19.2, and 1.31 or later is needed")
                && error.contains("cargo xtask setup"),
            "{error}"
        );
        // The same library, for another processor: bytes 18 and 19 of an ELF file name it.
        let mut bytes = std::fs::read(&library).unwrap();
        assert_eq!(&bytes[..4], b"\x7fELF");
        bytes[18] ^= 0x80;
        let foreign = folder.path().join("libforeign.so");
        std::fs::write(&foreign, bytes).unwrap();
        let error = load(&foreign).unwrap_err().to_string();
        assert!(error.contains("built for another platform"), "{error}");
        // Cut short, as by a full disk, anywhere.
        let bytes = std::fs::read(&library).unwrap();
        let short = folder.path().join("libshort.so");
        let end = usize::try_from(elf_end(&bytes).unwrap()).unwrap();
        for length in [5, 40, 63, 200, end / 2, end - 1] {
            std::fs::write(&short, &bytes[..length]).unwrap();
            let error = load(&short).unwrap_err();
            assert!(
                matches!(error, SlmError::LibraryUnusable { .. }),
                "{length}: {error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn another_library_is_no_onnx_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let text = "#[unsafe(no_mangle)] pub extern \"C\" fn nothing() {}";
        let Some(library) = compiled(folder.path(), text) else {
            return;
        };
        let error = load(&library).unwrap_err();
        assert!(matches!(error, SlmError::LibraryUnusable { .. }), "{error}");
        assert!(error.to_string().contains("OrtGetApiBase"), "{error}");
    }
}
