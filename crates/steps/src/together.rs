//! Parameters that are each in range but cannot be used together, told by `check` before a run.
//!
//! Those of the `slm:` steps are told in `slm/together.rs`.
//!
//! In the run it would be refused too, or have no effect; by then a budget may have been spent.

use noisegate_llm::PromptStyle;
use noisegate_workflow::{Clash, PortType, Together};

use crate::llm::augment::without_anchors;

pub(crate) fn clash(param: &'static str, why: impl Into<String>) -> Result<(), Clash> {
    let why = why.into();
    Err(Clash { param, why })
}

/// Of `llm:augment`.
pub fn augment(given: &Together<'_>) -> Result<(), Clash> {
    let pattern = without_anchors(given.text("output_regex"));
    if given.reads("model", PortType::ServedModel) {
        if pattern.is_some() {
            return clash(
                "output_regex",
                "a served model chooses its tokens itself; leave it out, or read a model in a folder",
            );
        }
        if given.count("adapt_epochs") > 0 {
            return clash(
                "adapt_epochs",
                "a served model cannot be trained from here; leave it out",
            );
        }
        if given.count("rivals") > 0 {
            return clash(
                "rivals",
                "a served model does not tell how likely a text is; leave it out",
            );
        }
    }
    match pattern {
        Some(pattern) if given.text("style") == "instruction" => PromptStyle::Instruction
            .check_text_pattern(&pattern)
            .or_else(|error| clash("output_regex", error.to_string())),
        _ => Ok(()),
    }
}

/// Of `llm:judge`.
pub fn judge(given: &Together<'_>) -> Result<(), Clash> {
    match given.text("mode") {
        mode @ ("cross-fit" | "likelihood") if given.reads("model", PortType::ServedModel) => {
            clash(
                "mode",
                format!(
                    "`{mode}` needs to know how likely a text is, which a served model does not tell; use `prompt` or `off`"
                ),
            )
        }
        _ => Ok(()),
    }
}

/// Of `llm:pretrain`.
pub fn pretrain(given: &Together<'_>) -> Result<(), Clash> {
    divides(given)?;
    let (hidden, heads) = (given.count("hidden"), given.count("heads"));
    if (hidden / heads.max(1)) % 2 != 0 {
        return clash(
            "heads",
            format!(
                "{heads} heads of `hidden = {hidden}` are {} wide each; rotary positions need an even width",
                hidden / heads
            ),
        );
    }
    Ok(())
}

/// `heads` divides `hidden`.
pub(crate) fn divides(given: &Together<'_>) -> Result<(), Clash> {
    let (hidden, heads) = (given.count("hidden"), given.count("heads"));
    if heads > 0 && hidden % heads != 0 {
        return clash(
            "heads",
            format!("{heads} heads do not divide `hidden = {hidden}`"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use noisegate_workflow::{Origin, ReadArtifact, StepSignature, TogetherCheck};
    use serde_json::{Map, Value, json};

    use super::*;

    /// What a step of that kind says to these parameters, the others as they are by default.
    fn said(uses: &str, given: Value, reads: &[(&str, PortType)]) -> Result<(), Clash> {
        let catalog = crate::catalog::host_steps();
        let signature: &StepSignature = catalog.iter().find(|step| step.uses == uses).unwrap();
        let defaults = signature.with.iter().map(|spec| {
            let value = given.get(&spec.name).cloned();
            let value = value.or_else(|| spec.default.clone()).unwrap_or_default();
            (spec.name.clone(), value)
        });
        let with: Map<String, Value> = defaults.collect();
        let check: TogetherCheck = signature.together.unwrap();
        let reads = reads.iter().map(|(port, holds)| ReadArtifact {
            port,
            holds: *holds,
            name: "plugin:model".to_owned(),
            origin: Origin::Unknown,
        });
        check(&Together {
            with: &with,
            reads: &reads.collect::<Vec<_>>(),
        })
    }

    fn refused(uses: &str, given: Value, reads: &[(&str, PortType)], param: &str, why: &str) {
        let clash = said(uses, given.clone(), reads).unwrap_err();
        assert_eq!(clash.param, param, "{given}");
        assert!(clash.why.contains(why), "{given}: {}", clash.why);
    }

    const SERVED: &[(&str, PortType)] = &[("model", PortType::ServedModel)];
    const LOCAL: &[(&str, PortType)] = &[("model", PortType::LanguageModel)];

    #[test]
    fn the_defaults_go_together() {
        for reads in [SERVED, LOCAL] {
            assert_eq!(said("llm:augment", json!({}), reads), Ok(()));
            assert_eq!(said("llm:judge", json!({}), reads), Ok(()));
        }
        assert_eq!(said("llm:pretrain", json!({}), &[]), Ok(()));
    }

    #[test]
    fn what_a_served_model_cannot_do_is_refused() {
        for (param, value, why) in [
            ("output_regex", json!("[a-z]{2,9}"), "chooses its tokens"),
            ("adapt_epochs", json!(1), "cannot be trained"),
            ("rivals", json!(3), "how likely"),
        ] {
            let given = json!({ param: value });
            refused("llm:augment", given.clone(), SERVED, param, why);
            assert_eq!(said("llm:augment", given, LOCAL), Ok(()));
        }
        for mode in ["cross-fit", "likelihood"] {
            let given = json!({ "mode": mode });
            refused("llm:judge", given.clone(), SERVED, "mode", mode);
            assert_eq!(said("llm:judge", given, LOCAL), Ok(()));
        }
        let none = json!({ "adapt_epochs": 0, "rivals": 0, "output_regex": "" });
        assert_eq!(said("llm:augment", none, SERVED), Ok(()));
    }

    #[test]
    fn a_pattern_must_go_with_the_style() {
        let pattern = "[a-z|]{2,9}";
        let given = json!({ "output_regex": pattern, "style": "instruction" });
        refused("llm:augment", given, LOCAL, "output_regex", "|");
        let given = json!({ "output_regex": pattern, "style": "completion" });
        assert_eq!(said("llm:augment", given, LOCAL), Ok(()));
    }

    #[test]
    fn heads_divide_the_width() {
        let given = json!({ "hidden": 16, "heads": 3 });
        let why = "3 heads do not divide `hidden = 16`";
        refused("llm:pretrain", given.clone(), &[], "heads", why);
        refused("slm:train", given, &[], "heads", why);
        let given = json!({ "hidden": 18, "heads": 6 });
        refused("llm:pretrain", given.clone(), &[], "heads", "even");
        assert_eq!(said("slm:train", given, &[]), Ok(()));
    }
}
