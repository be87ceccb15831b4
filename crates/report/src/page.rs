//! A page of headings, sentences and tables, and how values are written on it.

use std::fmt::Write as _;

/// A page that is being written; every value goes through [`escape`].
pub(crate) struct Page(pub(crate) String);

impl Page {
    pub(crate) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.0.push_str(&escape(text));
    }

    fn element(&mut self, tag: &str, text: &str) {
        let _ = write!(self.0, "<{tag}>{}</{tag}>", escape(text));
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.element("h2", text);
    }

    pub(crate) fn subheading(&mut self, text: &str) {
        self.element("h3", text);
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.element("p", text);
    }

    pub(crate) fn list(&mut self, items: &[&str]) {
        self.raw("<ul>");
        items.iter().for_each(|item| self.element("li", item));
        self.raw("</ul>");
    }

    pub(crate) fn pairs(&mut self, pairs: &[(&str, String)]) {
        self.raw("<table>");
        for (name, value) in pairs {
            self.raw("<tr>");
            self.element("th", name);
            self.element("td", value);
            self.raw("</tr>");
        }
        self.raw("</table>");
    }

    /// The first row is the heading.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        self.raw("<table>");
        for (index, row) in rows.iter().enumerate() {
            self.raw("<tr>");
            row.iter()
                .for_each(|cell| self.element(if index == 0 { "th" } else { "td" }, cell));
            self.raw("</tr>");
        }
        self.raw("</table>");
    }
}

/// Text as it may stand between tags and in quoted attributes.
fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, character| {
            match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                other => out.push(other),
            }
            out
        })
}

pub(crate) fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// An upper bound, never shown smaller than it is.
pub(crate) fn number(value: f64) -> String {
    format!("{:.4}", (value * 1e4).ceil() / 1e4)
}

/// A lower bound, never shown larger than it is.
pub(crate) fn rounded_down(value: f64) -> String {
    format!("{:.4}", (value * 1e4).floor() / 1e4)
}

/// The same with two digits, for small numbers.
pub(crate) fn scientific(value: f64) -> String {
    let nearest = format!("{value:.1e}");
    let shown = nearest.parse::<f64>().unwrap_or(value);
    let Some((digits, exponent)) = nearest.split_once('e').filter(|_| shown < value) else {
        return nearest;
    };
    // One more in the last digit.
    let tenths = (digits.parse::<f64>().unwrap_or(0.0) * 10.0).round() + 1.0;
    let exponent = exponent.parse::<i32>().unwrap_or(0);
    match tenths < 100.0 {
        true => format!("{:.1}e{exponent}", tenths / 10.0),
        false => format!("1.0e{}", exponent + 1),
    }
}

pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_number_is_never_shown_smaller_than_it_is() {
        for (value, shown) in [
            (1e-5, "1.0e-5"),
            (1.04e-5, "1.1e-5"),
            (1.06e-5, "1.1e-5"),
            (9.94e-7, "1.0e-6"),
            (9.96e-7, "1.0e-6"),
            (0.0, "0.0e0"),
            (1.0 / 30_000.0, "3.4e-5"),
            (0.3, "3.0e-1"),
        ] {
            assert_eq!(scientific(value), shown, "{value}");
        }
    }

    #[test]
    fn nothing_that_could_be_markup_survives() {
        assert_eq!(
            escape("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;"
        );
    }
}
