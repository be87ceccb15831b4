//! Everything that can go wrong in this crate: place, problem, remedy.

use std::path::PathBuf;

/// An error of the SLM engine.
#[derive(Debug, thiserror::Error)]
pub enum SlmError {
    /// Two shapes do not fit an operator.
    #[error("`{op}` cannot take shapes {left} and {right}")]
    Shape {
        /// The operator.
        op: &'static str,
        /// Shape of the first operand.
        left: String,
        /// Shape of the second operand.
        right: String,
    },
    /// An operator without a derivative stands between the loss and a parameter.
    #[error("`{op}` has no derivative; take the gradient at its output instead")]
    Derivative {
        /// The operator.
        op: String,
    },
    /// The ONNX Runtime library is not where it should be.
    #[error("no ONNX Runtime library at `{}`; run `cargo xtask setup` to fetch it", path.display())]
    LibraryMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The library exists but cannot be loaded here.
    #[error(
        "the ONNX Runtime library `{}` cannot be loaded ({reason}): it is damaged or built for another platform; remove it and run `cargo xtask setup`",
        path.display()
    )]
    LibraryUnusable {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The library is older than the interface this crate was built for.
    #[error(
        "the ONNX Runtime library `{}` is version {found}, and 1.{needed} or later is needed; remove it and run `cargo xtask setup`",
        path.display()
    )]
    LibraryTooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The oldest minor version that works.
        needed: u32,
    },
    /// The library computes on processors only.
    #[error(
        "`device = \"cuda\"` needs an ONNX Runtime built for CUDA, and `{}` is not; take `libonnxruntime.so*`, `libonnxruntime_providers_shared.so` and `libonnxruntime_providers_cuda.so` of the PyPI package `onnxruntime-gpu` into one folder and name that library, or set `device = \"cpu\"`",
        path.display()
    )]
    NoCuda {
        /// The library.
        path: PathBuf,
    },
    /// A second library in one process.
    #[error(
        "ONNX Runtime was already loaded from `{}`; one process can use one library, so `{}` is refused",
        loaded.display(), asked.display()
    )]
    LibraryAlreadyLoaded {
        /// The one in use.
        loaded: PathBuf,
        /// The one asked for.
        asked: PathBuf,
    },
    /// ONNX Runtime refused something.
    #[error("ONNX Runtime failed to {action}")]
    Runtime {
        /// What was being done.
        action: String,
        /// Its own words.
        #[source]
        source: ort::Error,
    },
    /// A file of a model folder is missing or unreadable.
    #[error("failed to read `{}`; a model folder holds `config.json`, `tokenizer.json` and `model.safetensors`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("failed to write `{}`; nothing of the model was kept", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The folder to save to exists.
    #[error("`{}` exists already; choose another place or remove it first", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// `config.json` cannot be understood.
    #[error("`{}`: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// `model.safetensors` is cut short or damaged.
    #[error("`{}` is not a whole safetensors file ({reason}); fetch or copy it again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A weight that the configuration promises is absent.
    #[error("`{}` has no tensor `{name}`; it does not belong to the `config.json` beside it", path.display())]
    WeightMissing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A weight has another shape than the configuration says.
    #[error("`{}`: tensor `{name}` has shape {found:?}, and `config.json` asks for {expected:?}", path.display())]
    WeightShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A weight has an element type that is not read.
    #[error("`{}`: tensor `{name}` is {found}; convert it to F32, F16 or BF16", path.display())]
    WeightDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its element type.
        found: String,
    },
    /// A weight with a value that is no number, or infinite.
    #[error(
        "`{}`: tensor `{name}` has a value that is no number or infinite; the model's training went wrong or the file is damaged: fetch it again, or train it anew",
        path.display()
    )]
    WeightNotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The model says something that is no number, or infinite.
    #[error(
        "the model's `{output}` for a text is no number or infinite, so that it says nothing: its weights are too large; fetch it again, or train it anew"
    )]
    OutputNotFinite {
        /// What it was asked for.
        output: String,
    },
    /// The tokenizer cannot be read, trained or applied.
    #[error("tokenizer `{place}`: {reason}")]
    Tokenizer {
        /// A file, or what was being done.
        place: String,
        /// What the tokenizer library said, and the remedy.
        reason: String,
    },
    /// Texts that no vocabulary can be trained on.
    #[error(
        "the texts hold no words, so that no vocabulary can be trained on them; look at the column of the texts"
    )]
    NoWords,
    /// The tokenizer can make ids that the model has no row for.
    #[error(
        "the tokenizer makes ids up to {highest}, and the model's embedding has {rows} rows; they belong to different models: copy `tokenizer.json` from where the weights came from"
    )]
    VocabularyMismatch {
        /// The highest id.
        highest: usize,
        /// Rows of the word embedding.
        rows: usize,
    },
    /// The tokenizer pads with another id than the model was trained with.
    #[error(
        "the tokenizer pads with id {tokenizer}, and `config.json` says `pad_token_id` {model}; they belong to different models: copy `tokenizer.json` from where the weights came from"
    )]
    PaddingMismatch {
        /// The tokenizer's.
        tokenizer: usize,
        /// The model's.
        model: usize,
    },
    /// A folder without a classification head was loaded as a classifier.
    #[error(
        "`{}` holds an encoder without a classification head; train one from it first, or use it for embeddings only",
        path.display()
    )]
    NotAClassifier {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing to train on.
    #[error(
        "the training set is empty, or nothing in it weighs anything; check the path, the filters and the weights of its records"
    )]
    NoExamples,
    /// Nothing to tell apart.
    #[error(
        "all {examples} training examples have the label `{label}`; a classifier needs at least two labels"
    )]
    OneClass {
        /// How many examples.
        examples: usize,
        /// Their label.
        label: String,
    },
    /// No head, or two that cannot be told apart.
    #[error("{problem}; give a model at least one head, and each a name of its own")]
    Heads {
        /// What is wrong.
        problem: String,
    },
    /// Fewer than two labels were declared, or one twice.
    #[error("the label list {problem}; declare at least two different labels")]
    Labels {
        /// What is wrong.
        problem: String,
    },
    /// A model with other labels than the ones asked for.
    #[error(
        "the model knows the labels {found}, and {asked} are asked for; train a model for these labels, or correct the list"
    )]
    LabelMismatch {
        /// The model's.
        found: String,
        /// The ones asked for.
        asked: String,
    },
    /// A head that the model does not have.
    #[error("there is no head {name}; the heads are {known}")]
    UnknownHead {
        /// What was asked for.
        name: String,
        /// The heads there are.
        known: String,
    },
    /// A head that no example trains.
    #[error(
        "no example trains the head `{head}`; give it examples with a weight above 0, or leave it out"
    )]
    NoExamplesOfHead {
        /// The head.
        head: String,
    },
    /// Declared labels that no example has.
    #[error(
        "no training example has {labels}; such a label is hardly ever predicted: add examples of it, take it off the list, or allow empty labels"
    )]
    EmptyLabels {
        /// The labels.
        labels: String,
    },
    /// An example whose target does not fit its head.
    #[error("example {index} does not fit the {task} head `{head}`, which wants {expected}")]
    WrongTarget {
        /// Position of the example, from 0.
        index: usize,
        /// The head.
        head: String,
        /// What the head says.
        task: &'static str,
        /// What would fit.
        expected: String,
    },
    /// A class weight that cannot be used.
    #[error(
        "the class weight of `{label}` is {weight}; weights are above 0, and the labels are {known}"
    )]
    ClassWeight {
        /// The label it was given for.
        label: String,
        /// The weight.
        weight: f32,
        /// The labels there are.
        known: String,
    },
    /// Texts that the tokenizer knows nothing of.
    #[error(
        "{count} of {of} texts, first example {first}, hold no token the model knows; drop them, or take a model whose tokenizer knows their script"
    )]
    UnknownTexts {
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
        /// Position of the first, from 0.
        first: usize,
    },
    /// A label that the head does not have.
    #[error(
        "example {index} has the label `{label}`, which is not one of the {known} labels of the head; declare it or drop the example"
    )]
    UnknownLabel {
        /// Position of the example, from 0.
        index: usize,
        /// Its label.
        label: String,
        /// How many labels the head has.
        known: usize,
    },
    /// An example with a weight that is not a finite number above zero.
    #[error("example {index} has the weight {weight}; weights are finite and at least 0")]
    Weight {
        /// Position of the example, from 0.
        index: usize,
        /// Its weight.
        weight: f32,
    },
    /// An option out of range.
    #[error("option `{name}` is {value}; {remedy}")]
    Option {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        remedy: &'static str,
    },
    /// A checkpoint that another run wrote.
    #[error(
        "the checkpoint `{}` is of a run with {differs}; remove it to start anew, or restore what it was made with",
        path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Another model, other data or other options.
        differs: String,
    },
    /// A file that no run has written down.
    #[error(
        "`{}` is no checkpoint, and is left as it is; name another file for it",
        path.display()
    )]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that is not whole.
    #[error(
        "the checkpoint `{}` is damaged ({reason}); remove it to start the run anew",
        path.display()
    )]
    CheckpointDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss became {loss} at step {step} (learning rate {learning_rate:e}); lower `learning_rate` or `clip_norm`, or lengthen the warm-up"
    )]
    Diverged {
        /// Optimizer step, from 1.
        step: usize,
        /// The learning rate of that step.
        learning_rate: f32,
        /// NaN or infinity.
        loss: f32,
    },
    /// The caller asked to stop.
    #[error("training was cancelled at step {step}")]
    Cancelled {
        /// Optimizer step, from 1.
        step: usize,
    },
}

impl SlmError {
    /// Wraps an ONNX Runtime error with what was being done.
    pub(crate) fn runtime(action: impl Into<String>) -> impl FnOnce(ort::Error) -> Self {
        let action = action.into();
        move |source| Self::Runtime { action, source }
    }

    pub(crate) fn read(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}
