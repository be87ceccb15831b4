//! Cuts a text into the pieces that BPE never merges across.

/// The one pattern this splitter implements.
pub const PATTERN: &str = r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+";

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Letter,
    Digit,
    Space,
    Other,
}

fn class(c: char) -> Class {
    match c {
        'A'..='Z' | 'a'..='z' => Class::Letter,
        '0'..='9' => Class::Digit,
        c if c.is_whitespace() => Class::Space,
        _ => Class::Other,
    }
}

/// The matches of [`PATTERN`], in order; together they are the whole text.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(first_piece(rest));
        rest = after;
        Some(piece)
    })
}

/// Length in bytes of the first match.
fn first_piece(text: &str) -> usize {
    let body = text.strip_prefix(' ').filter(|after| {
        after
            .chars()
            .next()
            .is_some_and(|c| class(c) != Class::Space)
    });
    let (lead, body) = body.map_or((0, text), |body| (1, body));
    let kind = body.chars().next().map_or(Class::Space, class);
    if kind == Class::Digit {
        return lead + 1;
    }
    lead + body.find(|c| class(c) != kind).unwrap_or(body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        pieces(text).collect()
    }

    #[test]
    fn one_space_belongs_to_the_word_after_it() {
        assert_eq!(split("my card's gone"), ["my", " card", "'", "s", " gone"]);
        assert_eq!(split("a 12 b"), ["a", " 1", "2", " b"]);
    }

    #[test]
    fn a_run_of_spaces_is_one_piece() {
        assert_eq!(split("a  b\n\n c "), ["a", "  ", "b", "\n\n ", "c", " "]);
    }

    #[test]
    fn other_signs_stay_together() {
        assert_eq!(split("ok!? (é)é1"), ["ok", "!?", " (é)é", "1"]);
    }
}
