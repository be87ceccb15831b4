//! GGUF files against the same weights in a Hugging Face folder, and against the libraries that
//! their tokenizers come from. The files are made by `fixtures/gguf_files.py`.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Content, Value};

use super::metadata::Metadata;
use crate::assemble;
use crate::decoder::Linear;
use crate::host::Segment;
use crate::load::load;
use crate::model::LanguageModel;
use crate::network::Network;
use crate::weight::Weight;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn copied(into: &Path, from: &str) -> PathBuf {
    let from = fixture(from);
    let to = into.join(from.file_name().unwrap());
    std::fs::copy(from, &to).unwrap();
    to
}

/// Logits of the last `rows` positions.
fn logits(model: &LanguageModel, tokens: &[u32], rows: usize) -> Vec<f32> {
    logits_of(&model.network, tokens, rows)
}

fn logits_of(network: &Network, tokens: &[u32], rows: usize) -> Vec<f32> {
    let mut session = network.session(1, 64, 1).unwrap();
    let segment = Segment {
        slot: 0,
        position: 0,
        tokens,
        keep: rows,
    };
    session.forward(&[segment]).unwrap();
    session.logits(0, rows).unwrap().to_vec()
}

/// Largest difference, as a part of the largest logit.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    largest / expected.iter().map(|x| x.abs()).fold(0.0, f32::max)
}

fn refusal(path: &Path) -> String {
    load(path, &Device::Cpu).unwrap_err().to_string()
}

#[test]
fn a_file_has_the_logits_of_the_folder_with_the_same_weights() {
    // Qwen 2's folder has a window of 7 tokens, which its file cannot say: shorter texts agree.
    for (file, family, length, tolerance) in [
        ("llama-f32", "llama", 24, 1e-6),
        ("qwen2-bf16", "qwen2", 7, 1e-6),
        ("qwen3-f16", "qwen3", 24, 1e-6),
        ("llama-q8_0", "llama", 24, 3e-2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copied(folder.path(), &format!("gguf/{file}.gguf"));
        copied(folder.path(), &format!("families/{family}/tokenizer.json"));
        let found = load(folder.path(), &Device::Cpu).unwrap();
        let expected = load(&fixture(&format!("families/{family}")), &Device::Cpu).unwrap();
        let tokens: Vec<u32> = (0..length).map(|i| 4 + (i * i * 7 + 3 * i) % 56).collect();
        let difference = difference(&logits(&found, &tokens, 4), &logits(&expected, &tokens, 4));
        println!("{file}: {difference:.1e}");
        assert!(difference < tolerance, "{file}: {difference}");
        assert_eq!(found.begin_token(), expected.begin_token(), "{file}");
        assert_eq!(found.end_tokens(), expected.end_tokens(), "{file}");
        assert_ne!(found.digest(), expected.digest());
    }
}

#[derive(serde::Deserialize)]
struct FourBits {
    ids: Vec<u32>,
    /// Of `transformers`, on the numbers in the file.
    logits: Vec<Vec<f32>>,
    /// The same before they were rounded to four bits.
    before: Vec<Vec<f32>>,
}

#[test]
fn four_bits_are_read_as_written_and_stay_near_what_they_round() {
    let bytes = std::fs::read(fixture("gguf/qwen3-q4_k.json")).unwrap();
    let expected: FourBits = serde_json::from_slice(&bytes).unwrap();
    let model = load(&fixture("gguf/qwen3-q4_k.gguf"), &Device::Cpu).unwrap();
    let found = logits(&model, &expected.ids, 2);
    let exact = difference(&found, &expected.logits.concat());
    let rounded = difference(&found, &expected.before.concat());
    println!("read: {exact:.1e}, rounded: {rounded:.1e}");
    assert!(exact < 1e-4, "{exact}");
    assert!(rounded < 0.2 && rounded > exact, "{rounded}");
}

/// What a large file's matrices are computed with: their grids of 32 numbers are found again.
#[test]
fn few_bits_that_are_kept_stand_for_the_numbers_of_the_file() {
    for (file, tolerance) in [
        ("qwen3-q4_k", 1e-4),
        ("qwen3-f16", 1e-5),
        ("qwen2-bf16", 1e-5),
    ] {
        let path = fixture(&format!("gguf/{file}.gguf"));
        let bytes = std::fs::read(&path).unwrap();
        let content = super::read(&bytes).unwrap();
        let metadata = Metadata(&content.metadata);
        let name = metadata.text("general.architecture").unwrap();
        let family = super::family(name).unwrap();
        let json = metadata.config(name, &content.tensor_infos).unwrap();
        let described = super::described(&path, family, json).unwrap();
        let architecture = described.architecture;
        let logits = [false, true].map(|keep| {
            let mut tensors = super::tensors::all(&path, &content, &bytes, family, &architecture);
            if keep {
                tensors.keep_bits();
            }
            let parts = described.parts;
            let decoder = assemble::hugging_face(tensors, family, &architecture, parts).unwrap();
            let panels = |linear: &Linear| matches!(linear.weight, Weight::Panels(_));
            assert_eq!(panels(&decoder.layers[0].qkv), keep, "{file}");
            let network = Network::new(architecture.clone(), decoder, &Device::Cpu).unwrap();
            let tokens: Vec<u32> = (0..7).map(|i| 4 + (i * i * 7 + 3 * i) % 56).collect();
            logits_of(&network, &tokens, 4)
        });
        let difference = difference(&logits[1], &logits[0]);
        println!("{file}: {difference:.1e}");
        assert!(difference < tolerance, "{file}: {difference}");
    }
}

#[test]
fn a_file_alone_brings_tokenizer_template_and_ending() {
    let model = load(&fixture("gguf/qwen3-q4_k.gguf"), &Device::Cpu).unwrap();
    let text = "I'd like to talk, it's naïve";
    let ids = model.encode_prompt(text).unwrap();
    assert_eq!(model.tokenizer.decode(&ids).unwrap(), text);
    let rendered = model.chat.as_ref().unwrap().render("hello").unwrap();
    assert_eq!(
        rendered,
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    );
    let marks = ["<|im_start|>", "<|im_end|>"].map(|mark| model.tokenizer.token_id(mark).unwrap());
    let framed = model.encode_message("hello").unwrap();
    assert_eq!(framed.iter().filter(|id| marks.contains(id)).count(), 3);
    assert_eq!(model.end_tokens(), [marks[1]]);
}

#[derive(serde::Deserialize)]
struct Tokenized {
    texts: Vec<String>,
    ids: std::collections::BTreeMap<String, Vec<Vec<u32>>>,
}

#[test]
fn tokenizers_inside_files_cut_as_the_libraries_they_come_from() {
    let bytes = std::fs::read(fixture("gguf/tokenizers.json")).unwrap();
    let expected: Tokenized = serde_json::from_slice(&bytes).unwrap();
    for (name, file, begins) in [
        ("qwen2", "bpe-qwen2", false),
        ("llama-bpe", "bpe-llama-bpe", true),
        ("gpt-2", "bpe-gpt-2", false),
        ("smollm", "bpe-smollm", false),
        ("spm", "spm", true),
    ] {
        let bytes = std::fs::read(fixture(&format!("gguf/{file}.gguf"))).unwrap();
        let content = Content::read(&mut Cursor::new(&bytes)).unwrap();
        let (tokenizer, begin) = super::tokenizer::inside(&Metadata(&content.metadata)).unwrap();
        assert_eq!(begin, begins, "{name}");
        for (text, ids) in expected.texts.iter().zip(&expected.ids[name]) {
            // After a mark this puts a space again, as llama.cpp does and `sentencepiece` does not.
            if name == "spm" && text.contains("<|") {
                continue;
            }
            assert_eq!(
                &tokenizer.encode_framed(text).unwrap(),
                ids,
                "{name}: {text:?}"
            );
            if !text.contains("<|") {
                let again = tokenizer.decode(ids).unwrap();
                // Qwen 2 normalises; all else comes back as it was.
                assert!(name == "qwen2" || again == *text, "{name}: {again:?}");
            }
        }
    }
}

/// A file of some metadata and one tensor.
fn write(folder: &Path, metadata: &[(&str, Value)]) -> PathBuf {
    use candle_core::quantized::{GgmlDType, QTensor};
    let path = folder.join("model.gguf");
    let zeros = candle_core::Tensor::zeros((4, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
    let tensor = QTensor::quantize(&zeros, GgmlDType::F32).unwrap();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    let mut file = std::fs::File::create(&path).unwrap();
    gguf_file::write(&mut file, &metadata, &[("token_embd.weight", &tensor)]).unwrap();
    path
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let text = |text: &str| Value::String(text.to_owned());
    let cases = [
        (vec![], "`nameless`"),
        (
            vec![("general.architecture", text("mamba"))],
            "`mamba` model; supported are: `llama`",
        ),
        (
            vec![("general.architecture", text("qwen2"))],
            "`qwen2.embedding_length`",
        ),
        (
            vec![
                ("general.architecture", text("llama")),
                ("llama.expert_count", Value::U32(8)),
            ],
            "`llama.expert_count` is not supported",
        ),
        (vec![("split.count", Value::U16(3))], "one of 3 parts"),
    ];
    for (metadata, part) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &metadata);
        let message = refusal(folder.path());
        assert!(message.contains(part), "{message}");
    }
}

/// The configuration of a file with these keys more.
fn described(more: &[(&str, Value)]) -> serde_json::Value {
    let bytes = std::fs::read(fixture("gguf/llama-f32.gguf")).unwrap();
    let mut content = Content::read(&mut Cursor::new(&bytes)).unwrap();
    for (key, value) in more {
        content.metadata.insert((*key).to_owned(), value.clone());
    }
    let metadata = Metadata(&content.metadata);
    metadata.config("llama", &content.tensor_infos).unwrap()
}

#[test]
fn positions_stretched_linearly_are_known_by_the_old_key_and_without_a_type() {
    let none = described(&[]);
    assert!(none["rope_scaling"].is_null(), "{none}");
    let linear = serde_json::json!({ "rope_type": "linear", "factor": 8.0 });
    for key in ["llama.rope.scale_linear", "llama.rope.scaling.factor"] {
        let found = described(&[(key, Value::F32(8.0))]);
        assert_eq!(found["rope_scaling"], linear, "{key}");
        let kind = Value::String("none".to_owned());
        let found = described(&[(key, Value::F32(8.0)), ("llama.rope.scaling.type", kind)]);
        assert!(found["rope_scaling"].is_null(), "{key}");
    }
}

#[test]
fn a_template_beside_a_file_knows_the_special_tokens_inside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = copied(folder.path(), "gguf/qwen3-q4_k.gguf");
    let template = "{{ eos_token }}{{ messages[0].content }}";
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let model = load(&path, &Device::Cpu).unwrap();
    let rendered = model.chat.as_ref().unwrap().render("hello").unwrap();
    assert_eq!(rendered, "<|im_end|>hello");
}

#[test]
fn damaged_files_are_refused_wherever_they_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = copied(folder.path(), "gguf/qwen3-f16.gguf");
    copied(folder.path(), "families/qwen3/tokenizer.json");
    let bytes = std::fs::read(&path).unwrap();
    for kept in [
        0,
        3,
        4,
        12,
        100,
        700,
        2000,
        bytes.len() / 2,
        bytes.len() - 64,
    ] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        let message = refusal(&path);
        assert!(message.contains("is damaged"), "{kept}: {message}");
    }
    std::fs::write(&path, [b"GGML", &bytes[4..]].concat()).unwrap();
    assert!(refusal(&path).contains("does not begin with `GGUF`"));
}

#[test]
fn weights_that_the_metadata_does_not_describe_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = copied(folder.path(), "gguf/qwen3-f16.gguf");
    copied(folder.path(), "families/qwen3/tokenizer.json");
    let bytes = std::fs::read(&path).unwrap();
    let key = b"qwen3.block_count";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
    for (layers, part) in [(2_u32, "model.layers.2."), (4, "model.layers.3.")] {
        let mut changed = bytes.clone();
        changed[at..at + 4].copy_from_slice(&layers.to_le_bytes());
        std::fs::write(&path, changed).unwrap();
        let message = refusal(&path);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn without_any_usable_tokenizer_the_remedy_is_the_file_beside() {
    let folder = tempfile::tempdir().unwrap();
    copied(folder.path(), "gguf/llama-f32.gguf");
    let message = refusal(folder.path());
    assert!(message.contains("`tokenizer.ggml.tokens`"), "{message}");
    assert!(message.contains("put the model's `tokenizer.json` beside it"));
    let mut changed = std::fs::read(fixture("gguf/qwen3-q4_k.gguf")).unwrap();
    let key = b"tokenizer.ggml.pre";
    let at = changed.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 12;
    changed[at..at + 5].copy_from_slice(b"other");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, changed).unwrap();
    let message = refusal(&path);
    assert!(message.contains("way to cut texts, `other`"), "{message}");
}

#[test]
fn of_several_files_one_must_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = copied(folder.path(), "gguf/qwen3-q4_k.gguf");
    std::fs::copy(&file, folder.path().join("b.gguf")).unwrap();
    let message = refusal(folder.path());
    assert!(
        message.contains("(`b.gguf`, `qwen3-q4_k.gguf`)"),
        "{message}"
    );
    load(&file, &Device::Cpu).unwrap();
    std::fs::copy(&file, folder.path().join("model.gguf")).unwrap();
    load(folder.path(), &Device::Cpu).unwrap();
}

#[test]
fn a_flipped_bit_of_the_description_never_panics_or_asks_for_all_memory() {
    let bytes = std::fs::read(fixture("gguf/qwen3-q4_k.gguf")).unwrap();
    let last = b"output_norm.weight";
    let end = bytes.windows(last.len()).position(|w| w == last).unwrap() + last.len() + 24;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let tensors = bytes.windows(4).position(|w| w == b"blk.").unwrap();
    // Every number is somewhere near the names of metadata and tensors; tables are long and alike.
    for at in (0..900).chain(tensors..end).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        std::fs::write(&path, changed).unwrap();
        let _ = load(&path, &Device::Cpu);
    }
}

#[test]
fn an_alignment_of_zero_is_refused_before_anything_is_divided_by_it() {
    let bytes = std::fs::read(fixture("gguf/qwen3-q4_k.gguf")).unwrap();
    assert!(!super::alignment::is_zero(&bytes));
    // One more key, first of all: a number of 32 bits under its name.
    let with = |key: &[u8], value: u32| {
        let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
        let mut changed = bytes[..16].to_vec();
        changed.extend((count + 1).to_le_bytes());
        changed.extend((key.len() as u64).to_le_bytes());
        changed.extend(key);
        changed.extend(4u32.to_le_bytes());
        changed.extend(value.to_le_bytes());
        changed.extend(&bytes[24..]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, changed).unwrap();
        load(&path, &Device::Cpu)
            .err()
            .map(|error| error.to_string())
    };
    for key in [
        "general.alignment",
        "general.alignment\0",
        "general.alignment\0\0",
    ] {
        let said = with(key.as_bytes(), 0).unwrap();
        assert!(said.contains("`general.alignment` is 0"), "{said}");
    }
    // Said twice, the library takes one of the two.
    let twice = |first: u32, second: u32| {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(2u64.to_le_bytes());
        for value in [first, second] {
            file.extend(17u64.to_le_bytes());
            file.extend(b"general.alignment");
            file.extend(4u32.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        super::alignment::is_zero(&file)
    };
    assert!(twice(0, 32) && twice(32, 0) && !twice(32, 16));
    assert!(
        !with(b"general.alignment", 32)
            .unwrap_or_default()
            .contains("alignment")
    );
}
