//! Chat templates: the marks that an instructed model wants around a message.
//!
//! ```text
//! chat_template.jinja, tokenizer_config.json or GGUF metadata ─ ChatTemplate
//! message ─ render ─> "<|im_start|>user\n" message "<|im_end|>\n<|im_start|>assistant\n"
//! ```
//! A template is a Jinja program of whoever published the model. It sees one message and the names
//! of the special tokens, and its work is bounded by [`FUEL`].
//!
//! Deliberately absent: the clock (`strftime_now`), as an answer must not depend on the day it was
//! asked for; templates that ask whether it is there go on without. Tools, documents, several turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use serde_json::Value as Json;

use crate::error::{Error, Result};

/// Most steps of one rendering; the templates in use take a few hundred.
const FUEL: u64 = 1_000_000;

/// A model's chat template.
///
/// One that does not compile says so when it is used, not when the model is loaded: whoever asks
/// without a template need not mind.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    environment: Result<Arc<Environment<'static>>, String>,
    /// `bos_token`, `eos_token`, ... as the template names them.
    specials: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// - `path`: the file it comes from, for messages.
    /// - `specials`: texts of the special tokens, by names such as `bos_token`.
    pub fn new(path: &Path, source: String, specials: BTreeMap<String, String>) -> Self {
        Self {
            path: path.to_owned(),
            environment: compile(&source).map(Arc::new).map_err(|e| words(&e)),
            source,
            specials,
        }
    }

    /// The template of a model folder: `chat_template.jinja`, else the one in
    /// `tokenizer_config.json`. Special tokens that the latter does not name are those of
    /// `otherwise`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for a `tokenizer_config.json` that is not JSON.
    pub(crate) fn in_folder(
        folder: &Path,
        otherwise: BTreeMap<String, String>,
    ) -> Result<Option<Self>> {
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(Error::io("read", path.to_owned()));
        let (config_path, file) = (
            folder.join("tokenizer_config.json"),
            folder.join("chat_template.jinja"),
        );
        let mut config = Json::Null;
        if config_path.exists() {
            config = serde_json::from_str(&read(&config_path)?).map_err(|e| Error::Malformed {
                path: config_path.clone(),
                problem: e.to_string(),
            })?;
        }
        let mut known = otherwise;
        known.extend(specials(&config));
        if file.exists() {
            return Ok(Some(Self::new(&file, read(&file)?, known)));
        }
        let source = match &config["chat_template"] {
            Json::String(source) => source.clone(),
            // Several templates for several uses; the one for messages is `default`.
            Json::Array(named) => match named.iter().find(|t| t["name"] == "default") {
                Some(Json::Object(default)) => {
                    default["template"].as_str().unwrap_or("").to_owned()
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Self::new(&config_path, source, known)))
    }

    /// Its source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a special token such as `eos_token`, if the model names it.
    pub fn special(&self, name: &str) -> Option<&str> {
        self.specials.get(name).map(String::as_str)
    }

    /// What a model is given so that it answers a message; it may begin with the model's first
    /// token, and none is to be put before it.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the template does not compile, raises an exception, uses what is
    /// not known here, or leaves the message out.
    pub fn render(&self, message: &str) -> Result<String> {
        let refuse = |problem: String| Error::ChatTemplate {
            path: self.path.clone(),
            problem,
        };
        let environment = self.environment.as_ref().map_err(|e| refuse(e.clone()))?;
        let specials: BTreeMap<String, Value> = self
            .specials
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
            .collect();
        let values = context! {
            messages => vec![context! { role => "user", content => message }],
            add_generation_prompt => true,
            // An answer is read strictly; thoughts before it would be taken for a part of it.
            enable_thinking => false,
            tools => (),
            documents => (),
            ..Value::from(specials)
        };
        let rendered = environment
            .get_template(NAME)
            .and_then(|template| template.render(values))
            .map_err(|e| refuse(words(&e)))?;
        // Templates trim messages, and may do nothing else to them.
        if !rendered.contains(message.trim()) {
            return Err(refuse("the message is not in what it renders".to_owned()));
        }
        Ok(rendered)
    }
}

const NAME: &str = "chat";

/// The settings are those of `transformers`, for which templates are written.
fn compile(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| {
        let message = format!("it raises the exception `{message}`");
        Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned(NAME, source.to_owned())?;
    Ok(environment)
}

/// An error of the template library with its line.
fn words(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// Special tokens of a `tokenizer_config.json`: a text, or an object with its text.
fn specials(config: &Json) -> BTreeMap<String, String> {
    let entries = config.as_object().into_iter().flatten();
    entries
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, token)| {
            let text = token.as_str().or(token["content"].as_str())?;
            Some((name.clone(), text.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        let specials = [
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("pad_token", "<p>"),
        ];
        let specials = specials.map(|(name, text)| (name.to_owned(), text.to_owned()));
        ChatTemplate::new(
            Path::new("model/chat.jinja"),
            source.to_owned(),
            specials.into(),
        )
    }

    fn refusal(source: &str) -> String {
        template(source).render("hello").unwrap_err().to_string()
    }

    #[test]
    fn every_variable_is_rendered() {
        let source = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ messages[0].role }}|\
                      {{ messages[0]['content'] }}|{{ messages | length }}|\
                      {{ add_generation_prompt }}|{{ enable_thinking }}|{{ tools }}|{{ documents }}";
        assert_eq!(
            template(source).render("the message").unwrap(),
            "<s>|</s>|<p>|user|the message|1|True|False|None|None"
        );
    }

    #[test]
    fn a_template_that_loses_the_message_is_refused() {
        let message = refusal("{{ messages[0].text }}");
        assert!(message.contains("the message is not in"), "{message}");
        assert!(message.contains("`model/chat.jinja`"), "{message}");
        assert!(
            template("{{ messages[0].content | trim }}")
                .render(" a b\n")
                .is_ok()
        );
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_with_its_line_and_a_remedy() {
        let cases = [
            (
                "\n{{ raise_exception('no tools') }}",
                "exception `no tools` (line 2)",
            ),
            ("{{ messages[0].content | sing }}", "filter sing"),
            ("\n\n{{ strftime_now('%d') }}", "strftime_now"),
            ("{% for m in messages %}", "(line 1)"),
            ("{{ messages[3].content.x }}", "undefined"),
            (
                "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
                "fuel",
            ),
        ];
        for (source, part) in cases {
            let message = refusal(source);
            assert!(message.contains(part), "{message}");
            assert!(message.contains("`chat = \"off\"`"), "{message}");
        }
    }

    #[test]
    fn the_clock_is_not_there_for_templates_that_ask() {
        let source = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}{{ messages[0].content }}";
        assert_eq!(template(source).render("hello").unwrap(), "hello");
    }

    #[test]
    fn methods_of_python_and_loop_controls_work() {
        let source = "{% set ns = namespace(n=0) %}{% for m in messages %}\
                      {%- set ns.n = ns.n + 1 %}{{ m.content.split(' ')[-1].strip() }}\
                      {%- if m.get('role').startswith('us') %}{% break %}{% endif %}{% endfor %}{{ ns.n }} hi you";
        assert_eq!(template(source).render("hi you").unwrap(), "you1 hi you");
    }

    #[test]
    fn a_file_beside_comes_before_the_configuration_and_default_before_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let source = || {
            ChatTemplate::in_folder(folder.path(), BTreeMap::new())
                .unwrap()
                .map(|t| t.source)
        };
        assert_eq!(source(), None);
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"name": "default", "template": "d"}], "bos_token": {"content": "<b>"}, "eos_token": "<e>"}"#,
        );
        assert_eq!(source().as_deref(), Some("d"));
        write("chat_template.jinja", "f");
        let template = ChatTemplate::in_folder(folder.path(), BTreeMap::new())
            .unwrap()
            .unwrap();
        assert_eq!(template.source(), "f");
        assert_eq!(template.special("bos_token"), Some("<b>"));
        assert_eq!(template.special("eos_token"), Some("<e>"));
    }
}
