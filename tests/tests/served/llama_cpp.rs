//! The same against a real server: llama.cpp with SmolLM2-135M-Instruct.
//!
//! `cargo xtask setup smollm2 llama-cpp`, then `cargo xtask test --run-ignored only llama_cpp`
//! (nextest) or `cargo xtask test llama_cpp -- --ignored`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use noisegate_tests::root;

use super::{tell, write_story};

struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let here = root().join("target/noisegate");
        let mut process = Command::new("python3")
            .arg(root().join("tests/tests/served/llama_server.py"))
            .arg(here.join("smollm2/model.gguf"))
            .env("PYTHONPATH", here.join("llama-cpp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 can be started");
        let mut url = String::new();
        BufReader::new(process.stdout.take().expect("it is piped"))
            .read_line(&mut url)
            .expect("the server says where it is");
        let url = url.trim().to_owned();
        assert!(
            url.starts_with("http://127.0.0.1:"),
            "no server: `cargo xtask setup smollm2 llama-cpp`"
        );
        Server { process, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const STEPS: &str = r#"
[steps.continued]
uses = "llm:augment"
site = "server"
reads = { demonstrations = "data.released", model = "plugin:ward-llm" }
with = { samples_per_label = 5, style = "completion", keep_demonstrations = false }

[steps.instructed]
uses = "llm:augment"
site = "server"
reads = { demonstrations = "data.released", model = "plugin:ward-llm" }
with = { samples_per_label = 2, samples_per_answer = 2, keep_demonstrations = false }

[exports]
continued = { from = "continued.samples", path = "out/continued.jsonl" }
instructed = { from = "instructed.samples", path = "out/instructed.jsonl" }
"#;

#[test]
#[ignore = "needs `cargo xtask setup smollm2 llama-cpp`"]
fn llama_cpp_writes_samples_and_what_it_wrote_is_not_asked_for_again() {
    let server = Server::start();
    let story = write_story(&format!("{}/v1", server.url), &server.url, STEPS);
    let read = |name: &str| std::fs::read_to_string(story.path().join("out").join(name)).unwrap();

    let told = tell(&story, &["run", "served.toml"], Some("any"));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let continued = read("continued.jsonl");
    let rows: Vec<serde_json::Value> = continued
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for label in ["billing", "results"] {
        let made = rows.iter().filter(|row| row["label"] == label).count();
        assert_eq!(made, 5, "{continued}");
    }
    let instructed = read("instructed.jsonl");

    drop(server);
    std::fs::remove_dir_all(story.path().join("out")).unwrap();
    let again = tell(&story, &["run", "served.toml"], Some("any"));
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.err);
    assert_eq!(read("continued.jsonl"), continued);
    assert_eq!(read("instructed.jsonl"), instructed);
}
