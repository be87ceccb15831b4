//! Small parts for unit tests, made in the test itself.

use crate::config::LlamaConfig;
use crate::model::{LanguageModel, weights_digest};
use crate::pretrain::init;
use crate::tokenizer::TextTokenizer;

/// A byte-level tokenizer of 300 tokens.
pub(crate) fn tokenizer() -> TextTokenizer {
    let text = "the cat sat on the mat and the dog sat on the log; where is my bank card? \
                the bank sent my card to the cat and the dog. what is the rate of the bank? ";
    TextTokenizer::train(std::iter::repeat_n(text, 4), 300).expect("the sample is long enough")
}

/// A model of random weights with a context of 96 tokens.
pub(crate) fn model(seed: u64) -> LanguageModel {
    model_of_context(seed, init::test_config().max_position_embeddings)
}

/// A model of random weights with room for long prompts.
pub(crate) fn model_of_context(seed: u64, context: usize) -> LanguageModel {
    let tokenizer = tokenizer();
    let config = LlamaConfig {
        vocab_size: tokenizer.vocab_size(),
        max_position_embeddings: context,
        ..init::test_config()
    };
    let weights = init::random_weights(&config, 0.25, seed).expect("sizes are valid");
    let digest = weights_digest(&config, &weights).expect("weights are on the CPU");
    LanguageModel::new(config, &weights, tokenizer, digest).expect("parts belong together")
}
