//! `class-centroids` through the sandbox and the gate, with a small random encoder whose
//! embeddings PyTorch has computed too.

use noisegate_sandbox::Digest;
use noisegate_tests::{Story, gated, onnxruntime, root};

/// What one text of each label embeds to, by PyTorch.
struct Reference {
    text: String,
    embedding: Vec<f64>,
}

fn references() -> [Reference; 2] {
    let path = root().join("wasm-guests/sdk/fixtures/bert.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let row = |at: usize| &file["rows"][at];
    [0, 6].map(|at| Reference {
        text: row(at)["text"].as_str().unwrap().to_owned(),
        embedding: serde_json::from_value(row(at)["embedding"].clone()).unwrap(),
    })
}

const WORKFLOW: &str = r#"
[workflow]
name = "centroids"
help = "where the labels of private messages lie"

[sites.clinic]

[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
unit = "record"
units_public = 120
labels = ["billing", "delay", "unused"]
budget = { epsilon = 10.0, delta = 1e-5 }

[steps.locate]
uses = "guest:class-centroids"
site = "clinic"
reads = { records = "data.notes", encoder = "plugin:tiny-bert" }
privacy = { epsilon = 10.0, delta = 1e-5 }
with = { max_tokens = 24 }

[exports]
centroids = { from = "locate.centroids", path = "out/centroids.json" }
"#;

/// Eighty messages of one label, forty of another, and the plugins.
fn story() -> Story {
    let story = Story::new();
    let [billing, delay] = references();
    let line = |text: &str, label: &str| {
        serde_json::json!({ "text": text, "label": label }).to_string() + "\n"
    };
    let rows = line(&billing.text, "billing").repeat(80) + &line(&delay.text, "delay").repeat(40);
    story.write("notes.jsonl", rows);
    for file in ["plugin.toml", "class-centroids.wasm"] {
        let path = root().join("plugins/class-centroids").join(file);
        story.write(
            &format!("plugins/class-centroids/{file}"),
            std::fs::read(path).unwrap(),
        );
    }
    let mut manifest = r#"[plugin]
name = "tiny-bert"
kind = "encoder"
version = "0.1.0"
licence = "Apache-2.0"
help = "a random encoder"

[model]

[model.sha256]
"#
    .to_owned();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let path = root().join("wasm-guests/sdk/fixtures/bert").join(file);
        let data = std::fs::read(path).unwrap();
        manifest += &format!("\"{file}\" = \"{}\"\n", Digest::of(&data));
        story.write(&format!("plugins/tiny-bert/{file}"), data);
    }
    story.write("plugins/tiny-bert/plugin.toml", manifest);
    story.write("centroids.toml", WORKFLOW);
    story
}

/// Each released direction is the reference's embedding of that label's text, but for the noise.
#[test]
fn centroids_point_where_the_private_texts_of_their_label_lie() {
    let story = story();
    let told = super::json(&gated::tell(&story, &["run", "centroids.toml", "--json"]));
    assert_eq!(told["outcome"], "done");
    let charges = told["charges"].as_array().unwrap();
    assert_eq!(charges.len(), 1);
    let path = story.path().join("out/centroids.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(
        file["labels"],
        serde_json::json!(["billing", "delay", "unused"])
    );
    assert_eq!(file["dim"], 16);
    let noise = file["noise"].as_f64().unwrap();
    // Epsilon 10 at delta 1e-5 is a plain Gaussian of about 0.50 (Balle and Wang, 2018).
    assert!((0.49..0.51).contains(&noise), "{noise}");
    let norms: Vec<f64> = serde_json::from_value(file["norms"].clone()).unwrap();
    let centroids: Vec<Vec<f64>> = serde_json::from_value(file["centroids"].clone()).unwrap();
    // The noise of one label is a vector of 16 normals: longer than 10 less than once in 10^80 runs.
    let noise_max = 20.0 * noise;
    for (label, (units, reference)) in [80.0, 40.0].iter().zip(references()).enumerate() {
        assert!((norms[label] - units).abs() < noise_max, "{norms:?}");
        let cosine: f64 = centroids[label]
            .iter()
            .zip(&reference.embedding)
            .map(|(one, other)| one * other)
            .sum();
        let slack = noise_max / units;
        assert!(cosine > 1.0 - slack * slack, "label {label}: {cosine}");
    }
    assert!(norms[2] < noise_max, "noise alone: {norms:?}");
    let length: f64 = centroids[2].iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-4);
}

/// What cannot work is told before the charge.
#[test]
fn an_encoder_that_does_not_fit_costs_nothing() {
    let story = story();
    let long = gated::tell(
        &story,
        &[
            "run",
            "centroids.toml",
            "--set",
            "steps.locate.with.max_tokens=40",
        ],
    );
    assert_eq!(long.code, Some(2), "{}{}", long.out, long.err);
    assert!(long.err.contains("3 to 32 tokens"), "{}", long.err);
    let ledger = gated::tell(&story, &["ledger", "show"]);
    assert!(!ledger.out.contains("notes"), "{}", ledger.out);

    let wrong = WORKFLOW.replace(
        "[exports]",
        "[steps.group]\nuses = \"llm:cluster\"\nsite = \"clinic\"\nreads = { samples = \"locate.centroids\", embedder = \"plugin:tiny-bert\" }\n\n[exports]",
    );
    story.write("wrong.toml", wrong);
    let refused = gated::tell(&story, &["check", "wrong.toml"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("centroids"), "{}", refused.err);
}

/// Of the label that no private message has, a server keeps what its owner wrote in public, and
/// nothing that was made of noise.
#[test]
fn public_samples_stand_in_where_the_centroid_says_nothing() {
    let story = story();
    let [billing, delay] = references();
    let lines = |rows: &[(&str, &str)]| {
        let line = |(text, label): &(&str, &str)| {
            serde_json::json!({ "text": text, "label": label }).to_string() + "\n"
        };
        rows.iter().map(line).collect::<String>()
    };
    let released = [
        (billing.text.as_str(), "delay"),
        (delay.text.as_str(), "delay"),
        ("made of noise", "unused"),
    ];
    story.write("released.jsonl", lines(&released));
    let public = [
        ("a bill", "billing"),
        ("nothing is used here", "unused"),
        ("left over", "unused"),
    ];
    story.write("names.jsonl", lines(&public));
    let mut workflow = WORKFLOW.replace("[exports]\n", "");
    workflow += "samples = { from = \"sort.samples\", path = \"out/samples.jsonl\" }\n";
    workflow += "report = { from = \"sort.report\", path = \"out/report.json\" }\n";
    let (head, exports) = workflow.split_once("\ncentroids = ").unwrap();
    let mut text = head.to_owned();
    for name in ["released", "names"] {
        text += &format!(
            "\n[data.{name}]\nsite = \"clinic\"\npath = \"{name}.jsonl\"\nprivate = false\nlabels = [\"billing\", \"delay\", \"unused\"]\n"
        );
    }
    text += r#"
[steps.sort]
uses = "llm:nearest-centroid"
site = "clinic"
reads = { samples = "data.released", centroids = "locate.centroids", embedder = "plugin:tiny-bert", stand_ins = "data.names" }
"#;
    text += &format!("\n[exports]\ncentroids = {exports}");
    story.write("sorted.toml", text);

    // These plugins have no ONNX Runtime beside them, which is told before the charge.
    let without = gated::tell(&story, &["run", "sorted.toml"]);
    assert_eq!(without.code, Some(2), "{}{}", without.out, without.err);
    assert!(without.err.contains("ONNX Runtime"), "{}", without.err);
    let ledger = gated::tell(&story, &["ledger", "show"]);
    assert!(!ledger.out.contains("notes"), "{}", ledger.out);

    let library = onnxruntime().display().to_string();
    let told = gated::tell(&story, &["--onnxruntime", &library, "run", "sorted.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let note = "stand-ins took the place of the samples of 1";
    assert!(told.err.contains(note), "{}", told.err);
    let path = story.path().join("out/samples.jsonl");
    let kept = lines(&[
        (&billing.text, "billing"),
        (&delay.text, "delay"),
        ("nothing is used here", "unused"),
        ("left over", "unused"),
    ]);
    assert_eq!(std::fs::read_to_string(path).unwrap(), kept);
    let path = story.path().join("out/report.json");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let labels = report["labels"].as_array().unwrap();
    let stood_in: Vec<bool> = labels.iter().map(|it| it["stand_ins"] == true).collect();
    assert_eq!(stood_in, [false, false, true], "{report}");
}
