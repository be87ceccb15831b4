//! Constraints on a byte-level model of random weights, whose free texts are noise.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::generate::{Finish, GenerateOptions, Generation, Request, Sampling, generate};
use crate::testing;

fn request(pattern: &str, seed: u64) -> Request {
    Request {
        prompt: "the cat".to_owned(),
        max_new_tokens: 24,
        pattern: Some(pattern.to_owned()),
        sampling: Sampling {
            temperature: 1.5,
            ..Sampling::greedy()
        },
        seed,
        ..Request::default()
    }
}

fn answer(requests: &[Request], batch_max: usize) -> Result<Vec<Generation>> {
    let options = GenerateOptions {
        batch_max,
        chat: false,
    };
    let cancel = AtomicBool::new(false);
    generate(&testing::model(7), requests, &options, &mut |_| (), &cancel)
}

fn matches(pattern: &str, text: &str) -> bool {
    let language = Language::compile(pattern).unwrap();
    let state = language.follow(0, text.as_bytes());
    state != DEAD && language.accepts(state)
}

#[test]
fn every_text_matches_however_short_its_budget() {
    for pattern in [
        "[0-9]{4}-[0-9]{2}-[0-9]{2}",
        "(?:yes|no), because [a-z ]{3,60}\\.",
        "\\{\"label\": \"(?:bank|pets)\"\\}",
        "[\u{4e00}-\u{4fff}]{2,6}",
        "a|ab|abc",
        "[a-z]+",
    ] {
        let needed = Language::compile(pattern).unwrap().distances(&[true; 256])[0] as usize + 1;
        for max_new_tokens in needed..needed + 4 {
            let requests: Vec<Request> = (0..6)
                .map(|seed| Request {
                    max_new_tokens,
                    ..request(pattern, seed)
                })
                .collect();
            for made in answer(&requests, 4).unwrap() {
                assert!(matches(pattern, &made.text), "{pattern}: {made:?}");
                assert!(made.tokens <= max_new_tokens, "{pattern}: {made:?}");
            }
        }
    }
}

#[test]
fn a_text_that_may_not_go_on_ends_at_once() {
    let made = answer(&[request("[0-9]{3}", 1)], 1).unwrap();
    assert_eq!((made[0].finish, made[0].text.len()), (Finish::EndOfText, 3));
}

#[test]
fn texts_depend_neither_on_the_batch_nor_on_other_patterns() {
    let patterns = [
        Some("[a-z ]{5,20}\\."),
        None,
        Some("[0-9]+"),
        Some("[a-z ]{5,20}\\."),
    ];
    let requests: Vec<Request> = patterns
        .iter()
        .enumerate()
        .map(|(seed, pattern)| Request {
            pattern: pattern.map(str::to_owned),
            ..request("", seed as u64)
        })
        .collect();
    let together = answer(&requests, 4).unwrap();
    assert_eq!(together, answer(&requests, 1).unwrap());
    let alone: Vec<Generation> = requests
        .iter()
        .flat_map(|request| answer(std::slice::from_ref(request), 4).unwrap())
        .collect();
    assert_eq!(together, alone);
}

#[test]
fn a_text_ends_at_its_stop_string_and_matches_without_it() {
    let pattern = " ?[a-z][a-z ]*\\.";
    let stopping = |seed| Request {
        stop: vec!["\n".to_owned()],
        max_new_tokens: 90,
        ..request(pattern, seed)
    };
    let requests: Vec<Request> = (0..12).map(stopping).collect();
    let made = answer(&requests, 5).unwrap();
    assert!(
        made.iter().all(|made| matches(pattern, &made.text)),
        "{made:?}"
    );
    let ways: Vec<Finish> = made.iter().map(|made| made.finish).collect();
    assert!(ways.contains(&Finish::StopString), "{ways:?}");
}

#[test]
fn what_no_answer_could_keep_to_is_refused() {
    let refusal = |request: Request| answer(&[request], 1).unwrap_err().to_string();
    let short = refusal(Request {
        max_new_tokens: 8,
        ..request("[0-9]{20}", 0)
    });
    assert!(
        short.contains("up to 21 tokens") && short.contains("8"),
        "{short}"
    );
    assert!(refusal(request("", 0)).contains("nothing but the empty text"));
    assert!(refusal(request("a(", 0)).contains("unclosed group"));
    let stop = |pattern| Request {
        stop: vec!["\n\n".to_owned()],
        ..request(pattern, 0)
    };
    assert!(refusal(stop("[a-z\\s]+\\.")).contains("could be cut at"));
    // Cut at the first of three line breaks, `x` would be left, which does not match.
    assert!(refusal(stop("x\n")).contains("could be cut at"));
    assert!(answer(&[stop("x(?:\ny){0,3}")], 1).is_ok());
    let several = Request {
        stop: vec!["a".to_owned(), "b".to_owned()],
        ..request("c+", 0)
    };
    assert!(refusal(several).contains("one stop string"));
}

#[test]
fn parts_of_a_frame_are_kept_out_of_a_sample() {
    assert!(check_parts("[^|\n]+", &["\n", "|||"]).is_ok());
    let refusal = |pattern: &str| {
        check_parts(pattern, &["\n", "|||"])
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(".+").contains("\"|||\""));
    assert!(refusal("[^|]+").contains("\"\\n\""));
    assert!(refusal("[a-z]*").contains("empty text"));
}

#[test]
fn an_escaped_text_is_itself() {
    for text in ["a|b (c)*", "caf\u{e9} #1", "\\x{41}"] {
        assert!(matches(&escaped(text), text), "{text}");
    }
}

/// A SentencePiece vocabulary with tokens for bytes, of a model that was trained.
#[test]
fn a_trained_model_with_a_sentencepiece_vocabulary_keeps_to_patterns() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let stories = folder.join("../../../shared/models/stories260k");
    if !stories.is_dir() {
        println!("skipped: `{}` is not on this machine", stories.display());
        return;
    }
    let file = |name| stories.join(name);
    let model =
        crate::llama2c::load_llama2c(&file("stories260K.bin"), &file("tok512.bin")).unwrap();
    for pattern in [
        "Once upon a time, there was a (?:girl|boy|cat) named [A-Z][a-z]{2,8}\\.",
        "[0-9]{3}: caf\u{e9} \u{4f60}",
        " two  spaces",
    ] {
        let requests: Vec<Request> = (0..4)
            .map(|seed| Request {
                prompt: String::new(),
                max_new_tokens: 100,
                ..request(pattern, seed)
            })
            .collect();
        let cancel = AtomicBool::new(false);
        let options = GenerateOptions::default();
        let made = generate(&model, &requests, &options, &mut |_| (), &cancel).unwrap();
        assert!(
            made.iter().all(|made| matches(pattern, &made.text)),
            "{pattern}: {made:?}"
        );
    }
}

/// The model that the project ships, as `llm:augment` asks it.
#[test]
fn the_shipped_model_writes_samples_of_a_form() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/tiny-lm");
    let model = crate::load(&folder, &candle_core::Device::Cpu).unwrap();
    let text = "[A-Z][a-z ,']{20,80}[.?!]";
    let pattern = format!(" ?(?:{text})");
    let requests: Vec<Request> = (0..6)
        .map(|seed| Request {
            prompt: "Topic: billing\nMessage: My invoice is wrong again.\nTopic: billing\nMessage:"
                .to_owned(),
            stop: vec!["\n".to_owned()],
            // Enough for any text of the pattern, and at times too few for the model's own.
            max_new_tokens: [100, 24][seed as usize % 2],
            ..request(&pattern, seed)
        })
        .collect();
    let cancel = AtomicBool::new(false);
    let options = GenerateOptions::default();
    let made = generate(&model, &requests, &options, &mut |_| (), &cancel).unwrap();
    for made in &made {
        println!("{made:?}");
    }
    assert!(
        made.iter().all(|made| matches(text, made.text.trim())),
        "{made:?}"
    );
}
