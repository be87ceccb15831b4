//! Answers that are there already, by the digest of their question.
//!
//! One JSON line an answer, written in one go and flushed before the answer is used. A line that
//! a crash cut short, or that cannot be read for another reason, is passed over: its question is
//! asked again.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::wire::Answer;

/// A file of answers, and its content.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: fs::File,
    known: HashMap<String, Answer>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    question: String,
    answer: Answer,
}

impl Journal {
    /// Opens `path`, or makes it with its folder.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |action| {
            move |source| Error::Journal {
                action,
                path: path.to_owned(),
                source,
            }
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(fail("make the folder of"))?;
        }
        let mut options = fs::OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(path).map_err(fail("open"))?;
        let bytes = fs::read(path).map_err(fail("read"))?;
        let known = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .map(|line| (line.question, line.answer))
            .collect();
        // Whatever was cut short ends here, or the next line would be lost with it.
        if bytes.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n").map_err(fail("write"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            known,
        })
    }

    /// The answer to the question of that digest, if it is there.
    pub fn find(&self, question: &str) -> Option<&Answer> {
        self.known.get(question)
    }

    /// Writes an answer down.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn add(&mut self, question: String, answer: Answer) -> Result<()> {
        let line = Line { question, answer };
        let mut text = serde_json::to_string(&line).expect("texts and numbers are JSON");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::Journal {
                action: "write",
                path: self.path.clone(),
                source,
            })?;
        self.known.insert(line.question, line.answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Finish;

    fn answer(text: &str) -> Answer {
        Answer {
            text: text.to_owned(),
            finish: Finish::Stop,
            prompt_tokens: 1,
            answer_tokens: 2,
            model: "m".to_owned(),
        }
    }

    #[test]
    fn what_was_added_is_found_again_and_a_torn_line_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.add("a".to_owned(), answer("one\nline")).unwrap();
        journal.add("b".to_owned(), answer("two")).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert!(journal.find("b").is_none() || cut + 1 == whole.len());
            journal.add("c".to_owned(), answer("three")).unwrap();
            let again = Journal::open(&path).unwrap();
            assert_eq!(again.find("c"), Some(&answer("three")), "cut at {cut}");
            assert_eq!(again.find("a"), journal.find("a"));
        }
    }
}
