//! Measures a model folder on held-out text.
//!
//! `zstd -dc TEXT.jsonl.zst | cargo run --release -p noisegate-llm --example bits_per_byte -- FOLDER`
//!
//! Each line of the input is a JSON object with a `text`.

use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use noisegate_llm::pretrain::bits_per_byte;
use noisegate_llm::{Place, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("name a model folder")?;
    let model = load(Path::new(&folder), &Place::Cpu.open()?)?;
    let mut documents = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let row: serde_json::Value = serde_json::from_str(&line?)?;
        documents.push(
            row["text"]
                .as_str()
                .ok_or("a line has no `text`")?
                .to_owned(),
        );
    }
    let cancel = AtomicBool::new(false);
    let (config, weights) = model.llama()?;
    let found = bits_per_byte(
        &config,
        &weights,
        &model.tokenizer,
        &documents,
        &mut |_| (),
        &cancel,
    )?;
    println!(
        "{:.4} bits per byte, {:.4} nats per token, {} tokens, {} bytes",
        found.bits_per_byte, found.loss, found.tokens, found.bytes
    );
    Ok(())
}
