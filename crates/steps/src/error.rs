//! What can be wrong with a plugin or with what a workflow's names stand for.

use std::path::PathBuf;

use thiserror::Error;

/// A plugin that cannot be used.
#[derive(Debug, Error)]
pub enum PluginError {
    /// The file system refused.
    #[error("could not read `{}`: {source}; check that the file is there and readable", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `plugin.toml` does not parse.
    #[error("`{}`: {message}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// TOML's own message, with line and column.
        message: String,
    },
    /// The manifest lacks the table that its kind needs.
    #[error("`{}`: a plugin of kind `{kind}` needs a `[{table}]` table", path.display())]
    Incomplete {
        /// The manifest.
        path: PathBuf,
        /// The plugin's kind.
        kind: &'static str,
        /// The missing table.
        table: &'static str,
    },
    /// It pins nothing, or something that is not a file of its folder.
    #[error(
        "`{}`: every file that a step may read must be pinned by its bare name and SHA-256; \
         list them under `[model.sha256]`",
        path.display()
    )]
    Pins {
        /// The manifest.
        path: PathBuf,
    },
    /// Two plugins share a name.
    #[error("plugin name `{name}` is used by `{}` and `{}`; rename one", first.display(), second.display())]
    Duplicate {
        /// The name.
        name: String,
        /// One manifest.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file of the plugin is not there.
    #[error("plugin `{plugin}` lacks `{}`; {remedy}", path.display())]
    Missing {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// How to get it.
        remedy: String,
    },
    /// A file of the plugin lies where a plugin has no business.
    #[error(
        "plugin `{plugin}`: `{}` lies neither in the plugin's own folder nor in `{fetched}` beside \
         the folder of plugins, links followed; copy the file into the plugin's folder",
        path.display()
    )]
    Elsewhere {
        /// The plugin.
        plugin: String,
        /// The file as the manifest names it.
        path: PathBuf,
        /// Where models are fetched to.
        fetched: &'static str,
    },
    /// A file of the plugin is not the one that the manifest pins.
    #[error(
        "plugin `{plugin}`: `{}` {found}, but plugin.toml pins {pinned}; \
         restore the pinned file, or, if you changed it on purpose and trust it, pin the new digest",
        path.display()
    )]
    Digest {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// What it is, in words: the digest is told only of a file in the plugin's own folder.
        found: String,
        /// What it should be.
        pinned: String,
    },
}
