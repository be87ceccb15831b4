//! `slm:evaluate`.

use noisegate_workflow::{Cores, ParamSpec, PortSpec, PortType, StepSignature, Weight};

use super::{batch, device, head};
use crate::catalog::{MIB, seed};

/// `slm:evaluate`
#[must_use]
pub fn evaluate_signature() -> StepSignature {
    StepSignature::host(
        "slm:evaluate",
        "scores a model: accuracy, F1, confusion, calibration, intervals, subgroups, and its gain over a baseline",
    )
    .reads(
        PortSpec::one("model", PortType::Classifier)
            .private()
            .help("the classifier"),
    )
    .reads(
        PortSpec::one("records", PortType::Records)
            .private()
            .labelled()
            .help("held-out labelled texts"),
    )
    .reads(
        PortSpec::optional("baseline", PortType::Classifier)
            .private()
            .help("another model, to compare with on the same texts by paired bootstrap"),
    )
    .makes("report", PortType::Report)
    .makes("page", PortType::Report)
    .with(head("score"))
    .with(
        ParamSpec::text("group_column")
            .default("")
            .help("a column of the data set: its values are scored apart, empty cells together"),
    )
    .with(batch())
    .with(
        ParamSpec::bool("int8")
            .default(false)
            .help("score the model with 8-bit products; without a baseline, beside itself in f32"),
    )
    .with(device())
    .with(seed())
    .together(crate::slm::together::evaluate)
    .weight(Weight {
        // Several models are scored at the same time.
        cores: Cores::One,
        memory_bytes: 512 * MIB,
    })
}
