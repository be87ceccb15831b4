//! How people mistype: some hardly, some all the time.

use rand_chacha::ChaCha20Rng;

use super::{below, chance};

/// The text as its sender might have typed it.
pub fn mistype(rng: &mut ChaCha20Rng, text: &str) -> String {
    // In percent of words: most people are careful, a few are not.
    let carelessness = [0, 0, 1, 2, 4, 9][below(rng, 6)];
    let words: Vec<String> = text
        .split(' ')
        .map(|word| {
            if chance(rng, carelessness) {
                slip(rng, word)
            } else {
                word.to_owned()
            }
        })
        .collect();
    let mut text = words.join(" ");
    if chance(rng, 18) {
        text = text.to_lowercase();
    } else if let Some(first) = text.chars().next() {
        text.replace_range(..first.len_utf8(), &first.to_uppercase().to_string());
    }
    if chance(rng, 15) {
        text = text.replace('\'', "");
    }
    if chance(rng, 12) {
        text = text.trim_end_matches(['.', '!']).to_owned();
    }
    text
}

/// One slip of the finger inside a word.
fn slip(rng: &mut ChaCha20Rng, word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 4 {
        return word.to_owned();
    }
    let place = 1 + below(rng, letters.len() - 2);
    match below(rng, 4) {
        0 => letters.swap(place, place - 1),
        1 => drop(letters.remove(place)),
        2 => letters.insert(place, letters[place]),
        _ => letters[place] = neighbour(letters[place]),
    }
    letters.into_iter().collect()
}

/// The key beside it.
fn neighbour(letter: char) -> char {
    const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];
    for row in ROWS {
        if let Some(place) = row.find(letter) {
            let beside = if place + 1 < row.len() {
                place + 1
            } else {
                place - 1
            };
            return char::from(row.as_bytes()[beside]);
        }
    }
    letter
}
