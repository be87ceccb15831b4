//! Labelled text records: in, out, grouped and scored.
//!
//! ```text
//! notes.jsonl.zst ──read──> Record { text, label, unit } ──┬─ units::group  ─> Vec<Unit>      (sandbox)
//!                                                          └─ labels::split ─> declared rows  (training)
//! (truth, predicted) ──metrics::report──> EvaluationReport ─┬─ table ─> String
//!                                                           └─ page  ─> HTML with SVG
//! ```
//!
//! Start at [`read_all`] and [`Record`]; the scores are in [`metrics`].
//!
//! Rows are private unless somebody says otherwise, so an [`Error`] names the file, the line and
//! the column but never quotes a value. Whether an error occurs does depend on the rows: it is for
//! the site that owns the file, and must not travel further.
//!
//! Deliberately absent: this crate never prints, knows nothing of labels of artifacts, budgets or
//! guests, keeps no column it was not asked for, and reports no row count of its own accord.

#![forbid(unsafe_code)]

mod atomic;
mod digest;
mod error;
mod format;
mod labels;
pub mod metrics;
pub mod page;
mod random;
mod reader;
mod record;
mod source;
pub mod table;
mod units;
mod writer;

pub use atomic::{AtomicFile, write_atomic};
pub use digest::{digest_file, digest_records, digest_unpacked};
pub use error::{Error, Result};
pub use format::{Compression, FileKind, Format};
pub use labels::{DeclaredRows, LABEL_BYTES_MAX, LabelSet, check_label};
pub use reader::{
    LIST_SEPARATOR, LabelForm, ROW_BYTES_MAX, ReadOptions, RecordReader, number, read_all,
};
pub use record::{Columns, Record};
pub use units::{Unit, UnitBy, group};
pub use writer::{RecordWriter, WriteOptions, write_all};
