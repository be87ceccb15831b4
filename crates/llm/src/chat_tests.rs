//! Chat templates of three shapes, against what `transformers` renders and tokenises.
//!
//! The folders are made by `fixtures/chat.py`; a small random model is put beside each tokenizer.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::Device;

use crate::chat::ChatTemplate;
use crate::generate::{GenerateOptions, Request, Sampling, generate};
use crate::load::load;
use crate::model::LanguageModel;
use crate::pretrain::{export, init};
use crate::prompts::PromptStyle;
use crate::testing;
use crate::writer::{Answering, Writer};

#[derive(serde::Deserialize)]
struct Expected {
    message: String,
    text: String,
    ids: Vec<u32>,
}

/// With the token that ends an answer.
const SHAPES: [(&str, &str); 3] = [
    ("chatml", "<|im_end|>"),
    ("llama3", "<|eot_id|>"),
    ("gemma", "<eos>"),
];

fn folder(shape: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/chat");
    fixtures.join(shape)
}

fn expected(shape: &str) -> Vec<Expected> {
    let bytes = std::fs::read(folder(shape).join("expected.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn model(shape: &str) -> LanguageModel {
    let made = tempfile::tempdir().unwrap();
    let config = crate::config::LlamaConfig {
        max_position_embeddings: 512,
        ..init::test_config()
    };
    let weights = init::random_weights(&config, 0.25, 5).unwrap();
    export(made.path(), &config, &testing::tokenizer(), &weights).unwrap();
    for entry in std::fs::read_dir(folder(shape)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), made.path().join(entry.file_name())).unwrap();
    }
    load(made.path(), &Device::Cpu).unwrap()
}

#[test]
fn every_shape_renders_and_tokenises_as_in_transformers() {
    for (shape, end) in SHAPES {
        let model = model(shape);
        let template = model.chat.as_ref().unwrap();
        for case in expected(shape) {
            assert_eq!(
                template.render(&case.message).unwrap(),
                case.text,
                "{shape}"
            );
            let ids = model.encode_message(&case.message).unwrap();
            assert_eq!(ids, case.ids, "{shape}");
        }
        let end = model.tokenizer.token_id(end).unwrap();
        assert!(model.end_tokens().contains(&end), "{shape}");
    }
}

#[test]
fn only_messages_are_framed() {
    for (shape, _) in SHAPES {
        let mut model = model(shape);
        let case = expected(shape).remove(0);
        let request = |prompt: &str| Request {
            prompt: prompt.to_owned(),
            max_new_tokens: 12,
            sampling: Sampling::greedy(),
            ..Request::default()
        };
        let answer = |model: &LanguageModel, style| {
            let how = Answering {
                style,
                batch_max: 4,
                tell_text: false,
            };
            let requests = [request(&case.message)];
            let cancel = AtomicBool::new(false);
            model.answer(&requests, how, &mut |_| (), &cancel).unwrap()
        };
        let continued = |prompt: &str| {
            let (options, cancel) = (GenerateOptions::default(), AtomicBool::new(false));
            generate(&model, &[request(prompt)], &options, &mut |_| (), &cancel).unwrap()
        };
        let bare = continued(&case.message);
        let options = GenerateOptions {
            chat: true,
            ..GenerateOptions::default()
        };
        let (requests, cancel) = ([request(&case.message)], AtomicBool::new(false));
        let framed = generate(&model, &requests, &options, &mut |_| (), &cancel).unwrap();
        // The random model tells the two apart; what a message is framed by, the test above says.
        assert_eq!(answer(&model, PromptStyle::Instruction), framed);
        assert_ne!(framed, bare);
        // To go on with, the frame is text like any other.
        assert_ne!(
            answer(&model, PromptStyle::Instruction),
            continued(&case.text)
        );
        assert_eq!(answer(&model, PromptStyle::Completion), bare);
        model.chat = None;
        assert_eq!(answer(&model, PromptStyle::Instruction), bare);
    }
}

#[test]
fn the_frame_is_taken_from_the_room_for_prompts() {
    for (shape, _) in SHAPES {
        let model = model(shape);
        let writer: &dyn Writer = &model;
        let message = "a message of some length";
        let framed = model.encode_message(message).unwrap().len();
        let room = model.context() - writer.context();
        let begin = usize::from(model.begin_token().is_some());
        assert_eq!(
            framed + begin,
            room + writer.prompt_tokens(message).unwrap()
        );
    }
}

#[test]
fn a_conversation_that_a_template_refuses_is_refused_with_its_words() {
    let source = "{% if messages[0].role != 'system' %}\
                  {{ raise_exception('Conversations begin with a system message') }}{% endif %}";
    let mut model = model("gemma");
    let path = Path::new("gemma/chat_template.jinja");
    model.chat = Some(ChatTemplate::new(path, source.to_owned(), [].into()));
    let options = GenerateOptions {
        chat: true,
        ..GenerateOptions::default()
    };
    let cancel = AtomicBool::new(false);
    let made = generate(
        &model,
        &[Request::default()],
        &options,
        &mut |_| (),
        &cancel,
    );
    let message = made.unwrap_err().to_string();
    assert!(message.contains("`Conversations begin with"), "{message}");
}
