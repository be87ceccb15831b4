//! `slm:train`.

use noisegate_workflow::{ParamSpec, PortSpec, PortType, StepSignature};

use super::device;
use crate::catalog::{GIB, all_cores, seed};

/// `slm:train`
#[must_use]
pub fn train_signature() -> StepSignature {
    let mut signature = StepSignature::host("slm:train", "trains a small encoder as a classifier")
        .reads(
            PortSpec::many("records", PortType::Records)
                .private()
                .labelled()
                .help("labelled texts, private to this site or released"),
        )
        .reads(
            PortSpec::optional("base", PortType::Encoder)
                .help("encoder to fine-tune; none: a small one from scratch"),
        )
        .makes("model", PortType::Classifier);
    let all = [
        heads(),
        schedule(),
        sources_and_labels(),
        stopping(),
        parts(),
        scratch(),
    ];
    for parameter in all.into_iter().flatten() {
        signature = signature.with(parameter);
    }
    signature
        .with(seed())
        .together(crate::slm::together::train)
        .weight(all_cores(3 * GIB))
}

fn heads() -> Vec<ParamSpec> {
    vec![
        ParamSpec::choice("task", &["single-label", "multi-label", "number"])
            .default("single-label")
            .help("what the model says: one of the labels, any of them (cells such as `a;b`), or a number"),
        ParamSpec::text("tasks").default("").help(
            "several heads on one encoder: `each` for one a data set, or such as `topic = data.a + augment.samples, pain:number = data.b`",
        ),
    ]
}

fn schedule() -> Vec<ParamSpec> {
    vec![
        ParamSpec::int("epochs", 1, 1000)
            .default(4)
            .help("passes over the records"),
        ParamSpec::int("batch", 1, 1024)
            .default(32)
            .help("records in an optimiser step"),
        ParamSpec::int("rows_at_once", 0, 1024).default(0).help(
            "records that run at once, if fewer: their gradients are summed, in less memory; 0 for all",
        ),
        ParamSpec::int("tokens_max", 8, 512)
            .default(64)
            .help("longer texts are cut; a base may take fewer tokens"),
        ParamSpec::float("learning_rate", 1e-7, 1.0).or_null().help(
            "peak learning rate; by default 1e-3 from scratch, 3e-4 with a base, 2e-3 with LoRA",
        ),
        ParamSpec::float("warm_up", 0.0, 0.9)
            .default(0.1)
            .help("share of the steps in which the learning rate rises"),
        ParamSpec::choice("schedule", &["linear", "cosine", "constant"])
            .default("linear")
            .help("how the learning rate goes on after the warm-up"),
        ParamSpec::float("weight_decay", 0.0, 0.999)
            .default(0.01)
            .help("AdamW's weight decay"),
        ParamSpec::float("clip_norm", 1e-6, 1e6)
            .default(1.0)
            .help("the gradient of all weights together is scaled down to this L2 norm"),
        ParamSpec::float("dropout", 0.0, 0.9)
            .default(0.1)
            .help("dropout probability"),
    ]
}

fn sources_and_labels() -> Vec<ParamSpec> {
    vec![
        ParamSpec::float("released_weight", 0.0, 100.0)
            .default(1.0)
            .help("weight of a released (synthesised or augmented) or public record beside a private one"),
        ParamSpec::choice("released_labels", &["as-made", "as-private"])
            .default("as-made")
            .help("as-private: released records weigh less or more, at most four times, so that each label has the share among them that it has among the private ones"),
        ParamSpec::int("released_first", 0, 1000).default(0).help(
            "train so many epochs on the released and public records alone, then `epochs` on the private ones alone; 0: all together",
        ),
        ParamSpec::float("label_smoothing", 0.0, 0.9)
            .default(0.0)
            .help("share of the target spread over all labels"),
        ParamSpec::text("class_weights").default("equal").checked(crate::slm::train::check_class_weights).help(
            "`equal`, `balanced` (each label the same share in the loss), or factors such as `billing=2, delay=0.5` (`topic/billing=2` with several heads)",
        ),
        ParamSpec::choice("empty_labels", &["refuse", "keep"])
            .default("refuse")
            .help("what to do about a declared label that no record has; a step that reads samples alone keeps it"),
    ]
}

fn stopping() -> Vec<ParamSpec> {
    vec![
        ParamSpec::float("validation_share", 0.0, 0.9)
            .default(0.0)
            .help("share of the data sets' records (never of released ones) held back to keep the best epoch by: whole privacy units, alike in labels, at least one"),
        ParamSpec::int("patience", 0, 1000)
            .default(0)
            .help("stop after so many epochs without a better loss on the `validation_share`; 0: never"),
    ]
}

fn parts() -> Vec<ParamSpec> {
    vec![
        ParamSpec::int("lora_rank", 0, 256)
            .default(0)
            .help("with a base: train low-rank updates of this rank only; 0 trains all weights"),
        ParamSpec::bool("freeze_embeddings")
            .default(false)
            .help("with a base: leave the embeddings as they are"),
        ParamSpec::int("freeze_layers", 0, 48)
            .default(0)
            .help("with a base: leave the embeddings and so many layers, from below, as they are"),
        device(),
        ParamSpec::choice("precision", &["f32", "bf16"])
            .default("f32")
            .help("numbers that products are made of; bf16 needs a processor with AVX512-BF16"),
    ]
}

fn scratch() -> Vec<ParamSpec> {
    vec![
        ParamSpec::int("layers", 1, 24)
            .default(2)
            .help("from scratch: transformer layers"),
        ParamSpec::int("hidden", 16, 1024)
            .default(128)
            .help("from scratch: width of a token"),
        ParamSpec::int("heads", 1, 16)
            .default(4)
            .help("from scratch: attention heads; they divide `hidden`"),
        ParamSpec::int("intermediate", 16, 4096)
            .default(512)
            .help("from scratch: width of the feed-forward layer"),
        ParamSpec::int("vocabulary", 300, 65_536)
            .default(8000)
            .help("from scratch: the most entries of the WordPiece vocabulary; words with characters too rare for it are unknown"),
    ]
}
