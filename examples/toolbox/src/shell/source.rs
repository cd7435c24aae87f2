//! What changes or follows the parser's text: aliases are put into it, here-documents stand behind a line.

use super::parser::{Parsed, Parser, Pending, ends_word};
use super::syntax::{Part, SyntaxError, Word};

impl Parser {
    pub(super) fn here_document(&mut self, pending: &Pending) -> Parsed<()> {
        let mut body = String::new();
        loop {
            if self.peek().is_none() {
                // As other shells do: the end of the script ends the document; a person is asked for more.
                return self.finish_here(pending, &body, true);
            }
            let mut line = String::new();
            while let Some(character) = self.next() {
                line.push(character);
                if character == '\n' {
                    break;
                }
            }
            let text = if pending.strip { line.trim_start_matches('\t') } else { line.as_str() };
            if text.strip_suffix('\n').unwrap_or(text) == pending.delimiter {
                return self.finish_here(pending, &body, false);
            }
            body.push_str(text);
        }
    }

    fn finish_here(&mut self, pending: &Pending, body: &str, cut: bool) -> Parsed<()> {
        let word = if pending.quoted {
            Word { parts: vec![Part::Quoted(body.to_string())] }
        } else {
            Word { parts: vec![Part::Double(self.inner(body).here_text()?)] }
        };
        let _ = pending.text.set(word);
        if cut && !self.whole {
            return Err(SyntaxError::Incomplete("here-document"));
        }
        Ok(())
    }

    pub(super) fn replace_alias(&mut self) {
        // An alias whose text ends in a blank lets the next word be one, too; that goes unheeded here.
        for _ in 0..20 {
            let word: String = self.source.iter().skip(self.at).take_while(|character| !ends_word(**character)).collect();
            let left = self.source.len() - self.at;
            self.replacing.retain(|(_, end)| left > *end);
            if self.replacing.iter().any(|(name, _)| *name == word) {
                return;
            }
            let Some(text) = self.aliases.get(&word) else { return };
            let length = word.chars().count();
            self.replacing.push((word, left - length));
            self.source.splice(self.at..self.at + length, text.chars());
            self.blanks();
        }
    }
}
