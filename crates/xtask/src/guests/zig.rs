//! A C compiler for wasm: clang, as the PyPI wheel `ziglang` carries it.
//!
//! One file, pinned by its SHA-256, whatever the distribution: the same sources give
//! the same bytes. Nothing of it is installed; it is unpacked below `target/noisegate/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::finish;
use crate::setup::unpack;
use crate::setup::wheels::Wheel;

const VERSION: &str = "0.15.2";

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const WHEEL: Option<Wheel> = Some(Wheel {
    package: "ziglang==0.15.2",
    file: "ziglang-0.15.2-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
    sha256: "806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130",
    pip: &["--platform", "manylinux_2_12_x86_64"],
    folder: "ziglang",
    files: &[],
});

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const WHEEL: Option<Wheel> = None;

/// Compiles one C file to a core module; returns the builder's name.
pub fn compile(root: &Path, source: &Path, module: &Path) -> Result<String, String> {
    let home = root.join("target/noisegate");
    let wheel = WHEEL
        .ok_or("no C compiler for wasm is pinned for this platform; build on Linux on x86-64")?;
    let zig = unpack(&home, &wheel)?.join("ziglang/zig");
    executable(&zig)?;
    let mut command = Command::new(&zig);
    command
        .args([
            "cc",
            "-target",
            "wasm32-freestanding",
            "-mcpu=generic+simd128",
            "-std=c11",
        ])
        .args([
            "-O2",
            "-nostdlib",
            "-ffreestanding",
            "-fno-builtin",
            "-Wall",
            "-Wextra",
            "-Werror",
        ])
        .args([
            "-Wl,--no-entry",
            "-Wl,--strip-all",
            "-Wl,--export-memory",
            "-o",
        ])
        .arg(module)
        .arg(source)
        .env("ZIG_GLOBAL_CACHE_DIR", cache(&home))
        .env("ZIG_LOCAL_CACHE_DIR", cache(&home));
    finish(&mut command, "compiling C for wasm")?;
    Ok(format!(
        "cargo xtask guests, clang of ziglang {VERSION} (PyPI)"
    ))
}

fn cache(home: &Path) -> PathBuf {
    home.join("ziglang/cache")
}

/// `python3 -m zipfile` does not keep the mode of a file.
fn executable(zig: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(zig, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("cannot make `{}` executable: {error}", zig.display()))
}
