//! Plugins: one folder each, with a `plugin.toml` that pins every byte by SHA-256.
//!
//! ```text
//! plugins/dp-generator/plugin.toml + dp-generator.wasm     kind = "guest"
//! plugins/tiny-lm/plugin.toml + config, tokenizer, weights kind = "language-model"
//! plugins/minilm/plugin.toml -> target/noisegate/minilm    kind = "encoder"
//! plugins/NAME/plugin.toml -> https://HOST:PORT/v1         kind = "served-model"
//! ```
//!
//! Manifests are read when a workflow is checked; digests are compared when a
//! plugin is used ([`Plugin::verify`]), because that reads whole model files.
//! A plugin's files lie in its own folder or where models are fetched to, links followed
//! (decision 051).

mod manifest;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use noisegate_engine::store::digest_of;

pub use manifest::{
    About, Component, FrozenWasi, Kind, Manifest, Mechanism, MechanismKind, Model, Output,
    Parameter, ParameterKind, Price, Reads,
};

use crate::error::PluginError;

/// A plugin whose manifest has been read.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Where `plugin.toml` lies.
    pub folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
}

/// Where models are fetched to, beside the folder of plugins.
const FETCHED: &str = "target/noisegate";

impl Plugin {
    /// Reads `folder/plugin.toml`.
    ///
    /// # Errors
    /// [`PluginError`] if it is not there or not complete.
    pub fn read(folder: &Path) -> Result<Self, PluginError> {
        let path = folder.join("plugin.toml");
        let text = fs::read_to_string(&path).map_err(|source| PluginError::Io {
            path: path.clone(),
            source,
        })?;
        let manifest: Manifest = toml::from_str(&text).map_err(|error| PluginError::Manifest {
            path: path.clone(),
            message: error.to_string(),
        })?;
        let (kind, table, complete) = match manifest.plugin.kind {
            Kind::Guest => (
                "guest",
                "component",
                manifest.component.is_some() && manifest.mechanism.is_some(),
            ),
            Kind::LanguageModel => ("language-model", "model", manifest.model.is_some()),
            Kind::Encoder => ("encoder", "model", manifest.model.is_some()),
            Kind::ServedModel => ("served-model", "endpoint", manifest.endpoint.is_some()),
        };
        if !complete {
            return Err(PluginError::Incomplete { path, kind, table });
        }
        if let Some(message) = manifest.component.as_ref().and_then(Component::problem) {
            return Err(PluginError::Manifest { path, message });
        }
        if let Some(message) = manifest.price.as_ref().and_then(Price::problem) {
            return Err(PluginError::Manifest { path, message });
        }
        let plugin = Self {
            folder: folder.to_owned(),
            manifest,
        };
        if let Some(endpoint) = &plugin.manifest.endpoint {
            if plugin.manifest.model.is_some() {
                let message = "`[model]` and `[endpoint]` exclude each other".to_owned();
                return Err(PluginError::Manifest { path, message });
            }
            let message = match (plugin.manifest.plugin.kind, endpoint.sends_to()) {
                (Kind::ServedModel, Ok(_)) => return Ok(plugin),
                (Kind::ServedModel, Err(error)) => error.to_string(),
                _ => "`[endpoint]` belongs to plugins of kind `served-model`".to_owned(),
            };
            return Err(PluginError::Manifest { path, message });
        }
        if !plugin.pins_plain_files() {
            return Err(PluginError::Pins { path });
        }
        Ok(plugin)
    }

    /// Whether it pins something, and every pinned name is a bare file name.
    fn pins_plain_files(&self) -> bool {
        let bare = |name: &String| Path::new(name).file_name() == Some(name.as_ref());
        let pins = self.pins();
        !pins.is_empty() && pins.iter().all(|(name, _)| bare(name))
    }

    /// The files that a step may read: those whose content is pinned.
    pub fn pinned(&self) -> Vec<String> {
        self.pins()
            .into_iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.manifest.plugin.name
    }

    /// Where a step that reads it sends what else it reads; empty if nowhere.
    pub fn sends_to(&self) -> Vec<String> {
        let endpoint = self.manifest.endpoint.as_ref();
        // `read` has refused an endpoint that names no place.
        let places = endpoint.and_then(|endpoint| endpoint.sends_to().ok());
        places.iter().flatten().map(ToString::to_string).collect()
    }

    /// Where its files lie.
    pub fn files(&self) -> PathBuf {
        match &self.manifest.model {
            Some(model) => self.folder.join(&model.folder),
            None => self.folder.clone(),
        }
    }

    /// Where every pinned file really lies, links followed; none of them is opened.
    ///
    /// # Errors
    /// [`PluginError::Missing`], or [`PluginError::Elsewhere`] for a file that is neither in the
    /// plugin's own folder nor where models are fetched to.
    pub fn real_files(&self) -> Result<Vec<PathBuf>, PluginError> {
        let own = self.real_folder()?;
        let plugins = self.folder.parent().unwrap_or(&self.folder);
        let fetched = plugins.join("..").join(FETCHED).canonicalize();
        let real = |(name, _): (&String, &String)| {
            let path = self.files().join(name);
            let real = path.canonicalize().ok().filter(|real| real.is_file());
            match real {
                None => Err(self.missing(path)),
                Some(real)
                    if real.starts_with(&own)
                        || fetched.as_ref().is_ok_and(|it| real.starts_with(it)) =>
                {
                    Ok(real)
                }
                Some(_) => Err(PluginError::Elsewhere {
                    plugin: self.name().to_owned(),
                    path,
                    fetched: FETCHED,
                }),
            }
        };
        self.pins().into_iter().map(real).collect()
    }

    fn real_folder(&self) -> Result<PathBuf, PluginError> {
        self.folder
            .canonicalize()
            .map_err(|source| PluginError::Io {
                path: self.folder.clone(),
                source,
            })
    }

    fn missing(&self, path: PathBuf) -> PluginError {
        let model = self.manifest.model.as_ref();
        let remedy = model.and_then(|model| model.remedy.clone());
        PluginError::Missing {
            plugin: self.name().to_owned(),
            path,
            remedy: remedy.unwrap_or_else(|| "restore the plugin's folder".to_owned()),
        }
    }

    /// Compares every pinned file with its digest.
    ///
    /// # Errors
    /// As [`Plugin::real_files`], and [`PluginError::Digest`].
    pub fn verify(&self) -> Result<(), PluginError> {
        let own = self.real_folder()?;
        for ((_, pinned), path) in self.pins().into_iter().zip(self.real_files()?) {
            let found = digest_of(&path).map_err(|source| PluginError::Io {
                path: path.clone(),
                source,
            })?;
            if found != *pinned {
                // Of a file elsewhere the digest would tell whoever guesses at its content.
                let found = match path.starts_with(&own) {
                    true => format!("has SHA-256 {found}"),
                    false => "has another SHA-256".to_owned(),
                };
                return Err(PluginError::Digest {
                    plugin: self.name().to_owned(),
                    path,
                    found,
                    pinned: pinned.clone(),
                });
            }
        }
        Ok(())
    }

    fn pins(&self) -> Vec<(&String, &String)> {
        let component = self
            .manifest
            .component
            .iter()
            .map(|one| (&one.file, &one.sha256));
        let model = self.manifest.model.iter().flat_map(|model| &model.sha256);
        component.chain(model).collect()
    }
}

/// All plugins of a folder, by name.
#[derive(Debug, Clone, Default)]
pub struct Plugins(pub BTreeMap<String, Plugin>);

impl Plugins {
    /// Reads every `folder/*/plugin.toml`.
    ///
    /// # Errors
    /// The first [`PluginError`].
    pub fn scan(folder: &Path) -> Result<Self, PluginError> {
        let io = |source| PluginError::Io {
            path: folder.to_owned(),
            source,
        };
        let mut found = BTreeMap::<String, Plugin>::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if !path.join("plugin.toml").is_file() {
                continue;
            }
            let plugin = Plugin::read(&path)?;
            if let Some(first) = found.get(plugin.name()) {
                return Err(PluginError::Duplicate {
                    name: plugin.name().to_owned(),
                    first: first.folder.clone(),
                    second: path,
                });
            }
            found.insert(plugin.name().to_owned(), plugin);
        }
        Ok(Self(found))
    }

    /// The plugin of that name.
    pub fn get(&self, name: &str) -> Option<&Plugin> {
        self.0.get(name)
    }
}
