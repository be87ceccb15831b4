//! The step kinds of this build, ready to run.

use std::path::PathBuf;

use noisegate_engine::{Registry, Step};

use crate::guest::GuestStep;
use crate::llm::served::{Environment, Serving};
use crate::plugin::{Kind, Plugins};
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
    let mut add = |uses: &str, step: Box<dyn Step>| {
        registry.insert(uses.to_owned(), step);
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
            add(
                &uses,
                Box::new(GuestStep {
                    plugin,
                    sites: tools.sites.clone(),
                }),
            );
        }
    }
    registry
}
