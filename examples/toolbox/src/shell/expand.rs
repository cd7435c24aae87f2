//! Expansions of words: tilde, parameters, substitutions, arithmetic, then splitting into fields and file names.

use super::arithmetic;
use super::glob;
use super::pattern::Pattern;
use super::syntax::{Operation, Parameter, Part, Word};
use super::{Flow, Shell};
use crate::runtime::executor::Local;

/// A piece of a word after its expansions.
enum Piece {
    /// Characters.
    Text {
        text: String,
        /// They stood between quotes.
        quoted: bool,
        /// They came out of an expansion without quotes, so that they are split into fields.
        split: bool,
    },
    /// Between two fields of `"$@"`.
    Break,
}

/// A field: characters, each with whether it was quoted.
type Field = Vec<(char, bool)>;

impl Shell {
    /// The fields that words become.
    pub async fn expand_words(&mut self, words: &[Word]) -> Result<Vec<String>, Flow> {
        let mut result = Vec::new();
        for word in words {
            if let [Part::Literal(text)] = word.parts.as_slice()
                && !text.contains(['*', '?', '[', '~', '\\'])
            {
                result.push(text.clone());
                continue;
            }
            let mut pieces = Vec::new();
            self.expand_parts(&word.parts, false, Some(false), &mut pieces).await?;
            for field in self.split(pieces) {
                let is_pattern = field.iter().any(|(character, quoted)| !quoted && matches!(character, '*' | '?' | '['));
                if is_pattern && !self.options.no_glob {
                    let found = glob::expand(&self.cwd, &field).await;
                    if !found.is_empty() {
                        result.extend(found);
                        continue;
                    }
                }
                result.push(field.into_iter().map(|(character, _)| character).collect());
            }
        }
        Ok(result)
    }

    /// The text that a word becomes where it is not split.
    pub async fn expand_one(&mut self, word: &Word) -> Result<String, Flow> {
        Ok(self.expand_field(word, Some(false)).await?.into_iter().map(|(character, _)| character).collect())
    }

    /// The value of an assignment: tildes count behind colons, too.
    pub async fn expand_assignment(&mut self, word: &Word) -> Result<String, Flow> {
        Ok(self.expand_field(word, Some(true)).await?.into_iter().map(|(character, _)| character).collect())
    }

    /// The text of a here-document.
    pub async fn expand_here(&mut self, word: &Word) -> Result<String, Flow> {
        Ok(self.expand_field(word, None).await?.into_iter().map(|(character, _)| character).collect())
    }

    /// The pattern that a word becomes.
    pub async fn expand_pattern(&mut self, word: &Word) -> Result<Pattern, Flow> {
        Ok(Pattern::new(&self.expand_field(word, Some(false)).await?))
    }

    async fn expand_field(&mut self, word: &Word, tilde: Option<bool>) -> Result<Field, Flow> {
        let mut pieces = Vec::new();
        self.expand_parts(&word.parts, false, tilde, &mut pieces).await?;
        let mut field = Field::new();
        for piece in pieces {
            match piece {
                Piece::Text { text, quoted, .. } => field.extend(text.chars().map(|character| (character, quoted))),
                Piece::Break => field.push((' ', true)),
            }
        }
        Ok(field)
    }

    /// `tilde`: whether tildes are expanded, and behind colons too.
    fn expand_parts<'a>(
        &'a mut self,
        parts: &'a [Part],
        quoted: bool,
        tilde: Option<bool>,
        pieces: &'a mut Vec<Piece>,
    ) -> Local<'a, Result<(), Flow>> {
        Box::pin(async move {
            for (index, part) in parts.iter().enumerate() {
                match part {
                    Part::Literal(text) => {
                        let text = match tilde {
                            Some(colons) if !quoted && text.contains('~') => {
                                self.tilde(text, index == 0, colons, parts.len() == index + 1, pieces)
                            }
                            _ => text.clone(),
                        };
                        pieces.push(Piece::Text { text, quoted, split: false });
                    }
                    Part::Quoted(text) => pieces.push(Piece::Text { text: text.clone(), quoted: true, split: false }),
                    Part::Double(inner) => {
                        let alone = |part: &Part| matches!(part, Part::Parameter(parameter) if parameter.name == "@" && parameter.operation == Operation::Value);
                        if !(inner.len() == 1 && inner.iter().all(alone) && self.positional.is_empty()) {
                            pieces.push(Piece::Text { text: String::new(), quoted: true, split: false });
                        }
                        self.expand_parts(inner, true, None, pieces).await?;
                    }
                    Part::Parameter(parameter) => self.parameter(parameter, quoted, pieces).await?,
                    Part::Command(list) => {
                        let text = self.command_substitution(list).await?;
                        pieces.push(Piece::Text { text, quoted, split: !quoted });
                    }
                    Part::Arithmetic(word) => {
                        let mut inner = Vec::new();
                        self.expand_parts(&word.parts, true, None, &mut inner).await?;
                        let text = joined(&inner);
                        let value = match arithmetic::evaluate(&text, self) {
                            Ok(value) => value,
                            Err(message) => return Err(self.fatal(&message).await),
                        };
                        pieces.push(Piece::Text { text: value.to_string(), quoted, split: !quoted });
                    }
                }
            }
            Ok(())
        })
    }

    /// Expands the tildes of a literal, and returns what is left behind the last of them.
    fn tilde(&self, text: &str, first: bool, colons: bool, last: bool, pieces: &mut Vec<Piece>) -> String {
        let mut rest = String::new();
        let mut at_start = first;
        let segments: Vec<&str> = if colons { text.split_inclusive(':').collect() } else { vec![text] };
        let count = segments.len();
        for (index, segment) in segments.into_iter().enumerate() {
            if let Some(tail) = segment.strip_prefix('~').filter(|_| at_start) {
                let end = tail.find(['/', ':']).unwrap_or(tail.len());
                // What follows in another part belongs to the name, which is then none.
                let ends = end < tail.len() || (last && index + 1 == count);
                if let Some(home) = self.home_of(&tail[..end]).filter(|_| ends) {
                    pieces.push(Piece::Text { text: std::mem::take(&mut rest), quoted: false, split: false });
                    pieces.push(Piece::Text { text: home, quoted: true, split: false });
                    rest.push_str(&tail[end..]);
                } else {
                    rest.push_str(segment);
                }
            } else {
                rest.push_str(segment);
            }
            at_start = colons;
        }
        rest
    }

    fn home_of(&self, user: &str) -> Option<String> {
        if user.is_empty() {
            return self.value("HOME");
        }
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
        line.split(':').nth(5).map(str::to_string)
    }

    async fn parameter(&mut self, parameter: &Parameter, quoted: bool, pieces: &mut Vec<Piece>) -> Result<(), Flow> {
        let many = matches!(parameter.name.as_str(), "@" | "*");
        let value =
            if many { (!self.positional.is_empty()).then(|| self.positional.join(" ")) } else { self.value(&parameter.name) };
        let usable = value.as_ref().is_some_and(|value| !(parameter.colon && value.is_empty()));
        match parameter.operation {
            Operation::Default | Operation::Alternative if usable == (parameter.operation == Operation::Alternative) => {
                let mut inner = Vec::new();
                self.expand_parts(&parameter.word.parts, quoted, Some(false), &mut inner).await?;
                if !quoted {
                    mark_for_splitting(&mut inner);
                }
                pieces.append(&mut inner);
                return Ok(());
            }
            Operation::Alternative => return Ok(()),
            Operation::Assign if !usable => {
                let text = self.expand_one(&parameter.word).await?;
                self.assign(&parameter.name, &text).await?;
                pieces.push(Piece::Text { text, quoted, split: !quoted });
                return Ok(());
            }
            Operation::Error if !usable => {
                let mut text = self.expand_one(&parameter.word).await?;
                if text.is_empty() {
                    text = if parameter.colon { "parameter not set or null".into() } else { "parameter not set".into() };
                }
                return Err(self.fatal(&format!("{}: {text}", parameter.name)).await);
            }
            _ => {}
        }
        if value.is_none() && self.options.no_unset && !many {
            return Err(self.fatal(&format!("{}: parameter not set", parameter.name)).await);
        }
        if parameter.operation == Operation::Length {
            let length = if many { self.positional.len() } else { value.unwrap_or_default().chars().count() };
            pieces.push(Piece::Text { text: length.to_string(), quoted, split: !quoted });
            return Ok(());
        }
        let cut = match parameter.operation {
            Operation::Prefix { longest } => Some((self.expand_pattern(&parameter.word).await?, true, longest)),
            Operation::Suffix { longest } => Some((self.expand_pattern(&parameter.word).await?, false, longest)),
            _ => None,
        };
        let trim = |text: String| match &cut {
            None => text,
            Some((pattern, prefix, longest)) => trimmed(pattern, &text, *prefix, *longest),
        };
        if !many {
            pieces.push(Piece::Text { text: trim(value.unwrap_or_default()), quoted, split: !quoted });
        } else if parameter.name == "*" && quoted {
            let separator: String = self.separators().chars().take(1).collect();
            let list: Vec<String> = self.positional.iter().cloned().map(trim).collect();
            pieces.push(Piece::Text { text: list.join(&separator), quoted, split: false });
        } else {
            for (index, text) in self.positional.iter().cloned().map(trim).enumerate() {
                if index > 0 {
                    pieces.push(Piece::Break);
                }
                pieces.push(Piece::Text { text, quoted, split: !quoted });
            }
        }
        Ok(())
    }

    /// IFS.
    pub fn separators(&self) -> String {
        self.value("IFS").unwrap_or_else(|| " \t\n".into())
    }

    fn split(&self, pieces: Vec<Piece>) -> Vec<Field> {
        let separators = self.separators();
        let mut fields = Vec::new();
        let mut current: Option<Field> = None;
        // The field before was ended by blanks, of which a following other separator is a part.
        let mut after_blank = false;
        for piece in pieces {
            match piece {
                Piece::Break => {
                    fields.extend(current.take());
                    after_blank = false;
                }
                Piece::Text { text, quoted, split: false } => {
                    if quoted || !text.is_empty() {
                        current.get_or_insert_default().extend(text.chars().map(|character| (character, quoted)));
                    }
                }
                Piece::Text { text, .. } => {
                    for character in text.chars() {
                        if !separators.contains(character) {
                            current.get_or_insert_default().push((character, false));
                            after_blank = false;
                        } else if matches!(character, ' ' | '\t' | '\n') {
                            if current.is_some() {
                                fields.extend(current.take());
                                after_blank = true;
                            }
                        } else {
                            match current.take() {
                                Some(field) => fields.push(field),
                                None if after_blank => {}
                                None => fields.push(Field::new()),
                            }
                            after_blank = false;
                        }
                    }
                }
            }
        }
        fields.extend(current);
        fields
    }

    /// Splits a line as `read` does: at most `count` fields, the last of which takes the rest.
    pub fn split_line(&self, line: &[(char, bool)], count: usize) -> Vec<String> {
        let separators = self.separators();
        let blank = |index: usize| {
            line.get(index).is_some_and(|(c, quoted)| !quoted && separators.contains(*c) && matches!(c, ' ' | '\t' | '\n'))
        };
        let separator = |index: usize| line.get(index).is_some_and(|(c, quoted)| !quoted && separators.contains(*c));
        let text = |from: usize, to: usize| -> String {
            line.get(from..to).unwrap_or_default().iter().map(|(character, _)| character).collect()
        };
        let mut fields = Vec::new();
        let mut at = 0;
        while blank(at) {
            at += 1;
        }
        while fields.len() + 1 < count && at < line.len() {
            let start = at;
            while at < line.len() && !separator(at) {
                at += 1;
            }
            fields.push(text(start, at));
            while blank(at) {
                at += 1;
            }
            if separator(at) {
                at += 1;
                while blank(at) {
                    at += 1;
                }
            }
        }
        if at < line.len() {
            let mut end = line.len();
            while end > at && blank(end - 1) {
                end -= 1;
            }
            // One separator at the end of the only field that is left is its end, not part of it.
            if end > at && separator(end - 1) && !(at..end - 1).any(separator) {
                end -= 1;
                while end > at && blank(end - 1) {
                    end -= 1;
                }
            }
            fields.push(text(at, end));
        }
        fields
    }
}

/// Literals in the word of `${x-word}` are split as if they came out of an expansion.
fn mark_for_splitting(pieces: &mut [Piece]) {
    for piece in pieces {
        if let Piece::Text { quoted: false, split, .. } = piece {
            *split = true;
        }
    }
}

fn joined(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| if let Piece::Text { text, .. } = piece { text.as_str() } else { " " }).collect()
}

fn trimmed(pattern: &Pattern, text: &str, prefix: bool, longest: bool) -> String {
    let characters: Vec<char> = text.chars().collect();
    let kept = if prefix {
        pattern.prefix(&characters, longest).and_then(|length| characters.get(length..))
    } else {
        pattern.suffix(&characters, longest).and_then(|start| characters.get(..start))
    };
    kept.map_or_else(|| text.to_string(), |kept| kept.iter().collect())
}
