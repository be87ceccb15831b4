//! The reference of the workflow file holds what the program holds.

use noisegate_tests::{Story, root};

fn page() -> String {
    std::fs::read_to_string(root().join("docs/workflow.md")).unwrap()
}

#[test]
fn every_workflow_of_the_reference_passes_check() {
    let (story, page) = (Story::new(), page());
    let blocks: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .map(|after| after.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() >= 2);
    for (number, block) in blocks.iter().enumerate() {
        let name = format!("example-{number}.toml");
        story.write(&name, block);
        let told = story.tell(&["check", &name]);
        assert_eq!(told.code, Some(0), "{block}\n{}", told.err);
        assert!(!told.err.contains("warning"), "{}", told.err);
    }
}

#[test]
fn the_reference_names_every_port_and_parameter_of_every_host_step() {
    let page = page();
    let told = Story::new().tell(&["steps", "--json"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let steps: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let mut host = 0;
    for step in steps.as_array().unwrap() {
        if step["placement"] != "host" {
            continue;
        }
        host += 1;
        let uses = step["uses"].as_str().unwrap();
        let (_, after) = page
            .split_once(&format!("### `{uses}`"))
            .unwrap_or_else(|| panic!("no section of `{uses}`"));
        let section = after.split("\n### ").next().unwrap();
        for part in ["reads", "makes", "with"] {
            for named in step[part].as_array().unwrap() {
                let name = named["name"].as_str().unwrap();
                assert!(section.contains(&format!("`{name}`")), "{uses}: `{name}`");
            }
        }
    }
    assert!(host >= 9);
}

#[test]
fn an_unknown_kind_is_told_beside_those_there_are() {
    let told = Story::new().tell(&["steps", "llm:augmint"]);
    assert_eq!(told.code, Some(2));
    assert!(told.err.contains("llm:augment") && told.err.contains("guest:dp-generator"));
}
