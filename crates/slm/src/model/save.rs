//! A model as a folder: Hugging Face's files, `model.onnx`, and a model card.
//!
//! Everything is written beside the target and renamed at the end, so a folder of that name is
//! always whole.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Model, Serve, heads};
use crate::error::SlmError;
use crate::files;
use crate::graph;

impl Model {
    /// Writes `config.json`, `tokenizer.json`, `model.safetensors`, `model.onnx` and `README.md`
    /// (the text of `card`) as folder `path`.
    ///
    /// # Errors
    /// [`SlmError::Exists`] if something is there already; [`SlmError::Write`] otherwise. In both
    /// cases no folder `path` was made.
    pub fn save(&self, path: &Path, card: &str) -> Result<(), SlmError> {
        if path.exists() && !is_empty_folder(path) {
            return Err(SlmError::Exists {
                path: path.to_owned(),
            });
        }
        let partial = Partial::beside(path)?;
        let onnx = graph::encode(&self.serving_graph(Serve::Everything)?);
        let config = serde_json::to_string_pretty(&self.config_json())
            .expect("a map with string keys is always JSON");
        write(&partial.folder.join("config.json"), config.as_bytes())?;
        write(
            &partial.folder.join("tokenizer.json"),
            self.tokens.to_json()?.as_bytes(),
        )?;
        write(&partial.folder.join("model.onnx"), &onnx)?;
        write(&partial.folder.join("README.md"), card.as_bytes())?;
        let weights = self
            .weights
            .iter()
            .map(|(name, array)| (name.to_owned(), array));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let file = partial.folder.join("model.safetensors");
        files::write_arrays(&file, weights, metadata)?;
        partial.keep(path)
    }

    /// Writes `model.int8.onnx` into the folder of a saved model: a quarter of the products' size.
    ///
    /// # Errors
    /// [`SlmError::Write`].
    pub fn save_int8(&self, folder: &Path) -> Result<(), SlmError> {
        let onnx = graph::encode(&self.quantised_graph(Serve::Everything)?);
        let (partial, whole) = (folder.join(".int8.partial"), folder.join("model.int8.onnx"));
        write(&partial, &onnx)?;
        fs::rename(&partial, &whole).map_err(SlmError::write(&whole))
    }

    fn config_json(&self) -> Value {
        let mut config = self.config.to_json();
        let mut own = Map::new();
        own.insert("pooling".to_owned(), json!("mean"));
        own.insert("length_max".to_owned(), json!(self.tokens.length_max()));
        heads::write(&self.heads, &mut config, &mut own);
        config.insert("noisegate".to_owned(), Value::Object(own));
        Value::Object(config)
    }
}

/// A folder being written; removed again unless it is kept.
struct Partial {
    folder: PathBuf,
    kept: bool,
}

impl Partial {
    fn beside(path: &Path) -> Result<Self, SlmError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(SlmError::write(parent))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = parent.join(format!(".{name}.partial-{}", std::process::id()));
        // Left over from a killed process of the same id: ours to remove.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(SlmError::write(&folder))?;
        }
        fs::create_dir(&folder).map_err(SlmError::write(&folder))?;
        Ok(Self {
            folder,
            kept: false,
        })
    }

    fn keep(mut self, path: &Path) -> Result<(), SlmError> {
        fs::rename(&self.folder, path).map_err(SlmError::write(path))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // The write error is already on its way to the caller.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SlmError> {
    let mut file = File::create(path).map_err(SlmError::write(path))?;
    file.write_all(bytes).map_err(SlmError::write(path))?;
    file.sync_all().map_err(SlmError::write(path))
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
