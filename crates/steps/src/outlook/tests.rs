//! Judgements of plans before anything is charged.

use noisegate_workflow::{Source, load};

use super::*;

#[test]
fn a_request_is_the_same_only_if_all_it_depends_on_is() {
    let text = "[workflow]\nname = \"w\"\n[sites.s]\n[data.d]\nsite = \"s\"\npath = \"d.jsonl\"\n\
                private = false\nlabels = [\"a\", \"b\"]\n[steps.train]\nuses = \"slm:train\"\n\
                site = \"s\"\nreads = { records = \"data.d\" }\n";
    let plugins = Plugins::default();
    let catalog = crate::catalog(&plugins);
    let checked = load(Source::new("w.toml", text), &[], &catalog).unwrap();
    let here = Path::new(".");
    let ground = Ground {
        plan: &checked.plan,
        workflow_folder: here,
        plugins: &plugins,
        sites: here,
    };
    let request = |parameters: Option<&str>, guest: &str| Request {
        site: "s".to_owned(),
        data_set: "/d".to_owned(),
        data: Some(Digest::of(b"d")),
        guest: Digest::of(guest.as_bytes()),
        parameters: parameters.map(|text| Digest::of(text.as_bytes())),
        unit: "record".to_owned(),
        cap: Cap {
            epsilon: noisegate_privacy::Epsilon::new(1.0).unwrap(),
            delta: noisegate_privacy::Delta::new(1e-5).unwrap(),
        },
        events: Vec::new(),
    };
    let judge = Judge {
        ground,
        ledgers: BTreeMap::new(),
        charged: vec![request(Some("p"), "g")],
        anew: BTreeSet::new(),
    };
    let answered = |parameters, guest, anew| judge.answered(&request(parameters, guest), anew);
    assert_eq!(answered(Some("p"), "g", false), Answered::Yes);
    assert_eq!(answered(Some("other"), "g", false), Answered::No);
    assert_eq!(answered(Some("p"), "other", false), Answered::No);
    // Of what an earlier step makes it is known only if something in it is new.
    assert_eq!(answered(None, "g", false), Answered::Perhaps);
    assert_eq!(answered(None, "g", true), Answered::No);
    assert_eq!(answered(None, "other", false), Answered::No);
}
