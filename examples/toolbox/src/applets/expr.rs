//! `expr`.

use crate::applet;
use crate::context::{Applet, Context, Fail, Outcome};
use crate::regex::{Regex, Scratch};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("expr", expr)];

/// Parentheses inside each other.
const DEPTH: u32 = 100;

struct Parser<'a> {
    words: &'a [String],
    at: usize,
    depth: u32,
}

type Value = Result<String, Fail>;

fn wrong<T>(text: &str) -> Result<T, Fail> {
    Err(Fail::Message(text.into(), 2))
}

fn is_null(text: &str) -> bool {
    text.is_empty() || text.parse::<i64>() == Ok(0)
}

/// Operators by how strongly they bind.
const LEVELS: [&[&str]; 6] = [&["|"], &["&"], &["<", "<=", "=", "==", "!=", ">=", ">"], &["+", "-"], &["*", "/", "%"], &[":"]];

impl Parser<'_> {
    fn level(&mut self, level: usize) -> Value {
        let Some(operators) = LEVELS.get(level) else { return self.atom() };
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.words.get(self.at).filter(|word| operators.contains(&word.as_str())) {
            self.at += 1;
            let right = self.level(level + 1)?;
            left = apply(&left, operator, &right)?;
        }
        Ok(left)
    }

    fn word(&mut self) -> Value {
        self.at += 1;
        self.words.get(self.at - 1).cloned().map_or_else(|| wrong("syntax error"), Ok)
    }

    fn atom(&mut self) -> Value {
        let word = self.word()?;
        match word.as_str() {
            "(" => {
                self.depth += 1;
                if self.depth > DEPTH {
                    return wrong("nested too deep");
                }
                let value = self.level(0)?;
                self.depth -= 1;
                if self.word()? == ")" { Ok(value) } else { wrong("syntax error") }
            }
            ")" => wrong("syntax error"),
            "length" if self.at < self.words.len() => Ok(self.atom()?.chars().count().to_string()),
            "match" if self.at + 1 < self.words.len() => {
                let text = self.atom()?;
                let pattern = self.atom()?;
                apply(&text, ":", &pattern)
            }
            "substr" if self.at + 2 < self.words.len() => {
                let text = self.atom()?;
                let (from, count) = (self.atom()?, self.atom()?);
                let (Ok(from), Ok(count)) = (from.parse::<usize>(), count.parse::<usize>()) else { return Ok(String::new()) };
                Ok(if from == 0 { String::new() } else { text.chars().skip(from - 1).take(count).collect() })
            }
            "index" if self.at + 1 < self.words.len() => {
                let text = self.atom()?;
                let set = self.atom()?;
                Ok(text.chars().position(|character| set.contains(character)).map_or(0, |at| at + 1).to_string())
            }
            _ => Ok(word),
        }
    }
}

fn apply(left: &str, operator: &str, right: &str) -> Value {
    let numbers = match (left.parse::<i64>(), right.parse::<i64>()) {
        (Ok(left), Ok(right)) => Some((left, right)),
        _ => None,
    };
    let truth = |value: bool| Ok(i64::from(value).to_string());
    let order = || numbers.map_or_else(|| left.cmp(right), |(left, right)| left.cmp(&right));
    match operator {
        "|" => Ok(if !is_null(left) {
            left.into()
        } else if is_null(right) {
            "0".into()
        } else {
            right.into()
        }),
        "&" => Ok(if is_null(left) || is_null(right) { "0".into() } else { left.into() }),
        "<" => truth(order().is_lt()),
        "<=" => truth(order().is_le()),
        "=" | "==" => truth(order().is_eq()),
        "!=" => truth(order().is_ne()),
        ">=" => truth(order().is_ge()),
        ">" => truth(order().is_gt()),
        ":" => {
            let regex = Regex::new(&format!("^{}", right.strip_prefix('^').unwrap_or(right)), false, false)
                .map_err(|error| Fail::Message(error, 2))?;
            let found = regex.find(left.as_bytes(), 0, &mut Scratch::default());
            let part =
                |capture: Option<(usize, usize)>| capture.and_then(|(from, to)| left.get(from..to)).unwrap_or("").to_string();
            Ok(match found {
                Some(captures) if regex.groups() > 0 => part(captures.get(1).copied().flatten()),
                Some(captures) => part(captures.first().copied().flatten()).chars().count().to_string(),
                None if regex.groups() > 0 => String::new(),
                None => "0".into(),
            })
        }
        _ => {
            let Some((left, right)) = numbers else { return wrong("non-numeric argument") };
            let result = match operator {
                "+" => left.checked_add(right),
                "-" => left.checked_sub(right),
                "*" => left.checked_mul(right),
                _ if right == 0 => return wrong("division by zero"),
                "/" => left.checked_div(right),
                _ => left.checked_rem(right),
            };
            result.map_or_else(|| wrong("number out of range"), |value| Ok(value.to_string()))
        }
    }
}

async fn expr(context: &mut Context) -> Outcome {
    let words = context.args.clone();
    if words.is_empty() {
        return wrong("too few arguments");
    }
    let mut parser = Parser { words: &words, at: 0, depth: 0 };
    let value = parser.level(0)?;
    if parser.at < words.len() {
        return wrong("syntax error");
    }
    context.print(&format!("{value}\n")).await?;
    Ok(u8::from(is_null(&value)))
}
