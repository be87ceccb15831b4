//! Tests of `score` on small models of random weights.

use super::*;
use crate::testing;

fn run(requests: &[ScoreRequest]) -> Vec<Score> {
    score(
        &testing::model(3),
        requests,
        &mut |_| (),
        &AtomicBool::new(false),
    )
    .unwrap()
}

fn request(prompt: &str, continuation: &str) -> ScoreRequest {
    ScoreRequest {
        prompt: prompt.to_owned(),
        continuation: continuation.to_owned(),
    }
}

/// The definition, one token at a time.
fn by_hand(model: &LanguageModel, prompt: &[u32], continuation: &[u32]) -> f64 {
    let mut text = prompt.to_vec();
    let mut sum = 0.0;
    for target in continuation {
        let mut session = model.network.session(1, text.len(), 1).unwrap();
        let segment = Segment {
            slot: 0,
            position: 0,
            tokens: &text,
            keep: 1,
        };
        session.forward(&[segment]).unwrap();
        let logits = session.logits(0, 1).unwrap().to_vec();
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        sum += f64::from(logits[*target as usize]) - total.ln();
        text.push(*target);
    }
    sum / continuation.len() as f64
}

#[test]
fn scores_are_those_of_the_definition_alone_or_together() {
    let model = testing::model(3);
    let requests = [
        request("the cat", " sat on the mat"),
        request("the cat", " and the dog"),
        request("where is my", " bank card?"),
        request("", "the dog"),
        request("", "the cat sat"),
    ];
    for (request, score) in requests.iter().zip(run(&requests)) {
        let mut prompt = model.encode_prompt(&request.prompt).unwrap();
        if prompt.is_empty() {
            prompt.push(model.end_tokens()[0]);
        }
        let continuation = model.tokenizer.encode(&request.continuation).unwrap();
        let expected = by_hand(&model, &prompt, &continuation);
        assert_eq!(score.tokens, continuation.len());
        assert!(
            (score.mean_log_likelihood - expected).abs() < 1e-4,
            "{score:?} {expected}"
        );
    }
}

#[test]
fn long_prompts_lose_their_beginning_and_long_continuations_their_end() {
    let scores = run(&[
        request(&"the cat and the dog ".repeat(40), " sat on"),
        request("the", &" cat and the dog".repeat(60)),
        request("the", ""),
    ]);
    assert!(scores[0].tokens > 0 && scores[0].mean_log_likelihood < 0.0);
    assert_eq!(scores[1].tokens, 96);
    assert_eq!(scores[2].tokens, 0);
}
