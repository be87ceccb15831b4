//! From the tree to a [`Workflow`]: which sections and keys there are, and what each may hold.
//!
//! ```text
//! text ─> tree ─> overrides ─> params ─> sites, data, steps, exports
//! ```
//!
//! Start at [`workflow`]. Nothing here looks from one section into another; `check` does.

use crate::artifact::{ArtifactId, DATA};
use crate::decode::Column;
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::name::{SiteName, StepName};
use crate::overrides::{self, Override};
use crate::params;
use crate::placeholder;
use crate::section::{self, Decode, Field, Section};
use crate::source::{Located, Place, Source};
use crate::tree::{self, Node, Table, Value};
use crate::workflow::{DataSet, Export, Read, Site, Step, Workflow};

type Entry = (Located<String>, Node);

/// Reads everything that can be read and reports everything that cannot.
///
/// `None` if the text is not even TOML: reading on would only add confusion.
pub(crate) fn workflow(
    source: Source,
    overrides: &[Override],
    report: &mut Report,
) -> Option<Workflow> {
    let mut root = tree::parse(&source.text, report);
    if report.has_errors() {
        return None;
    }
    let set = overrides::apply(&mut root, overrides, report);
    let declared = match root.get("params").map(|node| &node.value) {
        Some(Value::Table(table)) => table.entries.clone(),
        _ => Vec::new(),
    };
    let params = params::read(&declared, set, report);
    private_is_written_out(&root, report);
    placeholder::fill_all(&mut root, &params, report);

    let root = Node::new(Place::default(), Value::Table(root));
    let mut sections = Section::open(String::new(), root.place, &root, report);
    let header = sections.inner("workflow");
    sections.entries("params");
    let sites = sections.entries("sites");
    let data = sections.entries("data");
    let steps = sections.entries("steps");
    let exports = sections.entries("exports");
    sections.close();

    let (name, help) = match header {
        Some((place, node)) => {
            let mut section = Section::open("workflow".to_owned(), place, node, report);
            let name = section.required("name", "it names the runs");
            let help = section.optional("help");
            section.close();
            (name, help)
        }
        None => {
            let (section, key) = ("a workflow".to_owned(), "[workflow]");
            let why = "it holds the name of the workflow";
            report.error(Place::default(), Problem::MissingKey { section, key, why });
            (Field::Unreadable, Field::Absent)
        }
    };
    let mut sources = vec![source];
    sources.extend(overrides.iter().map(Override::source));
    Some(Workflow {
        sources,
        name,
        help,
        params,
        sites: sites
            .iter()
            .filter_map(|entry| site(entry, report))
            .collect(),
        data: data
            .iter()
            .filter_map(|entry| data_set(entry, report))
            .collect(),
        steps: steps
            .iter()
            .filter_map(|entry| step(entry, report))
            .collect(),
        exports: exports
            .iter()
            .filter_map(|entry| export(entry, report))
            .collect(),
    })
}

/// Whether a data set is private stands in the file, not in a parameter that `--set` can change.
fn private_is_written_out(root: &Table, report: &mut Report) {
    let Some(Value::Table(data)) = root.get("data").map(|node| &node.value) else {
        return;
    };
    for (name, set) in &data.entries {
        let Value::Table(set) = &set.value else {
            continue;
        };
        if let Some(node) = set.get("private")
            && matches!(&node.value, Value::Text(text) if text.contains("{{"))
        {
            let key = format!("data.{}.private", name.value);
            report.error(node.place, Problem::NotWrittenOut { key });
        }
    }
}

fn site((name, node): &Entry, report: &mut Report) -> Option<Site> {
    let name: Located<SiteName> = section::name(name, report)?;
    let mut section = Section::open(format!("sites.{}", name.value), name.place, node, report);
    let _: Field<String> = section.optional("help");
    let sends_to = section.optional("sends_to");
    section.close();
    Some(Site { name, sends_to })
}

fn data_set((name, node): &Entry, report: &mut Report) -> Option<DataSet> {
    let name = section::name(name, report)?;
    let mut section = Section::open(format!("data.{}", name.value), name.place, node, report);
    let data = DataSet {
        site: section.required("site", "the site that owns the data"),
        path: section.required("path", "the file with the rows"),
        format: section.optional("format"),
        private: section.required("private", "`true` or `false`; noisegate never guesses it"),
        unit: section.optional("unit"),
        units_public: section.optional("units_public"),
        labels: section.optional("labels"),
        text_column: column(&mut section, "text_column"),
        label_column: column(&mut section, "label_column"),
        budget: section.optional("budget"),
        name,
    };
    let _: Field<String> = section.optional("help");
    section.close();
    Some(data)
}

fn column(section: &mut Section<'_, '_>, key: &'static str) -> Field<String> {
    match section.optional(key) {
        Field::Given(Located {
            value: Column(value),
            place,
        }) => Field::Given(Located { value, place }),
        Field::Absent => Field::Absent,
        Field::Unreadable => Field::Unreadable,
    }
}

fn step((written, node): &Entry, report: &mut Report) -> Option<Step> {
    let name: Located<StepName> = section::name(written, report)?;
    if name.value.as_str() == DATA {
        report.error(name.place, Problem::ReservedName { name: DATA });
    }
    let path = format!("steps.{}", name.value);
    let mut section = Section::open(path.clone(), name.place, node, report);
    let uses = section.required("uses", "the kind of step");
    let site = section.required("site", "where the step runs");
    let privacy = section.optional("privacy");
    let with = section.entries("with").to_vec();
    let reads = section.entries("reads");
    let _: Field<String> = section.optional("help");
    section.close();
    let reads = reads
        .iter()
        .map(|entry| read(entry, &format!("{path}.reads"), report))
        .collect();
    Some(Step {
        name,
        uses,
        site,
        reads,
        privacy,
        with,
    })
}

fn read((port, node): &Entry, path: &str, report: &mut Report) -> Read {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let path = format!("{path}.{}", port.value);
    let references: Vec<Located<ArtifactId>> = items
        .iter()
        .filter_map(|item| {
            let value = ArtifactId::decode(item, &path, report)?;
            Some(Located {
                value,
                place: item.place,
            })
        })
        .collect();
    Read {
        port: port.clone(),
        unreadable: references.len() < items.len(),
        references,
    }
}

fn export((name, node): &Entry, report: &mut Report) -> Option<Export> {
    let name = section::name(name, report)?;
    let mut section = Section::open(format!("exports.{}", name.value), name.place, node, report);
    let export = Export {
        from: section.required("from", "the artifact to write out, as `STEP.PORT`"),
        path: section.required("path", "where to write it"),
        name,
    };
    let _: Field<String> = section.optional("help");
    section.close();
    Some(export)
}
