//! Laws that hold for every workflow, tried on random ones.
//!
//! The workflows are random graphs over the fixture's catalog: several sites, private and public
//! data, well-typed wiring but sites, sources and exports at will. A second, much simpler reading
//! of the rules ([`Graph::leaks`]) says which of them must be refused.

mod fixture;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use noisegate_workflow::{ArtifactId, Diagnostics, Label, Override, Placement, Plan, Source, load};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SITES: [&str; 3] = ["clinic", "bank", "server"];
const FDKT: &str = include_str!("fixture/fdkt.toml");

#[derive(Debug, Clone)]
struct Node {
    kind: usize,
    site: usize,
    picks: [usize; 2],
    exported: bool,
}

#[derive(Debug, Clone)]
struct Graph {
    /// Site and whether it is private.
    data: Vec<(usize, bool)>,
    nodes: Vec<Node>,
}

/// What a node does, in the words of the fixture's catalog.
struct Kind {
    uses: &'static str,
    guest: bool,
    /// Its records port may read what is private.
    private: bool,
    records: &'static str,
    other: Option<(&'static str, &'static str)>,
    makes: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        uses: "guest:dp-generator",
        guest: true,
        private: true,
        records: "records",
        other: Some(("base", "plugin:tiny-lm")),
        makes: "samples",
    },
    Kind {
        uses: "llm:augment",
        guest: false,
        private: false,
        records: "demonstrations",
        other: Some(("model", "plugin:tiny-lm")),
        makes: "samples",
    },
    Kind {
        uses: "records:clean",
        guest: false,
        private: true,
        records: "records",
        other: None,
        makes: "records",
    },
    Kind {
        uses: "slm:train",
        guest: false,
        private: true,
        records: "records",
        other: Some(("base", "plugin:minilm")),
        makes: "model",
    },
];

fn graphs() -> impl Strategy<Value = Graph> {
    let data = prop::collection::vec((0..2usize, any::<bool>()), 1..4);
    let node = (
        0..KINDS.len(),
        0..SITES.len(),
        any::<[usize; 2]>(),
        prop::bool::weighted(0.2),
    );
    let node = node.prop_map(|(kind, site, picks, exported)| Node {
        kind,
        site,
        picks,
        exported,
    });
    (data, prop::collection::vec(node, 1..7)).prop_map(|(data, nodes)| Graph { data, nodes })
}

impl Graph {
    /// What a node reads as records: any data set, or the records of any node before it.
    fn reads(&self, at: usize) -> Vec<ArtifactId> {
        let data = (0..self.data.len()).map(|index| format!("data.d{index}"));
        let before = (0..at).filter(|&index| KINDS[self.nodes[index].kind].makes != "model");
        let outputs =
            before.map(|index| format!("s{index}.{}", KINDS[self.nodes[index].kind].makes));
        let choices: Vec<String> = data.chain(outputs).collect();
        let node = &self.nodes[at];
        let takes_many = matches!(KINDS[node.kind].uses, "records:clean" | "slm:train");
        let count = if takes_many { 2 } else { 1 };
        let picked: BTreeSet<&String> = node.picks[..count]
            .iter()
            .map(|pick| &choices[pick % choices.len()])
            .collect();
        picked
            .into_iter()
            .map(|text| text.parse().expect("well formed"))
            .collect()
    }

    fn to_toml(&self) -> String {
        let mut text = "[workflow]\nname = 'random'\n".to_owned();
        for site in SITES {
            text += &format!("[sites.{site}]\n");
        }
        for (index, (site, private)) in self.data.iter().enumerate() {
            let site = SITES[*site];
            text += &format!(
                "[data.d{index}]\nsite = '{site}'\npath = 'd{index}'\nprivate = {private}\nunit = 'record'\n\
                 units_public = 100\nlabels = ['a']\nbudget = {{ epsilon = 100.0, delta = 1e-3 }}\n"
            );
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let kind = &KINDS[node.kind];
            let reads: Vec<String> = self
                .reads(index)
                .iter()
                .map(|id| format!("'{id}'"))
                .collect();
            let reads = if reads.len() == 1 {
                reads[0].clone()
            } else {
                format!("[{}]", reads.join(", "))
            };
            let other = kind
                .other
                .map_or(String::new(), |(port, id)| format!(", {port} = '{id}'"));
            let site = SITES[node.site];
            text += &format!(
                "[steps.s{index}]\nuses = '{}'\nsite = '{site}'\nreads = {{ {} = {reads}{other} }}\n",
                kind.uses, kind.records
            );
            if kind.guest {
                text += "with = { steps = 1 }\n";
                if self.private_rows(index) {
                    text += "privacy = { epsilon = 1.0, delta = 1e-4 }\n";
                }
            }
            if node.exported {
                text += &format!(
                    "[exports.e{index}]\nfrom = 's{index}.{}'\npath = 'out{index}'\n",
                    kind.makes
                );
            }
        }
        text
    }

    fn private_rows(&self, at: usize) -> bool {
        let private = (0..self.data.len()).filter(|&index| self.data[index].1);
        let private: Vec<String> = private.map(|index| format!("data.d{index}")).collect();
        self.reads(at)
            .iter()
            .any(|id| private.contains(&id.to_string()))
    }

    /// Whether a guest reads no private rows, and so has nothing to ask the gate about.
    fn idles(&self) -> bool {
        let nodes = self.nodes.iter().enumerate();
        let mut guests = nodes.filter(|(_, node)| KINDS[node.kind].guest);
        guests.any(|(index, _)| !self.private_rows(index))
    }

    /// The rules again, as plainly as they can be said: does some secret go where it may not?
    fn leaks(&self) -> bool {
        let mut secrets: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (index, (site, private)) in self.data.iter().enumerate() {
            let owners = if *private {
                BTreeSet::from([*site])
            } else {
                BTreeSet::new()
            };
            secrets.insert(format!("data.d{index}"), owners);
        }
        let mut leak = false;
        for (index, node) in self.nodes.iter().enumerate() {
            let kind = &KINDS[node.kind];
            let mut seen = BTreeSet::new();
            for id in self.reads(index) {
                let of_input = &secrets[&id.to_string()];
                leak |= of_input.iter().any(|owner| *owner != node.site);
                leak |= !of_input.is_empty() && !kind.private;
                leak |= !of_input.is_empty() && kind.guest && !matches!(id, ArtifactId::Data(_));
                seen.extend(of_input.iter().copied());
            }
            if kind.guest {
                seen.clear();
            }
            leak |= node.exported && !seen.is_empty();
            secrets.insert(format!("s{index}.{}", kind.makes), seen);
        }
        leak
    }
}

fn try_load(text: &str, set: &[Override]) -> Result<Plan, Diagnostics> {
    let loaded = load(Source::new("random.toml", text), set, &fixture::catalog());
    loaded.map(|checked| checked.plan)
}

/// What every plan must keep, read off the plan alone.
fn assert_keeps_the_promise(plan: &Plan) {
    let mut done = BTreeSet::new();
    for step in &plan.steps {
        assert!(
            step.after.iter().all(|before| done.contains(before)),
            "order"
        );
        done.insert(step.name.clone());
        let inputs = step.inputs.iter().flat_map(|input| &input.artifacts);
        let labels: Vec<&Label> = inputs
            .clone()
            .map(|id| &plan.artifact(id).expect("every input is an artifact").label)
            .collect();
        assert!(
            labels.iter().all(|label| label.may_be_read_on(&step.site)),
            "private data left its site"
        );
        for output in &step.outputs {
            let made = &plan
                .artifact(output)
                .expect("every output is an artifact")
                .label;
            match step.placement {
                Placement::Guest => assert!(made.is_public(), "a gate releases"),
                Placement::Host => {
                    let joined = labels
                        .iter()
                        .fold(Label::Public, |all, label| all.join(label));
                    assert_eq!(*made, joined, "labels only grow along host steps");
                }
            }
        }
        let private: BTreeSet<String> = inputs
            .filter(|id| !plan.artifact(id).expect("seen above").label.is_public())
            .map(ArtifactId::to_string)
            .collect();
        if step.placement == Placement::Guest {
            let charge = step.charge.iter().flat_map(|charge| &charge.data);
            let charged: BTreeSet<String> = charge.map(|data| format!("data.{data}")).collect();
            assert_eq!(
                charged, private,
                "what a guest reads in private is charged, and nothing else"
            );
        } else {
            assert!(step.charge.is_none(), "a host step has no gate");
        }
    }
    for export in &plan.exports {
        let label = &plan.artifact(&export.from).expect("an artifact").label;
        assert!(label.is_public(), "private data was exported");
    }
    for spending in &plan.spending {
        assert!(spending.epsilon <= spending.budget.epsilon.get() * (1.0 + 1e-9));
        assert!(spending.delta <= spending.budget.delta.get() * (1.0 + 1e-9));
    }
}

#[test]
fn exactly_the_workflows_that_leak_are_refused() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config::with_cases(2_000));
    let outcome = runner.run(&graphs(), |graph| {
        match try_load(&graph.to_toml(), &[]) {
            Ok(plan) => {
                accepted.set(accepted.get() + 1);
                prop_assert!(!graph.leaks(), "accepted a leak");
                prop_assert!(!graph.idles(), "accepted a guest that has nothing to do");
                assert_keeps_the_promise(&plan);
            }
            Err(errors) => {
                refused.set(refused.get() + 1);
                let idles = graph.idles();
                prop_assert!(graph.leaks() || idles, "refused without a leak:\n{errors}");
                prop_assert!(idles || errors.is_policy(), "{errors}");
            }
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // A law about accepted workflows says nothing if none is accepted.
    let (accepted, refused) = (accepted.get(), refused.get());
    assert!(
        accepted > 200 && refused > 200,
        "{accepted} accepted, {refused} refused"
    );
}

proptest! {
    #![proptest_config(Config::with_cases(1_500))]

    #[test]
    fn no_damage_to_the_text_makes_the_check_panic(at in 0..FDKT.len(), length in 0..40usize, patch in "[a-z0-9{}\\[\\]\"'=.,\n -]{0,12}") {
        let (start, end) = (FDKT.floor_char_boundary(at), FDKT.floor_char_boundary(at + length));
        let text = format!("{}{patch}{}", &FDKT[..start], &FDKT[end..]);
        match try_load(&text, &[]) {
            Ok(plan) => assert_keeps_the_promise(&plan),
            Err(errors) => {
                prop_assert!(!errors.list.is_empty(), "refused without a reason");
                for error in &errors.list {
                    let source = &errors.sources[error.place.source].text;
                    prop_assert!(error.place.span.start <= source.len() && error.place.span.end <= source.len());
                    prop_assert!(!error.remedy().is_empty());
                }
            }
        }
    }

    #[test]
    fn no_override_makes_the_check_panic(
        key in "(params|data|steps|exports|workflow|sites)?(\\.(notes|train|synthesise|epsilon|with|path|labels|private|privacy|budget|steps)){0,4}",
        value in "[a-z0-9\\[\\]{}\",.-]{0,10}",
    ) {
        let set = Override { key, value };
        match try_load(FDKT, &[set]) {
            Ok(plan) => assert_keeps_the_promise(&plan),
            Err(errors) => prop_assert!(!errors.list.is_empty(), "refused without a reason"),
        }
    }
}
