//! Parameters that are each in range but cannot be used together, told by `check` before a run.
//!
//! In the run it would be refused too, or have no effect; by then a budget may have been spent.

use noisegate_llm::PromptStyle;
use noisegate_workflow::{Clash, PortType, Together};

use crate::llm::augment::without_anchors;

fn clash(param: &'static str, why: impl Into<String>) -> Result<(), Clash> {
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
    heads(given)?;
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

/// Of `slm:train`.
pub fn train(given: &Together<'_>) -> Result<(), Clash> {
    if !given.reads("base", PortType::Encoder) {
        heads(given)?;
    }
    if given.count("released_first") > 0 && given.number("released_weight") == 0.0 {
        return clash(
            "released_first",
            "released records that weigh nothing teach nothing; set `released_weight` above 0, or leave it out",
        );
    }
    if given.count("patience") > 0 && given.number("validation_share") == 0.0 {
        return clash(
            "patience",
            "there is no held-out loss to wait for; set `validation_share`, such as 0.1",
        );
    }
    Ok(())
}

/// `heads` divides `hidden`.
fn heads(given: &Together<'_>) -> Result<(), Clash> {
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
    use noisegate_workflow::{StepSignature, TogetherCheck};
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
        check(&Together { with: &with, reads })
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
        assert_eq!(said("slm:train", json!({}), &[]), Ok(()));
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
        refused("slm:train", given.clone(), &[], "heads", why);
        // A base has a width of its own.
        let base = [("base", PortType::Encoder)];
        assert_eq!(said("slm:train", given, &base), Ok(()));
        let given = json!({ "hidden": 18, "heads": 6 });
        refused("llm:pretrain", given.clone(), &[], "heads", "even");
        assert_eq!(said("slm:train", given, &[]), Ok(()));
    }

    #[test]
    fn a_first_stage_needs_records_that_weigh_something() {
        let given = json!({ "released_first": 2, "released_weight": 0.0 });
        refused("slm:train", given, &[], "released_first", "released_weight");
        let given = json!({ "released_first": 2, "released_weight": 0.5 });
        assert_eq!(said("slm:train", given, &[]), Ok(()));
        let given = json!({ "released_weight": 0.0 });
        assert_eq!(said("slm:train", given, &[]), Ok(()));
    }

    #[test]
    fn patience_needs_something_to_wait_for() {
        let given = json!({ "patience": 2 });
        refused("slm:train", given, &[], "patience", "validation_share");
        let given = json!({ "patience": 2, "validation_share": 0.1 });
        assert_eq!(said("slm:train", given, &[]), Ok(()));
    }
}
