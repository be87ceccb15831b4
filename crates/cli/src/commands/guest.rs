//! `guest`: look at a guest, begin one, try one out.

mod inspect;
mod new;
mod test;

use std::path::Path;

use noisegate_steps::Plugin;

use crate::args::GuestCommand;
use crate::exit::Exit;

/// Does what is asked of a guest.
pub fn guest(what: &GuestCommand) -> Result<(), Exit> {
    match what {
        GuestCommand::Inspect(which) => inspect::inspect(which),
        GuestCommand::New(order) => new::new(order),
        GuestCommand::Test(order) => test::test(order),
    }
}

/// The manifest beside a component, if it is this component's.
fn manifest_beside(component: &Path) -> Result<Option<Plugin>, Exit> {
    let folder = match component.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.join("plugin.toml").is_file() {
        return Ok(None);
    }
    let plugin = Plugin::read(folder).map_err(Exit::wrong)?;
    let named = plugin
        .manifest
        .component
        .as_ref()
        .map(|it| it.file.as_str());
    let file = component.file_name().unwrap_or_default();
    Ok((named.map(AsRef::as_ref) == Some(file)).then_some(plugin))
}
