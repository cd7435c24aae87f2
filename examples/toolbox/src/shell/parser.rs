//! The parser of commands: recursive descent over the characters, one complete command at a time, so that an alias or an
//! option set by one line holds for the next. Compound commands are parsed in `compound.rs`, simple ones in
//! `commands.rs`, words in `words.rs`.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::syntax::{AndOr, Command, CommandKind, List, Pipeline, SyntaxError, Word};

/// How deep commands and words may be nested; each level takes of the stack.
const DEPTH: usize = 100;

pub(super) type Parsed<T> = Result<T, SyntaxError>;

/// A here-document whose text is still to come.
pub(super) struct Pending {
    pub(super) text: Rc<OnceCell<Word>>,
    pub(super) delimiter: String,
    pub(super) strip: bool,
    pub(super) quoted: bool,
}

/// Reads commands off a text.
pub struct Parser {
    pub(super) source: Vec<char>,
    pub(super) at: usize,
    pub(super) pending: Vec<Pending>,
    pub(super) depth: usize,
    pub(super) aliases: Rc<HashMap<String, String>>,
    /// Aliases that are being replaced, with the length of the source behind their text.
    pub(super) replacing: Vec<(String, usize)>,
    /// A place and its line, so that not everything is counted again.
    counted: Cell<(usize, usize)>,
    /// Nothing more will come: the end of the text ends a here-document.
    pub(super) whole: bool,
}

const RESERVED: [&str; 16] =
    ["if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "{", "}", "!", "in"];

/// Whether a word means something to the parser.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

pub(super) fn ends_word(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}

impl Parser {
    /// A parser of a text whose first line has the number `first_line`.
    pub fn new(text: &str, aliases: Rc<HashMap<String, String>>, first_line: usize) -> Self {
        Self {
            source: text.chars().collect(),
            at: 0,
            pending: Vec::new(),
            depth: 0,
            aliases,
            replacing: Vec::new(),
            counted: Cell::new((0, first_line)),
            whole: true,
        }
    }

    /// More text may come: a here-document without its end is incomplete.
    pub fn may_grow(mut self) -> Self {
        self.whole = false;
        self
    }

    /// Other aliases from here on.
    pub fn set_aliases(&mut self, aliases: &Rc<HashMap<String, String>>) {
        self.aliases = Rc::clone(aliases);
    }

    /// A parser of a part of this one's text.
    pub(super) fn inner(&self, text: &str) -> Parser {
        let mut parser = Parser::new(text, Rc::clone(&self.aliases), self.line());
        parser.depth = self.depth;
        parser
    }

    /// Where the parser stands, counted from the beginning of the text.
    pub fn line(&self) -> usize {
        let (from, line) = self.counted.get();
        let (from, line) = if from <= self.at { (from, line) } else { (0, 1) };
        let passed = self.source.get(from..self.at).unwrap_or_default();
        let line = line + passed.iter().filter(|character| **character == '\n').count();
        self.counted.set((self.at, line));
        line
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.source.get(self.at).copied()
    }

    pub(super) fn peek_at(&self, offset: usize) -> Option<char> {
        self.source.get(self.at + offset).copied()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let character = self.peek();
        if character.is_some() {
            self.at += 1;
        }
        character
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(offset, character)| self.peek_at(offset) == Some(character));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH {
            return Err(SyntaxError::Other(format!("nested more than {DEPTH} deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    pub(super) fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t') => self.at += 1,
                Some('\\') if self.peek_at(1) == Some('\n') => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    pub(super) fn newlines(&mut self) -> Parsed<()> {
        loop {
            self.blanks();
            if self.peek() != Some('\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    fn newline(&mut self) -> Parsed<()> {
        self.at += 1;
        for pending in std::mem::take(&mut self.pending) {
            self.here_document(&pending)?;
        }
        Ok(())
    }

    /// The next complete command line, or nothing at the end.
    pub fn line_of_commands(&mut self) -> Parsed<Option<List>> {
        self.newlines()?;
        if self.peek().is_none() {
            return Ok(None);
        }
        let mut list = List::new();
        loop {
            list.push(self.and_or()?);
            let ended = self.separator(&mut list)?;
            self.blanks();
            match self.peek() {
                None => break,
                Some('\n') => {
                    self.newline()?;
                    break;
                }
                Some(_) if ended => {}
                Some(_) => return Err(self.unexpected()),
            }
        }
        for pending in std::mem::take(&mut self.pending) {
            self.here_document(&pending)?;
        }
        Ok(Some(list))
    }

    /// A list up to what cannot begin a command.
    pub(super) fn list(&mut self) -> Parsed<Rc<List>> {
        let mut list = List::new();
        loop {
            self.newlines()?;
            match self.peek() {
                None | Some(')') => break,
                Some(';') if self.peek_at(1) == Some(';') => break,
                _ if self.at_closing() => break,
                _ => {}
            }
            list.push(self.and_or()?);
            let ended = self.separator(&mut list)?;
            self.blanks();
            if !ended && self.peek() != Some('\n') {
                break;
            }
        }
        Ok(Rc::new(list))
    }

    pub(super) fn full_list(&mut self) -> Parsed<Rc<List>> {
        let list = self.list()?;
        if list.is_empty() { Err(self.unexpected()) } else { Ok(list) }
    }

    fn separator(&mut self, list: &mut List) -> Parsed<bool> {
        self.blanks();
        match self.peek() {
            Some('&') => {
                self.at += 1;
                if let Some(last) = list.last_mut() {
                    last.background = true;
                }
                Ok(true)
            }
            Some(';') if self.peek_at(1) != Some(';') => {
                self.at += 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn at_closing(&self) -> bool {
        self.keyword().is_some_and(|word| matches!(word.as_str(), "then" | "else" | "elif" | "fi" | "do" | "done" | "esac" | "}"))
    }

    /// The reserved word that stands here, if one does.
    pub(super) fn keyword(&self) -> Option<String> {
        let mut word = String::new();
        for offset in 0..6 {
            match self.peek_at(offset) {
                Some(character) if character.is_ascii_lowercase() || matches!(character, '{' | '}' | '!') => word.push(character),
                None => break,
                Some(character) if ends_word(character) => break,
                Some(_) => return None,
            }
        }
        (is_reserved(&word) && self.peek_at(word.len()).is_none_or(ends_word)).then_some(word)
    }

    pub(super) fn eat_keyword(&mut self, wanted: &'static str) -> Parsed<()> {
        self.newlines()?;
        if self.keyword().as_deref() == Some(wanted) {
            self.at += wanted.len();
            return Ok(());
        }
        if self.peek().is_none() {
            return Err(SyntaxError::Incomplete(match wanted {
                "then" => "\"then\"",
                "fi" => "\"fi\"",
                "do" => "\"do\"",
                "done" => "\"done\"",
                "}" => "\"}\"",
                "esac" => "\"esac\"",
                _ => "\"in\"",
            }));
        }
        Err(self.unexpected())
    }

    pub(super) fn unexpected(&self) -> SyntaxError {
        match self.peek() {
            None => SyntaxError::Incomplete("a command"),
            Some('\n') => SyntaxError::Unexpected("newline".into()),
            Some(first) if ends_word(first) => {
                let double = self.peek_at(1) == Some(first) && matches!(first, ';' | '&' | '|');
                SyntaxError::Unexpected(if double { format!("\"{first}{first}\"") } else { format!("\"{first}\"") })
            }
            Some(_) => {
                let word: String =
                    self.source.iter().skip(self.at).take_while(|character| !ends_word(**character)).take(40).collect();
                if is_reserved(&word) {
                    SyntaxError::Unexpected(format!("\"{word}\""))
                } else {
                    SyntaxError::Unexpected("word".into())
                }
            }
        }
    }

    fn and_or(&mut self) -> Parsed<AndOr> {
        self.deeper(|parser| {
            parser.blanks();
            let start = parser.at;
            let first = parser.pipeline()?;
            let mut rest = Vec::new();
            loop {
                parser.blanks();
                let and = if parser.eat("&&") {
                    true
                } else if parser.eat("||") {
                    false
                } else {
                    break;
                };
                parser.newlines()?;
                rest.push((and, parser.pipeline()?));
            }
            let text: String = parser.source.get(start..parser.at).unwrap_or_default().iter().collect();
            Ok(AndOr { first, rest, background: false, text: text.trim().to_string() })
        })
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let mut negated = false;
        self.blanks();
        while self.keyword().as_deref() == Some("!") {
            self.at += 1;
            negated = !negated;
            self.blanks();
        }
        let mut stages = vec![Rc::new(self.command()?)];
        loop {
            self.blanks();
            if self.peek() != Some('|') || self.peek_at(1) == Some('|') {
                return Ok(Pipeline { negated, stages });
            }
            self.at += 1;
            self.newlines()?;
            stages.push(Rc::new(self.command()?));
        }
    }

    pub(super) fn command(&mut self) -> Parsed<Command> {
        self.blanks();
        self.replace_alias();
        self.blanks();
        let line = self.line();
        let kind = match (self.peek(), self.keyword().as_deref()) {
            (Some('('), _) => {
                self.at += 1;
                let list = self.full_list()?;
                self.closing_parenthesis()?;
                CommandKind::Subshell(list)
            }
            (_, Some("{")) => {
                self.at += 1;
                let list = self.full_list()?;
                self.eat_keyword("}")?;
                CommandKind::Group(list)
            }
            (_, Some("if")) => self.if_command()?,
            (_, Some(word @ ("while" | "until"))) => {
                let until = word == "until";
                self.at += 5;
                let condition = self.full_list()?;
                let body = self.do_group()?;
                CommandKind::While { until, condition, body }
            }
            (_, Some("for")) => self.for_command()?,
            (_, Some("case")) => self.case_command()?,
            (_, Some(word)) if word != "in" => return Err(self.unexpected()),
            _ => return self.simple(line),
        };
        let mut redirections = Vec::new();
        loop {
            self.blanks();
            match self.redirection()? {
                Some(redirection) => redirections.push(redirection),
                None => return Ok(Command { kind, redirections, line }),
            }
        }
    }

    pub(super) fn closing_parenthesis(&mut self) -> Parsed<()> {
        self.newlines()?;
        match self.peek() {
            Some(')') => {
                self.at += 1;
                Ok(())
            }
            None => Err(SyntaxError::Incomplete("\")\"")),
            Some(_) => Err(self.unexpected()),
        }
    }
}
