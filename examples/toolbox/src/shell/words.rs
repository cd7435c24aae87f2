//! The parser of words: quotes, parameters, substitutions.

use super::parser::{Parsed, Parser, ends_word};
use super::syntax::{Operation, Parameter, Part, SyntaxError, Word};

/// Where characters of a word stand, which decides over what is special.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between double quotes.
    Double,
    /// In a here-document: as between double quotes, but a double quote is nothing special.
    Here,
    /// Behind the operation of `${ }`, outside double quotes.
    Braces,
    /// The same inside double quotes.
    BracesInDouble,
    /// Between `$((` and `))`.
    Arithmetic,
}

fn add(parts: &mut Vec<Part>, character: char) {
    if let Some(Part::Literal(text)) = parts.last_mut() {
        text.push(character);
    } else {
        parts.push(Part::Literal(character.to_string()));
    }
}

fn add_quoted(parts: &mut Vec<Part>, character: char) {
    if let Some(Part::Quoted(text)) = parts.last_mut() {
        text.push(character);
    } else {
        parts.push(Part::Quoted(character.to_string()));
    }
}

impl Parser {
    /// The next word, if one stands here.
    pub(super) fn word(&mut self) -> Parsed<Option<Word>> {
        let mut parts = Vec::new();
        let start = self.at;
        while let Some(character) = self.peek() {
            match character {
                '\\' if self.peek_at(1) == Some('\n') => self.at += 2,
                _ if ends_word(character) => break,
                _ => self.part(&mut parts)?,
            }
        }
        if self.at == start || (parts.is_empty() && self.source.get(start) == Some(&'\\')) {
            return Ok(None);
        }
        Ok(Some(Word { parts }))
    }

    /// A word without any quotes or expansions.
    pub(super) fn plain_word(&mut self) -> Option<String> {
        match self.word() {
            Ok(Some(Word { parts })) => match parts.as_slice() {
                [Part::Literal(text)] => Some(text.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// One part outside double quotes.
    fn part(&mut self, parts: &mut Vec<Part>) -> Parsed<()> {
        match self.next() {
            Some('\'') => parts.push(self.single_quoted()?),
            Some('"') => parts.push(Part::Double(self.deeper(|parser| parser.until(Place::Double))?)),
            Some('\\') => match self.next() {
                Some('\n') => {}
                Some(character) => add_quoted(parts, character),
                None => add(parts, '\\'),
            },
            Some('$') => self.dollar(parts, false)?,
            Some('`') => self.backquote(parts, false)?,
            Some(character) => add(parts, character),
            None => {}
        }
        Ok(())
    }

    fn single_quoted(&mut self) -> Parsed<Part> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(Part::Quoted(text)),
                Some(character) => text.push(character),
                None => return Err(SyntaxError::Incomplete("unterminated quoted string")),
            }
        }
    }

    /// The text of a here-document.
    pub(super) fn here_text(&mut self) -> Parsed<Vec<Part>> {
        self.until(Place::Here)
    }

    fn until(&mut self, place: Place) -> Parsed<Vec<Part>> {
        let mut parts = Vec::new();
        let mut open = 0_usize;
        loop {
            let Some(character) = self.next() else {
                return match place {
                    Place::Here => Ok(parts),
                    Place::Double => Err(SyntaxError::Incomplete("unterminated quoted string")),
                    Place::Arithmetic => Err(SyntaxError::Incomplete("\"))\"")),
                    Place::Braces | Place::BracesInDouble => Err(SyntaxError::Incomplete("\"}\"")),
                };
            };
            let double = place != Place::Braces;
            match (character, place) {
                ('"', Place::Double) => return Ok(parts),
                ('}', Place::Braces | Place::BracesInDouble) => return Ok(parts),
                ('(', Place::Arithmetic) => {
                    open += 1;
                    add(&mut parts, '(');
                }
                (')', Place::Arithmetic) if open > 0 => {
                    open -= 1;
                    add(&mut parts, ')');
                }
                (')', Place::Arithmetic) => {
                    if self.next() == Some(')') {
                        return Ok(parts);
                    }
                    return Err(SyntaxError::Unexpected("\")\"".into()));
                }
                ('\'', Place::Braces) => parts.push(self.single_quoted()?),
                ('"', Place::Braces | Place::BracesInDouble) => {
                    let inner = self.deeper(|parser| parser.until(Place::Double))?;
                    parts.push(Part::Double(inner));
                }
                ('"', Place::Arithmetic) => {}
                ('\\', _) => match self.peek() {
                    Some('\n') => self.at += 1,
                    Some(next)
                        if !double
                            || matches!(next, '$' | '`' | '\\')
                            || (next == '"' && place != Place::Here)
                            || (next == '}' && place == Place::BracesInDouble) =>
                    {
                        self.at += 1;
                        add_quoted(&mut parts, next);
                    }
                    _ => add(&mut parts, '\\'),
                },
                ('$', _) => self.dollar(&mut parts, double)?,
                ('`', _) => self.backquote(&mut parts, double)?,
                (character, _) => add(&mut parts, character),
            }
        }
    }

    fn backquote(&mut self, parts: &mut Vec<Part>, double: bool) -> Parsed<()> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('`') => break,
                Some('\\') => match self.next() {
                    Some(next) if matches!(next, '$' | '`' | '\\') || (double && next == '"') => text.push(next),
                    Some(next) => {
                        text.push('\\');
                        text.push(next);
                    }
                    None => text.push('\\'),
                },
                Some(character) => text.push(character),
                None => return Err(SyntaxError::Incomplete("unterminated quoted string")),
            }
        }
        let mut inner = self.inner(&text);
        let list = self.deeper(|_| {
            let list = inner.list()?;
            if inner.peek().is_some() {
                return Err(inner.unexpected());
            }
            Ok(list)
        });
        parts.push(Part::Command(list?));
        Ok(())
    }

    fn dollar(&mut self, parts: &mut Vec<Part>, double: bool) -> Parsed<()> {
        match self.peek() {
            Some('(') => {
                if self.peek_at(1) == Some('(') {
                    let start = self.at;
                    self.at += 2;
                    match self.deeper(|parser| parser.until(Place::Arithmetic)) {
                        Ok(inner) => {
                            parts.push(Part::Arithmetic(Word { parts: inner }));
                            return Ok(());
                        }
                        Err(error @ SyntaxError::Incomplete(_)) => return Err(error),
                        // `$((` may also begin a substitution whose command is a subshell.
                        Err(_) => self.at = start,
                    }
                }
                self.at += 1;
                let list = self.deeper(Self::list)?;
                self.closing_parenthesis()?;
                parts.push(Part::Command(list));
            }
            Some('{') => {
                self.at += 1;
                let parameter = self.deeper(|parser| parser.braces(double))?;
                parts.push(Part::Parameter(Box::new(parameter)));
            }
            Some(first) if first == '_' || first.is_ascii_alphabetic() => {
                let name = self.name();
                parts.push(plain(name));
            }
            Some(first) if first.is_ascii_digit() || "@*#?-$!".contains(first) => {
                self.at += 1;
                parts.push(plain(first.to_string()));
            }
            _ => add(parts, '$'),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(character) = self.peek().filter(|character| *character == '_' || character.is_ascii_alphanumeric()) {
            name.push(character);
            self.at += 1;
        }
        name
    }

    fn parameter_name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(first) if first.is_ascii_digit() => {
                let mut digits = String::new();
                while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
                    digits.push(digit);
                    self.at += 1;
                }
                Ok(digits)
            }
            Some(first) if first == '_' || first.is_ascii_alphabetic() => Ok(self.name()),
            Some(first) if "@*#?-$!".contains(first) => {
                self.at += 1;
                Ok(first.to_string())
            }
            None => Err(SyntaxError::Incomplete("\"}\"")),
            Some(_) => Err(SyntaxError::Other("bad substitution".into())),
        }
    }

    fn braces(&mut self, double: bool) -> Parsed<Parameter> {
        if self.peek() == Some('#') && self.peek_at(1) != Some('}') {
            let start = self.at;
            self.at += 1;
            if let Ok(name) = self.parameter_name()
                && self.peek() == Some('}')
            {
                self.at += 1;
                return Ok(Parameter { name, operation: Operation::Length, colon: false, word: Word::default() });
            }
            self.at = start;
        }
        let name = self.parameter_name()?;
        let colon = self.peek() == Some(':');
        if colon {
            self.at += 1;
        }
        let operation = match self.next() {
            Some('}') if !colon => {
                return Ok(Parameter { name, operation: Operation::Value, colon, word: Word::default() });
            }
            Some('-') => Operation::Default,
            Some('=') => Operation::Assign,
            Some('?') => Operation::Error,
            Some('+') => Operation::Alternative,
            Some('%') if !colon => Operation::Suffix { longest: self.eat("%") },
            Some('#') if !colon => Operation::Prefix { longest: self.eat("#") },
            None => return Err(SyntaxError::Incomplete("\"}\"")),
            Some(_) => return Err(SyntaxError::Other("bad substitution".into())),
        };
        let pattern = matches!(operation, Operation::Prefix { .. } | Operation::Suffix { .. });
        let parts = self.until(if double && !pattern { Place::BracesInDouble } else { Place::Braces })?;
        Ok(Parameter { name, operation, colon, word: Word { parts } })
    }
}

fn plain(name: String) -> Part {
    Part::Parameter(Box::new(Parameter { name, operation: Operation::Value, colon: false, word: Word::default() }))
}
