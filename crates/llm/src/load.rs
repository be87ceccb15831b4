//! Loads a model: a Hugging Face folder here, a GGUF file in `gguf/`.
//!
//! A folder has `config.json`, `tokenizer.json`, and `model.safetensors` or the shards that
//! `model.safetensors.index.json` names (`shards.rs`); and a chat template, where there is one.
//! Every number format is read as f32; large models stay in the bits they have (`weight.rs`).
//!
//! Deliberately absent: pickled weights (they can run code), downloads, memory maps (a file that
//! changes under a map is undefined behaviour; reading costs one copy).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use sha2::{Digest, Sha256};

use crate::architecture::Architecture;
use crate::assemble::{self, Tensors};
use crate::begin_and_end::{Said, begin_and_end};
use crate::chat::ChatTemplate;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::families::{self, Family, Parts, SUPPORTED};
use crate::gguf;
use crate::model::{LanguageModel, hex};
use crate::shards::{collect, weight_files};
use crate::tokenizer::TextTokenizer;

/// Loads a model onto a device.
///
/// - `path`: a Hugging Face folder, a GGUF file, or a folder that holds one and no safetensors.
///
/// # Errors
/// [`Error::MissingFile`], [`Error::Io`], [`Error::Malformed`] (truncated or damaged files),
/// [`Error::UnsupportedArchitecture`], [`Error::MissingTensor`], [`Error::ShapeMismatch`] (both
/// shapes printed), [`Error::VocabularyMismatch`]; for GGUF files [`Error::NoTokenizer`] and
/// [`Error::SeveralModels`].
pub fn load(path: &Path, device: &Device) -> Result<LanguageModel> {
    match gguf::find(path)? {
        Some(file) => gguf::load(&file, device),
        None => load_folder(path, device),
    }
}

/// Whether [`load()`] reads a file of this name, if a folder holds one.
pub fn reads(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
    ];
    let weights = [".safetensors", ".gguf"];
    NAMES.contains(&name) || weights.iter().any(|end| name.ends_with(end))
}

fn load_folder(folder: &Path, device: &Device) -> Result<LanguageModel> {
    let mut hash = Sha256::new();
    let config_bytes = read(folder, "config.json")?;
    let Described {
        family,
        mut architecture,
        parts,
        llama,
    } = parse_config(folder, &config_bytes)?;
    let tokenizer_bytes = read(folder, "tokenizer.json")?;
    let tokenizer =
        TextTokenizer::from_bytes(&tokenizer_bytes).map_err(|problem| Error::Malformed {
            path: folder.join("tokenizer.json"),
            problem,
        })?;
    hash.update(&config_bytes);
    hash.update(&tokenizer_bytes);
    let mut files = Vec::new();
    for file in weight_files(folder)? {
        let bytes = read(folder, &file)?;
        hash.update(&bytes);
        files.push((folder.join(&file), bytes));
    }
    let mut tensors = Tensors::new(folder);
    for (path, bytes) in &files {
        collect(path, bytes, &mut tensors)?;
    }
    tensors.keep_bits_if_large(device);
    let decoder = assemble::hugging_face(tensors, family, &architecture, parts)?;
    let said = Said::in_folder(folder)?;
    said.hash(&mut hash);
    begin_and_end(&said, family, &tokenizer, &mut architecture)?;
    let chat = ChatTemplate::in_folder(folder, BTreeMap::new())?;
    if let Some(chat) = &chat {
        hash.update(chat.source());
        let end = chat.special("eos_token");
        architecture.ends_with(end.and_then(|text| tokenizer.token_id(text)));
    }
    let digest = hex(&hash.finalize());
    let mut model =
        LanguageModel::of_family(architecture, decoder, device, tokenizer, llama, digest)?;
    model.chat = chat;
    Ok(model)
}

pub(crate) fn read(folder: &Path, file: &str) -> Result<Vec<u8>> {
    let path = folder.join(file);
    if !path.exists() {
        return Err(Error::MissingFile {
            folder: folder.to_owned(),
            file: file.to_owned(),
        });
    }
    std::fs::read(&path).map_err(Error::io("read", path))
}

/// A `config.json`, understood.
pub(crate) struct Described {
    pub(crate) family: Family,
    pub(crate) architecture: Architecture,
    pub(crate) parts: Parts,
    /// Present for a plain Llama, which can be trained further.
    pub(crate) llama: Option<LlamaConfig>,
}

/// Parses `config.json` and refuses what the forward pass would silently get wrong.
fn parse_config(folder: &Path, bytes: &[u8]) -> Result<Described> {
    let path = folder.join("config.json");
    let malformed = |problem: String| Error::Malformed {
        path: path.clone(),
        problem,
    };
    let json: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
    let named = json["architectures"][0]
        .as_str()
        .or(json["model_type"].as_str())
        .unwrap_or("nameless");
    let Some(family) = Family::named(named) else {
        return Err(Error::UnsupportedArchitecture {
            path: path.clone(),
            found: named.to_owned(),
            supported: SUPPORTED,
        });
    };
    described(&path, family, json)
}

/// The same for a parsed one; `path` is for messages.
pub(crate) fn described(path: &Path, family: Family, json: serde_json::Value) -> Result<Described> {
    let malformed = |problem: String| Error::Malformed {
        path: path.to_owned(),
        problem,
    };
    let (architecture, parts) =
        families::describe(family, &json).map_err(|problem| Error::unusable(path, problem))?;
    let mut llama = None;
    if family == Family::Llama {
        let theta = json["rope_parameters"]["rope_theta"].as_f64();
        let mut config: LlamaConfig =
            serde_json::from_value(json).map_err(|e| malformed(e.to_string()))?;
        config.rope_theta = theta.unwrap_or(config.rope_theta);
        // The configuration says what training understands; what runs may be more than that.
        let plain = Architecture {
            norm_eps: architecture.norm_eps,
            ..config.architecture()
        };
        let biased = parts.qkv_bias || parts.mlp_bias;
        if plain == architecture && !biased && config.validate().is_ok() {
            config.rms_norm_eps = f64::from(architecture.norm_eps);
            llama = Some(config);
        }
    }
    Ok(Described {
        family,
        architecture,
        parts,
        llama,
    })
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::pretrain::{export, init};
    use crate::testing;

    fn exported() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let config = init::test_config();
        let weights = init::random_weights(&config, 0.2, 5).unwrap();
        export(folder.path(), &config, &testing::tokenizer(), &weights).unwrap();
        folder
    }

    fn refusal(folder: &Path) -> String {
        load(folder, &Device::Cpu)
            .expect_err("the folder should be refused")
            .to_string()
    }

    fn edit_config(folder: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
        let path = folder.join("config.json");
        let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut json);
        std::fs::write(path, json.to_string()).unwrap();
    }

    #[test]
    fn what_was_exported_is_loaded_again_to_bf16_precision() {
        let folder = exported();
        let model = load(folder.path(), &Device::Cpu).unwrap();
        let weights = init::random_weights(&init::test_config(), 0.2, 5).unwrap();
        for (loaded, written) in model
            .llama()
            .unwrap()
            .1
            .list()
            .into_iter()
            .zip(weights.list())
        {
            let loaded = loaded.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let written = written.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (a, b) in loaded.iter().zip(written) {
                assert!((a - b).abs() <= b.abs() / 256.0);
            }
        }
        assert_eq!(model.digest().len(), 64);
    }

    #[test]
    fn whether_a_text_begins_with_a_token_is_as_the_tokenizer_says() {
        let folder = exported();
        edit_config(folder.path(), |json| json["bos_token_id"] = 3.into());
        let begins = |config: Option<&str>| {
            let path = folder.path().join("tokenizer_config.json");
            match config {
                Some(config) => std::fs::write(&path, config).unwrap(),
                None => _ = std::fs::remove_file(&path),
            }
            load(folder.path(), &Device::Cpu).unwrap().begin_token()
        };
        let first = Some(3);
        assert_eq!(begins(None), first);
        assert_eq!(begins(Some(r#"{"add_bos_token": false}"#)), None);
        let named = r#"{"add_bos_token": true, "bos_token": {"content": "<|pad|>"}}"#;
        assert_eq!(begins(Some(named)), Some(1));
        assert_eq!(
            begins(Some(r#"{"tokenizer_class": "GPT2Tokenizer"}"#)),
            None
        );
        for says in [
            r#"{"tokenizer_class": "LlamaTokenizerFast"}"#,
            r#"{"add_bos_token": true, "tokenizer_class": "GPT2Tokenizer"}"#,
        ] {
            assert_eq!(begins(Some(says)), first, "{says}");
        }
    }

    #[test]
    fn what_ends_a_text_is_part_of_the_digest() {
        let folder = exported();
        let before = load(folder.path(), &Device::Cpu).unwrap();
        let path = folder.path().join("generation_config.json");
        std::fs::write(path, r#"{"eos_token_id": [0, 7]}"#).unwrap();
        let after = load(folder.path(), &Device::Cpu).unwrap();
        assert!(after.end_tokens().contains(&7) && !before.end_tokens().contains(&7));
        assert_ne!(before.digest(), after.digest());
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_refused_or_let_be() {
        let folder = exported();
        let vocab = init::test_config().vocab_size;
        edit_config(folder.path(), |json| json["pad_token_id"] = vocab.into());
        // Nothing can draw it, so nothing need forbid it.
        assert_eq!(
            load(folder.path(), &Device::Cpu)
                .unwrap()
                .architecture()
                .pad,
            None
        );
        edit_config(folder.path(), |json| json["bos_token_id"] = vocab.into());
        let message = refusal(folder.path());
        assert!(message.contains("the model embeds only"), "{message}");
    }

    #[test]
    fn a_first_token_that_the_model_does_not_have_is_refused() {
        let folder = exported();
        let path = folder.path().join("tokenizer.json");
        let mut json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing", "pair": [],
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [999_999], "tokens": ["<s>"] } },
        });
        std::fs::write(path, json.to_string()).unwrap();
        let message = refusal(folder.path());
        assert!(
            message.contains("the tokenizer has 1000000 tokens"),
            "{message}"
        );
    }

    #[test]
    fn shards_are_loaded_like_one_file() {
        let folder = exported();
        let whole = load(folder.path(), &Device::Cpu).unwrap();
        let path = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut map = serde_json::Map::new();
        for part in 0..2 {
            let name = format!("model-{part}.safetensors");
            let views: Vec<_> = file
                .iter()
                .enumerate()
                .filter(|(i, _)| i % 2 == part)
                .map(|(_, t)| t)
                .collect();
            map.extend(
                views
                    .iter()
                    .map(|(tensor, _)| ((*tensor).to_owned(), name.clone().into())),
            );
            let shard = safetensors::serialize(views, None).unwrap();
            std::fs::write(folder.path().join(&name), shard).unwrap();
        }
        let index = serde_json::json!({ "weight_map": map });
        std::fs::write(
            folder.path().join("model.safetensors.index.json"),
            index.to_string(),
        )
        .unwrap();
        std::fs::remove_file(path).unwrap();
        let sharded = load(folder.path(), &Device::Cpu).unwrap();
        let (whole, sharded) = (whole.llama().unwrap().1, sharded.llama().unwrap().1);
        for (a, b) in whole.list().into_iter().zip(sharded.list()) {
            assert_eq!(
                a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                b.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            let folder = exported();
            std::fs::remove_file(folder.path().join(file)).unwrap();
            assert!(refusal(folder.path()).contains(&format!("has no `{file}`")));
        }
    }

    #[test]
    fn truncated_weights_are_refused() {
        let folder = exported();
        let path = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(refusal(folder.path()).contains("is damaged"));
    }

    #[test]
    fn a_wrong_shape_is_printed_beside_the_right_one() {
        let folder = exported();
        edit_config(folder.path(), |json| json["intermediate_size"] = 40.into());
        let message = refusal(folder.path());
        assert!(
            message.contains("[48, 32]") && message.contains("[40, 32]"),
            "{message}"
        );
    }

    #[test]
    fn a_tokenizer_larger_than_the_embedding_is_refused() {
        let folder = exported();
        edit_config(folder.path(), |json| json["vocab_size"] = 200.into());
        let message = refusal(folder.path());
        assert!(
            message.contains("300") && message.contains("200"),
            "{message}"
        );
    }

    #[test]
    fn another_architecture_is_refused_by_name() {
        let folder = exported();
        edit_config(folder.path(), |json| {
            json["architectures"][0] = "GPT2LMHeadModel".into()
        });
        let message = refusal(folder.path());
        assert!(message.contains("`GPT2LMHeadModel`") && message.contains("LlamaForCausalLM"));
    }

    #[test]
    fn rotary_scaling_that_is_not_understood_is_refused_rather_than_ignored() {
        let folder = exported();
        edit_config(folder.path(), |json| {
            json["rope_scaling"] = serde_json::json!({"rope_type": "yarn", "factor": 8.0});
        });
        let message = refusal(folder.path());
        assert!(
            message.contains("cannot be run: rotary scaling `yarn`"),
            "{message}"
        );
        assert!(!message.contains("damaged"), "{message}");
    }

    #[test]
    fn a_tensor_that_the_configuration_does_not_mention_is_refused() {
        let folder = exported();
        edit_config(folder.path(), |json| json["num_hidden_layers"] = 1.into());
        assert!(refusal(folder.path()).contains("model.layers.1."));
    }
}
