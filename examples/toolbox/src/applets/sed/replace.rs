//! The parser of `s` and `y`.

use super::script::{Action, Parsed, Parser, Part, Replace};
use crate::regex::Regex;

impl Parser<'_> {
    pub(super) fn replace(&mut self) -> Parsed<Action> {
        let delimiter = self.next().filter(|delimiter| !matches!(delimiter, '\n' | '\\')).ok_or("bad delimiter of 's'")?;
        let pattern = self.delimited(delimiter, true)?;
        let template = self.delimited(delimiter, false)?;
        let mut replace = Replace { regex: None, parts: Vec::new(), all: false, number: 1, print: false, write: None };
        let mut fold = false;
        loop {
            match self.peek() {
                Some('g') => replace.all = true,
                Some('p') => replace.print = true,
                Some('i' | 'I') => fold = true,
                Some('w') => {
                    self.at += 1;
                    self.blanks();
                    replace.write = Some(self.rest_of_line());
                    break;
                }
                Some(digit) if digit.is_ascii_digit() => {
                    replace.number = (self.number().unwrap_or(1) as usize).max(1);
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        replace.regex = self.regex(&pattern, fold)?;
        replace.parts = template_parts(&template);
        let groups = replace.regex.as_ref().map_or(9, Regex::groups);
        let bad = replace.parts.iter().find_map(|part| match part {
            Part::Group(group) if *group > groups => Some(*group),
            _ => None,
        });
        match bad {
            Some(group) => Err(format!("invalid reference \\{group} on 's' command's RHS")),
            None => Ok(Action::Replace(Box::new(replace))),
        }
    }

    pub(super) fn translate(&mut self) -> Parsed<Action> {
        let delimiter = self.next().ok_or("bad delimiter of 'y'")?;
        let unescape = |text: String| -> Vec<char> {
            let mut list = Vec::new();
            let mut rest = text.chars();
            while let Some(character) = rest.next() {
                list.push(match character {
                    '\\' => match rest.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some(other) => other,
                        None => '\\',
                    },
                    other => other,
                });
            }
            list
        };
        let from = unescape(self.delimited(delimiter, false)?);
        let to = unescape(self.delimited(delimiter, false)?);
        if from.len() != to.len() {
            return Err("strings for 'y' command are of different lengths".into());
        }
        Ok(Action::Translate(from.into_iter().zip(to).collect()))
    }
}

fn template_parts(template: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template.chars();
    while let Some(character) = rest.next() {
        let part = match character {
            '&' => Some(Part::Group(0)),
            '\\' => match rest.next() {
                Some(digit @ '0'..='9') => Some(Part::Group(digit.to_digit(10).unwrap_or(0) as usize)),
                Some(case @ ('U' | 'L' | 'u' | 'l' | 'E')) => Some(Part::Case(case)),
                Some('n') => {
                    text.push('\n');
                    None
                }
                Some('t') => {
                    text.push('\t');
                    None
                }
                Some(other) => {
                    text.push(other);
                    None
                }
                None => None,
            },
            other => {
                text.push(other);
                None
            }
        };
        if let Some(part) = part {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}
