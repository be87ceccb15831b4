//! "Did you mean …?": the known name closest to a mistyped one.

use serde::Serialize;

/// What could have been written, and which of it is close to what was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Choices {
    /// The closest known name, if one is close.
    pub near: Option<String>,
    /// All known names, in the order in which they were declared.
    pub known: Vec<String>,
}

impl Choices {
    /// Collects the known names and looks for one close to `written`.
    pub fn of<S: AsRef<str>>(written: &str, known: impl IntoIterator<Item = S>) -> Self {
        let known: Vec<String> = known
            .into_iter()
            .map(|name| name.as_ref().to_owned())
            .collect();
        let near = known
            .iter()
            .filter(|name| name.len().max(written.len()) <= COMPARED_BYTES_MAX)
            .map(|name| (distance(written, name), name))
            .filter(|(edits, name)| *edits <= edits_allowed(written, name))
            .min()
            .map(|(_, name)| name.clone());
        Self { near, known }
    }

    /// `did you mean `x`?`, or the list of what there is.
    pub(crate) fn hint(&self, what: &str) -> String {
        match &self.near {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.known.is_empty() => format!("there are no {what} here; remove it"),
            None => format!("the {what} are {}", quoted(&self.known)),
        }
    }
}

/// `` `a`, `b` ``
pub(crate) fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(", ")
}

/// Longer texts are no slip of the finger, and comparing them takes the product of their lengths.
const COMPARED_BYTES_MAX: usize = 100;

/// A third of the longer name may be wrong, and at least one letter.
fn edits_allowed(written: &str, name: &str) -> usize {
    (written.chars().count().max(name.chars().count()) / 3).max(1)
}

/// Optimal string alignment distance: insert, delete, replace, or swap two neighbours.
///
/// # Source
/// Damerau, "A technique for computer detection and correction of spelling errors", 1964.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["samples_per_label", "steps", "clip"];
        assert_eq!(Choices::of("setps", known).near.as_deref(), Some("steps"));
        assert_eq!(
            Choices::of("samples_per_lable", known).near.as_deref(),
            Some("samples_per_label")
        );
        assert_eq!(Choices::of("temperature", known).near, None);
        let long = "a".repeat(1_000_000);
        assert_eq!(Choices::of(&long, [&long]).near, None);
        assert_eq!(
            Choices::of("x", Vec::<String>::new()).hint("keys"),
            "there are no keys here; remove it"
        );
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
