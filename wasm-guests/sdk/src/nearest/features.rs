//! A text as hashes of its words and of pieces of them.

/// Letters of a piece.
const PIECE: usize = 4;

/// The features of a text, repeated as often as they occur.
pub(super) fn features(text: &str) -> impl Iterator<Item = u32> + use<> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let mut found: Vec<u32> = words
        .iter()
        .map(|word| hash(&[b"w", word.as_bytes()]))
        .collect();
    for word in words {
        pieces(word, &mut found);
    }
    found.into_iter()
}

/// Every run of four letters, word edges counted as letters; short words have none.
fn pieces(word: &str, into: &mut Vec<u32>) {
    let edged: Vec<char> = "<".chars().chain(word.chars()).chain(">".chars()).collect();
    for piece in edged.windows(PIECE) {
        let mut buffer = [0; 16];
        let mut length = 0;
        for letter in piece {
            length += letter.encode_utf8(&mut buffer[length..]).len();
        }
        into.push(hash(&[b"c", &buffer[..length]]));
    }
}

/// FNV-1a, folded to spread into the low bits, which choose the bucket.
fn hash(parts: &[&[u8]]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_matter() {
        let all = |text: &str| features(text).collect::<Vec<u32>>();
        assert_eq!(all("Card, lost!"), all("card lost"));
        // 2 words, 3 pieces each.
        assert_eq!(all("card lost").len(), 8);
        assert_eq!(all("\u{1F600} ...").len(), 0);
    }
}
