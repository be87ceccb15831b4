//! The JSON that goes over the wire: the part of the OpenAI API that all servers share.
//!
//! `completions` goes on with a text (base models), `chat/completions` answers a message
//! (instructed models).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::endpoint::Endpoint;
use crate::secret::Secret;

/// An answer's text may have this many bytes, and some for each of its tokens, which have about four.
const TEXT_BYTES: usize = 4 << 10;
const TEXT_BYTES_PER_TOKEN: usize = 64;
/// So may a body, which escapes and reasoning make larger than its text.
const BODY_BYTES: u64 = 1 << 20;
const BODY_BYTES_PER_TOKEN: u64 = 1 << 10;
const BODY_BYTES_MAX: u64 = 16 << 20;

/// One prompt and how it is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The text to go on with, or the message to answer.
    pub prompt: String,
    /// Whether it is a message to answer.
    pub chat: bool,
    /// Most tokens of the answer.
    pub tokens_max: usize,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Nucleus sampling, from 0 to 1.
    pub top_p: Option<f64>,
    /// Any of these ends the answer.
    pub stop: Vec<String>,
    /// Decides the draws, as far as the server keeps to it.
    pub seed: u64,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text; empty if there is none, as after a refusal or with all tokens spent on reasoning.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt, by the server's count.
    pub prompt_tokens: u64,
    /// Tokens of the answer, by the server's count.
    pub answer_tokens: u64,
    /// What the server calls the model that answered.
    pub model: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model, or a stop string, ended it.
    Stop,
    /// `tokens_max` were made, or far more, which were cut.
    Length,
    /// Something else, such as a content filter.
    Other,
}

impl Question {
    /// The call below the endpoint's URL.
    pub(crate) fn call(&self) -> &'static str {
        if self.chat {
            "chat/completions"
        } else {
            "completions"
        }
    }

    pub(crate) fn body(&self, endpoint: &Endpoint) -> Value {
        let mut body = json!({
            "model": endpoint.model,
            "max_tokens": self.tokens_max,
            "temperature": self.temperature,
            // Some servers read it as a signed 32-bit number.
            "seed": self.seed & 0x7fff_ffff,
            "stream": false,
        });
        let prompt = if self.chat {
            (
                "messages",
                json!([{ "role": "user", "content": self.prompt }]),
            )
        } else {
            ("prompt", json!(self.prompt))
        };
        body[prompt.0] = prompt.1;
        if let Some(top_p) = self.top_p {
            body["top_p"] = json!(top_p);
        }
        if !self.stop.is_empty() {
            body["stop"] = json!(self.stop);
        }
        body
    }

    /// Most bytes that are read of what a server sends back.
    pub(crate) fn body_bytes_max(&self) -> u64 {
        let tokens = (self.tokens_max as u64).saturating_mul(BODY_BYTES_PER_TOKEN);
        tokens.saturating_add(BODY_BYTES).min(BODY_BYTES_MAX)
    }

    /// SHA-256 of where and what is asked, in hex: the same digest, the same question.
    pub fn digest(&self, endpoint: &Endpoint) -> String {
        let text = format!("{}\n{}", endpoint.address(self.call()), self.body(endpoint));
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}

impl Answer {
    /// The answer as it is kept and passed on, whatever the server heeded: without control
    /// characters other than line feeds and tabs, without the key, cut before the first stop
    /// string and to a length that `tokens_max` allows.
    pub(crate) fn fit(self, question: &Question, key: Option<&Secret>) -> Self {
        let hidden = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        let mut text = self.text.replace(hidden, "");
        if question.chat {
            // Line breaks before an answer end nothing.
            text.replace_range(..text.len() - text.trim_start().len(), "");
        }
        // After control characters, which could part it, and before a cut, which could leave a half.
        if let Some(key) = key {
            text = key.blot(&text);
        }
        let stops = question.stop.iter();
        let stop = stops.filter_map(|stop| text.find(stop.as_str())).min();
        let bytes_max = question.tokens_max.saturating_mul(TEXT_BYTES_PER_TOKEN);
        let bytes_max = text.floor_char_boundary(bytes_max.saturating_add(TEXT_BYTES));
        let finish = match stop {
            Some(at) if at <= bytes_max => Finish::Stop,
            _ if text.len() > bytes_max => Finish::Length,
            _ => self.finish,
        };
        Self {
            // A copy, so that no memory is held for the rest.
            text: text[..stop.unwrap_or(text.len()).min(bytes_max)].to_owned(),
            finish,
            model: one_line(&self.model, key),
            ..self
        }
    }
}

/// Reads an answer; the error says in a few words what is wrong with it, and quotes nothing.
pub(crate) fn parse(body: &str, endpoint: &Endpoint) -> Result<Answer, &'static str> {
    let reply: Value = serde_json::from_str(body).map_err(|error| match error.is_eof() {
        true => "it ends too early",
        false => "it is not JSON",
    })?;
    let choice = match &reply["choices"] {
        Value::Array(choices) => choices.first().ok_or("its `choices` are empty")?,
        Value::Null => return Err("it lacks `choices`"),
        _ => return Err("its `choices` are no list"),
    };
    let finish = match choice["finish_reason"].as_str() {
        Some("stop" | "eos_token" | "stop_sequence") | None => Finish::Stop,
        Some("length") => Finish::Length,
        Some(_) => Finish::Other,
    };
    let text = match (&choice["text"], &choice["message"]) {
        (Value::String(text), _) => text.clone(),
        (Value::Null, Value::Object(message)) => content(message.get("content"))?,
        (Value::Null, Value::Null) => {
            return Err("its first choice has neither `text` nor `message`");
        }
        (Value::Null, _) => return Err("the `message` of its first choice is no object"),
        _ => return Err("the `text` of its first choice is no string"),
    };
    Ok(Answer {
        text,
        finish,
        prompt_tokens: count(&reply["usage"]["prompt_tokens"]),
        answer_tokens: count(&reply["usage"]["completion_tokens"]),
        model: reply["model"]
            .as_str()
            .unwrap_or(&endpoint.model)
            .to_owned(),
    })
}

/// The text of a message, which some servers send in parts.
fn content(content: Option<&Value>) -> Result<String, &'static str> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter(|part| part["type"] == "text")
            .map(|part| part["text"].as_str().ok_or("a text part has no `text`"))
            .collect(),
        Some(_) => Err("its `content` is neither a string nor a list of parts"),
    }
}

/// A server's count; 0 if it is none. Some write a whole number as `3.0`.
fn count(value: &Value) -> u64 {
    let whole = |number: &f64| *number >= 0.0 && number.fract() == 0.0;
    let written = value.as_f64().filter(whole).map(|number| number as u64);
    value.as_u64().or(written).unwrap_or_default()
}

/// The server's words in the body of a refusal, on one line, without the key and cut short.
pub(crate) fn said(body: &str, key: Option<&Secret>) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        ["/error/message", "/message", "/detail", "/error"]
            .iter()
            .find_map(|path| json.pointer(path)?.as_str())
    });
    one_line(message.unwrap_or(body), key)
}

fn one_line(text: &str, key: Option<&Secret>) -> String {
    const CHARS: usize = 200;
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = words.join(" ").replace(|c: char| c.is_control(), "");
    // Before the cut, which could leave a part of it.
    if let Some(key) = key {
        line = key.blot(&line);
    }
    if line.chars().count() <= CHARS {
        return line;
    }
    line.chars()
        .take(CHARS)
        .chain(std::iter::once('…'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        serde_json::from_value(json!({ "url": "http://localhost/v1/", "model": "m" })).unwrap()
    }

    fn question() -> Question {
        Question {
            prompt: "go on".to_owned(),
            chat: false,
            tokens_max: 9,
            temperature: 0.5,
            top_p: None,
            stop: vec!["\n".to_owned()],
            seed: u64::MAX,
        }
    }

    #[test]
    fn a_question_is_put_as_its_kind_wants() {
        let plain = question().body(&endpoint());
        assert_eq!(plain["prompt"], "go on");
        assert_eq!(plain["seed"], 0x7fff_ffff);
        assert!(plain.get("messages").is_none() && plain.get("top_p").is_none());
        let chat = Question {
            chat: true,
            top_p: Some(0.9),
            ..question()
        };
        let body = chat.body(&endpoint());
        assert_eq!(body["messages"][0]["content"], "go on");
        assert!(body.get("prompt").is_none());
        assert_eq!(
            endpoint().address(chat.call()),
            "http://localhost/v1/chat/completions"
        );
    }

    #[test]
    fn every_part_of_a_question_is_in_its_digest() {
        let first = question().digest(&endpoint());
        assert_eq!(first, question().digest(&endpoint()));
        let other_model = Endpoint {
            model: "n".to_owned(),
            ..endpoint()
        };
        assert_ne!(first, question().digest(&other_model));
        for other in [
            Question {
                chat: true,
                ..question()
            },
            Question {
                seed: 1,
                ..question()
            },
            Question {
                tokens_max: 8,
                ..question()
            },
            Question {
                temperature: 0.6,
                ..question()
            },
            Question {
                top_p: Some(0.5),
                ..question()
            },
            Question {
                stop: vec![],
                ..question()
            },
            Question {
                prompt: "stop".to_owned(),
                ..question()
            },
        ] {
            assert_ne!(first, other.digest(&endpoint()));
        }
    }

    #[test]
    fn answers_of_either_kind_are_read_and_others_named() {
        let plain = r#"{"choices":[{"text":" a","finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1},"model":"m-2"}"#;
        let answer = parse(plain, &endpoint()).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.finish),
            (" a", Finish::Length)
        );
        assert_eq!((answer.prompt_tokens, answer.answer_tokens), (3, 1));
        assert_eq!(answer.model, "m-2");
        let chat = r#"{"choices":[{"message":{"role":"assistant","content":"b"}}],"usage":null}"#;
        assert_eq!(parse(chat, &endpoint()).unwrap().text, "b");
        for (wordless, finish) in [
            (
                r#"{"message":{"content":null,"reasoning_content":"Hm"},"finish_reason":"length"}"#,
                Finish::Length,
            ),
            (
                r#"{"message":{"content":null,"refusal":"No"},"finish_reason":"stop"}"#,
                Finish::Stop,
            ),
            (
                r#"{"message":{},"finish_reason":"content_filter"}"#,
                Finish::Other,
            ),
        ] {
            let body = format!(r#"{{"choices":[{wordless}]}}"#);
            let answer = parse(&body, &endpoint()).unwrap();
            assert_eq!((answer.text.as_str(), answer.finish), ("", finish));
        }
        let parts = r#"{"choices":[{"message":{"content":[{"type":"text","text":"a "},
            {"type":"thinking","thinking":[]},{"type":"text","text":"b"}]}}]}"#;
        assert_eq!(parse(parts, &endpoint()).unwrap().text, "a b");
        for (body, problem) in [
            ("<html>", "not JSON"),
            (r#"{"choices":[{"te"#, "too early"),
            (r#"{"error":"x"}"#, "lacks `choices`"),
            (r#"{"choices":[]}"#, "empty"),
            (r#"{"choices":[{"finish_reason":"stop"}]}"#, "neither"),
            (r#"{"choices":{}}"#, "`choices` are no list"),
            (r#"{"choices":[{"text":5}]}"#, "`text` of its first choice"),
            (r#"{"choices":[{"message":"a"}]}"#, "`message` of its first"),
            (r#"{"choices":[{"message":{"content":5}}]}"#, "`content`"),
            (
                r#"{"choices":[{"message":{"content":[{"type":"text"}]}}]}"#,
                "part has no `text`",
            ),
        ] {
            let found = parse(body, &endpoint()).unwrap_err();
            assert!(found.contains(problem), "{body}: {found}");
        }
    }

    #[test]
    fn a_count_that_is_none_is_zero() {
        for (written, tokens) in [
            ("7", 7),
            ("3.0", 3),
            ("18446744073709551615", u64::MAX),
            ("1e300", u64::MAX),
            ("null", 0),
            ("-1", 0),
            ("0.5", 0),
            (r#""many""#, 0),
        ] {
            let body = format!(
                r#"{{"choices":[{{"text":""}}],"usage":{{"completion_tokens":{written}}}}}"#
            );
            let answer = parse(&body, &endpoint()).unwrap();
            assert_eq!((answer.prompt_tokens, answer.answer_tokens), (0, tokens));
        }
        let uncounted = r#"{"choices":[{"text":"a"}],"usage":[]}"#;
        assert_eq!(parse(uncounted, &endpoint()).unwrap().answer_tokens, 0);
    }

    #[test]
    fn an_answer_is_fitted_to_its_question_and_fits_from_then_on() {
        let key = Secret::new("sk-very-secret".to_owned()).unwrap();
        let long = "\u{e9}".repeat(5000);
        for (text, fitted, finish) in [
            ("a\u{1b}[1mb\u{7}\tc", "a[1mb\tc", Finish::Other),
            ("one\r\ntwo\nthree", "one", Finish::Stop),
            ("one END two\nthree", "one ", Finish::Stop),
            ("sk-very\u{1b}-sEND", "sk-very-s", Finish::Stop),
            ("sk-very\u{1b}-secret", "[key]", Finish::Other),
            // 9 tokens of 64 bytes, and 4 KiB.
            (&long, &long[..4672], Finish::Length),
            (&format!("{long}\n"), &long[..4672], Finish::Length),
        ] {
            let answer = Answer {
                text: text.to_owned(),
                finish: Finish::Other,
                prompt_tokens: 1,
                answer_tokens: 2,
                model: format!("sk-very-secret\u{1b} {}", "m".repeat(9000)),
            };
            let asked = Question {
                stop: vec!["\n".to_owned(), "END".to_owned()],
                ..question()
            };
            let once = answer.fit(&asked, Some(&key));
            assert_eq!((once.text.as_str(), once.finish), (fitted, finish));
            assert!(once.model.starts_with("[key] m") && once.model.len() < 210);
            assert_eq!(once.clone().fit(&asked, Some(&key)), once);
        }
    }

    #[test]
    fn a_body_may_be_as_large_as_its_answer_needs() {
        let most = |tokens_max| {
            let question = Question {
                tokens_max,
                ..question()
            };
            question.body_bytes_max()
        };
        assert_eq!(most(64), (1 << 20) + (64 << 10));
        assert_eq!((most(1 << 20), most(usize::MAX)), (16 << 20, 16 << 20));
    }

    #[test]
    fn a_servers_words_are_found_and_cut() {
        let said = |body: &str| said(body, None);
        assert_eq!(
            said(r#"{"error":{"message":"no  such\nmodel"}}"#),
            "no such model"
        );
        assert_eq!(said(r#"{"detail":"full"}"#), "full");
        assert_eq!(said("plain words"), "plain words");
        assert_eq!(said(&"x".repeat(1000)).chars().count(), 201);
    }

    #[test]
    fn no_part_of_a_key_is_left_where_the_words_are_cut() {
        let key = Secret::new("sk/very+secret=0123456789abcdef".to_owned()).unwrap();
        for written in [
            "sk/very+secret=",
            "sk/very\u{0}+secret=",
            r"sk\/very\u002Bsecret\u003d",
        ] {
            let long = format!("{}{written}0123456789abcdef is wrong", "x".repeat(180));
            let message = json!({ "error": { "message": long } }).to_string();
            // As it is, as a message, as an escape within one, and where no message is known.
            let unknown = format!(r#"{{"errors":["{long}"]}}"#);
            for body in [long.clone(), message, unknown] {
                let words = said(&body, Some(&key));
                assert!(!words.contains("sk") && words.contains("[key]"), "{words}");
            }
        }
    }
}
