//! The parser of compound commands: `if`, `for`, `case` and the groups between `do` and `done`.

use std::rc::Rc;

use super::parser::{Parsed, Parser};
use super::syntax::{CommandKind, List, SyntaxError, is_name};

impl Parser {
    pub(super) fn if_command(&mut self) -> Parsed<CommandKind> {
        self.at += 2;
        let mut arms = Vec::new();
        loop {
            let condition = self.full_list()?;
            self.eat_keyword("then")?;
            arms.push((condition, self.full_list()?));
            match self.keyword().as_deref() {
                Some("elif") => self.at += 4,
                Some("else") => {
                    self.at += 4;
                    let otherwise = Some(self.full_list()?);
                    self.eat_keyword("fi")?;
                    return Ok(CommandKind::If { arms, otherwise });
                }
                _ => {
                    self.eat_keyword("fi")?;
                    return Ok(CommandKind::If { arms, otherwise: None });
                }
            }
        }
    }

    pub(super) fn do_group(&mut self) -> Parsed<Rc<List>> {
        self.eat_keyword("do")?;
        let body = self.full_list()?;
        self.eat_keyword("done")?;
        Ok(body)
    }

    pub(super) fn for_command(&mut self) -> Parsed<CommandKind> {
        self.at += 3;
        self.blanks();
        let name = self.plain_word().filter(|name| is_name(name));
        let Some(name) = name else { return Err(SyntaxError::Other("bad for loop variable".into())) };
        self.blanks();
        let mut words = None;
        if self.peek() == Some(';') && self.peek_at(1) != Some(';') {
            self.at += 1;
        } else {
            self.newlines()?;
            if self.keyword().as_deref() == Some("in") {
                self.at += 2;
                let mut list = Vec::new();
                loop {
                    self.blanks();
                    match self.word()? {
                        Some(word) => list.push(word),
                        None => break,
                    }
                }
                words = Some(list);
                match self.peek() {
                    Some(';') if self.peek_at(1) != Some(';') => self.at += 1,
                    Some('\n') | None => {}
                    Some(_) => return Err(self.unexpected()),
                }
            }
        }
        let body = self.do_group()?;
        Ok(CommandKind::For { name, words, body })
    }

    pub(super) fn case_command(&mut self) -> Parsed<CommandKind> {
        self.at += 4;
        self.blanks();
        let word = match self.word()? {
            Some(word) => word,
            None => return Err(self.unexpected()),
        };
        self.eat_keyword("in")?;
        let mut arms = Vec::new();
        loop {
            self.newlines()?;
            if self.keyword().as_deref() == Some("esac") {
                self.at += 4;
                return Ok(CommandKind::Case { word, arms });
            }
            if self.peek().is_none() {
                return Err(SyntaxError::Incomplete("\"esac\""));
            }
            if self.peek() == Some('(') {
                self.at += 1;
                self.blanks();
            }
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                match self.word()? {
                    Some(pattern) => patterns.push(pattern),
                    None => return Err(self.unexpected()),
                }
                self.blanks();
                if !(self.peek() == Some('|') && self.peek_at(1) != Some('|')) {
                    break;
                }
                self.at += 1;
            }
            if self.peek() != Some(')') {
                return Err(self.unexpected());
            }
            self.at += 1;
            let list = self.list()?;
            arms.push((patterns, list));
            self.newlines()?;
            if !self.eat(";;") && self.keyword().as_deref() != Some("esac") {
                return Err(if self.peek().is_none() { SyntaxError::Incomplete("\";;\"") } else { self.unexpected() });
            }
        }
    }
}
