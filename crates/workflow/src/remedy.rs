//! The stable name of each problem, and the way out of it.
//!
//! Messages (what is wrong) stand with the variants in `error.rs`; this file is the other half of
//! the same table. A remedy is one sentence that can be acted on without reading the manual.

use crate::error::{Problem, Setting, Thing};
use crate::near::quoted;

impl Problem {
    /// A stable kebab-case name for scripts, documentation and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::DuplicateName { .. } => "duplicate-name",
            Self::NotANumber { .. } => "not-a-number",
            Self::UnknownKey { .. } => "unknown-key",
            Self::MissingKey { .. } => "missing-key",
            Self::MisplacedKey { .. } => "misplaced-key",
            Self::WrongType { .. } => "wrong-type",
            Self::OutOfRange { .. } => "out-of-range",
            Self::UnknownChoice { .. } => "unknown-choice",
            Self::UnusableText { .. } => "unusable-text",
            Self::Clash { .. } => "parameters-clash",
            Self::Empty { .. } | Self::EmptyEntry { .. } => "empty-value",
            Self::Repeated { .. } => "repeated-value",
            Self::BadName { .. } => "bad-name",
            Self::ReservedName { .. } => "reserved-name",
            Self::BadReference { .. } => "bad-reference",
            Self::BadPlaceholder { .. } => "bad-placeholder",
            Self::ParamWithoutValue { .. } => "param-without-value",
            Self::Unsettable { .. } => "unsettable-key",
            Self::NotWrittenOut { .. } => "not-written-out",
            Self::ExportFormat { .. } => "export-format",
            Self::EmptyWorkflow => "empty-workflow",
            Self::Unknown { thing, .. } => match thing {
                Thing::Site => "unknown-site",
                Thing::DataSet => "unknown-data-set",
                Thing::Step => "unknown-step",
                Thing::StepKind => "unknown-step-kind",
                Thing::Plugin => "unknown-plugin",
                Thing::Param => "unknown-param",
                Thing::Export => "unknown-export",
            },
            Self::UnknownOutput { .. } => "unknown-output",
            Self::UnknownPort { .. } => "unknown-port",
            Self::MissingPort { .. } => "missing-port",
            Self::TooManyInputs { .. } => "too-many-inputs",
            Self::NoInputs { .. } => "no-inputs",
            Self::SameInputTwice { .. } => "same-input-twice",
            Self::WrongPortType { .. } => "wrong-port-type",
            Self::ReadsItself { .. } => "reads-itself",
            Self::Cycle { .. } => "cycle",
            Self::UnknownParam { .. } => "unknown-step-param",
            Self::MissingParam { .. } => "missing-param",
            Self::MissingLabels { .. } => "missing-labels",
            Self::ExportOutside { .. } => "export-outside",
            Self::SameExportPath { .. } => "same-export-path",
            Self::ExportsNoOutput { .. } => "exports-no-output",
            Self::PrivateDataLeavesSite { .. } => "private-data-leaves-site",
            Self::GuestOnAnotherSite { .. } => "guest-on-another-site",
            Self::PrivateDataExported { .. } => "private-data-exported",
            Self::PrivateDataUnreleased { .. } => "private-data-unreleased",
            Self::PrivateDataOnPublicSide { .. } => "private-data-on-public-side",
            Self::DerivedDataInGuest { .. } => "derived-data-in-guest",
            Self::MissingSetting { setting, .. } => match setting {
                Setting::Unit => "missing-unit",
                Setting::UnitsPublic => "missing-units-public",
                Setting::Budget => "missing-budget",
            },
            Self::MissingPrivacy { .. } => "missing-privacy",
            Self::UselessPrivacy { .. } => "useless-privacy",
            Self::NothingPrivate { .. } => "nothing-private",
            Self::DeltaTooLarge { .. } => "delta-too-large",
            Self::BudgetExceeded { .. } => "budget-exceeded",
            Self::BudgetExceededTogether { .. } => "budget-exceeded-together",
            Self::AddressNotAllowed { .. } => "address-not-allowed",
            Self::PrivateDataSent { .. } => "private-data-sent",
            Self::PrivateFilePublicToo { .. } => "private-file-public-too",
            Self::BudgetCountedTwice { .. } => "budget-counted-twice",
            Self::BadSignature { .. } => "bad-signature",
            Self::JudgedOnTrainingData { .. } => "judged-on-training-data",
            Self::UnusedData { .. } => "unused-data",
        }
    }

    /// Whether the file is well formed and it is the privacy promise that stands in the way.
    pub fn is_policy(&self) -> bool {
        matches!(
            self,
            Self::PrivateDataLeavesSite { .. }
                | Self::GuestOnAnotherSite { .. }
                | Self::PrivateDataExported { .. }
                | Self::PrivateDataUnreleased { .. }
                | Self::PrivateDataOnPublicSide { .. }
                | Self::DerivedDataInGuest { .. }
                | Self::AddressNotAllowed { .. }
                | Self::PrivateDataSent { .. }
                | Self::PrivateFilePublicToo { .. }
                | Self::BudgetCountedTwice { .. }
                | Self::DeltaTooLarge { .. }
                | Self::BudgetExceeded { .. }
                | Self::BudgetExceededTogether { .. }
        )
    }

    /// What to do about it, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::Syntax { .. } => "mend the line; strings stand in quotes, tables in `[…]` or `{ … }`".into(),
            Self::DuplicateName { .. } => "rename or remove one of the two".into(),
            Self::NotANumber { .. } => "write a finite number that fits 64 bits".into(),
            Self::UnknownKey { choices, .. } => choices.hint("keys"),
            Self::MissingKey { key, why, .. } => format!("add `{key}`: {why}"),
            Self::MisplacedKey { .. } => {
                "remove it; `min` and `max` go with numbers, `choices` with texts".into()
            }
            Self::WrongType { wanted, .. } => format!("write {wanted}{}", example(wanted)),
            Self::OutOfRange { range, .. } => format!("choose a value that is {range}"),
            Self::UnknownChoice { choices, .. } => choices.hint("choices"),
            Self::Clash { .. } => "change this parameter, or what it goes with".into(),
            Self::UnusableText { .. } => "change the text; a parameter with a default may be left out".into(),
            Self::Empty { .. } => "give it a value, or remove the key".into(),
            Self::EmptyEntry { .. } => {
                "give it a value, or remove it; a comma too many makes an empty one".into()
            }
            Self::Repeated { .. } => "keep one of them".into(),
            Self::BadName { .. } => {
                "begin with a letter from a to z, go on with a-z, 0-9, `-` or `_`, at most 64 in all".into()
            }
            Self::ReservedName { name } => {
                format!("choose another name: `{name}.x` already means the data set `x`")
            }
            Self::BadReference { .. } => {
                "write `data.NAME` for a data set, `STEP.PORT` for what a step makes, or `plugin:NAME`".into()
            }
            Self::BadPlaceholder { .. } => "write `{{ params.NAME }}`, with NAME declared under `[params]`".into(),
            Self::ParamWithoutValue { name } => {
                format!("give it a `default`, or run with `--set params.{name}=VALUE`")
            }
            Self::Unsettable { key } if key.ends_with(".private") => {
                "change the file itself; from outside nothing private becomes public".into()
            }
            Self::ExportFormat { .. } => {
                "end it in `.jsonl` for samples and records, in `.json` for reports and centroids, in nothing for a model's folder; exports are neither converted nor packed".into()
            }
            Self::NotWrittenOut { .. } => {
                "write `true` or `false` here: whoever approves the workflow must see which, and nothing from outside may change it".into()
            }
            Self::Unsettable { .. } => {
                "set `params.NAME`, `data.NAME` (its path), or a key such as `steps.NAME.with.KEY`".into()
            }
            Self::EmptyWorkflow => "add a `[steps.NAME]`".into(),
            Self::Unknown { thing, choices, .. } => match thing {
                Thing::Site => section_hint(choices.hint("sites"), choices.known.is_empty(), "[sites.NAME]"),
                Thing::DataSet => section_hint(choices.hint("data sets"), choices.known.is_empty(), "[data.NAME]"),
                Thing::Param => section_hint(choices.hint("parameters"), choices.known.is_empty(), "[params]"),
                thing => choices.hint(&format!("{thing}s")),
            },
            Self::UnknownOutput { choices, .. } => choices.hint("outputs"),
            Self::UnknownPort { choices, .. } => choices.hint("inputs"),
            Self::MissingPort { port, wanted, .. } => {
                let example = wanted.candidates.first().map_or("…", String::as_str);
                format!("add `{port} = \"{example}\"` to its `reads`: it takes `{}`", wanted.types())
            }
            Self::TooManyInputs { .. } => "name one artifact, without a list".into(),
            Self::NoInputs { .. } => "name an artifact, or remove the input".into(),
            Self::SameInputTwice { .. } => "keep one of them".into(),
            Self::WrongPortType { wanted, .. } if wanted.candidates.is_empty() => {
                format!("nothing in this workflow holds `{}`; add a step that makes it", wanted.types())
            }
            Self::WrongPortType { wanted, .. } => {
                format!("read what holds `{}`: {}", wanted.types(), quoted(&wanted.candidates))
            }
            Self::ReadsItself { .. } => "read the output of another step".into(),
            Self::Cycle { .. } => "let one of them read something else".into(),
            Self::UnknownParam { choices, .. } => choices.hint("parameters"),
            Self::MissingParam { param, help, .. } if help.is_empty() => format!("add `{param}` to its `with`"),
            Self::MissingParam { param, help, .. } => format!("add `{param}` to its `with`: {help}"),
            Self::MissingLabels { data, .. } => format!(
                "add `labels = [\"…\"]` or a labels file to `[data.{data}]`; labels are never read from private rows"
            ),
            Self::ExportOutside { export, .. } => format!(
                "write a path below the workflow file, without `..`, a part that begins with `.` or one that is `plugins`, such as `out/{export}`; whoever runs the workflow may lead it elsewhere with `--set exports.{export}=PATH`"
            ),
            Self::SameExportPath { .. } => "write one of them elsewhere".into(),
            Self::ExportsNoOutput { .. } => "write `from = \"STEP.PORT\"`".into(),
            Self::PrivateDataLeavesSite { owners, .. } => format!(
                "read what a guest step on site {} released instead, or move this step there",
                quoted(owners)
            ),
            Self::GuestOnAnotherSite { owner, .. } => {
                format!("run the guest on site `{owner}`; only what its gate releases may travel")
            }
            Self::PrivateDataExported { .. } => "export what a guest step released, or drop the export".into(),
            Self::PrivateDataUnreleased { .. } => {
                "read what a guest step released instead".into()
            }
            Self::PrivateDataOnPublicSide { private_ports, .. } if private_ports.is_empty() => {
                "read something public; this guest has no private side".into()
            }
            Self::PrivateDataOnPublicSide { private_ports, .. } => {
                format!("read something public, or use the private side: {}", quoted(private_ports))
            }
            Self::DerivedDataInGuest { .. } => {
                "let the guest read the private data set itself, where the gate can tell units apart".into()
            }
            Self::MissingSetting { data, setting, .. } => {
                let (example, meaning) = wanted_setting(*setting);
                format!("add `{example}` to `[data.{data}]`: {meaning}")
            },
            Self::MissingPrivacy { step, .. } => {
                format!("add `privacy = {{ epsilon = …, delta = … }}` to `[steps.{step}]`")
            }
            Self::NothingPrivate { .. } => {
                "a guest runs behind the gate, which releases what private records have in common; let it read a data set with `private = true`, or use a host step for public data".into()
            }
            Self::UselessPrivacy { .. } => {
                "remove `privacy`; it belongs to guest steps that read private data, and nothing would be charged here".into()
            }
            Self::DeltaTooLarge { .. } => {
                "choose a smaller delta: at 1 / units, publishing one unit whole would keep the promise".into()
            }
            Self::BudgetExceeded { data, .. } => format!(
                "lower the step's `privacy`, or raise `budget` in `[data.{data}]` if its owner agrees"
            ),
            Self::BudgetExceededTogether { data, .. } => format!(
                "lower the `privacy` of one of them, or raise `budget` in `[data.{data}]` if its owner agrees; within one workflow charges are added up, which its file alone shows, while the ledger composes charges of all runs, often to less"
            ),
            Self::AddressNotAllowed { site, address, .. } => format!(
                "if what was released may go there, add `sends_to = [\"{address}\"]` to `[sites.{site}]`; or read a model that is on the site"
            ),
            Self::PrivateDataSent { .. } => {
                "read what a guest step released instead, or a model that is on the site".into()
            }
            Self::PrivateFilePublicToo { .. } => {
                "declare it private in both places, or point one of them at another file".into()
            }
            Self::BudgetCountedTwice { first, .. } => {
                format!("let both steps read `data.{first}`, so that one budget covers them")
            }
            Self::BadSignature { manifest: Some(manifest), .. } => {
                format!("mend `{manifest}`; the workflow is not to blame")
            }
            Self::BadSignature { .. } => "mend the catalog; the workflow is not to blame".into(),
            Self::JudgedOnTrainingData { .. } => {
                "judge it by rows it has not seen, or the figures will flatter it".into()
            }
            Self::UnusedData { .. } => "remove the section, or read it in a step".into(),
        }
    }
}

fn section_hint(hint: String, none_declared: bool, section: &str) -> String {
    if none_declared {
        format!("declare it under `{section}`")
    } else {
        hint
    }
}

fn wanted_setting(setting: Setting) -> (&'static str, &'static str) {
    match setting {
        Setting::Unit => (
            "unit = \"record\"",
            "whom the promise protects; the name of a column stands for all rows with one value there",
        ),
        Setting::UnitsPublic => (
            "units_public = …",
            "a public figure for the number of units; the true count stays secret",
        ),
        Setting::Budget => (
            "budget = { epsilon = …, delta = … }",
            "the most that may ever be spent on it, over all runs",
        ),
    }
}

fn example(wanted: &str) -> &'static str {
    match wanted {
        "a text" => ", in quotes",
        "an integer" => ", such as `3`",
        "a number" => ", such as `0.5`",
        "true or false" => ", without quotes",
        "a list" => ", such as `[\"a\", \"b\"]`",
        _ => "",
    }
}
