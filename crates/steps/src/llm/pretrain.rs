//! `llm:pretrain`: a small language model from public text.
//!
//! ```text
//! text ──> tokenizer ──> packed windows ──> candle ──> model (Hugging Face folder, bf16)
//! held_out ───────────────────────────────────────────> report (bits per byte)
//! ```
//!
//! A document's title, if `label_column` of its data set names one, stands before
//! its text. Documents whose title also heads a held-out document are dropped.

use std::collections::HashSet;
use std::time::Instant;

use noisegate_engine::{Input, Made, Step, StepContext, StepFailure};
use noisegate_llm::pretrain::{
    Budget, Document, OptimizerOptions, PretrainOptions, Schedule, Source, bits_per_byte, export,
    pretrain,
};
use noisegate_llm::{LlamaConfig, Place, TextTokenizer};
use serde_json::json;

use crate::llm::{failure, report, write_json};
use crate::resolve::read_documents;
use crate::with::With;

/// `llm:pretrain`
pub struct Pretrain;

impl Step for Pretrain {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let began = Instant::now();
        let held_out = documents(context.inputs.all("held_out"))?;
        let corpora = corpora(context, &held_out)?;
        let tokenizer = tokenizer(context, &corpora)?;
        let mut sources = Vec::new();
        for corpus in corpora {
            let total = corpus.documents.len() as u64;
            let packed = Source::pack(
                &corpus.name,
                corpus.weight,
                corpus.documents,
                &tokenizer,
                1,
                |done| {
                    if done % 500 == 0 {
                        context.progress(done as u64, total, "encoding text");
                    }
                },
            );
            sources.push(packed.map_err(failure)?);
        }
        let options = options(context)?;
        let clock = || began.elapsed().as_secs_f64();
        let training = context.work.join("training");
        let (weights, counters) = pretrain(
            &options,
            &tokenizer,
            &sources,
            &training,
            &clock,
            &mut report(context),
            context.cancel,
        )
        .map_err(failure)?;
        let model = context.work.join("model");
        export(&model, &options.model, &tokenizer, &weights).map_err(failure)?;
        let held_out: Vec<String> = held_out.into_iter().map(|document| document.text).collect();
        let bits = if held_out.is_empty() {
            None
        } else {
            let found = bits_per_byte(
                &options.model,
                &weights,
                &tokenizer,
                &held_out,
                &mut report(context),
                context.cancel,
            );
            Some(found.map_err(failure)?.bits_per_byte)
        };
        let path = context.work.join("report.json");
        let parameters = options.model.parameters();
        write_json(
            &path,
            &json!({
                "bits_per_byte": bits,
                "parameters": parameters,
                "tokens": counters.tokens,
                "steps": counters.steps,
                "training_loss": counters.loss,
                "seconds": counters.seconds,
            }),
        )?;
        if let Some(bits) = bits {
            context.note(format!(
                "{parameters} parameters, {} tokens, {bits:.4} bits per byte on held-out text",
                counters.tokens
            ));
        }
        Ok(vec![
            Made {
                port: "model".to_owned(),
                path: model,
            },
            Made {
                port: "report".to_owned(),
                path,
            },
        ])
    }
}

struct Corpus {
    name: String,
    weight: f64,
    for_tokenizer: usize,
    documents: Vec<Document>,
}

fn documents(inputs: &[Input]) -> Result<Vec<Document>, StepFailure> {
    let mut all = Vec::new();
    for input in inputs {
        let rows = read_documents(input)?;
        all.extend(
            rows.into_iter()
                .map(|(title, text)| Document { title, text }),
        );
    }
    Ok(all)
}

fn corpora(context: &StepContext<'_>, held_out: &[Document]) -> Result<Vec<Corpus>, StepFailure> {
    let headings: HashSet<String> = held_out.iter().filter_map(heading).collect();
    let inputs = context.inputs.all("text");
    let weights = numbers(context, "weights", inputs.len(), 1.0)?;
    let for_tokenizer = numbers(context, "tokenizer_documents", inputs.len(), 2000.0)?;
    if let Some(less) = for_tokenizer.iter().find(|count| **count < 1.0) {
        return Err(StepFailure::BadInput(format!(
            "step `{}`: `tokenizer_documents` has {less}; give 1 or more for each input",
            context.step.name
        )));
    }
    let mut corpora = Vec::new();
    for ((input, weight), for_tokenizer) in inputs.iter().zip(weights).zip(for_tokenizer) {
        let mut documents = documents(std::slice::from_ref(input))?;
        let name = match input {
            Input::Data { data, .. } => data.name.to_string(),
            Input::Path { name, .. } => name.clone(),
        };
        let before = documents.len();
        documents
            .retain(|document| heading(document).is_none_or(|title| !headings.contains(&title)));
        if documents.is_empty() && before > 0 {
            return Err(StepFailure::BadInput(format!(
                "step `{}`: nothing of `{name}` is left to train on: each of its {before} documents has the title, or the first line, of one on port `held_out`; hold out others",
                context.step.name
            )));
        }
        corpora.push(Corpus {
            name,
            weight,
            for_tokenizer: for_tokenizer as usize,
            documents,
        });
    }
    Ok(corpora)
}

/// A document's title, or its first line as WikiText writes one, in lower case.
fn heading(document: &Document) -> Option<String> {
    let line = document
        .title
        .as_deref()
        .or_else(|| document.text.lines().next())?;
    let heading = line.trim().trim_matches(['=', ' ']).to_lowercase();
    (!heading.is_empty()).then_some(heading)
}

fn tokenizer(context: &StepContext<'_>, corpora: &[Corpus]) -> Result<TextTokenizer, StepFailure> {
    let size = With(&context.step.with).count("vocabulary")?;
    context.progress(0, 0, "training the tokenizer");
    let sample: Vec<String> = corpora
        .iter()
        .flat_map(|corpus| {
            corpus
                .documents
                .iter()
                .take(corpus.for_tokenizer)
                .map(Document::render)
        })
        .collect();
    TextTokenizer::train(sample.into_iter(), size).map_err(failure)
}

fn options(context: &StepContext<'_>) -> Result<PretrainOptions, StepFailure> {
    let with = With(&context.step.with);
    let model: LlamaConfig = serde_json::from_value(json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": with.count("hidden")?, "intermediate_size": with.count("intermediate")?,
        "vocab_size": with.count("vocabulary")?, "num_hidden_layers": with.count("layers")?,
        "num_attention_heads": with.count("heads")?, "num_key_value_heads": with.count("heads")?,
        "max_position_embeddings": with.count("context")?, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "hidden_act": "silu",
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
    }))
    .map_err(|error| StepFailure::BadInput(error.to_string()))?;
    let seconds = with.float_or("seconds", f64::INFINITY)?;
    Ok(PretrainOptions {
        model,
        batch_windows: with.count("batch")?,
        budget: Budget {
            tokens_max: Some(with.count("tokens")? as u64),
            seconds_max: seconds.is_finite().then_some(seconds),
        },
        schedule: Schedule {
            warmup_steps: with.count("warm_up_steps")? as u64,
            decay_from: with.float("decay_from")?,
        },
        optimizer: OptimizerOptions {
            matrix_rate: with.float("matrix_rate")?,
            adam_rate: with.float("adam_rate")?,
            ..OptimizerOptions::default()
        },
        seed: with.count("seed")? as u64,
        checkpoint_seconds: 600.0,
        report_steps: 20,
        device: Place::Cpu.open().map_err(failure)?,
    })
}

/// A list of numbers such as `"0.85, 0.15"`, one for each input, or `otherwise` for all.
fn numbers(
    context: &StepContext<'_>,
    name: &str,
    wanted: usize,
    otherwise: f64,
) -> Result<Vec<f64>, StepFailure> {
    let with = With(&context.step.with);
    let text = with.text(name)?;
    if text.trim().is_empty() {
        return Ok(vec![otherwise; wanted]);
    }
    let bad = || {
        StepFailure::BadInput(format!(
            "step `{}`: `{name}` is `{text}`; give {wanted} positive numbers with commas between",
            context.step.name
        ))
    };
    let numbers: Vec<f64> = text
        .split(',')
        .map(|part| part.trim().parse().map_err(|_| bad()))
        .collect::<Result<_, _>>()?;
    let fine = numbers.len() == wanted
        && numbers
            .iter()
            .all(|number| *number > 0.0 && number.is_finite());
    if fine { Ok(numbers) } else { Err(bad()) }
}
