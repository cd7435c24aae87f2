//! The script of `sed`, parsed.

use crate::regex::Regex;

/// Where a command applies.
#[derive(Debug, Clone)]
pub enum Address {
    /// A line's number.
    Line(u64),
    /// The last line.
    Last,
    /// Lines that match; nothing is the last expression that was used.
    Regex(Option<Regex>),
    /// `FIRST~STEP`.
    Step(u64, u64),
    /// `,+N`: so many lines more.
    More(u64),
}

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its addresses: none, one or two.
    pub addresses: (Option<Address>, Option<Address>),
    /// `!`.
    pub negated: bool,
    /// What it does.
    pub action: Action,
}

/// What a command does.
#[derive(Debug)]
pub enum Action {
    /// `{`, and where its end is.
    Begin(usize),
    /// `=`.
    Number,
    /// `a`.
    Append(String),
    /// `i`.
    Insert(String),
    /// `c`.
    Change(String),
    /// `b`.
    Branch(Option<String>),
    /// `t`.
    BranchIfReplaced(Option<String>),
    /// `T`.
    BranchUnlessReplaced(Option<String>),
    /// `:`.
    Label(String),
    /// A command of one letter.
    Simple(char),
    /// `q` and `Q` with a status.
    Quit(bool, u8),
    /// `r`.
    Read(String),
    /// `w`.
    Write(String),
    /// `s`.
    Replace(Box<Replace>),
    /// `y`.
    Translate(Vec<(char, char)>),
}

/// `s`.
#[derive(Debug)]
pub struct Replace {
    /// What is replaced.
    pub regex: Option<Regex>,
    /// By what.
    pub parts: Vec<Part>,
    /// `g`.
    pub all: bool,
    /// The number of the match to begin with.
    pub number: usize,
    /// `p`.
    pub print: bool,
    /// `w`.
    pub write: Option<String>,
}

/// A part of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// `&` is group 0.
    Group(usize),
    /// `\U`, `\L`, `\u`, `\l`, `\E`.
    Case(char),
}

pub(super) struct Parser<'a> {
    source: &'a [char],
    pub(super) at: usize,
    extended: bool,
}

pub(super) type Parsed<T> = Result<T, String>;

/// Parses a script.
pub fn parse(source: &str, extended: bool) -> Parsed<Vec<Command>> {
    let source: Vec<char> = source.chars().collect();
    let mut parser = Parser { source: &source, at: 0, extended };
    let mut commands: Vec<Command> = Vec::new();
    let mut open = Vec::new();
    loop {
        while parser.peek().is_some_and(|character| character.is_whitespace() || character == ';') {
            parser.at += 1;
        }
        if parser.peek().is_none() {
            break;
        }
        if parser.peek() == Some('#') {
            parser.rest_of_line();
            continue;
        }
        let command = parser.command()?;
        match command.action {
            Action::Begin(_) => open.push(commands.len()),
            Action::Simple('}') => {
                let start = open.pop().ok_or("unexpected '}'")?;
                let end = commands.len();
                if let Some(Command { action: Action::Begin(place), .. }) = commands.get_mut(start) {
                    *place = end;
                }
            }
            _ => {}
        }
        commands.push(command);
    }
    if open.is_empty() { Ok(commands) } else { Err("unmatched '{'".into()) }
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<char> {
        self.source.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let character = self.peek();
        self.at += usize::from(character.is_some());
        character
    }

    pub(super) fn blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.at += 1;
        }
    }

    pub(super) fn rest_of_line(&mut self) -> String {
        let mut text = String::new();
        while let Some(character) = self.next().filter(|character| *character != '\n') {
            text.push(character);
        }
        text
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = None;
        while let Some(digit) = self.peek().and_then(|digit| digit.to_digit(10)) {
            value = Some(value.unwrap_or(0_u64).saturating_mul(10).saturating_add(digit.into()));
            self.at += 1;
        }
        value
    }

    /// The text up to a delimiter. `\n` is a newline, and a backslash before the delimiter is taken off.
    pub(super) fn delimited(&mut self, delimiter: char, regex: bool) -> Parsed<String> {
        let mut text = String::new();
        let mut bracket = false;
        while let Some(character) = self.next() {
            match character {
                '\\' => match self.next() {
                    Some(next) if next == delimiter && !bracket => {
                        text.push(next);
                    }
                    Some('n') if regex => text.push('\n'),
                    Some(next) => {
                        text.push('\\');
                        text.push(next);
                    }
                    None => text.push('\\'),
                },
                '[' if regex && !bracket => {
                    bracket = true;
                    text.push('[');
                    for first in ['^', ']'] {
                        if self.peek() == Some(first) {
                            self.at += 1;
                            text.push(first);
                        }
                    }
                }
                '[' if bracket && matches!(self.peek(), Some(':' | '.' | '=')) => {
                    text.push('[');
                    while let Some(inner) = self.next() {
                        text.push(inner);
                        if inner == ']' {
                            break;
                        }
                    }
                }
                ']' => {
                    bracket = false;
                    text.push(']');
                }
                '\n' if !regex && delimiter != '\n' => text.push('\n'),
                character if character == delimiter && !bracket => return Ok(text),
                character => text.push(character),
            }
        }
        Err("unterminated address or command".into())
    }

    pub(super) fn regex(&self, text: &str, fold: bool) -> Parsed<Option<Regex>> {
        if text.is_empty() { Ok(None) } else { Regex::new(text, self.extended, fold).map(Some) }
    }

    fn address(&mut self) -> Parsed<Option<Address>> {
        let address = match self.peek() {
            Some('$') => {
                self.at += 1;
                Address::Last
            }
            Some('/') | Some('\\') => {
                if self.next() == Some('\\') {
                    let delimiter = self.next().ok_or("unterminated address")?;
                    return self.regex_address(delimiter).map(Some);
                }
                return self.regex_address('/').map(Some);
            }
            Some(digit) if digit.is_ascii_digit() => {
                let line = self.number().unwrap_or(0);
                if self.peek() == Some('~') {
                    self.at += 1;
                    Address::Step(line, self.number().unwrap_or(0))
                } else {
                    Address::Line(line)
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(address))
    }

    fn regex_address(&mut self, delimiter: char) -> Parsed<Address> {
        let text = self.delimited(delimiter, true)?;
        let fold = self.peek() == Some('I');
        self.at += usize::from(fold);
        Ok(Address::Regex(self.regex(&text, fold)?))
    }

    fn command(&mut self) -> Parsed<Command> {
        let first = self.address()?;
        let mut second = None;
        self.blanks();
        if first.is_some() && self.peek() == Some(',') {
            self.at += 1;
            self.blanks();
            second = if self.peek() == Some('+') {
                self.at += 1;
                Some(Address::More(self.number().unwrap_or(0)))
            } else {
                self.address()?
            };
            if second.is_none() {
                return Err("unexpected ','".into());
            }
        }
        self.blanks();
        let mut negated = false;
        while self.peek() == Some('!') {
            self.at += 1;
            negated = true;
            self.blanks();
        }
        let letter = self.next().ok_or("missing command")?;
        let action = match letter {
            '{' => Action::Begin(0),
            'a' | 'i' | 'c' => {
                let text = self.text();
                match letter {
                    'a' => Action::Append(text),
                    'i' => Action::Insert(text),
                    _ => Action::Change(text),
                }
            }
            ':' => Action::Label(self.label().ok_or("\":\" lacks a label")?),
            'b' => Action::Branch(self.label()),
            't' => Action::BranchIfReplaced(self.label()),
            'T' => Action::BranchUnlessReplaced(self.label()),
            'r' | 'w' => {
                self.blanks();
                let name = self.rest_of_line();
                if name.is_empty() {
                    return Err("a file's name is missing".into());
                }
                if letter == 'r' { Action::Read(name) } else { Action::Write(name) }
            }
            'q' | 'Q' => {
                self.blanks();
                Action::Quit(letter == 'q', self.number().unwrap_or(0) as u8)
            }
            's' => self.replace()?,
            'y' => self.translate()?,
            '=' => Action::Number,
            'd' | 'D' | 'n' | 'N' | 'p' | 'P' | 'h' | 'H' | 'g' | 'G' | 'x' | 'l' | 'F' | 'z' | '}' => Action::Simple(letter),
            other => return Err(format!("unsupported command {other}")),
        };
        if matches!(action, Action::Simple(_) | Action::Number | Action::Quit(..) | Action::Replace(_) | Action::Translate(_)) {
            self.blanks();
            match self.peek() {
                None | Some('\n' | ';' | '}' | '#') => {}
                Some(_) => return Err("extra characters after command".into()),
            }
        }
        Ok(Command { addresses: (first, second), negated, action })
    }

    fn label(&mut self) -> Option<String> {
        self.blanks();
        let mut label = String::new();
        while let Some(character) =
            self.peek().filter(|character| !matches!(character, '\n' | ';' | '}') && !character.is_whitespace())
        {
            label.push(character);
            self.at += 1;
        }
        (!label.is_empty()).then_some(label)
    }

    /// The text of `a`, `i` and `c`: on the same line, or behind a backslash and a newline; a backslash goes on.
    fn text(&mut self) -> String {
        self.blanks();
        if self.peek() == Some('\\') {
            self.at += 1;
            let start = self.at;
            self.blanks();
            // Blanks behind a backslash on the same line belong to the text.
            self.at = if self.peek() == Some('\n') { self.at + 1 } else { start };
        }
        let mut text = String::new();
        while let Some(character) = self.next() {
            match character {
                '\\' => text.extend(self.next()),
                '\n' => break,
                other => text.push(other),
            }
        }
        text.push('\n');
        text
    }
}
