//! The arguments of `noisegate slm …`.
//!
//! The parameters of training and evaluation are not listed here: they are those of the steps
//! `slm:train` and `slm:evaluate`, taken from their signatures.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use noisegate_steps::slm::{evaluate_signature, train_signature};
use noisegate_workflow::{ParamKind, ParamSpec, StepSignature};

/// What to do with a small model.
#[derive(Debug, Subcommand)]
pub enum SlmCommand {
    /// Train a model on files of labelled rows.
    Train(SlmTrain),
    /// Score a model on a file of labelled rows.
    Evaluate(SlmEvaluate),
    /// Say what a model thinks of texts: one JSON object a text.
    Predict(SlmTexts),
    /// Turn texts into vectors of length 1: one JSON array a text.
    Embed(SlmTexts),
    /// Write a model folder as one `.onnx` file with its weights inside.
    Export(SlmExport),
}

/// Which columns, and which labels.
#[derive(Debug, Args)]
pub struct SlmRows {
    /// The column that holds the text.
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text_column: String,
    /// The column that holds the label.
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label_column: String,
    /// The labels, with commas between; by default those that occur.
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub labels: Vec<String>,
}

/// What to train on.
#[derive(Debug, Args)]
pub struct SlmTrain {
    /// Files of labelled rows, `.jsonl` or `.csv`, perhaps `.zst` or `.gz`; a name before it is what
    /// `--tasks` calls it, as `data.NAME`.
    #[arg(value_name = "[NAME=]FILE", required = true)]
    pub records: Vec<String>,
    /// A file of rows that a language model wrote, JSON Lines of `text` and `label`.
    #[arg(long, value_name = "[NAME=]FILE")]
    pub released: Vec<String>,
    /// The model folder to fine-tune; by default a small model from scratch.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Where to put the model folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write the run down in this file now and then; if it exists, go on from there.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The column that says whose text it is, such as `patient_id`: `--validation-share` holds back
    /// all texts of a person or none.
    #[arg(long, value_name = "COLUMN")]
    pub unit_column: Option<String>,
    /// Threads; by default one a core.
    #[arg(long, value_name = "N", value_parser = super::threads)]
    pub threads: Option<usize>,
    /// Columns and labels.
    #[command(flatten)]
    pub rows: SlmRows,
    /// The step's parameters.
    #[command(flatten)]
    pub parameters: TrainParameters,
}

/// What to score.
#[derive(Debug, Args)]
pub struct SlmEvaluate {
    /// The model folder.
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// The file of labelled rows.
    #[arg(value_name = "FILE")]
    pub records: PathBuf,
    /// Another model folder, to compare with by paired bootstrap.
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// Put `report.json` and `report.html` into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Threads; by default one a core.
    #[arg(long, value_name = "N", value_parser = super::threads)]
    pub threads: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Columns and labels.
    #[command(flatten)]
    pub rows: SlmRows,
    /// The step's parameters.
    #[command(flatten)]
    pub parameters: EvaluateParameters,
}

/// A model and texts.
#[derive(Debug, Args)]
pub struct SlmTexts {
    /// The model folder.
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// The texts; by default the lines of standard input.
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// Multiply 8-bit integers: faster on most processors, a little less exact.
    #[arg(long)]
    pub int8: bool,
    /// What computes: `cpu`, `cuda`, or `cuda:` and the number of a card.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Threads; by default one a core.
    #[arg(long, value_name = "N", value_parser = super::threads)]
    pub threads: Option<usize>,
}

/// A model and where to write it.
#[derive(Debug, Args)]
pub struct SlmExport {
    /// The model folder.
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// The file to write.
    #[arg(value_name = "FILE.onnx")]
    pub out: PathBuf,
    /// Write the weights of products as 8-bit integers: a smaller file, a little less exact.
    #[arg(long)]
    pub int8: bool,
}

/// What was given of the parameters of `slm:train`.
#[derive(Debug)]
pub struct TrainParameters(pub BTreeMap<String, String>);

/// What was given of the parameters of `slm:evaluate`.
#[derive(Debug)]
pub struct EvaluateParameters(pub BTreeMap<String, String>);

macro_rules! parameters_of {
    ($name:ident, $signature:path) => {
        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                add(command, $signature())
            }

            fn augment_args_for_update(command: Command) -> Command {
                add(command, $signature())
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(given(matches, $signature())))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.extend(given(matches, $signature()));
                Ok(())
            }
        }
    };
}

parameters_of!(TrainParameters, train_signature);
parameters_of!(EvaluateParameters, evaluate_signature);

/// One option a parameter. The names live as long as the program, which parses once.
fn add(command: Command, signature: StepSignature) -> Command {
    let option = |spec: ParamSpec| {
        let shown: &'static str = spec.name.replace('_', "-").leak();
        let help = help(&spec);
        let id: &'static str = spec.name.leak();
        let option = Arg::new(id).long(shown).help(help).overrides_with(id);
        match spec.kind {
            ParamKind::Bool => option
                .value_name("BOOL")
                .num_args(0..=1)
                .default_missing_value("true"),
            ParamKind::Int { .. } => option.value_name("N"),
            ParamKind::Float { .. } => option.value_name("X"),
            ParamKind::Text => option.value_name("TEXT"),
            ParamKind::Choice(_) => option.value_name("WORD"),
        }
    };
    command.args(signature.with.into_iter().map(option))
}

fn help(spec: &ParamSpec) -> String {
    let range = match &spec.kind {
        ParamKind::Int { min, max } => format!("{min} to {max}"),
        ParamKind::Float { min, max } => format!("{min} to {max}"),
        ParamKind::Choice(words) => words.join(", "),
        ParamKind::Bool | ParamKind::Text => String::new(),
    };
    let default = match &spec.default {
        Some(value) if !value.is_null() && *value != "" => format!("default {value}"),
        _ => String::new(),
    };
    let notes: Vec<String> = [range, default]
        .into_iter()
        .filter(|n| !n.is_empty())
        .collect();
    match notes.is_empty() {
        true => spec.help.clone(),
        false => format!("{} [{}]", spec.help, notes.join("; ")),
    }
}

fn given(matches: &ArgMatches, signature: StepSignature) -> BTreeMap<String, String> {
    let names = signature.with.into_iter().map(|spec| spec.name);
    names
        .filter_map(|name| {
            let value = matches.get_one::<String>(&name)?.clone();
            Some((name, value))
        })
        .collect()
}
