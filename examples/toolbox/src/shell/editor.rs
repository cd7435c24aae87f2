//! The line editor on its terminal: keys come in, the line is shown.

use std::rc::Rc;
use std::time::Duration;

use super::line::{Buffer, Key};
use crate::host;
use crate::runtime::executor::first;
use crate::runtime::sleep;
use crate::runtime::terminal::Terminal;

/// How long after an escape the rest of a key may come.
const ESCAPE: Duration = Duration::from_millis(60);
/// Columns where the terminal does not tell.
const COLUMNS: usize = 80;

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
    /// How many characters of the line are shown.
    drawn: usize,
}

impl<'a> Editor<'a> {
    /// An editor with lines to go back to.
    pub fn new(terminal: &'a Rc<Terminal>, history: &'a [String]) -> Self {
        Self { terminal, history, row: 0, drawn: 0 }
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
        if !cursor.is_multiple_of(columns) {
            out.push_str(&format!("\x1b[{}C", cursor % columns));
        }
        self.row = cursor_row;
        self.put(&out);
    }

    /// Whether the last character can simply be written behind the others, which are all there.
    fn fits(&mut self, prompt: &str, buffer: &Buffer) -> bool {
        let columns = host::size(0).map_or(COLUMNS, |size| size.0).max(2);
        let shown = self.drawn + 1 == buffer.text.len();
        let whole = !(visible(prompt).chars().count() + buffer.text.len()).is_multiple_of(columns);
        if shown && whole {
            self.drawn = buffer.text.len();
        }
        shown && whole
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
        self.drawn = 0;
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
                Key::Character(character) => {
                    let at_end = buffer.cursor == buffer.text.len();
                    buffer.apply(key);
                    if at_end && !self.terminal.has_input() && self.fits(prompt, &buffer) {
                        self.put(character.encode_utf8(&mut [0; 4]));
                        continue;
                    }
                }
                key => {
                    buffer.apply(key);
                }
            }
            // What was pasted is shown once.
            if !self.terminal.has_input() {
                self.draw(prompt, &buffer);
                self.drawn = buffer.text.len();
            }
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
