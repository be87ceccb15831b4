//! What a step that reads private records took is told to the second.

use serde_json::Value;

use super::budget::done;

/// How long a look at private records took may depend on what they say.
#[test]
fn what_a_step_that_reads_private_records_took_is_told_in_whole_seconds() {
    let story = done();
    let runs = std::fs::read_dir(story.path().join("home/runs")).unwrap();
    let run = runs.map(|run| run.unwrap().path()).next().unwrap();
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let result: Value = serde_json::from_str(&read("result.json")).unwrap();
    let seconds = result["seconds"]["count"].as_f64().unwrap();
    assert!(seconds >= 1.0 && seconds.fract() == 0.0, "{result}");
    for line in read("events.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["at_ms"].as_u64().unwrap() % 1000, 0, "{event}");
        let seconds = event["seconds"].as_f64().unwrap_or_default();
        assert_eq!(seconds.fract(), 0.0, "{event}");
    }
}
