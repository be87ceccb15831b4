//! The JSON that goes over the wire: the part of the OpenAI API that all servers share.
//!
//! `completions` goes on with a text (base models), `chat/completions` answers a message
//! (instructed models).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::endpoint::Endpoint;
use crate::secret::Secret;

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
    /// `tokens_max` were made.
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

    /// SHA-256 of where and what is asked, in hex: the same digest, the same question.
    pub fn digest(&self, endpoint: &Endpoint) -> String {
        let text = format!("{}\n{}", endpoint.address(self.call()), self.body(endpoint));
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}

#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counted>,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Reads an answer; the error says in a few words what is wrong with it.
pub(crate) fn parse(body: &str, endpoint: &Endpoint) -> Result<Answer, String> {
    let reply: Reply = serde_json::from_str(body).map_err(|error| {
        let kind = if error.is_eof() {
            "it ends too early"
        } else if error.is_syntax() {
            "it is not JSON"
        } else {
            "it lacks `choices`"
        };
        kind.to_owned()
    })?;
    let choice = reply.choices.into_iter().next();
    let choice = choice.ok_or_else(|| "its `choices` are empty".to_owned())?;
    let finish = match choice.finish_reason.as_deref() {
        Some("stop" | "eos_token" | "stop_sequence") | None => Finish::Stop,
        Some("length") => Finish::Length,
        Some(_) => Finish::Other,
    };
    let text = match (choice.text, choice.message) {
        (Some(text), _) => text,
        (None, Some(message)) => message.content.unwrap_or_default(),
        (None, None) => return Err("its first choice has neither `text` nor `message`".to_owned()),
    };
    let usage = reply.usage.unwrap_or(Counted {
        prompt_tokens: 0,
        completion_tokens: 0,
    });
    Ok(Answer {
        text,
        finish,
        prompt_tokens: usage.prompt_tokens,
        answer_tokens: usage.completion_tokens,
        model: reply.model.unwrap_or_else(|| endpoint.model.clone()),
    })
}

/// The server's words in the body of a refusal, on one line, without the key and cut short.
pub(crate) fn said(body: &str, key: Option<&Secret>) -> String {
    const CHARS: usize = 200;
    let json: Option<Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        ["/error/message", "/message", "/detail", "/error"]
            .iter()
            .find_map(|path| json.pointer(path)?.as_str())
    });
    let words: Vec<&str> = message.unwrap_or(body).split_whitespace().collect();
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
        for (body, problem) in [
            ("<html>", "not JSON"),
            (r#"{"choices":[{"te"#, "too early"),
            (r#"{"error":"x"}"#, "lacks `choices`"),
            (r#"{"choices":[]}"#, "empty"),
            (r#"{"choices":[{"finish_reason":"stop"}]}"#, "neither"),
        ] {
            let found = parse(body, &endpoint()).unwrap_err();
            assert!(found.contains(problem), "{body}: {found}");
        }
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
