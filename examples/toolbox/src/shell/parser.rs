//! The parser of commands: recursive descent over the characters, one complete command at a time, so that an alias or an
//! option set by one line holds for the next. Words are parsed in `words.rs`.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::syntax::{AndOr, Command, CommandKind, List, Part, Pipeline, Redirection, RedirectionKind, SyntaxError, Word, is_name};

/// How deep commands and words may be nested; each level takes of the stack.
const DEPTH: usize = 100;

pub(super) type Parsed<T> = Result<T, SyntaxError>;

/// A here-document whose text is still to come.
pub(super) struct Pending {
    text: Rc<OnceCell<Word>>,
    delimiter: String,
    strip: bool,
    quoted: bool,
}

/// Reads commands off a text.
pub struct Parser {
    pub(super) source: Vec<char>,
    pub(super) at: usize,
    pub(super) pending: Vec<Pending>,
    pub(super) depth: usize,
    aliases: Rc<HashMap<String, String>>,
    /// Aliases that are being replaced, with the length of the source behind their text.
    replacing: Vec<(String, usize)>,
    /// A place and its line, so that not everything is counted again.
    counted: Cell<(usize, usize)>,
    /// Nothing more will come: the end of the text ends a here-document.
    whole: bool,
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

    fn blanks(&mut self) {
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

    fn newlines(&mut self) -> Parsed<()> {
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

    fn here_document(&mut self, pending: &Pending) -> Parsed<()> {
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

    fn full_list(&mut self) -> Parsed<Rc<List>> {
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
    fn keyword(&self) -> Option<String> {
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

    fn eat_keyword(&mut self, wanted: &'static str) -> Parsed<()> {
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

    fn command(&mut self) -> Parsed<Command> {
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

    fn if_command(&mut self) -> Parsed<CommandKind> {
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

    fn do_group(&mut self) -> Parsed<Rc<List>> {
        self.eat_keyword("do")?;
        let body = self.full_list()?;
        self.eat_keyword("done")?;
        Ok(body)
    }

    fn for_command(&mut self) -> Parsed<CommandKind> {
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

    fn case_command(&mut self) -> Parsed<CommandKind> {
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

    fn simple(&mut self, line: usize) -> Parsed<Command> {
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

    fn function(&mut self, assigned: &[(String, Word)], words: &[Word], redirected: &[Redirection], line: usize) -> Parsed<Command> {
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

    fn redirection(&mut self) -> Parsed<Option<Redirection>> {
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

    fn replace_alias(&mut self) {
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
