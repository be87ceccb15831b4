//! Tests of `generate` on small models of random weights.

use super::*;
use crate::testing;

fn run(requests: &[Request], batch_max: usize) -> Vec<Generation> {
    let options = GenerateOptions {
        batch_max,
        ..GenerateOptions::default()
    };
    let cancel = AtomicBool::new(false);
    generate(&testing::model(3), requests, &options, &mut |_| (), &cancel).unwrap()
}

fn requests() -> Vec<Request> {
    let prompts = [
        "the cat",
        "the cat",
        "where is my bank card?",
        "",
        "the dog sat on",
    ];
    let make = |(i, prompt): (usize, &&str)| Request {
        prompt: (*prompt).to_owned(),
        max_new_tokens: 5 + 7 * i,
        seed: 100 + i as u64,
        sampling: Sampling {
            temperature: 1.0,
            top_k: Some(40),
            top_p: Some(0.9),
            min_p: Some(0.01),
            repetition_penalty: Some(1.1),
        },
        ..Request::default()
    };
    prompts.iter().enumerate().map(make).collect()
}

#[test]
fn a_text_does_not_depend_on_its_batch() {
    let requests = requests();
    let together = run(&requests, 32);
    let two = run(&requests, 2);
    let alone: Vec<_> = requests
        .iter()
        .flat_map(|r| run(std::slice::from_ref(r), 1))
        .collect();
    assert_eq!(together, two);
    assert_eq!(together, alone);
    assert!(together.iter().any(|g| !g.text.is_empty()));
}

#[test]
fn seeds_decide_what_is_drawn() {
    let texts = run(&requests(), 4);
    assert_ne!(
        texts[0].text,
        texts[1].text[..texts[0].text.len().min(texts[1].text.len())]
    );
    assert_eq!(texts, run(&requests(), 4));
}

#[test]
fn a_stop_string_ends_a_text_and_is_cut_off() {
    let mut request = requests().remove(4);
    let free = run(std::slice::from_ref(&request), 1).remove(0);
    let (at, _) = free
        .text
        .char_indices()
        .nth(4)
        .expect("the text is longer than that");
    let rest: String = free.text[at..].chars().take(2).collect();
    request.stop = vec!["never seen".to_owned(), rest.clone()];
    let stopped = run(&[request], 1).remove(0);
    assert_eq!(stopped.finish, Finish::StopString);
    assert_eq!(stopped.text, free.text[..free.text.find(&rest).unwrap()]);
}

#[test]
fn a_text_ends_where_the_context_is_full() {
    let request = Request {
        prompt: "the cat sat on the mat".to_owned(),
        max_new_tokens: 10_000,
        sampling: Sampling {
            temperature: 3.0,
            ..Sampling::greedy()
        },
        seed: 2,
        ..Request::default()
    };
    let ended = run(&[request], 1).remove(0);
    assert!(matches!(
        ended.finish,
        Finish::ContextFull | Finish::EndOfText
    ));
    assert!(ended.tokens < 96);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_by_its_index() {
    let long = Request {
        prompt: "the cat ".repeat(100),
        ..Request::default()
    };
    let cancel = AtomicBool::new(false);
    let requests = [Request::default(), long];
    let options = GenerateOptions::default();
    let error = generate(
        &testing::model(3),
        &requests,
        &options,
        &mut |_| (),
        &cancel,
    )
    .unwrap_err();
    assert!(error.to_string().contains("request 1"), "{error}");
}

#[test]
fn a_raised_flag_cancels() {
    let cancel = AtomicBool::new(true);
    let options = GenerateOptions::default();
    let result = generate(
        &testing::model(3),
        &requests(),
        &options,
        &mut |_| (),
        &cancel,
    );
    assert!(matches!(result, Err(Error::Cancelled)));
}
