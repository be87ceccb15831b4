//! `guest test`: a guest on a developer's sample, with what it did to each record.
//!
//! The sample must be made up or public: a real step never tells this of a record.

use std::path::Path;

use noisegate_engine::StepFailure;
use noisegate_privacy::{Delta, Epsilon};
use noisegate_steps::trial::{NOT_A_RELEASE, Trial, Tried, sample};
use serde_json::json;

use super::manifest_beside;
use super::new::cannot;
use crate::args::GuestTest;
use crate::exit::Exit;
use crate::show;

/// Characters of an output that are shown.
const SHOWN: usize = 400;

/// Runs the trial and prints it; ends with code 1 if the guest failed on a record or owes an output.
pub fn test(order: &GuestTest) -> Result<(), Exit> {
    let plugin = manifest_beside(&order.file)?.ok_or_else(|| {
        Exit::Wrong(format!(
            "no `plugin.toml` beside `{}` names it; `noisegate guest new` writes one",
            order.file.display()
        ))
    })?;
    let ports = plugin.manifest.reads.iter().map(|read| read.port.as_str());
    let ports: Vec<&str> = ports.collect();
    if let Some((port, _)) = order
        .inputs
        .iter()
        .find(|(port, _)| !ports.contains(&&**port))
    {
        return Err(Exit::Wrong(format!(
            "guest `{}` has no public input `{port}`; it has {}",
            plugin.name(),
            if ports.is_empty() {
                "none".to_owned()
            } else {
                ports.join(", ")
            }
        )));
    }
    let trial = Trial {
        plugin,
        records: sample(&order.records).map_err(ended)?,
        with: order.with.clone(),
        inputs: order
            .inputs
            .iter()
            .map(|(port, path)| (port.clone(), path.into()))
            .collect(),
        epsilon: Epsilon::new(order.epsilon).map_err(Exit::wrong)?,
        delta: Delta::new(order.delta).map_err(Exit::wrong)?,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    };
    if let Some(folder) = &order.out {
        std::fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
    }
    let tried = trial.run().map_err(ended)?;
    if let Some(folder) = &order.out {
        keep(folder, &tried)?;
    }
    if order.json {
        print_json(&tried)?;
    } else {
        print(&trial, &tried);
    }
    let works = tried.missing.is_empty() && tried.rehearsals.iter().all(|it| it.problem.is_none());
    if works { Ok(()) } else { Err(Exit::Silent(1)) }
}

fn ended(failure: StepFailure) -> Exit {
    match failure {
        StepFailure::BadInput(text) => Exit::Wrong(text),
        other => Exit::failed(other),
    }
}

fn print(trial: &Trial, tried: &Tried) {
    let count = tried.rehearsals.len();
    println!("kind      {NOT_A_RELEASE}");
    println!(
        "noise     {:.4} of the sensitivity, for epsilon {} and delta {:e}; nothing is charged",
        tried.noise_multiplier,
        trial.epsilon.get(),
        trial.delta.get()
    );
    println!(
        "queries   {} of {} numbers each",
        tried.queries, tried.dimension
    );
    println!(
        "records   {count} tried; fuel up to {} of {}; L2 norm {:.4} to {:.4}; {:.0} us a record",
        tried
            .rehearsals
            .iter()
            .map(|it| it.fuel_used)
            .max()
            .unwrap_or(0),
        tried.fuel_max,
        tried
            .rehearsals
            .iter()
            .map(|it| it.norm)
            .fold(f64::INFINITY, f64::min),
        tried
            .rehearsals
            .iter()
            .map(|it| it.norm)
            .fold(0.0, f64::max),
        tried.rehearsed_in.as_secs_f64() * 1e6 / count.max(1) as f64
    );
    for (number, rehearsal) in tried.rehearsals.iter().enumerate() {
        if let Some(problem) = &rehearsal.problem {
            let problem = show::plain_line(problem);
            println!("record    {}: counts as zero: {problem}", number + 1);
        }
    }
    for file in &tried.outputs {
        let text = String::from_utf8_lossy(&file.data);
        let shown: String = text.chars().take(SHOWN).collect();
        let more = if shown.len() < text.len() { " …" } else { "" };
        println!(
            "output    {} ({} bytes)\n{}{more}",
            show::plain_line(&file.name),
            file.data.len(),
            show::plain(shown.trim_end())
        );
    }
    for file in &tried.missing {
        println!("missing   {file}, which plugin.toml promises");
    }
    println!("ran in    {:.3} s", tried.ran_in.as_secs_f64());
}

fn print_json(tried: &Tried) -> Result<(), Exit> {
    let records: Vec<_> = tried
        .rehearsals
        .iter()
        .map(|it| json!({ "problem": it.problem, "fuel": it.fuel_used, "norm": it.norm }))
        .collect();
    let outputs: Vec<_> = tried
        .outputs
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.data.len() }))
        .collect();
    show::json_line(&json!({
        "kind": NOT_A_RELEASE,
        "queries": tried.queries,
        "dimension": tried.dimension,
        "noise_multiplier": tried.noise_multiplier,
        "fuel_per_unit": tried.fuel_max,
        "records": records,
        "outputs": outputs,
        "missing": tried.missing,
        "seconds": tried.ran_in.as_secs_f64(),
    }))
}

/// Keeps the outputs under bare file names, and says beside them what they are.
fn keep(folder: &Path, tried: &Tried) -> Result<(), Exit> {
    let write =
        |path: &Path, data: &[u8]| std::fs::write(path, data).map_err(|error| cannot(path, &error));
    for file in &tried.outputs {
        let Some(name) = Path::new(&file.name).file_name() else {
            continue;
        };
        write(&folder.join(name), &file.data)?;
    }
    // Last: no output of the guest takes its place.
    let note = format!("{NOT_A_RELEASE}\n");
    write(&folder.join("NOT-A-RELEASE.txt"), note.as_bytes())
}
