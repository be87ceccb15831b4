//! A key that cannot be printed by accident.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// An API key. Its `Debug` is a placeholder, it has no `Display` and no `Serialize`, and its
/// memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a key; white space around it, such as a final line break, is no part of it.
    ///
    /// # Errors
    /// [`Error::Key`] if it is empty, cannot stand in an HTTP header, or holds a backslash, which no
    /// bearer token has (RFC 6750, section 2.1). The error does not quote it.
    pub fn new(key: String) -> Result<Self> {
        let key = Zeroizing::new(key);
        let trimmed = key.trim();
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if trimmed.is_empty() || !trimmed.bytes().all(allowed) {
            return Err(Error::Key);
        }
        Ok(Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// The `Authorization` header.
    pub(crate) fn bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", *self.0))
    }

    /// A text in which the key, should it occur, is blotted out; also as strings of JSON may have
    /// it, with `\/` or `\u002f` for `/`, however many backslashes JSON within JSON has made of one.
    pub(crate) fn blot(&self, text: &str) -> String {
        let mut blotted = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if let Some(after) = self.skip(rest) {
                blotted.push_str("[key]");
                rest = after;
                continue;
            }
            let backslashes = rest.len() - rest.trim_start_matches('\\').len();
            let (passed, left) = rest.split_at(backslashes.max(next.len_utf8()));
            blotted.push_str(passed);
            rest = left;
        }
        blotted
    }

    /// What follows the key in a text that begins with it.
    fn skip<'a>(&self, text: &'a str) -> Option<&'a str> {
        let mut rest = text;
        for letter in self.0.chars() {
            let bare = rest.trim_start_matches('\\');
            let code = bare.strip_prefix('u').and_then(|code| code.get(..4));
            let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
            rest = if bare.len() < rest.len() && code == Some(u32::from(letter)) {
                &bare[5..]
            } else {
                bare.strip_prefix(letter)?
            };
        }
        Some(rest)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret([key])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_trimmed_blotted_and_never_shown() {
        let key = Secret::new("sk-abc123\n".to_owned()).unwrap();
        assert_eq!(*key.bearer(), "Bearer sk-abc123");
        assert_eq!(format!("{key:?}"), "Secret([key])");
        assert_eq!(key.blot("wrong key sk-abc123!"), "wrong key [key]!");
    }

    #[test]
    fn a_key_is_blotted_however_json_writes_it() {
        let key = Secret::new("uk/0+9=".to_owned()).unwrap();
        for written in [
            "uk/0+9=",
            r"uk\/0+9=",
            r"uk\\\/0\u002b9\u003D",
            r"\u0075k\u002F0\\u002b9=",
        ] {
            assert_eq!(key.blot(&format!("{written}{written}.")), "[key][key].");
            assert_eq!(key.blot(&format!(r"\n{written}\n")), r"\n[key]\n");
        }
        for other in [r"\", r"\u0075k", "uk0+9=", r"é\é \\u00e9 u0075k/0+9="] {
            assert_eq!(key.blot(other), other);
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused_without_a_quote() {
        for bad in [
            "",
            "  ",
            "two words",
            "line\nbreak",
            "back\\slash",
            "schl\u{fc}ssel",
        ] {
            let error = Secret::new(bad.to_owned()).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad), "{error}");
        }
    }
}
