//! Where a value was written: in the workflow file, or in one `--set`.
//!
//! Every value carries a [`Place`], two small numbers; only a diagnostic that is really shown pays
//! for turning it into a [`Location`] with line and column. Nothing here opens a file.

use std::ops::Range;

use serde::Serialize;

/// A text with the name under which errors speak of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Shown before the line number, as the user gave it.
    pub file: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A workflow file already read into memory.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            text: text.into(),
        }
    }

    /// Line and column (both from 1, columns in characters) of a byte offset.
    ///
    /// An offset past the end is taken as the end.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.floor_char_boundary(offset.min(self.text.len()));
        let before = &self.text[..before];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

/// A byte range in one of the texts that make up a workflow.
///
/// Source 0 is the workflow file; source `i` is the `i`-th override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    pub(crate) fn in_file(span: Range<usize>) -> Self {
        Self {
            source: 0,
            start: span.start,
            end: span.end,
        }
    }

    /// Whether the value came from an override rather than from the file.
    pub fn is_override(&self) -> bool {
        self.source > 0
    }

    pub(crate) fn locate(&self, sources: &[Source]) -> Location {
        let source = &sources[self.source];
        let (line, column) = source.line_and_column(self.start);
        Location {
            source: self.source,
            file: source.file.clone(),
            line,
            column,
            span: self.start..self.end,
        }
    }
}

/// A [`Place`] made readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    /// Index into [`Diagnostics::sources`](crate::Diagnostics).
    pub source: usize,
    /// The file, or `--set` for an override.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte range in the source's text.
    pub span: Range<usize>,
}

/// A value and where it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_in_characters() {
        let source = Source::new("w.toml", "a = 1\nnäme = 2\n");
        assert_eq!(source.line_and_column(0), (1, 1));
        let two = source.text.find('2').expect("the text holds a 2");
        assert_eq!(source.line_and_column(two), (2, 8));
        assert_eq!(source.line_and_column(9_999), (3, 1));
    }
}
