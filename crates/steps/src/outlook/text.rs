//! An [`Outlook`] in words.

use noisegate_ledger::Standing;

use super::{Answered, Outlook};

impl Outlook {
    /// Why it does not fit, if it does not.
    pub(super) fn over_cap(&self) -> Option<String> {
        let standing = self.standing.filter(|standing| !standing.fits)?;
        Some(format!(
            "{}; {}, above the cap of {} (delta {:e}); {}, or raise the cap with `noisegate ledger set-cap`",
            self.asked(),
            together(&standing),
            self.cap,
            self.cap_delta,
            self.largest(&standing),
        ))
    }

    /// What is asked for, and what is spent.
    fn asked(&self) -> String {
        let mut text = format!(
            "epsilon {} at delta {:e} of data set `{}`: ",
            self.asks, self.delta, self.data_set
        );
        let cap = format!(
            "of its cap of {} (delta {:e}) is spent",
            self.cap, self.cap_delta
        );
        text += &match self.charges {
            0 => format!("nothing {cap} yet"),
            1 => format!("{:.4} {cap} in 1 charge", self.spent),
            charges => format!("{:.4} {cap} in {charges} charges", self.spent),
        };
        match self.before {
            0 => {}
            1 => text += ", and 1 charge of the steps before it comes on top",
            before => text += &format!(", and {before} charges of the steps before it come on top"),
        }
        text
    }

    fn largest(&self, standing: &Standing) -> String {
        match standing.largest {
            // Rounded down: what is said to fit must fit.
            Some(largest) => format!(
                "the largest of its kind that fits has epsilon {:.4} at delta {:e}",
                (largest * 1e4).floor() / 1e4,
                self.delta
            ),
            None => "none of its kind fits any more, whatever its noise".to_owned(),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let step = &self.step;
        if let Some(refused) = &self.refused {
            return format!("step `{step}` would be REFUSED: {refused}\n");
        }
        let mut text = format!("step `{step}` asks for {}; ", self.asked());
        let Some(standing) = &self.standing else {
            return text + "there is no cap\n";
        };
        text += &match (self.answered, standing.fits) {
            (Answered::Yes, _) => {
                "it was answered before: the same bytes again, at no charge".to_owned()
            }
            (_, true) => format!("{}, which fits", together(standing)),
            (_, false) => format!("{}, which does NOT fit", together(standing)),
        };
        if self.answered == Answered::Perhaps {
            text += " (if what it reads is what it read before, it is served the same bytes again, at no charge)";
        }
        // What is as large as the search goes has no end that it could tell.
        match standing.fits && standing.largest.is_none() {
            true => format!("{text}\n"),
            false => format!("{text}; {}\n", self.largest(standing)),
        }
    }
}

fn together(standing: &Standing) -> String {
    match standing.together {
        Some(together) => format!("with this one it would be {together:.4}"),
        None => "with this one there is no finite price".to_owned(),
    }
}
