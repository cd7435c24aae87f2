//! A line that is being typed: what keys do to it.

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

/// The line and the cursor.
#[derive(Debug, Default, Clone)]
pub struct Buffer {
    /// Its characters.
    pub text: Vec<char>,
    /// Before which of them the cursor stands.
    pub cursor: usize,
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

    /// Another text, the cursor at its end.
    pub fn set(&mut self, text: &str) {
        self.text = text.chars().collect();
        self.cursor = self.text.len();
    }

    /// Inserts at the cursor.
    pub fn insert(&mut self, text: &str) {
        for character in text.chars() {
            if self.text.len() < LONGEST {
                self.text.insert(self.cursor, character);
                self.cursor += 1;
            }
        }
    }

    /// Replaces the characters from `start` to the cursor.
    pub fn replace_from(&mut self, start: usize, text: &str) {
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
