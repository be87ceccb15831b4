//! Everything that can go wrong in this crate: place, problem, remedy.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a model, a tokenizer, a prompt or a training run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a model folder is not there.
    #[error("model folder `{folder}` has no `{file}`; a Hugging Face folder holds `config.json`, `tokenizer.json` and `model.safetensors`, or else one `.gguf` file", folder = folder.display())]
    MissingFile {
        /// The model folder.
        folder: PathBuf,
        /// The file looked for.
        file: String,
    },
    /// A folder holds several models.
    #[error("model folder `{folder}` holds several GGUF files ({files}), and none is `model.gguf`; name the file itself, or keep one", folder = folder.display(), files = names(files))]
    SeveralModels {
        /// The folder.
        folder: PathBuf,
        /// Its GGUF files.
        files: Vec<PathBuf>,
    },
    /// A GGUF file whose tokenizer cannot be built, and no `tokenizer.json`.
    #[error("the tokenizer inside `{path}` cannot be used: {problem}; put the model's `tokenizer.json` beside it", path = path.display())]
    NoTokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with its tokenizer.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("could not {action} `{path}`", path = path.display())]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file is there but not what its name says.
    #[error("`{path}` is damaged or not of the expected format: {problem}; fetch or export it again", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file is whole, but asks for something that is not built here.
    #[error("`{path}` cannot be run: {problem}; use another model, or another file of this one", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        problem: String,
    },
    /// The model's family is not one of ours.
    #[error("`{path}` describes a `{found}` model; supported are: {supported}", path = path.display())]
    UnsupportedArchitecture {
        /// The `config.json`.
        path: PathBuf,
        /// The architecture it names.
        found: String,
        /// What this crate can load.
        supported: &'static str,
    },
    /// A model that only runs was to be trained.
    #[error(
        "a `{family}` model can be used but not trained here, only a plain Llama can; set `adapt_epochs` to 0 and judge by `likelihood` or `prompt`"
    )]
    NotTrainable {
        /// Its family.
        family: String,
    },
    /// A tensor that the configuration asks for is absent.
    #[error("tensor `{name}` is missing from the weights in `{path}`; they do not belong to its `config.json`", path = path.display())]
    MissingTensor {
        /// Name in the safetensors file.
        name: String,
        /// The folder or file.
        path: PathBuf,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "tensor `{name}` has shape {found:?}, but the configuration asks for {expected:?}; weights and `config.json` do not belong together"
    )]
    ShapeMismatch {
        /// Name in the safetensors file.
        name: String,
        /// Shape the configuration implies.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// Tokenizer and model disagree about the vocabulary.
    #[error(
        "the tokenizer has {tokenizer} tokens, but the model embeds only {model}; use the `tokenizer.json` that came with the weights"
    )]
    VocabularyMismatch {
        /// Tokens the tokenizer can emit.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// An option has a value it cannot have.
    #[error("option `{option}` is {value}; {remedy}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value, printed.
        value: String,
        /// What it should be.
        remedy: &'static str,
    },
    /// A pattern that no answer could keep to.
    #[error("the pattern `{pattern}` cannot be kept to: {problem}")]
    Pattern {
        /// The regular expression.
        pattern: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// The tokenizer library refused.
    #[error("the tokenizer failed to {action}: {problem}")]
    Tokenizer {
        /// `encode`, `train`, ...
        action: &'static str,
        /// The library's words.
        problem: String,
    },
    /// The tensor library refused.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// A device could not be opened.
    #[error(
        "no usable CUDA device; build with the `cuda` feature on a machine with an NVIDIA GPU, or use the CPU"
    )]
    Device {
        /// The cause.
        #[source]
        source: candle_core::Error,
    },
    /// Training text is absent or too short.
    #[error(
        "the corpus `{source_name}` holds {tokens} tokens, fewer than one training window of {window}; give it more text"
    )]
    CorpusTooSmall {
        /// Name of the corpus.
        source_name: String,
        /// Tokens it has.
        tokens: usize,
        /// Tokens one window needs.
        window: usize,
    },
    /// The loss or a gradient is no longer a number.
    #[error("training diverged at step {step}: the {what} is not finite; lower the learning rates")]
    Diverged {
        /// Step at which it was seen.
        step: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
    },
    /// A prompt leaves no room for an answer, or is empty for a model that needs a first token.
    #[error(
        "the prompt of request {request} has {tokens} tokens, but the model takes between 1 and {tokens_max}; shorten it or use a model with a longer context"
    )]
    PromptTooLong {
        /// Index of the request.
        request: usize,
        /// Tokens of the prompt.
        tokens: usize,
        /// Most tokens a prompt may have.
        tokens_max: usize,
    },
    /// A prompt template and its values do not fit.
    #[error("prompt template `{name}` cannot be filled: {problem}")]
    Template {
        /// The template.
        name: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// A model's own chat template cannot be used.
    #[error("the chat template in `{path}` cannot be used: {problem}; repair it, or set `chat = \"off\"` to put prompts as they are", path = path.display())]
    ChatTemplate {
        /// The file that holds it.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A sample carries a label that was not declared.
    #[error(
        "sample {sample} has the label `{label}`, which is not among the declared ones; declare it or drop the sample"
    )]
    UnknownLabel {
        /// Index of the sample.
        sample: usize,
        /// Its label.
        label: String,
    },
    /// Embeddings that should be rows of one matrix have different lengths.
    #[error(
        "embedding {index} has {found} numbers, but the first one has {expected}; embed all samples with the same model"
    )]
    RaggedEmbeddings {
        /// Index of the odd one.
        index: usize,
        /// Length of the first.
        expected: usize,
        /// Its own length.
        found: usize,
    },
    /// A step got nothing to work on.
    #[error("{what} needs at least one {of}, but got none")]
    Empty {
        /// Which function.
        what: &'static str,
        /// What was missing.
        of: &'static str,
    },
    /// A mode needs a model in this process, but it is served elsewhere.
    #[error(
        "{what} needs the probabilities of tokens, which a served model does not tell; {remedy}"
    )]
    NotLocal {
        /// What was asked for.
        what: &'static str,
        /// What can be done.
        remedy: &'static str,
    },
    /// A model served elsewhere did not answer.
    #[error(transparent)]
    Served(Box<dyn std::error::Error + Send + Sync>),
    /// The model computed something that is no number.
    #[error(
        "the model's {what} are not finite: its weights do not belong to its configuration, or it cannot be run in f32; use another model"
    )]
    NotFinite {
        /// `logits`, ...
        what: &'static str,
    },
    /// The caller raised the cancel flag.
    #[error("cancelled by the caller")]
    Cancelled,
}

impl Error {
    /// A file that cannot be used: what is not supported says so, anything else is damage.
    pub(crate) fn unusable(path: impl Into<PathBuf>, problem: String) -> Self {
        let path = path.into();
        match problem.contains("supported") {
            true => Self::Unsupported { path, problem },
            false => Self::Malformed { path, problem },
        }
    }

    /// Wraps an I/O error with what was being done to which file.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn names(files: &[PathBuf]) -> String {
    let names = files.iter().filter_map(|file| file.file_name());
    let names: Vec<String> = names.map(|name| format!("`{}`", name.display())).collect();
    names.join(", ")
}
