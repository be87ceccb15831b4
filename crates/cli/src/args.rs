//! The arguments, as clap reads them.

pub mod slm;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use noisegate_workflow::Override;

/// Runs workflows whose steps on private text can emit noised outputs only.
#[derive(Debug, Parser)]
#[command(name = "noisegate", version, max_term_width = 100)]
pub struct Arguments {
    /// Where things lie on this machine.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where things lie on this machine.
#[derive(Debug, Args)]
pub struct Place {
    /// Folder for runs, artifacts and the sites' ledgers.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = ".noisegate",
        env = "NOISEGATE_HOME"
    )]
    pub home: PathBuf,
    /// Folder of plugins; by default the nearest `plugins/` at or above the workflow file.
    #[arg(long, global = true, value_name = "DIR", env = "NOISEGATE_PLUGINS")]
    pub plugins: Option<PathBuf>,
    /// The ONNX Runtime library; by default the one that `cargo xtask setup` fetched.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NOISEGATE_ONNXRUNTIME"
    )]
    pub onnxruntime: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prove a workflow without running it; reports every error at once.
    Check(CheckWhich),
    /// Show the steps, the labels of all artifacts and the budget a run would spend.
    Plan(Which),
    /// Print the workflow as a Graphviz graph.
    Graph(Which),
    /// Run a workflow.
    Run(RunWhich),
    /// List past runs.
    Runs(Json),
    /// Show what a run did.
    Show(Shown),
    /// Attack the gate of a past run with made-up canaries: lower bounds on epsilon.
    Audit(AuditWhich),
    /// Write one page about a past run that an auditor can file.
    Report(ReportWhich),
    /// The privacy budget.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Guest components.
    #[command(subcommand)]
    Guest(GuestCommand),
    /// Privacy arithmetic.
    #[command(subcommand)]
    Privacy(PrivacyCommand),
    /// Small models on your own files, without a workflow.
    #[command(subcommand)]
    Slm(slm::SlmCommand),
    /// List the kinds of step that a workflow can name, or tell all of one.
    Steps(StepsWhich),
    /// Say what this machine has and lacks.
    Doctor(Json),
}

/// A workflow file with overrides.
#[derive(Debug, Args)]
pub struct Which {
    /// The workflow file.
    #[arg(value_name = "FILE")]
    pub workflow: PathBuf,
    /// Override a value, such as `params.epsilon=3` or `data.train=notes.jsonl`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<Override>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A workflow file to prove.
#[derive(Debug, Args)]
pub struct CheckWhich {
    /// Which workflow.
    #[command(flatten)]
    pub which: Which,
    /// Read the rows of every data set too, as a run would after its charge. For the operator of
    /// the site: what it says depends on private rows.
    #[arg(long)]
    pub rows: bool,
}

/// A workflow file and how to run it.
#[derive(Debug, Args)]
pub struct RunWhich {
    /// Which workflow.
    #[command(flatten)]
    pub which: Which,
    /// Threads that all running steps together may keep busy; by default one a core.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub cores: Option<usize>,
    /// Memory that all running steps together may plan with, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 16)]
    pub memory_gib: u64,
}

/// A kind of step.
#[derive(Debug, Args)]
pub struct StepsWhich {
    /// Such as `llm:augment` or `guest:dp-generator`; all of them in short if none is given.
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A past run.
#[derive(Debug, Args)]
pub struct Shown {
    /// Its name, or the start of it; `last` for the newest.
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which run to audit, and how hard.
#[derive(Debug, Args)]
pub struct AuditWhich {
    /// Its name, or the start of it; `last` for the newest.
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
    /// Made-up units; more can show more.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub canaries: usize,
    /// Of the lower bounds.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.95)]
    pub confidence: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which run to report on.
#[derive(Debug, Args)]
pub struct ReportWhich {
    /// Its name, or the start of it; `last` for the newest.
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
    /// Where to write the page; by default `report.html` in the run's folder.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print JSON instead.
    #[arg(long)]
    pub json: bool,
}

/// Only whether to print JSON.
#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with a ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Caps, what is spent, and the entries.
    Show(LedgerWhich),
    /// Check the hash chain and every signature; needs the file and the public key only.
    Verify(LedgerVerify),
    /// Print every entry as JSON.
    Export(LedgerWhich),
    /// Change a data set's lifetime cap; itself a signed entry.
    SetCap(LedgerCap),
}

/// Which ledger.
#[derive(Debug, Args)]
pub struct LedgerWhich {
    /// The site.
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which ledger to verify.
#[derive(Debug, Args)]
pub struct LedgerVerify {
    /// The ledger file; by default that of `--site` below the home folder.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The site.
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// The site's public key in hexadecimal, or a file that holds it; by default the one beside the ledger.
    #[arg(long, value_name = "KEY")]
    pub public_key: Option<String>,
    /// A head noted earlier, as `verify` printed it; the ledger must contain it.
    #[arg(long, value_name = "COUNT:HASH")]
    pub head: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A new cap.
#[derive(Debug, Args)]
pub struct LedgerCap {
    /// The site.
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// The data set, as `ledger show` names it.
    #[arg(long, value_name = "NAME")]
    pub data_set: String,
    /// The new cap.
    #[arg(long, allow_negative_numbers = true)]
    pub epsilon: f64,
    /// The delta at which epsilon is stated.
    #[arg(long, allow_negative_numbers = true)]
    pub delta: f64,
    /// Why; kept in the ledger.
    #[arg(long)]
    pub reason: String,
    /// The data set has not been charged yet; without this, an unknown name is a mistake.
    #[arg(long)]
    pub new: bool,
}

/// What to do with a guest.
#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Digest, imports, exports, limits, mechanism, toolchain, and whether the sandbox would load it.
    Inspect(GuestWhich),
    /// Write a folder with a guest that builds.
    New(GuestNew),
    /// Run a guest on made-up records, and say what it did with each.
    Test(GuestTest),
}

/// Which guest.
#[derive(Debug, Args)]
pub struct GuestWhich {
    /// The component.
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Build it again from its sources and compare the bytes; exit code 1 if they differ.
    #[arg(long)]
    pub rebuild: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A guest to begin.
#[derive(Debug, Args)]
pub struct GuestNew {
    /// The folder to make; its last part is the guest's name, such as `my-step`.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// The SDK's folder; by default the nearest `wasm-guests/sdk` at or above this one.
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
}

/// A guest to try out.
#[derive(Debug, Args)]
pub struct GuestTest {
    /// The component, with its `plugin.toml` beside it.
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Made-up or public rows with `text` and `label`: JSON Lines or CSV.
    #[arg(long, value_name = "FILE")]
    pub records: PathBuf,
    /// A parameter, such as `keep_per_label=5`.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub with: Vec<(String, String)>,
    /// A public input: a file, or a folder.
    #[arg(long = "input", value_name = "PORT=PATH", value_parser = pair)]
    pub inputs: Vec<(String, String)>,
    /// The budget that the noise is sized for; nothing is charged.
    #[arg(long, default_value_t = 8.0)]
    pub epsilon: f64,
    /// Its delta.
    #[arg(long, default_value_t = 1e-5)]
    pub delta: f64,
    /// Keep the outputs in this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A number of threads; so many more than there are cores only take memory, and time to end.
fn threads(text: &str) -> Result<usize, String> {
    const MOST: usize = 1024;
    let refuse = || format!("it must be a whole number from 1 to {MOST}");
    let number: usize = text.parse().map_err(|_| refuse())?;
    (1..=MOST)
        .contains(&number)
        .then_some(number)
        .ok_or_else(refuse)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as `KEY=VALUE`")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Privacy arithmetic.
#[derive(Debug, Subcommand)]
pub enum PrivacyCommand {
    /// Epsilon of a list of mechanism events, composed.
    Epsilon(EpsilonOf),
    /// The noise multiplier, or the number of steps, that meets a target.
    Calibrate(Calibrate),
}

/// Events and delta.
#[derive(Debug, Args)]
pub struct EpsilonOf {
    /// JSON: `[["sgd",q,sigma,steps],["gauss",sigma,count],["lap",scale,count],["dlap",parameter,sensitivity,count],["sglap",q,scale,count],["zcdp",rho]]`.
    #[arg(long)]
    pub events: String,
    /// Delta.
    #[arg(long, allow_negative_numbers = true)]
    pub delta: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A target for calibration.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("sought").required(true).args(["steps", "noise_multiplier"]))]
pub struct Calibrate {
    /// Target epsilon.
    #[arg(long, allow_negative_numbers = true)]
    pub epsilon: f64,
    /// Target delta.
    #[arg(long, allow_negative_numbers = true)]
    pub delta: f64,
    /// Poisson sampling rate.
    #[arg(long = "q", value_name = "Q", allow_negative_numbers = true)]
    pub sampling_rate: f64,
    /// Number of steps: prints the least noise multiplier.
    #[arg(long = "steps", value_name = "T")]
    pub steps: Option<u64>,
    /// Noise multiplier: prints the most steps.
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    pub noise_multiplier: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
