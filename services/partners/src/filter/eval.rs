//! Whether an expression wants an event. An error (a missing attribute, a text that is no number where one is needed) makes the whole say no.

use serde_json::{Map, Value};

use super::parse::{Compare, Expression, Literal, Logic, Piece};

/// Something cannot be worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unknown;

/// Whether it wants an event of these attributes.
pub fn wants(expression: &Expression, attributes: &Map<String, Value>) -> bool {
    value(expression, attributes).and_then(|value| boolean(&value)) == Ok(true)
}

fn value(expression: &Expression, attributes: &Map<String, Value>) -> Result<Literal, Unknown> {
    let truth = |expression: &Expression| value(expression, attributes).and_then(|value| boolean(&value));
    Ok(match expression {
        Expression::Literal(literal) => literal.clone(),
        Expression::Attribute(name) => match attributes.get(name) {
            Some(Value::String(text)) => Literal::Text(text.clone()),
            Some(Value::Bool(flag)) => Literal::Boolean(*flag),
            Some(Value::Number(number)) => {
                let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
                Literal::Integer(number.ok_or(Unknown)?)
            }
            _ => return Err(Unknown),
        },
        Expression::Exists(name) => {
            Literal::Boolean(attributes.get(name).is_some_and(|value| !value.is_null()))
        }
        Expression::Not(inner) => Literal::Boolean(!truth(inner)?),
        Expression::Logic(logic, left, right) => Literal::Boolean(match (logic, truth(left)?) {
            (Logic::And, false) => false,
            (Logic::Or, true) => true,
            (Logic::Xor, left) => left ^ truth(right)?,
            (Logic::And | Logic::Or, _) => truth(right)?,
        }),
        Expression::Compare(compare, left, right) => {
            Literal::Boolean(compared(*compare, &value(left, attributes)?, &value(right, attributes)?)?)
        }
        Expression::Like(inner, pattern) => {
            let text: Vec<char> = text(&value(inner, attributes)?).chars().collect();
            Literal::Boolean(is_like(&text, pattern))
        }
        Expression::In(inner, list) => {
            let one = value(inner, attributes)?;
            let mut is_in = false;
            for other in list {
                is_in |= compared(Compare::Equal, &one, &value(other, attributes)?) == Ok(true);
            }
            Literal::Boolean(is_in)
        }
    })
}

/// Two values of different types are compared as that of the one that is no text.
fn compared(compare: Compare, left: &Literal, right: &Literal) -> Result<bool, Unknown> {
    use std::cmp::Ordering;
    let ordering = match (left, right) {
        (Literal::Text(left), Literal::Text(right))
            if matches!(compare, Compare::Equal | Compare::Unequal) =>
        {
            left.cmp(right)
        }
        (Literal::Boolean(_), _) | (_, Literal::Boolean(_)) => boolean(left)?.cmp(&boolean(right)?),
        _ => integer(left)?.cmp(&integer(right)?),
    };
    Ok(match compare {
        Compare::Equal => ordering == Ordering::Equal,
        Compare::Unequal => ordering != Ordering::Equal,
        Compare::Less => ordering == Ordering::Less,
        Compare::LessOrEqual => ordering != Ordering::Greater,
        Compare::Greater => ordering == Ordering::Greater,
        Compare::GreaterOrEqual => ordering != Ordering::Less,
    })
}

fn boolean(literal: &Literal) -> Result<bool, Unknown> {
    match literal {
        Literal::Boolean(flag) => Ok(*flag),
        Literal::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Literal::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Unknown),
    }
}

fn integer(literal: &Literal) -> Result<i32, Unknown> {
    match literal {
        Literal::Integer(number) => Ok(*number),
        Literal::Text(text) => text.parse().map_err(|_| Unknown),
        Literal::Boolean(_) => Err(Unknown),
    }
}

fn text(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        Literal::Integer(number) => number.to_string(),
        Literal::Boolean(flag) => flag.to_string(),
    }
}

/// In at most pattern times text steps: only the last '%' is ever taken back.
fn is_like(text: &[char], pattern: &[Piece]) -> bool {
    let (mut at, mut piece) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(character) = text.get(at) {
        match pattern.get(piece) {
            Some(Piece::Many) => {
                back = Some((at, piece));
                piece += 1;
            }
            Some(Piece::Any) => (at, piece) = (at + 1, piece + 1),
            Some(Piece::One(one)) if one == character => (at, piece) = (at + 1, piece + 1),
            _ => match &mut back {
                Some((from, many)) => {
                    *from += 1;
                    (at, piece) = (*from, *many + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(piece).all(|piece| *piece == Piece::Many)
}
