//! What `check` knows of the steps: their ports, parameters and weights.
//!
//! Host steps are listed here; guest steps come from the plugins' manifests. The
//! mechanism's own parameters (`sampling_rate`, `steps`, `clip`) are added to
//! every guest here and never left to a manifest: they belong to the gate.

use noisegate_workflow::{
    Catalog, Cores, ParamKind, ParamSpec, PluginSignature, PortSpec, PortType, StepSignature,
    Weight,
};
use serde_json::Value;

use crate::plugin::{Kind, Mechanism, MechanismKind, Parameter, ParameterKind, Plugin, Plugins};
use crate::slm;

/// Under votes, the parameter that stands in place of `clip`.
pub const VOTES_PER_UNIT: &str = "votes_per_unit";

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// Everything that a workflow can name.
pub fn catalog(plugins: &Plugins) -> Catalog {
    let guests = plugins
        .0
        .values()
        .filter(|plugin| plugin.manifest.plugin.kind == Kind::Guest);
    let models = plugins.0.values().filter_map(|plugin| {
        let holds = match plugin.manifest.plugin.kind {
            Kind::Guest => return None,
            Kind::LanguageModel => PortType::LanguageModel,
            Kind::Encoder => PortType::Encoder,
            Kind::ServedModel => PortType::ServedModel,
        };
        let help = plugin.manifest.plugin.help.clone();
        Some(PluginSignature {
            name: plugin.name().to_owned(),
            holds,
            sends_to: plugin.sends_to(),
            help,
        })
    });
    Catalog {
        steps: host_steps()
            .into_iter()
            .chain(guests.map(guest_step))
            .collect(),
        plugins: models.collect(),
    }
}

pub(crate) fn host_steps() -> Vec<StepSignature> {
    vec![
        cluster(),
        nearest_centroid(),
        judge(),
        augment(),
        pretrain(),
        slm::train_signature(),
        slm::agree_signature(),
        slm::pseudo_label_signature(),
        slm::evaluate_signature(),
    ]
}

pub(crate) fn all_cores(memory_bytes: u64) -> Weight {
    Weight {
        cores: Cores::All,
        memory_bytes,
    }
}

pub(crate) fn seed() -> ParamSpec {
    ParamSpec::int("seed", 0, i64::from(u32::MAX))
        .default(0)
        .help("seed of every random choice")
}

fn cluster() -> StepSignature {
    StepSignature::host(
        "llm:cluster",
        "embeds samples and groups similar ones by k-means",
    )
    .reads(PortSpec::one("samples", PortType::Records).help("samples to group"))
    .reads(PortSpec::one("embedder", PortType::Encoder).help("sentence encoder"))
    .makes("clusters", PortType::Clusters)
    .with(
        ParamSpec::int("cluster_size", 1, 1000)
            .default(4)
            .help("samples in a cluster, on average"),
    )
    .with(seed())
    .weight(all_cores(GIB))
}

fn nearest_centroid() -> StepSignature {
    StepSignature::host(
        "llm:nearest-centroid",
        "holds samples against released class centroids",
    )
    .reads(
        PortSpec::one("samples", PortType::Records).labelled().help("samples to hold against the centroids"),
    )
    .reads(PortSpec::one("centroids", PortType::Centroids).help("from `guest:class-centroids`"))
    .reads(
        PortSpec::one("embedder", PortType::Encoder)
            .help("the sentence encoder that the centroids were made with"),
    )
    .reads(
        PortSpec::optional("stand_ins", PortType::Records)
            .labelled()
            .help("public samples, such as a sentence with each label's name; they take the place of a label's samples where its centroid is lost in the noise"),
    )
    .makes("samples", PortType::Records)
    .makes("report", PortType::Report)
    .with(
        ParamSpec::choice("disagreement", &["drop", "relabel"])
            .default("relabel")
            .help("a sample nearer to another label's centroid is dropped, or takes that label; a label left without samples keeps its own"),
    )
    .with(
        ParamSpec::float("margin", 0.0, 2.0)
            .default(0.0)
            .help("least lead of the nearest centroid's cosine over the next; others are dropped"),
    )
    .with(
        ParamSpec::int("keep_per_label", 0, 100_000)
            .default(0)
            .help("keep so many of each label, those with the largest lead; 0 keeps all"),
    )
    .weight(all_cores(GIB))
}

fn judge() -> StepSignature {
    StepSignature::host("llm:judge", "lets a language model keep the eligible samples of each cluster")
        .reads(PortSpec::one("clusters", PortType::Clusters).or(PortType::Records).labelled().help("samples, with clusters if `llm:cluster` ran"))
        .reads(PortSpec::one("model", PortType::LanguageModel).or(PortType::ServedModel).help("the judge"))
        .makes("samples", PortType::Records)
        .with(ParamSpec::choice("mode", &["cross-fit", "likelihood", "prompt", "off"]).or_null().help("by default `cross-fit`, and `prompt` with a served model or one that has a chat template; cross-fit: train a copy on each half of the samples and judge the other half by likelihood (small models); likelihood: judge by examples in the prompt; prompt: ask for a list (instruction-tuned models); off: form and near-duplicates only"))
        .with(ParamSpec::float("margin", 0.0, 10.0).default(0.05).help("drop a sample that another label fits better by more than this, nats per token"))
        .with(ParamSpec::int("shots", 0, 16).default(2).help("likelihood: examples of a label to judge by"))
        .with(ParamSpec::int("rivals", 1, 100).default(7).help("other labels to compare each sample with"))
        .with(ParamSpec::float("duplicate_similarity", 0.05, 1.0).default(0.7).help("Jaccard similarity of word pairs at which a sample repeats another"))
        .with(ParamSpec::int("words_min", 1, 1000).default(3).help("shorter samples are dropped"))
        .with(chat())
        .with(device())
        .with(seed())
        .together(crate::together::judge)
        .weight(all_cores(2 * GIB))
}

fn augment() -> StepSignature {
    StepSignature::host("llm:augment", "writes new samples from few-shot demonstrations")
        .reads(PortSpec::one("demonstrations", PortType::Records).labelled().help("released samples to imitate"))
        .reads(PortSpec::one("model", PortType::LanguageModel).or(PortType::ServedModel).help("the writer"))
        .makes("samples", PortType::Records)
        .makes("report", PortType::Report)
        .with(ParamSpec::int("samples_per_label", 1, 100_000).default(100).help("new samples wanted for each label"))
        .with(ParamSpec::choice("style", &["completion", "instruction"]).or_null().help("how the model is asked, by default `completion`, and `instruction` with a served model or one that has a chat template: base models go on with a text, instructed ones are told what to do"))
        .with(ParamSpec::int("shots", 1, 16).default(2).help("demonstrations of the wanted label in a prompt"))
        .with(ParamSpec::int("contrast_shots", 0, 16).default(0).help("demonstrations of other labels in a prompt"))
        .with(ParamSpec::int("adapt_epochs", 0, 100).or_null().help("passes of training on the demonstrations before imitating them (few demonstrations are read up to 8 times), by default 2, and 0 with a served model or one that has a chat template; 0 for large models"))
        .with(ParamSpec::int("samples_per_answer", 1, 64).default(4).help("with style `instruction`: samples asked for at once"))
        .with(ParamSpec::int("batch", 1, 512).default(32).help("sequences generated together; a served model has its own `concurrency`"))
        .with(ParamSpec::int("tokens_max", 4, 8192).or_null().help("longest answer, by default 64 a sample"))
        .with(ParamSpec::text("output_regex").default("").checked(crate::llm::augment::check_output_regex).help("a regular expression that each new text matches as a whole, such as `[A-Z][a-z ,]{20,200}\\.`; answers then always parse. Not for a served model"))
        .with(ParamSpec::int("rivals", 0, 100).or_null().help("reject a text that is likelier under another label; compare with this many others, by default 7, and 0 with a served model, which tells no likelihoods"))
        .with(ParamSpec::int("retries_max", 0, 50).default(3).help("rounds after the first for what is still missing"))
        .with(ParamSpec::float("temperature", 0.0, 5.0).default(0.9).help("sampling temperature; 0 is greedy"))
        .with(ParamSpec::float("top_p", 0.01, 1.0).default(0.95).help("nucleus sampling"))
        .with(ParamSpec::float("duplicate_similarity", 0.05, 1.0).default(0.7).help("Jaccard similarity of word pairs at which a sample repeats another"))
        .with(ParamSpec::bool("show_text").default(false).help("show excerpts of the texts in the run's log as they are made, at most two a second; a served model tells none"))
        .with(ParamSpec::bool("keep_demonstrations").default(true).help("pass the demonstrations on beside the new samples"))
        .with(chat())
        .with(device())
        .with(seed())
        .together(crate::together::augment)
        .weight(all_cores(2 * GIB))
}

fn chat() -> ParamSpec {
    ParamSpec::choice("chat", &["auto", "off"])
        .default("auto")
        .help("auto: frame messages by the model's own chat template, if its folder has one; off: put them as they are; a served model frames them itself")
}

fn device() -> ParamSpec {
    ParamSpec::choice("device", &["cpu", "cuda"])
        .default("cpu")
        .help("where the model runs; cuda needs a build with that feature")
}

fn pretrain() -> StepSignature {
    StepSignature::host(
        "llm:pretrain",
        "trains a small Llama-style language model from public text",
    )
    .reads(PortSpec::many("text", PortType::Records).help("public text, a document a row"))
    .reads(
        PortSpec::optional("held_out", PortType::Records)
            .help("text to measure bits per byte on; equal titles are dropped from training"),
    )
    .makes("model", PortType::LanguageModel)
    .makes("report", PortType::Report)
    .with(
        ParamSpec::text("weights")
            .default("")
            .help("share of each input in training, with commas between; all alike by default"),
    )
    .with(
        ParamSpec::text("tokenizer_documents")
            .default("")
            .help("documents of each input to train the tokenizer on, with commas between"),
    )
    .with(
        ParamSpec::int("vocabulary", 300, 65_535)
            .default(4096)
            .help("tokens of the byte-level BPE tokenizer"),
    )
    .with(
        ParamSpec::int("hidden", 16, 4096)
            .default(192)
            .help("width of the residual stream"),
    )
    .with(
        ParamSpec::int("layers", 1, 64)
            .default(6)
            .help("decoder layers"),
    )
    .with(
        ParamSpec::int("heads", 1, 64)
            .default(6)
            .help("attention heads; they divide `hidden`"),
    )
    .with(
        ParamSpec::int("intermediate", 16, 16_384)
            .default(512)
            .help("width of the MLP"),
    )
    .with(
        ParamSpec::int("context", 16, 8192)
            .default(256)
            .help("longest sequence, tokens"),
    )
    .with(
        ParamSpec::int("batch", 1, 4096)
            .default(8)
            .help("sequences in an optimiser step"),
    )
    .with(
        ParamSpec::int("tokens", 1000, i64::MAX)
            .default(10_000_000)
            .help("tokens to train on"),
    )
    .with(
        ParamSpec::float("seconds", 1.0, 1e9)
            .or_null()
            .help("stop after this time, if the tokens are not used up by then"),
    )
    .with(
        ParamSpec::float("matrix_rate", 1e-6, 1.0)
            .default(0.02)
            .help("Muon's peak learning rate, for the matrices of the layers"),
    )
    .with(
        ParamSpec::float("adam_rate", 1e-6, 1.0)
            .default(4e-3)
            .help("AdamW's peak learning rate, for the rest"),
    )
    .with(
        ParamSpec::int("warm_up_steps", 1, 1_000_000)
            .default(60)
            .help("steps in which the learning rates rise"),
    )
    .with(
        ParamSpec::float("decay_from", 0.0, 1.0)
            .default(0.4)
            .help("share of the budget after which they fall"),
    )
    .with(seed())
    .together(crate::together::pretrain)
    .weight(all_cores(6 * GIB))
}

/// A guest's outside, from its manifest and from the gate.
pub(crate) fn guest_step(plugin: &Plugin) -> StepSignature {
    let manifest = &plugin.manifest;
    let records = PortSpec::one("records", PortType::Records)
        .private()
        .labelled();
    let mut signature =
        StepSignature::guest(&format!("guest:{}", plugin.name()), &manifest.plugin.help)
            .reads(records.help("private records; each unit is seen by one fresh instance"))
            .weight(all_cores(2 * GIB));
    for read in &manifest.reads {
        let port = PortSpec::one(&read.port, read.holds);
        signature = signature.reads(match read.or {
            Some(or) => port.or(or),
            None => port,
        });
    }
    for output in &manifest.outputs {
        signature = signature.makes(&output.port, output.holds);
    }
    if let Some(mechanism) = &manifest.mechanism {
        signature = of_the_gate(signature, mechanism);
    }
    signature = signature.with(seed());
    for parameter in &manifest.with {
        signature = signature.with(guest_parameter(parameter));
    }
    let manifest = plugin.folder.join("plugin.toml");
    signature.manifest = Some(manifest.display().to_string());
    signature
}

/// The mechanism's own parameters; a manifest gives their defaults alone.
fn of_the_gate(signature: StepSignature, mechanism: &Mechanism) -> StepSignature {
    let signature = signature
        .with(
            ParamSpec::float("sampling_rate", 1e-6, 1.0)
                .default(number(mechanism.sampling_rate))
                .help("probability with which a unit enters a query"),
        )
        .with(
            ParamSpec::int("steps", 1, 1_000_000)
                .default(mechanism.steps)
                .help("queries asked of the gate"),
        );
    signature.with(match mechanism.kind {
        MechanismKind::GaussianSum => ParamSpec::float("clip", 1e-6, 1e6)
            .default(number(mechanism.clip))
            .help("L2 norm to which each unit's contribution is clipped"),
        MechanismKind::Votes => ParamSpec::int(VOTES_PER_UNIT, 1, 1000)
            .default(mechanism.votes_per_unit)
            .help("votes of a unit at most; the noise grows with the square root of it"),
    })
}

/// JSON has no infinity and no NaN: as text, either is refused by `check`.
fn number(value: f64) -> Value {
    match value.is_finite() {
        true => value.into(),
        false => value.to_string().into(),
    }
}

fn guest_parameter(parameter: &Parameter) -> ParamSpec {
    let (min, max) = (parameter.min, parameter.max);
    // A manifest's bounds are floats; whole numbers are bounded well inside i64.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, which is what a bound wants"
    )]
    let whole = |bound: Option<f64>, otherwise: i64| bound.map_or(otherwise, |value| value as i64);
    let kind = match (&parameter.choices, parameter.kind) {
        (Some(choices), _) => ParamKind::Choice(choices.clone()),
        (None, ParameterKind::Int) => ParamKind::Int {
            min: whole(min, i64::MIN),
            max: whole(max, i64::MAX),
        },
        (None, ParameterKind::Float) => ParamKind::Float {
            min: min.unwrap_or(f64::MIN),
            max: max.unwrap_or(f64::MAX),
        },
        (None, ParameterKind::Bool) => ParamKind::Bool,
        (None, ParameterKind::String) => ParamKind::Text,
    };
    let default = parameter.default.as_ref().map(|value| match value {
        toml::Value::Float(value) => number(*value),
        value => serde_json::to_value(value).unwrap_or(Value::Null),
    });
    ParamSpec {
        name: parameter.name.clone(),
        kind,
        default,
        check: None,
        help: parameter.help.clone(),
    }
}
