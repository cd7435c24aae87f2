//! Patterns of file names, `case` and `${x%p}`: `*`, `?`, brackets with ranges and classes.

/// A pattern.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pattern(Vec<Item>);

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Character(char),
    Any,
    Star,
    Set { negated: bool, members: Vec<Member> },
}

#[derive(Debug, Clone, PartialEq)]
enum Member {
    Range(char, char),
    Class(String),
}

/// Whether a character belongs to one of POSIX's classes.
pub fn in_class(class: &str, character: char) -> bool {
    match class {
        "alpha" => character.is_alphabetic(),
        "digit" => character.is_ascii_digit(),
        "alnum" => character.is_alphanumeric(),
        "upper" => character.is_uppercase(),
        "lower" => character.is_lowercase(),
        "space" => character.is_whitespace(),
        "blank" => matches!(character, ' ' | '\t'),
        "punct" => character.is_ascii_punctuation(),
        "cntrl" => character.is_control(),
        "print" => !character.is_control(),
        "graph" => !character.is_control() && !character.is_whitespace(),
        "xdigit" => character.is_ascii_hexdigit(),
        _ => false,
    }
}

impl Pattern {
    /// A pattern of characters, each with whether it was quoted and so stands for itself.
    pub fn new(source: &[(char, bool)]) -> Self {
        let mut items = Vec::new();
        let mut at = 0;
        while let Some(&(character, quoted)) = source.get(at) {
            at += 1;
            let item = match character {
                _ if quoted => Item::Character(character),
                '*' => Item::Star,
                '?' => Item::Any,
                '[' => match bracket(source, at) {
                    Some((set, end)) => {
                        at = end;
                        set
                    }
                    None => Item::Character('['),
                },
                '\\' => match source.get(at) {
                    Some(&(next, _)) => {
                        at += 1;
                        Item::Character(next)
                    }
                    None => Item::Character('\\'),
                },
                other => Item::Character(other),
            };
            if !(item == Item::Star && items.last() == Some(&Item::Star)) {
                items.push(item);
            }
        }
        Self(items)
    }

    /// A pattern of a text in which nothing is quoted, but for backslashes.
    pub fn from_text(text: &str) -> Self {
        Self::new(&text.chars().map(|character| (character, false)).collect::<Vec<_>>())
    }

    /// The text, if the pattern matches nothing else.
    pub fn as_text(&self) -> Option<String> {
        self.0.iter().map(|item| if let Item::Character(character) = item { Some(*character) } else { None }).collect()
    }

    /// Whether it begins with this very character.
    pub fn starts_with(&self, character: char) -> bool {
        self.0.first() == Some(&Item::Character(character))
    }

    /// Whether it matches all of the text.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_characters(&text.chars().collect::<Vec<_>>())
    }

    /// As `matches`.
    pub fn matches_characters(&self, text: &[char]) -> bool {
        let (mut item, mut at) = (0, 0);
        // Where the last star stands and what it has taken; taking one more is the only way back that is ever needed.
        let mut back: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(item), text.get(at)) {
                (Some(Item::Star), _) => {
                    back = Some((item + 1, at));
                    item += 1;
                }
                (None, None) => return true,
                (Some(current), Some(character)) if current.matches(*character) => {
                    item += 1;
                    at += 1;
                }
                _ => match back {
                    Some((after, taken)) if taken < text.len() => {
                        back = Some((after, taken + 1));
                        item = after;
                        at = taken + 1;
                    }
                    _ => return false,
                },
            }
        }
    }

    /// The length of the shortest or longest beginning of the text that matches.
    pub fn prefix(&self, text: &[char], longest: bool) -> Option<usize> {
        let mut lengths = 0..=text.len();
        let fits = |length: &usize| text.get(..*length).is_some_and(|part| self.matches_characters(part));
        if longest { lengths.rfind(fits) } else { lengths.find(fits) }
    }

    /// Where the shortest or longest end of the text that matches begins.
    pub fn suffix(&self, text: &[char], longest: bool) -> Option<usize> {
        let mut starts = 0..=text.len();
        let fits = |start: &usize| text.get(*start..).is_some_and(|part| self.matches_characters(part));
        if longest { starts.find(fits) } else { starts.rfind(fits) }
    }
}

impl Item {
    fn matches(&self, character: char) -> bool {
        match self {
            Item::Character(own) => *own == character,
            Item::Any => true,
            Item::Star => false,
            Item::Set { negated, members } => {
                let found = members.iter().any(|member| match member {
                    Member::Range(from, to) => (*from..=*to).contains(&character),
                    Member::Class(class) => in_class(class, character),
                });
                found != *negated
            }
        }
    }
}

/// The set that begins behind `[`, and where it ends; nothing if it does not end.
fn bracket(source: &[(char, bool)], start: usize) -> Option<(Item, usize)> {
    let mut at = start;
    let negated = matches!(source.get(at), Some(('!' | '^', false)));
    if negated {
        at += 1;
    }
    let mut members = Vec::new();
    let first = at;
    loop {
        let &(mut character, mut quoted) = source.get(at)?;
        if character == '\\' && !quoted {
            at += 1;
            character = source.get(at)?.0;
            quoted = true;
        }
        if character == ']' && !quoted && at > first {
            return Some((Item::Set { negated, members }, at + 1));
        }
        if character == '[' && !quoted && source.get(at + 1).map(|next| next.0) == Some(':') {
            let name: String = source.iter().skip(at + 2).map(|next| next.0).take_while(char::is_ascii_lowercase).collect();
            let end = at + 2 + name.len();
            if source.get(end).map(|next| next.0) == Some(':') && source.get(end + 1).map(|next| next.0) == Some(']') {
                members.push(Member::Class(name));
                at = end + 2;
                continue;
            }
        }
        at += 1;
        match (source.get(at), source.get(at + 1)) {
            (Some(('-', false)), Some((end, end_quoted))) if *end != ']' || *end_quoted => {
                members.push(Member::Range(character, *end));
                at += 2;
            }
            _ => members.push(Member::Range(character, character)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_shell_says() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*.tar.*", "x.tar.gz", true),
            ("[a-c]?", "bx", true),
            ("[!a-c]?", "bx", false),
            ("[]x]", "]", true),
            ("[[:digit:]]*", "7z", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
        ] {
            assert_eq!(Pattern::from_text(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = format!("{}b", "a*".repeat(50));
        assert!(!Pattern::from_text(&pattern).matches(&"a".repeat(5000)));
    }
}
