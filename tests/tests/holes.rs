//! Ways round the gate that a workflow author might try, each shut.

use noisegate_tests::{Story, Told, gated};

const ROWS: &str = "{\"text\":\"ZQMARK the bill is wrong\",\"label\":\"billing\"}\n{\"text\":\"ZQMARK still waiting\",\"label\":\"delay\"}\n";

const SYNTHESISE: &str = r#"
[workflow]
name = "synthesise"

[sites.clinic]

[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
unit = "record"
units_public = 100
labels = ["billing", "delay"]
budget = { epsilon = 10.0, delta = 1e-5 }

[steps.synthesise]
uses = "guest:dp-generator"
site = "clinic"
reads = { records = "data.notes", base = "plugin:tiny-lm" }
privacy = { epsilon = 2.0, delta = 1e-5 }
with = { steps = 1, samples_per_label = 1 }
"#;

fn story() -> Story {
    let story = Story::new();
    story.write("notes.jsonl", ROWS.repeat(20));
    story.write("workflow.toml", SYNTHESISE);
    story
}

#[track_caller]
fn refused(told: &Told, code: i32, parts: &[&str]) {
    assert_eq!(told.code, Some(code), "{}{}", told.out, told.err);
    for part in parts {
        assert!(told.err.contains(part), "`{part}` is not in: {}", told.err);
    }
    assert!(!told.err.contains("ZQMARK") && !told.out.contains("ZQMARK"));
}

/// A plugin that points at a private folder and pins nothing would hand all of it
/// to the public side.
#[test]
fn a_plugin_that_pins_nothing_or_climbs_is_refused() {
    let story = story();
    let manifest = |pins: &str| {
        format!(
            "[plugin]\nname = \"evil\"\nkind = \"language-model\"\nversion = \"1\"\nlicence = \"MIT\"\nhelp = \"x\"\n\
             [model]\nfolder = \"../..\"\n[model.sha256]\n{pins}"
        )
    };
    for pins in [
        "",
        "\"../notes.jsonl\" = \"00\"\n",
        "\"/etc/passwd\" = \"00\"\n",
    ] {
        story.write("plugins/evil/plugin.toml", manifest(pins));
        let told = story.tell(&["--plugins", "plugins", "check", "workflow.toml"]);
        refused(&told, 2, &["plugin.toml", "pinned by its bare name"]);
    }
}

/// A story whose only public input is a plugin `evil`, read by the packaged guest that gives its
/// public candidates back as samples. The guest's manifest says that they are `holds`.
fn plugin_story(holds: &str, evil: &str) -> Story {
    let story = Story::new();
    story.write("private/notes.jsonl", ROWS.repeat(20));
    let packaged = noisegate_tests::root().join("plugins/private-evolution");
    let manifest = std::fs::read_to_string(packaged.join("plugin.toml")).unwrap();
    let manifest = manifest.replacen("type = \"records\"", &format!("type = \"{holds}\""), 1);
    let code = std::fs::read(packaged.join("private-evolution.wasm")).unwrap();
    story.write("plugins/private-evolution/plugin.toml", manifest);
    story.write("plugins/private-evolution/private-evolution.wasm", code);
    story.write("plugins/evil/plugin.toml", evil);
    story.write(
        "evil.toml",
        SYNTHESISE
            .replace("\"notes.jsonl\"", "\"private/notes.jsonl\"")
            .replace("guest:dp-generator", "guest:private-evolution")
            .replace("base = \"plugin:tiny-lm\"", "candidates = \"plugin:evil\"")
            .replace("steps = 1, samples_per_label = 1", "keep_per_label = 5")
            + "[exports.samples]\nfrom = \"synthesise.samples\"\npath = \"samples.jsonl\"\n",
    );
    story
}

fn encoder(folder: &str, name: &str, sha256: &str) -> String {
    format!(
        "[plugin]\nname = \"evil\"\nkind = \"encoder\"\nversion = \"1\"\nlicence = \"MIT\"\nhelp = \"x\"\n\
         [model]\nfolder = \"{folder}\"\n[model.sha256]\n\"{name}\" = \"{sha256}\"\n"
    )
}

fn digest(content: &str) -> String {
    noisegate_sandbox::Digest::of(content.as_bytes()).to_string()
}

#[track_caller]
fn uncharged(story: &Story, parts: &[&str]) {
    let told = gated::tell(story, &["run", "evil.toml"]);
    refused(&told, 2, parts);
    assert!(!story.path().join("samples.jsonl").exists());
    let ledger = story.path().join("home/sites/clinic/ledger.db");
    assert!(!ledger.exists(), "it was charged");
}

#[test]
fn a_plugin_carries_no_private_file_past_the_gate() {
    let sha256 = digest(&ROWS.repeat(20));
    let private = encoder("../../private", "notes.jsonl", &sha256);
    let story = plugin_story("encoder", &private);
    uncharged(&story, &["`evil`", "neither in the plugin's own folder"]);
    // A digest that does not fit tells as little as one that does.
    story.write(
        "plugins/evil/plugin.toml",
        encoder("../../private", "notes.jsonl", "00"),
    );
    let told = gated::tell(&story, &["doctor"]);
    assert!(!(told.out + &told.err).contains(&sha256));

    // The private file lies in the plugin's own folder.
    story.write("plugins/evil/notes.jsonl", ROWS.repeat(20));
    story.write(
        "plugins/evil/plugin.toml",
        encoder(".", "notes.jsonl", &sha256),
    );
    let workflow = std::fs::read_to_string(story.path().join("evil.toml")).unwrap();
    let beside = workflow.replace("private/notes.jsonl", "plugins/evil/notes.jsonl");
    story.write("evil.toml", beside);
    uncharged(&story, &["`evil`", "private file of data set `notes`"]);
}

/// The pins of a served model were never looked at.
#[test]
fn a_plugin_with_a_model_beside_an_endpoint_is_refused() {
    let both = encoder("../../private", "../notes.jsonl", "00").replace("encoder", "served-model")
        + "[endpoint]\nurl = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n";
    let story = plugin_story("encoder", &both);
    uncharged(&story, &["`[model]` and `[endpoint]` exclude each other"]);
}

#[cfg(unix)]
#[test]
fn a_plugin_carries_nothing_past_the_gate_through_links() {
    use std::os::unix::fs::symlink;
    let sha256 = digest(&ROWS.repeat(20));
    let link = encoder(".", "link.jsonl", &sha256);
    let story = plugin_story("encoder", &link);
    let at = |name: &str| story.path().join(name);
    symlink(at("private/notes.jsonl"), at("plugins/evil/link.jsonl")).unwrap();
    uncharged(&story, &["`evil`", "neither in the plugin's own folder"]);

    // The folder that models are fetched to is the home folder, which holds private artifacts.
    story.write("home/store/kept.jsonl", ROWS.repeat(20));
    std::fs::create_dir_all(at("target")).unwrap();
    symlink(at("home"), at("target/noisegate")).unwrap();
    story.write(
        "plugins/evil/plugin.toml",
        encoder("../../target/noisegate/store", "kept.jsonl", &sha256),
    );
    uncharged(&story, &["`evil`", "below the home folder"]);
}

/// Weights that nobody vouches for would be read beside the pinned file.
#[test]
fn an_encoder_is_read_only_if_all_of_it_is_pinned() {
    let evil = encoder(".", "config.json", &digest("{}"));
    let story = plugin_story("encoder", &evil);
    story.write("plugins/evil/config.json", "{}");
    story.write("plugins/evil/model.safetensors", "");
    story.write("samples.jsonl", ROWS.replace("ZQMARK", ""));
    for (uses, reads) in [
        ("llm:cluster", "samples = \"data.open\", embedder"),
        ("slm:train", "records = \"data.open\", base"),
    ] {
        story.write(
            "open.toml",
            format!(
                "[workflow]\nname = \"open\"\n[sites.clinic]\n[data.open]\nsite = \"clinic\"\npath = \"samples.jsonl\"\nprivate = false\n\
                 labels = [\"billing\", \"delay\"]\n[steps.one]\nuses = \"{uses}\"\nsite = \"clinic\"\nreads = {{ {reads} = \"plugin:evil\" }}\n"
            ),
        );
        let told = gated::tell(&story, &["run", "open.toml"]);
        refused(&told, 2, &["model.safetensors", "does not pin it"]);
    }
}

#[test]
fn what_a_fetched_file_is_instead_is_not_told() {
    let story = plugin_story("encoder", &encoder("../../target/noisegate/m", "m", "00"));
    story.write("target/noisegate/m/m", "fetched");
    let told = gated::tell(&story, &["run", "evil.toml"]);
    refused(&told, 2, &["has another SHA-256, but plugin.toml pins 00"]);
    assert!(!told.err.contains(&digest("fetched")), "{}", told.err);
    story.write("plugins/evil/m", "own");
    story.write("plugins/evil/plugin.toml", encoder(".", "m", "00"));
    let told = gated::tell(&story, &["run", "evil.toml"]);
    refused(&told, 2, &[&digest("own")]);
}

#[cfg(unix)]
#[test]
fn labels_are_not_read_from_a_private_file() {
    let story = story();
    std::os::unix::fs::symlink(
        story.path().join("notes.jsonl"),
        story.path().join("labels.txt"),
    )
    .unwrap();
    story.write(
        "labels.toml",
        SYNTHESISE.replace("[\"billing\", \"delay\"]", "\"labels.txt\""),
    );
    let told = story.tell(&["run", "labels.toml"]);
    refused(
        &told,
        2,
        &[
            "may not read its labels",
            "it is the private file of data set `notes`",
        ],
    );
    assert!(!story.path().join("home/runs").exists(), "nothing ran");
}

#[test]
fn an_export_overwrites_nothing_and_stays_out_of_the_home_folder() {
    let story = story();
    let with_export = |path: &str| {
        format!(
            "{SYNTHESISE}\n[exports.samples]\nfrom = \"synthesise.samples\"\npath = \"{path}\"\n"
        )
    };
    story.write("victim.jsonl", "precious");
    std::fs::create_dir_all(story.path().join("home/sites/clinic")).unwrap();
    for (path, why) in [
        ("victim.jsonl", "there already"),
        ("home/sites/clinic/ledger.db", "below the home folder"),
        ("home/new/ledger.db", "below the home folder"),
        ("gone/../home/x", "climbs"),
    ] {
        story.write("export.toml", with_export("out/samples.jsonl"));
        let set = format!("exports.samples={path}");
        for command in ["check", "run"] {
            refused(
                &story.tell(&[command, "export.toml", "--set", &set]),
                2,
                &["export `samples`", why],
            );
        }
    }
    assert_eq!(
        std::fs::read_to_string(story.path().join("victim.jsonl")).unwrap(),
        "precious"
    );
    assert!(!story.path().join("home/runs").exists(), "nothing ran");
}

/// Only the operator leads an export out of the workflow's folder or among the plugins, also
/// where what is there already is a link.
#[cfg(unix)]
#[test]
fn a_workflow_file_writes_to_its_own_folder_alone() {
    let story = gated::story(&ROWS.repeat(6));
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), story.path().join("link")).unwrap();
    story.write(".git/hooks/sample", "");
    std::os::unix::fs::symlink(".git/hooks", story.path().join("hooks")).unwrap();
    let plugins = story.path().join("plugins");
    std::fs::rename(&plugins, story.path().join("extensions")).unwrap();
    let workflow = std::fs::read_to_string(story.path().join("gated.toml")).unwrap();
    let tell = |command: &str, more: &[&str]| {
        let line = [&["--plugins", "extensions", command, "export.toml"], more].concat();
        gated::tell(&story, &line)
    };
    let absolute = elsewhere.path().join("counts.bin").display().to_string();
    for (path, why) in [
        ("link/new/counts.bin", "out of the workflow file's folder"),
        ("hooks/post-commit", "hidden place"),
        ("extensions/mine/plugin.toml", "into the folder of plugins"),
        (absolute.as_str(), "export-outside"),
        ("../counts.bin", "export-outside"),
        ("out/.profile", "export-outside"),
        ("plugins/mine/plugin.toml", "export-outside"),
    ] {
        story.write("export.toml", workflow.replace("out/counts.bin", path));
        for command in ["check", "plan", "run"] {
            let told = tell(command, &[]);
            refused(&told, 2, &[why, "--set", "exports.counts=PATH"]);
        }
    }
    std::fs::create_dir(story.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", story.path().join("same")).unwrap();
    story.write(
        "export.toml",
        workflow.replace("out/counts.bin", "real/counts.bin")
            + "\n[exports.again]\nfrom = \"count.counts\"\npath = \"same/counts.bin\"\n",
    );
    refused(&tell("check", &[]), 2, &["export `counts` leads there too"]);
    story.write("export.toml", workflow);
    let set = format!("exports.counts={absolute}");
    let plan = tell("plan", &["--set", &set]);
    assert!(
        plan.out
            .contains(&format!("writes `count.counts` to `{absolute}`")),
        "{}",
        plan.out
    );
    assert_eq!(tell("run", &["--set", &set]).code, Some(0));
    assert!(elsewhere.path().join("counts.bin").exists());
}

#[cfg(unix)]
#[test]
fn a_private_file_is_private_through_links_of_either_kind_too() {
    let story = story();
    let at = |name: &str| story.path().join(name);
    std::os::unix::fs::symlink(at("notes.jsonl"), at("soft.jsonl")).unwrap();
    std::fs::hard_link(at("notes.jsonl"), at("hard.jsonl")).unwrap();
    story.write(
        "link.toml",
        SYNTHESISE.replace(
            "[steps.synthesise]",
            "[data.open]\nsite = \"clinic\"\npath = \"elsewhere.jsonl\"\nprivate = false\n\n[steps.synthesise]",
        ),
    );
    for link in ["soft.jsonl", "hard.jsonl"] {
        for command in ["run", "check"] {
            let set = format!("data.open={link}");
            let told = story.tell(&[command, "link.toml", "--set", &set]);
            let why = "it is the private file of data set `notes`";
            refused(&told, 2, &["data set `open` may not be public", why]);
        }
    }
}

#[test]
fn a_private_artifact_is_no_public_data_set() {
    let story = story();
    story.write("home/store/private/clinic/aa/rows.jsonl", "ZQMARK");
    story.write(
        "stored.toml",
        SYNTHESISE.replace(
            "[steps.synthesise]",
            "[data.open]\nsite = \"clinic\"\npath = \"home/store/private/clinic/aa/rows.jsonl\"\nprivate = false\n\n[steps.synthesise]",
        ),
    );
    let stored = story.path().join("home/store/private/clinic/aa/rows.jsonl");
    std::fs::hard_link(stored, story.path().join("linked.jsonl")).unwrap();
    for more in [&[][..], &["--set", "data.open=linked.jsonl"]] {
        let told = story.tell(&[&["run", "stored.toml"], more].concat());
        let why = ["data set `open` may not be public", "below the home folder"];
        refused(&told, 2, &why);
    }
}

#[test]
fn a_file_without_a_header_line_is_not_quoted() {
    let story = story();
    story.write(
        "notes.csv",
        "ZQMARK the bill is wrong,billing\nZQMARK still waiting,delay\n",
    );
    let told = story.tell(&["run", "workflow.toml", "--set", "data.notes=notes.csv"]);
    refused(&told, 2, &["notes.csv", "header line"]);
    let home = story.path().join("home/runs");
    for run in std::fs::read_dir(home).unwrap() {
        let log = std::fs::read_to_string(run.unwrap().path().join("events.jsonl")).unwrap();
        assert!(!log.contains("ZQMARK"), "{log}");
    }
}

#[test]
fn neither_another_site_nor_an_emptied_ledger_is_a_new_budget() {
    let story = story();
    let first = story.tell(&["run", "workflow.toml"]);
    assert_eq!(first.code, Some(0), "{}", first.err);

    story.write("other-site.toml", SYNTHESISE.replace("clinic", "clinic2"));
    refused(
        &story.tell(&["run", "other-site.toml"]),
        3,
        &["charged by site `clinic` already"],
    );

    let ledger = story.path().join("home/sites/clinic/ledger.db");
    for file in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(ledger.with_file_name(file));
    }
    std::fs::write(&ledger, "").unwrap();
    refused(
        &story.tell(&["run", "workflow.toml"]),
        3,
        &["was begun before and is gone or empty"],
    );
}

#[test]
fn training_on_private_records_tells_neither_labels_nor_counts() {
    let story = story();
    story.write(
        "train.toml",
        "[workflow]\nname = \"oracle\"\n[sites.clinic]\n[data.notes]\nsite = \"clinic\"\npath = \"notes.jsonl\"\nprivate = true\n\
         labels = [\"billing\", \"nobody\"]\n[steps.train]\nuses = \"slm:train\"\nsite = \"clinic\"\nreads = { records = \"data.notes\" }\n",
    );
    let told = story.tell(&["run", "train.toml"]);
    refused(&told, 2, &["empty or all of one class"]);
    assert!(
        !told.err.contains("20") || !told.err.contains("examples"),
        "{}",
        told.err
    );
}

#[cfg(unix)]
#[test]
fn the_home_folder_is_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt;
    let story = story();
    story.tell(&["run", "workflow.toml"]);
    let mode = std::fs::metadata(story.path().join("home"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// Two runs want the same ledger at once: one is charged, the other then finds no room.
#[test]
fn two_runs_at_once_take_turns_and_together_stay_below_the_cap() {
    let rows = "{\"text\":\"a note\",\"label\":\"delay\"}\n".repeat(12);
    let story = gated::story(&rows);
    let plugins = story.path().join("plugins").display().to_string();
    // Each asks for epsilon 2 of 2.5, and for something else.
    let start = |clip: &str| {
        let out = format!("exports.counts=out/{clip}.bin");
        let clip = format!("steps.count.with.clip={clip}");
        let cap = "data.notes.budget.epsilon=2.5";
        let mut line = vec!["--plugins", &plugins, "run", "gated.toml"];
        for set in [cap, &clip, &out] {
            line.extend(["--set", set]);
        }
        story.start(&line)
    };
    let runs = ["0.5", "1.5"].map(start);
    let mut ended = runs.map(|run| run.wait_with_output().unwrap());
    ended.sort_by_key(|run| run.status.code());
    let codes = [ended[0].status.code(), ended[1].status.code()];
    let said = String::from_utf8_lossy(&ended[1].stderr);
    assert_eq!(codes, [Some(0), Some(3)], "{said}");
    assert!(said.contains("above the cap of 2.5"), "{said}");
    let verified = gated::tell(&story, &["ledger", "verify"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    assert!(verified.out.contains("whole"), "{}", verified.out);
}

/// Whoever holds the turn is waited for, and a run that waits has charged nothing.
#[test]
fn a_run_waits_while_another_process_charges() {
    let story = gated::story("{\"text\":\"a note\",\"label\":\"delay\"}\n");
    let sites = story.path().join("home/sites");
    std::fs::create_dir_all(&sites).unwrap();
    let turn = std::fs::File::create(sites.join(".turn")).unwrap();
    turn.lock().unwrap();
    let plugins = story.path().join("plugins").display().to_string();
    let mut run = story.start(&["--plugins", &plugins, "run", "gated.toml"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(run.try_wait().unwrap().is_none(), "it did not wait");
    assert!(!story.path().join("out/counts.bin").exists());
    drop(turn);
    assert!(run.wait().unwrap().success());
    assert!(story.path().join("out/counts.bin").exists());
}
