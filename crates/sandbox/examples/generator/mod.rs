//! The packaged `dp-generator` with made-up units: what the examples that time it share.

use std::error::Error;
use std::path::PathBuf;

use noisegate_privacy::{ClipBound, NoiseMultiplier, SamplingRate};
use noisegate_sandbox::{Declaration, Digest, File, Guest, Limits, Mechanism, TextRecord, Unit};
use serde_json::{Map, Value, json};

/// A guest, its parameters and its base model.
pub struct Case {
    manifest: toml::Table,
    with: Map<String, Value>,
    base_layers: Option<u32>,
}

impl Case {
    /// The parameters' defaults from `plugin.toml`, changed by `key=value` arguments, such as
    /// `train=full`. `base_layers=4` cuts the packaged base model to its first four layers.
    pub fn new(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let path = plugins().join("dp-generator/plugin.toml");
        let manifest: toml::Table = std::fs::read_to_string(path)?.parse()?;
        let mut case = Case {
            with: defaults(&manifest)?,
            manifest,
            base_layers: None,
        };
        case.with
            .insert("samples_per_label".to_owned(), Value::from(1));
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or("write key=value")?;
            if key == "base_layers" {
                case.base_layers = Some(value.parse()?);
                continue;
            }
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            case.with.insert(key.to_owned(), value);
        }
        Ok(case)
    }

    /// The guest, run by so many workers.
    pub fn guest(&self, threads: Option<usize>) -> Result<Guest, Box<dyn Error>> {
        let mut limits = Limits::default();
        limits.threads = threads.unwrap_or(limits.threads);
        let component = &self.manifest["component"];
        if let Some(fuel) = component
            .get("fuel_per_unit")
            .and_then(|it| it.as_integer())
        {
            limits.private.fuel_per_call = u64::try_from(fuel)?;
        }
        let digest: Digest = component["sha256"].as_str().ok_or("no digest")?.parse()?;
        let bytes = std::fs::read(plugins().join("dp-generator/dp-generator.wasm"))?;
        Ok(Guest::load(&bytes, Some(&digest), &limits)?)
    }

    /// What the public side is started with, for so many queries over so many units.
    pub fn config(&self, queries: u32, units: usize) -> String {
        json!({
            "with": self.with,
            "labels": ["billing", "delay"],
            "mechanism": {
                "sampling_rate": 1.0, "noise_multiplier": 1.0, "clip": 1.0, "steps": queries,
                "expected_batch": units as f64,
            },
            "seed": 7,
        })
        .to_string()
    }

    /// The base model's files.
    pub fn base(&self) -> Result<Vec<File>, Box<dyn Error>> {
        let mut files = Vec::new();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            let mut data = std::fs::read(plugins().join("tiny-lm").join(name))?;
            if let ("config.json", Some(layers)) = (name, self.base_layers) {
                let mut config: Value = serde_json::from_slice(&data)?;
                config["num_hidden_layers"] = Value::from(layers);
                data = config.to_string().into_bytes();
            }
            files.push(File {
                name: format!("base/{name}"),
                data,
            });
        }
        Ok(files)
    }
}

fn plugins() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins"))
}

fn defaults(manifest: &toml::Table) -> Result<Map<String, Value>, Box<dyn Error>> {
    let mut with = Map::new();
    for parameter in manifest["with"].as_array().ok_or("`with` is no array")? {
        let name = parameter["name"]
            .as_str()
            .ok_or("a parameter without a name")?;
        with.insert(
            name.to_owned(),
            serde_json::to_value(&parameter["default"])?,
        );
    }
    Ok(with)
}

/// A made-up unit of one record, of somewhat more than a hundred tokens.
pub fn unit(index: usize) -> Unit {
    let text =
        format!("I was charged {index} times for my visit and would like the bill ").repeat(8);
    Unit {
        records: vec![TextRecord {
            text,
            label: "billing".to_owned(),
        }],
    }
}

/// Every unit is in every query; clip 1, noise multiplier 1.
pub fn declaration(queries: u32, units: usize) -> Result<Declaration, Box<dyn Error>> {
    Ok(Declaration {
        mechanism: Mechanism::GaussianSum {
            clip: ClipBound::new(1.0)?,
        },
        noise_multiplier: NoiseMultiplier::new(1.0)?,
        sampling_rate: SamplingRate::ONE,
        units_public: units.max(1) as u64,
        steps: queries,
    })
}
