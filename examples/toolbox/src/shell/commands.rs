//! The parser of simple commands, functions and redirections.

use std::cell::OnceCell;
use std::rc::Rc;

use super::parser::{Parsed, Parser, Pending};
use super::syntax::{Command, CommandKind, Part, Redirection, RedirectionKind, SyntaxError, Word, is_name};

impl Parser {
    pub(super) fn simple(&mut self, line: usize) -> Parsed<Command> {
        let mut assignments = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        let mut redirections = Vec::new();
        loop {
            self.blanks();
            if words.is_empty() && !assignments.is_empty() {
                self.replace_alias();
            }
            if let Some(redirection) = self.redirection()? {
                redirections.push(redirection);
                continue;
            }
            if self.peek() == Some('(') {
                return self.function(&assignments, &words, &redirections, line);
            }
            let Some(word) = self.word()? else { break };
            if words.is_empty() {
                match as_assignment(&word) {
                    Some(assignment) => assignments.push(assignment),
                    None => words.push(word),
                }
            } else {
                words.push(word);
            }
        }
        if assignments.is_empty() && words.is_empty() && redirections.is_empty() {
            return Err(self.unexpected());
        }
        Ok(Command { kind: CommandKind::Simple { assignments, words }, redirections, line })
    }

    pub(super) fn function(
        &mut self,
        assigned: &[(String, Word)],
        words: &[Word],
        redirected: &[Redirection],
        line: usize,
    ) -> Parsed<Command> {
        let name = match words {
            [Word { parts }] if assigned.is_empty() && redirected.is_empty() => match parts.as_slice() {
                [Part::Literal(name)] => name.clone(),
                _ => return Err(self.unexpected()),
            },
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        self.blanks();
        if self.peek() != Some(')') {
            return Err(if self.peek().is_none() { SyntaxError::Incomplete("\")\"") } else { self.unexpected() });
        }
        self.at += 1;
        if !name.chars().all(|character| character.is_alphanumeric() || "_-.+:".contains(character)) {
            return Err(SyntaxError::Other("bad function name".into()));
        }
        self.newlines()?;
        let body = Rc::new(self.deeper(Self::command)?);
        Ok(Command { kind: CommandKind::Function { name, body }, redirections: Vec::new(), line })
    }

    pub(super) fn redirection(&mut self) -> Parsed<Option<Redirection>> {
        let mut digits = 0;
        while self.peek_at(digits).is_some_and(|character| character.is_ascii_digit()) {
            digits += 1;
        }
        if !matches!(self.peek_at(digits), Some('<' | '>')) {
            return Ok(None);
        }
        let number: String = self.source.iter().skip(self.at).take(digits).collect();
        self.at += digits;
        let input = self.peek() == Some('<');
        let descriptor = number.parse().unwrap_or(u32::from(!input));
        let operator = ["<<-", "<<", "<>", "<&", "<", ">>", ">&", ">|", ">"].into_iter().find(|text| self.eat(text));
        self.blanks();
        let Some(word) = self.word()? else {
            return Err(self.unexpected());
        };
        let kind = match operator.unwrap_or_default() {
            "<<-" | "<<" => {
                let (delimiter, quoted) = delimiter_of(&word);
                let text = Rc::new(OnceCell::new());
                let strip = operator == Some("<<-");
                self.pending.push(Pending { text: Rc::clone(&text), delimiter, strip, quoted });
                RedirectionKind::Here(text)
            }
            "<>" => RedirectionKind::ReadWrite(word),
            "<&" | ">&" => RedirectionKind::Duplicate(word),
            "<" => RedirectionKind::Read(word),
            ">>" => RedirectionKind::Append(word),
            ">|" => RedirectionKind::Write(word, true),
            _ => RedirectionKind::Write(word, false),
        };
        Ok(Some(Redirection { descriptor, kind }))
    }
}

fn as_assignment(word: &Word) -> Option<(String, Word)> {
    let (first, rest) = word.parts.split_first()?;
    let Part::Literal(text) = first else { return None };
    let (name, value) = text.split_once('=')?;
    if !is_name(name) {
        return None;
    }
    let mut parts = Vec::new();
    if !value.is_empty() {
        parts.push(Part::Literal(value.to_string()));
    }
    parts.extend(rest.iter().cloned());
    Some((name.to_string(), Word { parts }))
}

fn delimiter_of(word: &Word) -> (String, bool) {
    let mut text = String::new();
    let mut quoted = false;
    for part in &word.parts {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Quoted(literal) => {
                quoted = true;
                text.push_str(literal);
            }
            Part::Double(parts) => {
                quoted = true;
                for part in parts {
                    if let Part::Literal(literal) | Part::Quoted(literal) = part {
                        text.push_str(literal);
                    }
                }
            }
            Part::Parameter(parameter) => text.push_str(&format!("${}", parameter.name)),
            Part::Command(_) | Part::Arithmetic(_) => {}
        }
    }
    (text, quoted)
}
