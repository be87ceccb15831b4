//! Typed values out of untyped ones: workflow parameters, `with` tables, plain keys.
//!
//! One place decides what counts as a number or a switch, whether it comes from the file or, as
//! bare text, from `--set`.

use serde_json::{Number, Value as Json};

use crate::catalog::ParamKind;
use crate::error::Problem;
use crate::near::Choices;
use crate::tree::{Node, Value};

pub(crate) fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Bare(text) => Some(text.clone()),
        _ => None,
    }
}

pub(crate) fn int(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Int(number) => Some(*number),
        Value::Bare(text) => text.parse().ok(),
        _ => None,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 are no parameter"
)]
pub(crate) fn float(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Bare(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

pub(crate) fn bool(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(truth) => Some(*truth),
        Value::Bare(text) => text.parse().ok(),
        _ => None,
    }
}

/// The value as `kind` wants it; `path` is what messages call it.
///
/// # Errors
/// A value of the wrong type, outside its bounds, or none of the choices.
pub(crate) fn param(node: &Node, kind: &ParamKind, path: &str) -> Result<Json, Problem> {
    let wrong_type = || Problem::WrongType {
        path: path.to_owned(),
        wanted: wanted(kind).to_owned(),
        found: node.described(),
    };
    let out_of_range = |found: String, range: String| Problem::OutOfRange {
        path: path.to_owned(),
        found,
        range,
    };
    match kind {
        ParamKind::Bool => bool(node).map(Json::Bool).ok_or_else(wrong_type),
        ParamKind::Text => text(node).map(Json::String).ok_or_else(wrong_type),
        ParamKind::Int { min, max } => match int(node).ok_or_else(wrong_type)? {
            number if (min..=max).contains(&&number) => Ok(Json::from(number)),
            number => Err(out_of_range(number.to_string(), range(min, max))),
        },
        ParamKind::Float { min, max } => match float(node).ok_or_else(wrong_type)? {
            number if *min <= number && number <= *max => {
                let number =
                    Number::from_f64(number).expect("finite: the reader lets nothing else in");
                Ok(Json::Number(number))
            }
            number => Err(out_of_range(format!("{number:?}"), range(min, max))),
        },
        ParamKind::Choice(choices) => match text(node).ok_or_else(wrong_type)? {
            choice if choices.contains(&choice) => Ok(Json::String(choice)),
            choice => Err(Problem::UnknownChoice {
                path: path.to_owned(),
                choices: Choices::of(&choice, choices),
                found: choice,
            }),
        },
    }
}

fn wanted(kind: &ParamKind) -> &'static str {
    match kind {
        ParamKind::Int { .. } => "an integer",
        ParamKind::Float { .. } => "a number",
        ParamKind::Bool => "true or false",
        ParamKind::Text | ParamKind::Choice(_) => "a text",
    }
}

/// `from 1 to 100`; an open end is left out.
fn range<T: PartialOrd + std::fmt::Debug + Extreme>(min: &T, max: &T) -> String {
    match (*min == T::LOWEST, *max == T::HIGHEST) {
        (false, false) => format!("from {min:?} to {max:?}"),
        (false, true) => format!("{min:?} or more"),
        (true, _) => format!("{max:?} or less"),
    }
}

pub(crate) trait Extreme {
    const LOWEST: Self;
    const HIGHEST: Self;
}

impl Extreme for i64 {
    const LOWEST: Self = i64::MIN;
    const HIGHEST: Self = i64::MAX;
}

impl Extreme for f64 {
    const LOWEST: Self = f64::MIN;
    const HIGHEST: Self = f64::MAX;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Place;

    fn bare(text: &str) -> Node {
        Node::new(Place::default(), Value::Bare(text.to_owned()))
    }

    #[test]
    fn bare_text_becomes_what_the_reader_wants() {
        let int = ParamKind::Int { min: 0, max: 9 };
        let float = ParamKind::Float { min: 0.0, max: 9.0 };
        assert_eq!(param(&bare("3"), &int, "x"), Ok(Json::from(3)));
        assert_eq!(param(&bare("3"), &float, "x"), Ok(Json::from(3.0)));
        assert_eq!(
            param(&bare("3"), &ParamKind::Text, "x"),
            Ok(Json::from("3"))
        );
        assert!(matches!(
            param(&bare("nan"), &float, "x"),
            Err(Problem::WrongType { .. })
        ));
        assert!(matches!(
            param(&bare("10"), &int, "x"),
            Err(Problem::OutOfRange { .. })
        ));
    }

    #[test]
    fn bounds_belong_to_the_range() {
        let kind = ParamKind::Int { min: 1, max: 3 };
        assert!(param(&bare("1"), &kind, "x").is_ok());
        assert!(param(&bare("3"), &kind, "x").is_ok());
        assert!(param(&bare("0"), &kind, "x").is_err());
    }
}
