//! The line editor: keys into a line, and the line onto the terminal.

use std::rc::Rc;
use std::time::Duration;

use crate::host;
use crate::runtime::executor::first;
use crate::runtime::sleep;
use crate::runtime::terminal::Terminal;

/// How long after an escape the rest of a key may come.
const ESCAPE: Duration = Duration::from_millis(60);
/// Columns where the terminal does not tell.
const COLUMNS: usize = 80;
/// The longest line.
const LONGEST: usize = 65536;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Character(char),
    /// A character with control, as its letter.
    Control(char),
    /// A character behind escape.
    Alt(char),
    /// An arrow and the like.
    Up,
    /// Down.
    Down,
    /// Left.
    Left,
    /// Right.
    Right,
    /// A word left.
    WordLeft,
    /// A word right.
    WordRight,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Delete under the cursor.
    Delete,
    /// Delete before the cursor.
    Backspace,
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// What means nothing here.
    Other,
    /// The terminal is gone.
    Gone,
}

/// How a line was ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Enter.
    Done(String),
    /// ^C.
    Abandoned,
    /// ^D on an empty line, or the terminal is gone.
    Ended,
}

/// The line and the cursor.
#[derive(Debug, Default, Clone)]
pub struct Buffer {
    text: Vec<char>,
    cursor: usize,
    killed: Vec<char>,
}

impl Buffer {
    /// The text.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The text before the cursor.
    pub fn before(&self) -> String {
        self.text.iter().take(self.cursor).collect()
    }

    fn set(&mut self, text: &str) {
        self.text = text.chars().collect();
        self.cursor = self.text.len();
    }

    fn insert(&mut self, text: &str) {
        for character in text.chars() {
            if self.text.len() < LONGEST {
                self.text.insert(self.cursor, character);
                self.cursor += 1;
            }
        }
    }

    /// Replaces the characters from `start` to the cursor.
    fn replace_from(&mut self, start: usize, text: &str) {
        self.text.drain(start.min(self.cursor)..self.cursor);
        self.cursor = start.min(self.cursor);
        self.insert(text);
    }

    fn word_left(&self) -> usize {
        let mut at = self.cursor;
        let is = |at: usize, word: bool| self.text.get(at).is_some_and(|character| character.is_alphanumeric() == word);
        while at > 0 && is(at - 1, false) {
            at -= 1;
        }
        while at > 0 && is(at - 1, true) {
            at -= 1;
        }
        at
    }

    fn word_right(&self) -> usize {
        let mut at = self.cursor;
        let is = |at: usize, word: bool| self.text.get(at).is_some_and(|character| character.is_alphanumeric() == word);
        while is(at, false) {
            at += 1;
        }
        while is(at, true) {
            at += 1;
        }
        at
    }

    fn kill(&mut self, from: usize, to: usize) {
        self.killed = self.text.drain(from..to).collect();
        self.cursor = from;
    }

    /// Does what a key says to the line; whether it was one of the line's.
    pub fn apply(&mut self, key: Key) -> bool {
        let end = self.text.len();
        match key {
            Key::Character(character) => self.insert(character.encode_utf8(&mut [0; 4])),
            Key::Left | Key::Control('b') => self.cursor = self.cursor.saturating_sub(1),
            Key::Right | Key::Control('f') => self.cursor = (self.cursor + 1).min(end),
            Key::Home | Key::Control('a') => self.cursor = 0,
            Key::End | Key::Control('e') => self.cursor = end,
            Key::WordLeft | Key::Alt('b') => self.cursor = self.word_left(),
            Key::WordRight | Key::Alt('f') => self.cursor = self.word_right(),
            Key::Backspace | Key::Control('h') => {
                if self.cursor > 0 {
                    self.cursor -= 1;
                    self.text.remove(self.cursor);
                }
            }
            Key::Delete | Key::Control('d') => {
                if self.cursor < end {
                    self.text.remove(self.cursor);
                }
            }
            Key::Control('k') => self.kill(self.cursor, end),
            Key::Control('u') => {
                let to = self.cursor;
                self.kill(0, to);
            }
            Key::Control('w') => {
                let mut from = self.cursor;
                let blank = |at: usize| self.text.get(at).is_some_and(|character| character.is_whitespace());
                while from > 0 && blank(from - 1) {
                    from -= 1;
                }
                while from > 0 && !blank(from - 1) {
                    from -= 1;
                }
                let to = self.cursor;
                self.kill(from, to);
            }
            Key::Alt('d') => {
                let (from, to) = (self.cursor, self.word_right());
                self.kill(from, to);
            }
            Key::Control('y') => {
                let text: String = self.killed.iter().collect();
                self.insert(&text);
            }
            Key::Control('t') => {
                if self.cursor > 0 && end > 1 {
                    let at = if self.cursor == end { self.cursor - 1 } else { self.cursor };
                    self.text.swap(at - 1, at);
                    self.cursor = at + 1;
                }
            }
            _ => return false,
        }
        true
    }
}

/// Completions of what stands before the cursor.
pub struct Completion {
    /// Where the word begins, in characters.
    pub start: usize,
    /// What it can become, ready for the line; a slash or a blank at the end says that it is whole.
    pub candidates: Vec<String>,
}

/// The editor on a terminal.
pub struct Editor<'a> {
    terminal: &'a Rc<Terminal>,
    history: &'a [String],
    row: usize,
}

impl<'a> Editor<'a> {
    /// An editor with lines to go back to.
    pub fn new(terminal: &'a Rc<Terminal>, history: &'a [String]) -> Self {
        Self { terminal, history, row: 0 }
    }

    fn put(&self, text: &str) {
        // A terminal that is gone shows itself at the next key.
        let _ = self.terminal.write(&crate::text::encode(text));
    }

    async fn byte(&self) -> Option<u8> {
        let mut byte = [0];
        if self.terminal.read(&mut byte).await == 0 { None } else { Some(byte[0]) }
    }

    async fn soon(&self) -> Option<u8> {
        first(self.byte(), sleep(ESCAPE)).await.ok().flatten()
    }

    async fn key(&self) -> Key {
        let Some(byte) = self.byte().await else { return Key::Gone };
        match byte {
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            127 => Key::Backspace,
            27 => self.escape().await,
            0 => Key::Other,
            1..=26 => Key::Control(char::from(byte + 96)),
            28..=31 => Key::Other,
            32..=126 => Key::Character(char::from(byte)),
            _ => {
                let more = match byte {
                    0xc2..=0xdf => 1,
                    0xe0..=0xef => 2,
                    0xf0..=0xf4 => 3,
                    _ => 0,
                };
                let mut bytes = vec![byte];
                for _ in 0..more {
                    bytes.extend(self.soon().await);
                }
                crate::text::decode(&bytes).chars().next().map_or(Key::Other, Key::Character)
            }
        }
    }

    async fn escape(&self) -> Key {
        match self.soon().await {
            None => Key::Other,
            Some(b'[') => {
                let mut parameters = String::new();
                loop {
                    match self.soon().await {
                        Some(byte @ (b'0'..=b'9' | b';')) if parameters.len() < 16 => parameters.push(char::from(byte)),
                        Some(byte) => return sequence(&parameters, byte),
                        None => return Key::Other,
                    }
                }
            }
            Some(b'O') => match self.soon().await {
                Some(byte) => sequence("", byte),
                None => Key::Other,
            },
            Some(127 | 8) => Key::Control('w'),
            Some(byte) => Key::Alt(char::from(byte)),
        }
    }

    /// Shows prompt and line anew, the cursor where it belongs.
    fn draw(&mut self, prompt: &str, buffer: &Buffer) {
        let columns = host::size(0).map_or(COLUMNS, |size| size.0).max(2);
        let width = |characters: &mut dyn Iterator<Item = char>| characters.filter(|character| !character.is_control()).count();
        let prompt_width = width(&mut visible(prompt).chars());
        let end = prompt_width + buffer.text.len();
        let cursor = prompt_width + buffer.cursor;
        let mut out = String::new();
        if self.row > 0 {
            out.push_str(&format!("\x1b[{}A", self.row));
        }
        out.push_str("\r\x1b[J");
        out.push_str(prompt);
        out.extend(buffer.text.iter().map(|character| if character.is_control() { '?' } else { *character }));
        if end > 0 && end.is_multiple_of(columns) {
            out.push('\n');
        }
        let (end_row, cursor_row) = (end / columns, cursor / columns);
        if end_row > cursor_row {
            out.push_str(&format!("\x1b[{}A", end_row - cursor_row));
        }
        out.push('\r');
        if cursor % columns > 0 {
            out.push_str(&format!("\x1b[{}C", cursor % columns));
        }
        self.row = cursor_row;
        self.put(&out);
    }

    fn finish(&mut self, prompt: &str, buffer: &mut Buffer) {
        buffer.cursor = buffer.text.len();
        self.draw(prompt, buffer);
        self.put("\n");
        self.row = 0;
    }

    /// Reads a line.
    pub async fn line(&mut self, prompt: &str, complete: &mut dyn FnMut(&str) -> Completion) -> Line {
        let mut buffer = Buffer::default();
        let mut place = self.history.len();
        let mut typed = String::new();
        let mut tabs = 0;
        self.draw(prompt, &buffer);
        loop {
            let key = self.key().await;
            tabs = if key == Key::Tab { tabs + 1 } else { 0 };
            match key {
                Key::Gone => return Line::Ended,
                Key::Enter => {
                    self.finish(prompt, &mut buffer);
                    return Line::Done(buffer.text());
                }
                Key::Control('c') => {
                    buffer.cursor = buffer.text.len();
                    self.draw(prompt, &buffer);
                    self.put("^C\n");
                    self.row = 0;
                    return Line::Abandoned;
                }
                Key::Control('d') if buffer.text.is_empty() => {
                    self.put("\n");
                    return Line::Ended;
                }
                Key::Control('l') => {
                    self.put("\x1b[H\x1b[2J");
                    self.row = 0;
                }
                Key::Up | Key::Control('p') | Key::Down | Key::Control('n') => {
                    if place == self.history.len() {
                        typed = buffer.text();
                    }
                    let back = matches!(key, Key::Up | Key::Control('p'));
                    place = if back { place.saturating_sub(1) } else { (place + 1).min(self.history.len()) };
                    buffer.set(self.history.get(place).unwrap_or(&typed));
                }
                Key::Control('r') => match self.search(prompt, &mut buffer).await {
                    Some(line) => return line,
                    None => place = self.history.len(),
                },
                Key::Tab => self.tab(prompt, &mut buffer, tabs, complete),
                key => {
                    buffer.apply(key);
                }
            }
            self.draw(prompt, &buffer);
        }
    }

    fn tab(&mut self, prompt: &str, buffer: &mut Buffer, tabs: u32, complete: &mut dyn FnMut(&str) -> Completion) {
        let Completion { start, candidates } = complete(&buffer.before());
        let Some(first) = candidates.first() else { return };
        let mut common: Vec<char> = first.chars().collect();
        for candidate in &candidates {
            let same = common.iter().zip(candidate.chars()).take_while(|(own, other)| **own == *other).count();
            common.truncate(same);
        }
        let known = buffer.cursor - start.min(buffer.cursor);
        if common.len() > known || candidates.len() == 1 {
            buffer.replace_from(start, &common.iter().collect::<String>());
        } else if tabs > 1 {
            self.finish(prompt, &mut buffer.clone());
            let columns = host::size(0).map_or(COLUMNS, |size| size.0);
            let names: Vec<&str> = candidates.iter().map(|name| crate::text::base_name(name.trim_end())).collect();
            let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 2;
            let in_row = (columns / width).max(1);
            for row in names.chunks(in_row) {
                let line: String = row.iter().map(|name| format!("{name:<width$}")).collect();
                self.put(&format!("{}\n", line.trim_end()));
            }
        }
    }

    /// ^R: the last line that holds what is typed. Enter runs it; anything else goes on with it.
    async fn search(&mut self, prompt: &str, buffer: &mut Buffer) -> Option<Line> {
        let before = buffer.clone();
        let mut query = String::new();
        let mut bound = self.history.len();
        loop {
            let found = self.history.iter().take(bound).rposition(|line| line.contains(&query)).filter(|_| !query.is_empty());
            let shown = found.and_then(|index| self.history.get(index)).cloned().unwrap_or_default();
            let mut view = Buffer::default();
            view.set(&shown);
            self.draw(&format!("(reverse-i-search)`{query}': "), &view);
            match self.key().await {
                Key::Character(character) => {
                    query.push(character);
                    bound = self.history.len();
                }
                Key::Backspace | Key::Control('h') => {
                    query.pop();
                    bound = self.history.len();
                }
                Key::Control('r') => bound = found.unwrap_or(bound),
                Key::Control('c') | Key::Control('g') => {
                    *buffer = before;
                    return None;
                }
                Key::Gone => return Some(Line::Ended),
                key => {
                    buffer.set(&shown);
                    if key == Key::Enter {
                        self.finish(prompt, buffer);
                        return Some(Line::Done(buffer.text()));
                    }
                    buffer.apply(key);
                    return None;
                }
            }
        }
    }
}

/// A prompt without its escape sequences.
fn visible(prompt: &str) -> String {
    let mut text = String::new();
    let mut rest = prompt.chars();
    while let Some(character) = rest.next() {
        if character == '\x1b' {
            rest.by_ref().skip(1).find(|character| character.is_ascii_alphabetic());
        } else {
            text.push(character);
        }
    }
    text
}

fn sequence(parameters: &str, last: u8) -> Key {
    let modified = parameters.contains(';');
    match (last, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if modified => Key::WordRight,
        (b'D', _) if modified => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', "1" | "7") => Key::Home,
        (b'F', _) | (b'~', "4" | "8") => Key::End,
        (b'~', "3") => Key::Delete,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[Key]) -> (String, usize) {
        let mut buffer = Buffer::default();
        buffer.set("echo schön und gut");
        for key in keys {
            buffer.apply(*key);
        }
        (buffer.text(), buffer.cursor)
    }

    #[test]
    fn keys_edit_the_line_as_in_other_shells() {
        assert_eq!(typed(&[Key::Control('w')]), ("echo schön und ".into(), 15));
        assert_eq!(typed(&[Key::Home, Key::Delete, Key::Character('E')]), ("Echo schön und gut".into(), 1));
        assert_eq!(typed(&[Key::WordLeft, Key::WordLeft, Key::Control('k')]), ("echo schön ".into(), 11));
        assert_eq!(typed(&[Key::WordLeft, Key::Control('u')]), ("gut".into(), 0));
        assert_eq!(typed(&[Key::Control('u'), Key::Control('y')]), ("echo schön und gut".into(), 18));
        assert_eq!(typed(&[Key::Backspace, Key::Left, Key::Right, Key::Character('ß')]), ("echo schön und guß".into(), 18));
        assert_eq!(typed(&[Key::Control('t')]), ("echo schön und gtu".into(), 18));
    }
}
