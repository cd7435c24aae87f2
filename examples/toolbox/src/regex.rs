//! POSIX regular expressions, basic and extended, over bytes that are mostly UTF-8.
//!
//! Of the crates none has POSIX's leftmost-longest rule together with back references and bytes, and the large ones would
//! double the module. A pattern becomes a program whose states are tried in turn; each pair of a state and a place is
//! visited once, so the time is bounded by their product, but for patterns with back references.

mod compile;

use crate::shell::pattern::in_class;

/// Steps that a pattern with back references may take on one line.
const STEPS: u64 = 5_000_000;

/// One instruction of a program.
#[derive(Debug, Clone)]
enum Step {
    /// One of these bytes, and on.
    Byte(u8),
    /// Any character.
    Any,
    /// A character of a set.
    Set(Box<Set>),
    /// First the one, then the other.
    Split(usize, usize),
    Jump(usize),
    /// Remembers the place.
    Save(usize),
    LineStart,
    LineEnd,
    WordStart,
    WordEnd,
    WordBoundary(bool),
    /// What a group has matched.
    Back(usize),
    Match,
}

/// A bracket expression.
#[derive(Debug, Clone, Default)]
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
    classes: Vec<String>,
}

impl Set {
    fn contains(&self, character: char, fold: bool) -> bool {
        let has = |character: char| {
            self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&character))
                || self.classes.iter().any(|class| in_class(class, character))
        };
        let mut found = has(character);
        if fold && !found {
            found = character.to_lowercase().any(has) || character.to_uppercase().any(has);
        }
        found != self.negated
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Regex {
    steps: Vec<Step>,
    groups: usize,
    fold: bool,
    back_references: bool,
    /// Bytes with which every match begins, if that is known.
    first: Option<Box<[bool; 256]>>,
}

/// Where a match and its groups begin and end.
pub type Captures = Vec<Option<(usize, usize)>>;

/// Room for a search, to be used again for every line.
#[derive(Default)]
pub struct Scratch {
    visited: Vec<u64>,
    stack: Vec<Todo>,
}

enum Todo {
    At(usize, usize),
    Restore(usize, usize),
}

const NONE: usize = usize::MAX;

impl Regex {
    /// Compiles an expression; an error is a text.
    pub fn new(pattern: &str, extended: bool, fold: bool) -> Result<Self, String> {
        compile::compile(pattern, extended, fold)
    }

    /// How many groups it has.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The leftmost, longest match at `start` or behind it. Places are offsets of bytes in `text`.
    pub fn find(&self, text: &[u8], start: usize, scratch: &mut Scratch) -> Option<Captures> {
        let width = text.len() + 1;
        scratch.visited.clear();
        if !self.back_references {
            scratch.visited.resize((self.steps.len() * width).div_ceil(64), 0);
        }
        let mut at = start;
        let mut budget = STEPS;
        while at <= text.len() {
            if let Some(first) = &self.first {
                let rest = text.get(at..)?;
                at += rest.iter().position(|byte| first.get(usize::from(*byte)).copied().unwrap_or(true))?;
            }
            if let Some(found) = self.match_at(text, at, scratch, &mut budget) {
                return Some(found);
            }
            at += 1;
            while text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
                at += 1;
            }
        }
        None
    }

    /// Whether it matches anywhere.
    pub fn is_match(&self, text: &[u8], scratch: &mut Scratch) -> bool {
        self.find(text, 0, scratch).is_some()
    }

    fn match_at(&self, text: &[u8], start: usize, scratch: &mut Scratch, budget: &mut u64) -> Option<Captures> {
        let width = text.len() + 1;
        let mut saves = vec![NONE; (self.groups + 1) * 2];
        let mut best: Option<(usize, Vec<usize>)> = None;
        scratch.stack.clear();
        scratch.stack.push(Todo::At(0, start));
        while let Some(todo) = scratch.stack.pop() {
            let (mut step, mut at) = match todo {
                Todo::At(step, at) => (step, at),
                Todo::Restore(slot, value) => {
                    if let Some(place) = saves.get_mut(slot) {
                        *place = value;
                    }
                    continue;
                }
            };
            loop {
                if self.back_references {
                    if *budget == 0 {
                        break;
                    }
                    *budget -= 1;
                } else {
                    let bit = step * width + at;
                    let Some(word) = scratch.visited.get_mut(bit / 64) else { break };
                    if *word & (1 << (bit % 64)) != 0 {
                        break;
                    }
                    *word |= 1 << (bit % 64);
                }
                let Some(instruction) = self.steps.get(step) else { break };
                match instruction {
                    Step::Match => {
                        if best.as_ref().is_none_or(|(end, _)| at > *end) {
                            best = Some((at, saves.clone()));
                        }
                        if at == text.len() {
                            scratch.stack.clear();
                        }
                        break;
                    }
                    Step::Jump(to) => step = *to,
                    Step::Split(one, other) => {
                        scratch.stack.push(Todo::At(*other, at));
                        step = *one;
                    }
                    Step::Save(slot) => {
                        if let Some(place) = saves.get_mut(*slot) {
                            scratch.stack.push(Todo::Restore(*slot, *place));
                            *place = at;
                        }
                        step += 1;
                    }
                    Step::Back(group) => {
                        let (from, to) = (saves.get(group * 2).copied(), saves.get(group * 2 + 1).copied());
                        let (Some(from), Some(to)) = (from, to) else { break };
                        let Some(part) = text.get(from..to) else { break };
                        let same = text
                            .get(at..at + part.len())
                            .is_some_and(|other| if self.fold { other.eq_ignore_ascii_case(part) } else { other == part });
                        if !same {
                            break;
                        }
                        at += part.len();
                        step += 1;
                    }
                    instruction => match self.advance(instruction, text, at) {
                        Some(length) => {
                            at += length;
                            step += 1;
                        }
                        None => break,
                    },
                }
            }
        }
        let (end, saves) = best?;
        let mut captures: Captures = vec![Some((start, end))];
        for group in 1..=self.groups {
            let (from, to) = (saves.get(group * 2).copied().unwrap_or(NONE), saves.get(group * 2 + 1).copied().unwrap_or(NONE));
            captures.push((from != NONE && to != NONE && from <= to).then_some((from, to)));
        }
        Some(captures)
    }

    /// How many bytes an instruction takes here; nothing if it does not match.
    fn advance(&self, step: &Step, text: &[u8], at: usize) -> Option<usize> {
        let word = |place: Option<&u8>| place.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80);
        let before = || word(at.checked_sub(1).and_then(|index| text.get(index)));
        let after = || word(text.get(at));
        let holds = |condition: bool| condition.then_some(0);
        match step {
            Step::Byte(byte) => {
                let own = text.get(at)?;
                (own == byte || (self.fold && own.eq_ignore_ascii_case(byte))).then_some(1)
            }
            Step::Any => character(text, at).map(|(_, length)| length),
            Step::Set(set) => {
                let (character, length) = character(text, at)?;
                set.contains(character, self.fold).then_some(length)
            }
            Step::LineStart => holds(at == 0),
            Step::LineEnd => holds(at == text.len()),
            Step::WordStart => holds(!before() && after()),
            Step::WordEnd => holds(before() && !after()),
            Step::WordBoundary(wanted) => holds((before() != after()) == *wanted),
            _ => None,
        }
    }
}

/// The character at a place, and its length. A byte that begins none is one by itself.
fn character(text: &[u8], at: usize) -> Option<(char, usize)> {
    let first = *text.get(at)?;
    let length = match first {
        0..=0x7f => return Some((char::from(first), 1)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let decoded =
        text.get(at..at + length).and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    Some(decoded.map_or((char::from(first), 1), |character| (character, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, extended: bool, text: &str) -> Option<String> {
        let regex = Regex::new(pattern, extended, false).unwrap();
        let captures = regex.find(text.as_bytes(), 0, &mut Scratch::default())?;
        let parts: Vec<&str> = captures.iter().map(|part| part.map_or("-", |(from, to)| &text[from..to])).collect();
        Some(parts.join(","))
    }

    #[test]
    fn the_leftmost_longest_match_is_found() {
        for (pattern, extended, text, expected) in [
            ("a|ab|abc", true, "xabcd", Some("abc")),
            ("(a|ab)(c|bcd)", true, "abcd", Some("abcd,a,bcd")),
            ("\\(a*\\)b\\1", false, "aabaa", Some("aabaa,aa")),
            ("^a.c$", false, "aäc", Some("aäc")),
            ("[[:digit:]]+", true, "ab123c", Some("123")),
            ("a\\{2,3\\}", false, "aaaa", Some("aaa")),
            ("x*", false, "abc", Some("")),
            ("(ab)*c", true, "ababc", Some("ababc,ab")),
            ("a+b", false, "a+b", Some("a+b")),
            ("a\\+b", false, "aaab", Some("aaab")),
            ("\\<b", false, "ab b", Some("b")),
            ("[]a]*", false, "]a]x", Some("]a]")),
            ("[^a-c]", false, "abcd", Some("d")),
            ("*a", false, "b*a", Some("*a")),
            ("a{2}", true, "caab", Some("aa")),
            ("()", true, "", Some(",")),
            ("x", false, "abc", None),
        ] {
            assert_eq!(find(pattern, extended, text).as_deref(), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_that_are_none_are_errors() {
        for pattern in ["(", "[a", "a{2,1}", "[[:nosuch:]]", "a)", "\\1"] {
            assert!(Regex::new(pattern, true, false).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let text = "a".repeat(2000);
        assert_eq!(find("(a*)*(a*)*b", true, &text), None);
    }
}
