//! `WWW-Authenticate`: what a registry asks for. The grammar is RFC 9110 §11.6.1; foreign bytes, so anything may come.
//!
//! A challenge that does not parse ends the list, and those before it count.

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    pub(super) parameters: Vec<(String, String)>,
}

/// Challenges of one header, and parameters of one challenge, that are read; real ones have one or two, and four.
pub(super) const MOST: usize = 16;

impl Challenge {
    /// The first parameter of this name, which is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the value of one header.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = skip(header, &[',', ' ', '\t']);
    while let Some((scheme, after)) = token(rest).filter(|_| challenges.len() < MOST) {
        let mut challenge = Challenge { scheme: scheme.to_ascii_lowercase(), parameters: Vec::new() };
        rest = after;
        // A scheme by itself, or one with a token68 instead of parameters, which no scheme of ours has.
        if !rest.is_empty() && !rest.starts_with([',', ' ', '\t']) {
            break;
        }
        loop {
            let next = skip(rest, &[',', ' ', '\t']);
            match parameter(next) {
                Some((name, value, after)) if challenge.parameters.len() < MOST => {
                    challenge.parameters.push((name, value));
                    rest = after;
                }
                _ => {
                    rest = next;
                    break;
                }
            }
        }
        challenges.push(challenge);
    }
    challenges
}

/// `name = value`; nothing where the text goes on with another thing.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = token(text)?;
    let rest = skip(skip(rest, &[' ', '\t']).strip_prefix('=')?, &[' ', '\t']);
    let (value, rest) = match rest.strip_prefix('"') {
        Some(rest) => quoted(rest)?,
        None => token(rest).map(|(value, rest)| (value.to_owned(), rest))?,
    };
    Some((name.to_ascii_lowercase(), value, rest))
}

/// After the opening quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
    let end = text.find(|letter| !is_token(letter)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn skip<'a>(text: &'a str, letters: &[char]) -> &'a str {
    text.trim_start_matches(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenges_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let [hub] = &parse(hub)[..] else { panic!() };
        assert_eq!(hub.scheme, "bearer");
        assert_eq!(hub.get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(hub.get("scope"), Some("repository:a/b:pull,push"));
        let both = parse(r#"Basic realm="a \"b\", c" , BEARER Realm = https , service=x"#);
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].get("realm"), Some(r#"a "b", c"#));
        assert_eq!((both[1].scheme.as_str(), both[1].get("realm"), both[1].get("service")), ("bearer", Some("https"), Some("x")));
        assert_eq!(parse("Negotiate, Basic realm=x").len(), 2);
    }

    #[test]
    fn what_is_no_challenge_ends_the_list() {
        for header in ["", ",", "\"", "=", "Bearer=", "\u{e9}", "Bearer realm=\"open", "Bearer realm=\"\\", ",,, ,"] {
            assert!(parse(header).iter().all(|challenge| challenge.get("realm").is_none()), "{header}");
        }
        assert_eq!(parse("Basic realm=x, Negotiate abc==").len(), 2);
        assert!(parse(&"a b=c,".repeat(10_000)).len() <= MOST);
        assert!(parse(&format!("Bearer {}", "a=b,".repeat(10_000))).len() <= MOST);
    }
}
