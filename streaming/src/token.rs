//! What a URL is good for: one request, by whoever comes first, within a minute.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::TokenLimits;

/// Why there is no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// More requests than [`TokenLimits::waiting`] have a URL that nobody has used yet.
    #[error("{0} streaming requests are waiting for their clients already; try again when some of them are used or too old")]
    Full(usize),
    /// The request asks for no stream.
    #[error("one of stdin, stdout and stderr must be asked for")]
    NoStream,
    /// The request asks for a terminal, which has one output, and for stderr.
    #[error("with a terminal, stderr is part of stdout and cannot be asked for")]
    StderrOfTerminal,
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel for a token: {0}")]
    Random(std::io::ErrorKind),
}

/// 128 bits of the kernel's random source, 22 characters in a URL. Too many to be guessed or to meet twice, so a look-up
/// in a hash map tells an attacker nothing that helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(u128);

impl Token {
    fn new() -> Result<Self, UrlError> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(read) => filled += read,
                Err(rustix::io::Errno::INTR) => (),
                Err(error) => return Err(UrlError::Random(error.kind())),
            }
        }
        Ok(Self(u128::from_ne_bytes(bytes)))
    }

    pub(crate) fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.to_ne_bytes())
    }

    /// Only the one text that [`text`](Self::text) gives is taken.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 18];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Some(Self(u128::from_ne_bytes(*bytes.first_chunk()?))),
            _ => None,
        }
    }
}

/// What a path asks for: its first part and the token in its second; there is no third.
pub(crate) fn parse_path(path: &str) -> Option<(Door, Token)> {
    let (door, token) = path.strip_prefix('/')?.split_once('/')?;
    let door = [Door::Exec, Door::Attach, Door::Forward].into_iter().find(|known| known.name() == door)?;
    Some((door, Token::parse(token)?))
}

/// The first part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Exec,
    Attach,
    Forward,
}

impl Door {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::Forward => "portforward",
        }
    }
}

/// The requests whose clients have not come yet.
#[derive(Debug)]
pub(crate) struct Tokens<T> {
    limits: TokenLimits,
    waiting: HashMap<Token, (Instant, Door, T)>,
    /// By age; always the same entries.
    ages: BTreeSet<(Instant, Token)>,
}

impl<T> Tokens<T> {
    pub(crate) fn new(limits: TokenLimits) -> Self {
        Self { limits, waiting: HashMap::new(), ages: BTreeSet::new() }
    }

    /// A path for one request.
    pub(crate) fn insert(&mut self, door: Door, request: T, now: Instant) -> Result<String, UrlError> {
        while let Some(&(expires, token)) = self.ages.first().filter(|(expires, _)| *expires <= now) {
            self.ages.remove(&(expires, token));
            self.waiting.remove(&token);
        }
        if self.waiting.len() >= self.limits.waiting {
            return Err(UrlError::Full(self.waiting.len()));
        }
        let token = Token::new()?;
        let expires = now + self.limits.lifetime;
        self.ages.insert((expires, token));
        self.waiting.insert(token, (expires, door, request));
        Ok(format!("/{}/{}", door.name(), token.text()))
    }

    /// The request of a token. The token is used up by this, whatever comes of the request, as in the reference server;
    /// also when it is brought to another path than its own, which opens nothing.
    pub(crate) fn take(&mut self, door: Door, token: Token, now: Instant) -> Option<T> {
        let (expires, of, request) = self.waiting.remove(&token)?;
        self.ages.remove(&(expires, token));
        (of == door && expires > now).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tokens(waiting: usize) -> Tokens<u32> {
        Tokens::new(TokenLimits { lifetime: Duration::from_secs(60), waiting })
    }

    fn take(tokens: &mut Tokens<u32>, path: &str, now: Instant) -> Option<u32> {
        parse_path(path).and_then(|(door, token)| tokens.take(door, token, now))
    }

    #[test]
    fn a_token_opens_its_own_path_once_within_its_minute() {
        let (mut tokens, now) = (tokens(10), Instant::now());
        let [exec, attach, young, old] = [1, 2, 3, 4].map(|request| tokens.insert(Door::Exec, request, now).unwrap());
        assert!(exec.starts_with("/exec/") && exec.len() == 6 + 22, "{exec}");
        assert_eq!(take(&mut tokens, &exec, now), Some(1));
        assert_eq!(take(&mut tokens, &exec, now), None);
        assert_eq!(take(&mut tokens, &attach.replace("exec", "attach"), now), None);
        assert_eq!(take(&mut tokens, &attach, now), None);
        assert_eq!(take(&mut tokens, &young, now + Duration::from_millis(59_999)), Some(3));
        assert_eq!(take(&mut tokens, &old, now + Duration::from_secs(60)), None);
        assert!(tokens.waiting.is_empty() && tokens.ages.is_empty());
    }

    #[test]
    fn no_more_wait_than_the_limit_and_the_old_make_room() {
        let (mut tokens, now) = (tokens(3), Instant::now());
        let paths: Vec<_> = (0..3).map(|request| tokens.insert(Door::Forward, request, now).unwrap()).collect();
        assert_eq!(tokens.insert(Door::Forward, 3, now), Err(UrlError::Full(3)));
        assert_eq!(take(&mut tokens, &paths[1], now), Some(1));
        let last = tokens.insert(Door::Forward, 4, now).unwrap();
        assert_eq!(take(&mut tokens, &last, now + Duration::from_secs(30)), Some(4));
        let later = now + Duration::from_secs(61);
        assert!((0..3).all(|request| tokens.insert(Door::Forward, request, later).is_ok()));
        assert_eq!(tokens.ages.len(), 3);
    }

    #[test]
    fn only_the_exact_text_of_a_token_is_one() {
        let token = Token::new().unwrap();
        let text = token.text();
        assert_eq!(Token::parse(&text), Some(token));
        for wrong in
            [&text[1..], &format!("{text}A"), &format!("{text}=="), "", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA+A"]
        {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
        for wrong in ["/exec", "/exec/", "exec/", "//", "/run/", "/Exec/", "/exec//", "/exec/x/"] {
            assert_eq!(parse_path(&format!("{wrong}{text}")).is_some(), wrong == "/exec/", "{wrong}");
        }
    }
}
