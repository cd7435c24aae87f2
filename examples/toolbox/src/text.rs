//! Words of the shell are `String`s, and the bytes of a file need not be UTF-8: a byte that is not is kept as one of 128
//! characters at the end of Unicode's private use plane, and comes out as the same byte.

use std::borrow::Cow;

const FIRST: u32 = 0x10_FF00;

/// Bytes as text, without loss.
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for &byte in chunk.invalid() {
            text.extend(char::from_u32(FIRST + u32::from(byte)));
        }
    }
    text
}

/// Text as the bytes that it was made of.
pub fn encode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(|character| byte_of(character).is_some()) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        push(&mut bytes, character);
    }
    Cow::Owned(bytes)
}

/// Adds the bytes of one character.
pub fn push(bytes: &mut Vec<u8>, character: char) {
    match byte_of(character) {
        Some(byte) => bytes.push(byte),
        None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn byte_of(character: char) -> Option<u8> {
    u32::from(character).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok()).filter(|byte| *byte >= 0x80)
}

/// The last part of a path, without slashes behind it.
pub fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return if path.is_empty() { "" } else { "/" };
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// The path without its last part.
pub fn directory_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rfind('/') {
        None if trimmed.is_empty() && !path.is_empty() => "/",
        None => ".",
        Some(at) => {
            let head = trimmed[..at].trim_end_matches('/');
            if head.is_empty() { "/" } else { head }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_out_as_they_went_in() {
        let bytes: Vec<u8> = (0..=255).chain("äöü€😀".bytes()).collect();
        assert_eq!(encode(&decode(&bytes)).as_ref(), bytes.as_slice());
    }

    #[test]
    fn names_of_paths_are_split_as_dirname_and_basename_do() {
        for (path, directory, base) in
            [("/a/b", "/a", "b"), ("a", ".", "a"), ("/", "/", "/"), ("a/b//", "a", "b"), ("/a", "/", "a"), ("", ".", "")]
        {
            assert_eq!((directory_name(path), base_name(path)), (directory, base), "{path}");
        }
    }
}
