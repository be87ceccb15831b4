//! How much longer the steps of a `tokenizer.json` can make a text.
//!
//! Whoever published a model wrote its steps, and they multiply: forty that double a letter make
//! one letter a terabyte. So they are weighed before the library takes them.

use serde_json::Value;
use tokenizers::normalizers::Precompiled;

/// How many times as long a part of a tokenizer may make a text; SentencePiece's parts come to 9.
const GROWTH_MAX: usize = 128;

/// Refuses a `tokenizer.json` whose steps could make a text very long, or make the library panic.
pub(super) fn refuse(bytes: &[u8]) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Parts {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        pre_tokenizer: Value,
        #[serde(default)]
        decoder: Value,
    }
    let parts: Parts = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    for (name, part) in [
        ("normalizer", &parts.normalizer),
        ("pre_tokenizer", &parts.pre_tokenizer),
        ("decoder", &parts.decoder),
    ] {
        let times = growth(part)?;
        if times > GROWTH_MAX {
            return Err(format!(
                "its `{name}` may make a text {times} times as long; at most {GROWTH_MAX} times is taken"
            ));
        }
    }
    Ok(())
}

/// How many times as long the steps make a text at worst, one after the other.
fn growth(step: &Value) -> Result<usize, String> {
    let own = match (step["type"].as_str(), &step["pattern"], &step["content"]) {
        (_, pattern, Value::String(content)) => {
            let replaced = pattern["String"].as_str().or(pattern["Regex"].as_str());
            if replaced == Some("") {
                return Err("it replaces the empty text".to_owned());
            }
            // A regular expression may match a single character.
            content
                .len()
                .div_ceil(pattern["String"].as_str().map_or(1, str::len))
        }
        // Of all code points; U+FDFA grows most.
        (Some("NFC" | "NFD"), ..) => 3,
        (Some("NFKC" | "NFKD"), ..) => 11,
        (Some("ByteLevel" | "BPEDecoder" | "CTC"), ..) => 2,
        (Some("Precompiled"), ..) => {
            // As text, since its reader borrows.
            let json = step.to_string();
            let read = serde_json::from_str::<Precompiled>(&json);
            read.map_err(|e| format!("its `Precompiled` normaliser: {e}"))?;
            1
        }
        _ => step["prepend"].as_str().map_or(1, str::len),
    };
    let fields = step
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let inner = step.as_array().into_iter().flatten().chain(fields);
    inner
        .map(growth)
        .try_fold(own.max(1), |all, times| Ok(all.saturating_mul(times?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: Value) -> Result<(), String> {
        refuse(json.to_string().as_bytes())
    }

    #[test]
    fn files_that_make_texts_very_long_are_refused() {
        let step = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        let replace = |from: &str, to: &str| serde_json::json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
        let sequence =
            |part: &str, steps: Vec<Value>| serde_json::json!({ "type": "Sequence", part: steps });
        let byte_level = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}"#;
        for (part, steps) in [
            (
                "normalizer",
                sequence("normalizers", vec![replace("e", "ee"); 40]),
            ),
            (
                "normalizer",
                step(&format!(
                    r#"{{"type": "Prepend", "prepend": "{}"}}"#,
                    "x".repeat(1000)
                )),
            ),
            (
                "pre_tokenizer",
                sequence("pretokenizers", vec![step(byte_level); 40]),
            ),
            (
                "decoder",
                sequence("decoders", vec![replace("e", "eeeeeeeeee"); 9]),
            ),
            (
                "decoder",
                sequence(
                    "decoders",
                    vec![step(r#"{"type": "BPEDecoder", "suffix": ""}"#); 40],
                ),
            ),
        ] {
            let refused = found(serde_json::json!({ part: steps })).unwrap_err();
            assert!(
                refused.contains(&format!("its `{part}` may make a text")),
                "{refused}"
            );
        }
        // Llama 2's.
        let prepend = step(r#"{"type": "Prepend", "prepend": "\u2581"}"#);
        let steps = sequence("normalizers", vec![prepend, replace(" ", "\u{2581}")]);
        assert!(found(serde_json::json!({ "normalizer": steps })).is_ok());
    }
}
