//! Chat templates: the marks that an instructed model wants around a message.
//!
//! ```text
//! chat_template.jinja, tokenizer_config.json or GGUF metadata ─ ChatTemplate
//! message ─ render ─> "<|im_start|>user\n" message "<|im_end|>\n<|im_start|>assistant\n"
//! ```
//! A template is a Jinja program of whoever published the model. It sees one message and the names
//! of the special tokens. Its work and memory are bounded by [`FUEL`]; where the library writes
//! before it charges, this file charges first. What is left over, decision 042 says.
//!
//! Deliberately absent: the clock (`strftime_now`), as an answer must not depend on the day it was
//! asked for; templates that ask whether it is there go on without. Tools, documents, several turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, StringInput, Value, ValueKind};
use minijinja::{Environment, ErrorKind, State, context, escape_formatter, filters};
use serde_json::Value as Json;

use crate::error::{Error, Result};

/// Most work of one rendering, in steps or 64 bytes; the fixtures' templates take less than 100.
const FUEL: u64 = 20_000;
/// Longest template; those in use have up to thirty thousand bytes.
const SOURCE_BYTES_MAX: usize = 100_000;
/// Each byte of a template is one more operator in a row at most; to compile them takes so much.
const STACK_BYTES_PER_BYTE: usize = 1024;
/// One more unit for so many bytes of the message: a template may go over it sixteen times.
const MESSAGE_BYTES_PER_FUEL: usize = 4;
/// A unit nests a value once at most, and to let go of it, or to write it, takes so much stack.
const STACK_BYTES_PER_FUEL: usize = 2048;

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
            environment: checked(&source).map(Arc::new),
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
        let fuel = FUEL + (message.len() / MESSAGE_BYTES_PER_FUEL) as u64;
        let mut environment = Environment::clone(environment);
        environment.set_fuel(Some(fuel));
        let render = move || {
            let template = environment.get_template(NAME).map_err(|e| words(&e))?;
            template.render(values).map_err(|e| words(&e))
        };
        let rendered = on_stack(fuel as usize * STACK_BYTES_PER_FUEL, render).map_err(refuse)?;
        // Templates trim messages, and may do nothing else to them.
        if !rendered.contains(message.trim()) {
            return Err(refuse("the message is not in what it renders".to_owned()));
        }
        Ok(rendered)
    }
}

const NAME: &str = "chat";

/// The library recurses without a bound of its own; memory for a stack is only taken when used.
fn on_stack<T: Send>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(bytes);
        let thread = builder.spawn_scoped(scope, work);
        let thread = thread.map_err(|e| format!("no thread can be had for it: {e}"))?;
        let died = |_| Err("the template library cannot work with it".to_owned());
        thread.join().unwrap_or_else(died)
    })
}

fn checked(source: &str) -> Result<Environment<'static>, String> {
    let bytes = source.len();
    if bytes > SOURCE_BYTES_MAX {
        return Err(format!(
            "it has {bytes} bytes, more than {SOURCE_BYTES_MAX}"
        ));
    }
    let stack = (1 << 20) + bytes * STACK_BYTES_PER_BYTE;
    on_stack(stack, || compile(source).map_err(|e| words(&e)))
}

/// The settings are those of `transformers`, for which templates are written.
fn compile(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_formatter(|out, state, value| {
        charge_inside(state, value)?;
        escape_formatter(out, state, value)
    });
    environment.set_unknown_method_callback(method);
    environment.add_filter("join", join);
    environment.add_filter("tojson", tojson);
    // They write without charging first, and no template for messages needs them.
    environment.remove_filter("pprint");
    environment.remove_filter("sum");
    environment.add_function("raise_exception", |message: String| {
        let message = format!("it raises the exception `{message}`");
        Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned(NAME, source.to_owned())?;
    Ok(environment)
}

/// Charges for all that a value writes: a list may hold a long text many times over, or itself a
/// list that does.
fn charge(state: &State, value: &Value) -> Result<(), minijinja::Error> {
    state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 64)?;
    charge_inside(state, value)
}

/// The same without the value itself, which the library charges for.
fn charge_inside(state: &State, value: &Value) -> Result<(), minijinja::Error> {
    if value.as_object().is_none() {
        return Ok(());
    }
    for item in value.try_iter().into_iter().flatten() {
        charge(state, &item)?;
        if value.kind() == ValueKind::Map {
            charge(state, &value.get_item(&item)?)?;
        }
    }
    Ok(())
}

fn join(
    state: &mut State,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    more: Kwargs,
) -> Result<Value, minijinja::Error> {
    charge_inside(state, value)?;
    filters::join(state, value, joiner, attribute, more)
}

fn tojson(
    state: &State,
    value: &Value,
    indent: Option<Value>,
    more: Kwargs,
) -> Result<Value, minijinja::Error> {
    let wide = |indent: &Value| indent.as_i64().is_some_and(|indent| indent > WIDTH_MAX);
    let named = more.get::<Option<Value>>("indent")?;
    if indent.iter().chain(&named).any(wide) {
        return Err(ErrorKind::OutOfFuel.into());
    }
    charge(state, value)?;
    filters::tojson(value, indent, more)
}

/// Widest indentation or field.
const WIDTH_MAX: i64 = 999;

/// Python's methods.
fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    if name == "join" || name == "format" {
        arguments
            .iter()
            .try_for_each(|value| charge(state, value))?;
    }
    let mut numbers = value
        .as_str()
        .unwrap_or("")
        .split(|c: char| !c.is_ascii_digit());
    if name == "format" && numbers.any(|digits| digits.len() > 3) {
        return Err(ErrorKind::OutOfFuel.into());
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

/// An error of the template library with its line.
fn words(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        _ if error.kind() == ErrorKind::OutOfFuel => {
            "it takes more work or memory than any template should".to_owned()
        }
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
                "more work or memory",
            ),
        ];
        for (source, part) in cases {
            let message = refusal(source);
            assert!(message.contains(part), "{message}");
            assert!(message.contains("`chat = \"off\"`"), "{message}");
        }
    }

    #[test]
    fn neither_stack_nor_memory_can_be_had_without_end() {
        let endless = [
            // Values in values, let go of, written and compared.
            "{% set ns = namespace(s=[]) %}{% for i in range(90000) %}{% set ns.s = [ns.s] %}{% endfor %}",
            "{% set ns = namespace(s=[], t=[]) %}{% for i in range(1000) %}{% set ns.s = [ns.s] %}\
             {% set ns.t = [ns.t] %}{% endfor %}{{ ns.s ~ '' }}{{ ns.s }}{{ ns.s == ns.t }}{{ range(90000) | list }}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(90000) %}{% set ns.s = {'a': [ns.s] * 2} %}{% endfor %}",
            // The same values many times over.
            "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}",
            "{% set s = 'x' * 500000 %}{{ ([s] * 100000) | join | length }}",
            "{% set s = 'x' * 500000 %}{{ ''.join([s] * 100000) | length }}",
            "{% set s = 'x' * 500000 %}{{ [s] * 100000 }}",
            "{% set s = 'x' * 500000 %}{% set t %}{{ [s] * 100000 }}{% endset %}",
            "{% set s = 'x' * 500000 %}{{ '{} {}'.format([s] * 100000, 1) | length }}",
            // Long texts.
            "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}",
            "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
            "{{ 'x' * 1000000000 }}",
            "{{ 'x' | indent(1000000000, true) }}",
            "{{ [1] | tojson(indent=1000000000) }}",
            "{{ [1] | tojson(1000000000) }}",
            "{{ '{:1000000000}'.format(1) }}",
            "{{ '{:.1000000000f}'.format(1.5) }}",
            "{{ '%1000000000d' | format(1) }}",
            "{{ [] | slice(1000000000) | list }}",
            "{{ [1] | batch(1000000000, 'x') | list }}",
        ];
        for source in endless {
            let message = refusal(&format!("{source}{{{{ messages[0].content }}}}"));
            assert!(
                message.contains("more work or memory"),
                "{source}: {message}"
            );
        }
        for (begin, again, end) in [
            ("{{ 1", "+1", " }}"),
            ("{{ ", "-", "1 }}"),
            ("{{ ", "not ", "1 }}"),
            ("{{ x", ".a", " }}"),
            ("{{ x", "[0]", " }}"),
            ("{{ x", "|e", " }}"),
            ("{% if x %}", "{% elif x %}", "{% endif %}"),
        ] {
            let repeated = again.repeat(99_000 / again.len());
            // Some of these compile; what they render does not hold the message.
            refusal(&format!("{begin}{repeated}{end}"));
        }
        assert!(refusal(&"x".repeat(SOURCE_BYTES_MAX + 1)).contains("it has 100001 bytes"));
        let calls = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        assert!(refusal(calls).contains("`chat = \"off\"`"));
    }

    #[test]
    fn a_long_message_may_be_looked_at_often() {
        let message = "word ".repeat(200_000) + ".";
        let source = "{% if messages[0].content.startswith('<') or '</t>' in messages[0].content %}x{% endif %}\
                      {{ '<' ~ (messages[0].content | trim | replace('\t', ' ')) ~ '>' }}";
        assert!(template(source).render(&message).unwrap().ends_with(".>"));
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
