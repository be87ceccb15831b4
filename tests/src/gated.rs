//! A story with a guest behind the gate that takes no time: it counts units.
//!
//! ```text
//! plugins/counter/  the audit's canary, made to contribute 1e12 to lane 0 for every unit
//! plugins/shape/    its only public input: [lanes, queries]
//! gated.toml        one step on one private data set, its output exported
//! ```

use std::path::PathBuf;

use noisegate_sandbox::Digest;
use noisegate_steps::audit::CANARY;

use crate::{Story, Told};

/// Lanes of the counter's contribution.
pub const LANES: u32 = 8;
/// Queries it asks.
pub const STEPS: u32 = 3;

/// The counter's component.
///
/// # Panics
/// If the canary is no longer the text that this was written for.
pub fn counter() -> Vec<u8> {
    wat::parse_str(counter_text()).expect("the counter is a component")
}

/// The same, as text.
///
/// # Panics
/// As for [`counter`].
pub fn counter_text() -> String {
    let lane = "(i64.extend_i32_u (local.get $lane))";
    assert!(CANARY.contains(lane), "the canary has changed");
    CANARY.replace(lane, "(i64.const 0)")
}

/// The shape that the counter reads first.
pub fn shape(lanes: u32, queries: u32) -> Vec<u8> {
    [lanes, queries]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// A story with the counter's plugins and `gated.toml`, whose private file holds `rows`.
pub fn story(rows: &str) -> Story {
    let story = Story::new();
    let (counter, shape) = (counter(), shape(LANES, STEPS));
    story.write("plugins/counter/counter.wasm", &counter);
    story.write("plugins/counter/plugin.toml", counter_manifest(&counter));
    story.write("plugins/shape/files/shape", &shape);
    story.write("plugins/shape/plugin.toml", shape_manifest(&shape));
    story.write("notes.jsonl", rows);
    story.write("gated.toml", workflow());
    story
}

/// Runs `noisegate` with the story's own plugins.
///
/// # Panics
/// If it cannot be started.
pub fn tell(story: &Story, arguments: &[&str]) -> Told {
    let output = story
        .command(arguments)
        .env("NOISEGATE_PLUGINS", plugins(story))
        .output()
        .expect("noisegate can be started");
    Told {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn plugins(story: &Story) -> PathBuf {
    story.path().join("plugins")
}

fn counter_manifest(component: &[u8]) -> String {
    let sha256 = Digest::of(component);
    format!(
        r#"
[plugin]
name = "counter"
kind = "guest"
version = "0.1.0"
licence = "Apache-2.0"
world = "noisegate:client/client-step@0.1.0"
help = "counts units"

[component]
file = "counter.wasm"
sha256 = "{sha256}"
builder = "this test"
fuel_per_unit = 10000000
memory_bytes_max = 16777216

[mechanism]
kind = "gaussian-sum"

[[reads]]
port = "base"
type = "language-model"

[[outputs]]
port = "counts"
type = "records"
file = "released"
"#
    )
}

fn shape_manifest(shape: &[u8]) -> String {
    let sha256 = Digest::of(shape);
    format!(
        r#"
[plugin]
name = "shape"
kind = "language-model"
version = "0.1.0"
licence = "Apache-2.0"
help = "lanes and queries"

[model]
folder = "files"
sha256 = {{ shape = "{sha256}" }}
"#
    )
}

fn workflow() -> String {
    format!(
        r#"
[workflow]
name = "gated"
help = "counts <units> & releases the count"

[sites.clinic]

[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
unit = "record"
units_public = 20
labels = ["billing", "delay"]
budget = {{ epsilon = 4.0, delta = 1e-5 }}

[steps.count]
uses = "guest:counter"
site = "clinic"
reads = {{ records = "data.notes", base = "plugin:shape" }}
privacy = {{ epsilon = 2.0, delta = 1e-5 }}
with = {{ sampling_rate = 0.5, steps = {STEPS}, clip = 1.0 }}

[exports]
counts = {{ from = "count.counts", path = "out/counts.bin" }}
"#
    )
}
