//! The step kinds of this build, ready to run.

use std::path::PathBuf;

use noisegate_engine::{Input, Made, Registry, Step, StepContext, StepFailure};

use crate::error::PluginError;
use crate::guest::GuestStep;
use crate::llm::served::{Environment, Serving};
use crate::plugin::{Kind, Plugin, Plugins};
use crate::{llm, slm};

/// What steps need from the machine.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// The folder that holds one folder a site, with its ledger and key.
    pub sites: PathBuf,
    /// The plugins.
    pub plugins: Plugins,
    /// Where answers of served models are kept, so that none is paid for twice.
    pub cache: PathBuf,
    /// Looks an environment variable up: keys of served models, by the name that their plugin gives.
    pub environment: Environment,
}

/// Every step kind by its `uses` name.
pub fn registry(tools: Tools) -> Registry {
    let mut registry = Registry::new();
    let plugins = tools.plugins.clone();
    let mut add = |uses: &str, step: Box<dyn Step>| {
        let plugins = plugins.clone();
        registry.insert(uses.to_owned(), Box::new(AsPinned { step, plugins }));
    };
    add(
        "llm:cluster",
        Box::new(llm::cluster::Cluster {
            onnxruntime: tools.onnxruntime.clone(),
        }),
    );
    add(
        "llm:nearest-centroid",
        Box::new(llm::nearest_centroid::NearestCentroid {
            onnxruntime: tools.onnxruntime.clone(),
        }),
    );
    let serving = Serving {
        plugins: tools.plugins.clone(),
        cache: tools.cache.clone(),
        environment: tools.environment,
    };
    add(
        "llm:judge",
        Box::new(llm::judge::Judge {
            serving: serving.clone(),
        }),
    );
    add("llm:augment", Box::new(llm::augment::Augment { serving }));
    add("llm:pretrain", Box::new(llm::pretrain::Pretrain));
    add(
        "slm:train",
        Box::new(slm::Train {
            onnxruntime: tools.onnxruntime.clone(),
            checkpoint: None,
        }),
    );
    add(
        "slm:evaluate",
        Box::new(slm::Evaluate {
            onnxruntime: tools.onnxruntime.clone(),
        }),
    );
    add(
        "slm:agree",
        Box::new(slm::Agree {
            onnxruntime: tools.onnxruntime.clone(),
        }),
    );
    add(
        "slm:pseudo-label",
        Box::new(slm::PseudoLabel {
            onnxruntime: tools.onnxruntime.clone(),
        }),
    );
    for plugin in tools.plugins.0.into_values() {
        if plugin.manifest.plugin.kind == Kind::Guest {
            let uses = format!("guest:{}", plugin.name());
            let sites = tools.sites.clone();
            // Not as the others: what it has released is charged for, whatever lies there now.
            registry.insert(uses, Box::new(GuestStep { plugin, sites }));
        }
    }
    registry
}

/// A step whose plugins must still be as pinned when it has ended: they were looked at before the
/// run, and a file may be replaced while the steps before it work.
struct AsPinned {
    step: Box<dyn Step>,
    plugins: Plugins,
}

impl Step for AsPinned {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let made = self.step.run(context)?;
        for input in context.inputs.0.values().flatten() {
            verify(input, &self.plugins).map_err(|why| {
                StepFailure::BadInput(format!(
                    "step `{}`: what it made is not kept, as a model changed after the run began: {why}",
                    context.step.name
                ))
            })?;
        }
        Ok(made)
    }
}

/// Whether an input is as pinned, if it is a plugin.
fn verify(input: &Input, plugins: &Plugins) -> Result<(), PluginError> {
    let Input::Path { name, .. } = input else {
        return Ok(());
    };
    let plugin = name.strip_prefix("plugin:");
    plugin
        .and_then(|name| plugins.get(name))
        .map_or(Ok(()), Plugin::verify)
}

#[cfg(test)]
mod tests {
    use noisegate_sandbox::Digest;

    use super::*;

    #[test]
    fn a_model_that_changed_since_it_was_pinned_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let small = folder.path().join("small");
        std::fs::create_dir(&small).unwrap();
        let manifest = format!(
            "[plugin]\nname = \"small\"\nkind = \"language-model\"\nversion = \"1\"\n\
             licence = \"Apache-2.0\"\nhelp = \"\"\n[model]\n[model.sha256]\n\
             \"model.gguf\" = \"{}\"\n",
            Digest::of(b"one")
        );
        std::fs::write(small.join("plugin.toml"), manifest).unwrap();
        std::fs::write(small.join("model.gguf"), "one").unwrap();
        let plugins = Plugins::scan(folder.path()).unwrap();
        let input = |name: &str| Input::Path {
            name: name.to_owned(),
            path: small.clone(),
            pinned: vec!["model.gguf".to_owned()],
            private: false,
        };
        verify(&input("plugin:small"), &plugins).unwrap();
        std::fs::write(small.join("model.gguf"), "two").unwrap();
        let error = verify(&input("plugin:small"), &plugins).unwrap_err();
        assert!(error.to_string().contains("model.gguf"), "{error}");
        // What a step made lies in the store, under its own digest.
        verify(&input("augment.samples"), &plugins).unwrap();
    }
}
