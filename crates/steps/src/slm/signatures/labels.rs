//! The two steps that show samples to a classifier: `slm:agree` and `slm:pseudo-label`.

use noisegate_workflow::{ParamSpec, PortSpec, PortType, StepSignature};

use super::{batch, device, head};
use crate::catalog::{MIB, all_cores};

/// `slm:agree`
#[must_use]
pub fn agree_signature() -> StepSignature {
    StepSignature::host(
        "slm:agree",
        "keeps the samples whose label a site's classifier agrees with; what is kept is as private as the classifier",
    )
    .reads(
        PortSpec::many("model", PortType::Classifier)
            .private()
            .help("the classifier, such as one trained on private records; of several the mean of the probabilities counts"),
    )
    .reads(
        PortSpec::many("samples", PortType::Records)
            .private()
            .labelled()
            .help("labelled texts to keep or not, such as augmented ones"),
    )
    .makes("samples", PortType::Records)
    .makes("report", PortType::Report)
    .with(
        ParamSpec::float("confidence", 0.0, 1.0)
            .default(0.0)
            .help("the least probability that the classifier must give the label, beside its being the most probable one"),
    )
    .with(head("judge by"))
    .with(batch())
    .with(
        ParamSpec::bool("int8")
            .default(false)
            .help("judge with 8-bit products"),
    )
    .with(device())
    .together(crate::slm::together::judges)
    .weight(all_cores(512 * MIB))
}

/// `slm:pseudo-label`
#[must_use]
pub fn pseudo_label_signature() -> StepSignature {
    StepSignature::host(
        "slm:pseudo-label",
        "gives samples the labels of a site's classifier; what it makes is as private as the classifier",
    )
    .reads(
        PortSpec::many("model", PortType::Classifier)
            .private()
            .help("the classifier (teacher), such as one fine-tuned on private records; of several the mean of the probabilities counts"),
    )
    .reads(
        PortSpec::many("samples", PortType::Records)
            .private()
            .help("texts to label, such as augmented samples; labels that they have are replaced"),
    )
    .makes("samples", PortType::Records)
    .makes("report", PortType::Report)
    .with(
        ParamSpec::choice("labels", &["soft", "hard"])
            .default("soft")
            .help("soft: beside the most probable label, the probability of each, which `slm:train` then learns; hard: the label alone"),
    )
    .with(
        ParamSpec::float("confidence", 0.0, 1.0)
            .default(0.0)
            .help("the least probability of the most probable label; samples with less are left out"),
    )
    .with(head("label by"))
    .with(batch())
    .with(
        ParamSpec::bool("int8")
            .default(false)
            .help("label with 8-bit products"),
    )
    .with(device())
    .together(crate::slm::together::judges)
    .weight(all_cores(512 * MIB))
}
