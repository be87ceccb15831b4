//! `doctor`: what this machine has and lacks.

use std::path::Path;

use noisegate_sandbox::{Guest, Isolation, Layer, Layers, Limits, jail};
use noisegate_steps::Plugins;
use noisegate_steps::plugin::{Kind, Plugin};
use noisegate_steps::policy;
use serde::Serialize;

use crate::args::Place;
use crate::exit::Exit;
use crate::project;
use crate::show;

#[derive(Serialize)]
struct Finding {
    what: String,
    fine: bool,
    detail: String,
}

/// Looks at everything a run may need; exit code 1 if something is lacking.
pub fn doctor(place: &Place, as_json: bool) -> Result<(), Exit> {
    let folder = match &place.plugins {
        Some(given) => given.clone(),
        None => project::plugins_above(Path::new("."))?,
    };
    let mut findings = vec![home(place), onnxruntime(place, &folder)];
    findings.extend(sandbox(place));
    match Plugins::scan(&folder) {
        Ok(plugins) => findings.extend(plugins.0.values().map(plugin)),
        Err(error) => findings.push(finding("plugins", Err(error.to_string()))),
    }
    let fine = findings.iter().all(|one| one.fine);
    if as_json {
        show::json_line(&findings)?;
    } else {
        for one in &findings {
            println!(
                "{}  {}: {}",
                if one.fine { "ok  " } else { "LACK" },
                one.what,
                one.detail
            );
        }
    }
    if fine { Ok(()) } else { Err(Exit::Silent(1)) }
}

fn finding(what: &str, result: Result<String, String>) -> Finding {
    let fine = result.is_ok();
    let detail = result.unwrap_or_else(|problem| problem);
    Finding {
        what: what.to_owned(),
        fine,
        detail,
    }
}

fn home(place: &Place) -> Finding {
    let shown = place.home.display().to_string();
    let probe = place.home.join(".doctor");
    let written = std::fs::create_dir_all(&place.home)
        .and_then(|()| std::fs::write(&probe, ""))
        .and_then(|()| std::fs::remove_file(&probe));
    finding(
        "home folder",
        written
            .map(|()| shown.clone())
            .map_err(|error| format!("`{shown}` cannot be written: {error}")),
    )
}

fn onnxruntime(place: &Place, plugins: &Path) -> Finding {
    let path = project::onnxruntime(place, plugins);
    let loaded = noisegate_steps::slm::library_version(&path);
    finding(
        "ONNX Runtime",
        loaded.map_err(|failure| failure.to_string()),
    )
}

/// The walls around a worker, and whether they satisfy every site's policy.
fn sandbox(place: &Place) -> Vec<Finding> {
    let layers = match jail::probe() {
        Ok(layers) => layers,
        Err(error) => return vec![finding("sandbox", Err(error.to_string()))],
    };
    let all: Layers = Layer::ALL.into_iter().collect();
    let missing = all.without(layers);
    let shown = match missing.is_empty() {
        true => format!("every worker is behind {layers}"),
        // A layer that this kernel has in part is not among those that workers are behind.
        false => {
            format!("workers are behind {layers}; this machine lacks {missing}, or part of it")
        }
    };
    let needed = Isolation::default().required.without(layers);
    let mut findings = vec![finding(
        "sandbox",
        if needed.is_empty() {
            Ok(shown)
        } else {
            Err(shown)
        },
    )];
    let sites = std::fs::read_dir(place.home.join("sites"));
    for site in sites.into_iter().flatten().flatten() {
        if !site.path().join(policy::FILE).exists() {
            continue;
        }
        let name = format!("policy of site {}", site.file_name().to_string_lossy());
        let checked = policy::read(&site.path()).and_then(|policy| {
            let isolation = policy.isolation;
            let missing = isolation.required.without(layers);
            match missing.is_empty() {
                true => Ok(format!(
                    "this machine has all it requires: {}",
                    isolation.required
                )),
                false => Err(format!("it requires {missing}, which this machine lacks")),
            }
        });
        findings.push(finding(&name, checked));
    }
    findings
}

fn plugin(plugin: &Plugin) -> Finding {
    let name = format!("plugin {}", plugin.name());
    let checked = plugin
        .verify()
        .map_err(|error| error.to_string())
        .and_then(|()| {
            if plugin.manifest.plugin.kind != Kind::Guest {
                return Ok("every file has its pinned digest".to_owned());
            }
            let component = plugin.manifest.component.as_ref().ok_or("no component")?;
            let bytes = std::fs::read(plugin.folder.join(&component.file))
                .map_err(|error| error.to_string())?;
            let limits = Limits {
                threads: 1,
                ..Limits::default()
            };
            let guest = Guest::load(&bytes, None, &limits).map_err(|error| error.to_string())?;
            Ok(format!("the sandbox loads it; SHA-256 {}", guest.digest()))
        });
    finding(&name, checked)
}
