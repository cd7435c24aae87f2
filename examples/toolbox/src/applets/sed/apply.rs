//! Addresses, and the command `s`.

use super::Sed;
use super::script::{Address, Command, Part, Replace};
use crate::context::{Context, Fail};
use crate::regex::Regex;
use crate::text::{decode, encode};

impl<'a> Sed<'a> {
    async fn address_matches(&mut self, context: &mut Context, address: &'a Address) -> Result<bool, Fail> {
        Ok(match address {
            Address::Line(line) => *line == self.number,
            Address::Last => self.input.is_last(context, self.null).await?,
            Address::Step(first, 0) => *first == self.number,
            Address::Step(first, step) => self.number >= *first && (self.number - first).is_multiple_of(*step),
            Address::More(_) => false,
            Address::Regex(regex) => {
                let regex = self.regex(regex)?;
                regex.is_match(&self.pattern, &mut self.scratch)
            }
        })
    }

    fn regex(&mut self, regex: &'a Option<Regex>) -> Result<&'a Regex, Fail> {
        if let Some(regex) = regex {
            self.last_regex = Some(regex);
        }
        self.last_regex.ok_or_else(|| Fail::Message("no previous regexp".into(), 1))
    }

    /// Whether a command applies to the line.
    pub(super) async fn applies(&mut self, context: &mut Context, command: &'a Command, index: usize) -> Result<bool, Fail> {
        let (Some(first), second) = (&command.addresses.0, &command.addresses.1) else { return Ok(true) };
        let Some(second) = second else { return self.address_matches(context, first).await };
        let state = self.ranges.get(index).copied().flatten();
        if let Some(end) = state {
            let ends = match second {
                Address::Line(_) | Address::More(_) => self.number >= end,
                address => self.address_matches(context, address).await?,
            };
            // A second address that lies before the line: only what was begun.
            let passed = matches!(second, Address::Line(_) | Address::More(_)) && self.number > end;
            if let Some(place) = self.ranges.get_mut(index) {
                *place = if ends { None } else { Some(end) };
            }
            if !passed {
                return Ok(true);
            }
        }
        // `0,/x/` ends at a match in the first line already.
        let zero = matches!(first, Address::Line(0)) && self.number == 1;
        if zero || self.address_matches(context, first).await? {
            let end = match second {
                Address::Line(line) => *line,
                Address::More(count) => self.number + count,
                _ => u64::MAX,
            };
            let over = match second {
                Address::Line(_) | Address::More(_) => end <= self.number,
                Address::Last => self.input.is_last(context, self.null).await?,
                address if zero => self.address_matches(context, address).await?,
                _ => false,
            };
            if let Some(place) = self.ranges.get_mut(index) {
                *place = if over { None } else { Some(end) };
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// `s`.
    pub(super) async fn replace(&mut self, context: &mut Context, replace: &'a Replace) -> Result<(), Fail> {
        let regex = self.regex(&replace.regex)?;
        let mut out: Vec<u8> = Vec::new();
        let (mut at, mut count, mut changed) = (0, 0, false);
        let mut last_end = None;
        while at <= self.pattern.len() {
            let Some(captures) = regex.find(&self.pattern, at, &mut self.scratch) else { break };
            let Some((from, to)) = captures.first().copied().flatten() else { break };
            // An empty match right behind a match is none.
            let empty_again = from == to && last_end == Some(from);
            if !empty_again {
                count += 1;
            }
            out.extend(self.pattern.get(at..from).unwrap_or_default());
            if !empty_again && (count == replace.number || (replace.all && count > replace.number)) {
                changed = true;
                expand(&replace.parts, &captures, &self.pattern, &mut out);
            } else {
                out.extend(self.pattern.get(from..to).unwrap_or_default());
            }
            last_end = Some(to);
            at = to;
            if from == to {
                // One whole character further.
                let mut end = to + 1;
                while self.pattern.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    end += 1;
                }
                out.extend(self.pattern.get(to..end.min(self.pattern.len())).unwrap_or_default());
                at = end;
            }
            if changed && !replace.all {
                break;
            }
        }
        if !changed {
            return Ok(());
        }
        out.extend(self.pattern.get(at.min(self.pattern.len())..).unwrap_or_default());
        self.pattern = out;
        self.replaced = true;
        let pattern = self.pattern.clone();
        if replace.print {
            self.print(context, &pattern).await?;
        }
        if let Some(name) = &replace.write {
            self.write(name, &pattern).await?;
        }
        Ok(())
    }
}

fn expand(parts: &[Part], captures: &[Option<(usize, usize)>], text: &[u8], out: &mut Vec<u8>) {
    let mut case = None;
    let mut next = None;
    for part in parts {
        let bytes = match part {
            Part::Text(text) => encode(text).into_owned(),
            Part::Group(group) => {
                captures.get(*group).copied().flatten().and_then(|(from, to)| text.get(from..to)).unwrap_or_default().to_vec()
            }
            Part::Case(letter @ ('U' | 'L')) => {
                case = Some(*letter);
                continue;
            }
            Part::Case('E') => {
                case = None;
                continue;
            }
            Part::Case(letter) => {
                next = Some(*letter);
                continue;
            }
        };
        if case.is_none() && next.is_none() {
            out.extend(bytes);
            continue;
        }
        let mut text = decode(&bytes);
        match case {
            Some('U') => text = text.to_uppercase(),
            Some('L') => text = text.to_lowercase(),
            _ => {}
        }
        if !text.is_empty()
            && let Some(letter) = next.take()
        {
            let mut rest = text.chars();
            let first = rest.next().map(|first| first.to_string()).unwrap_or_default();
            let first = if letter == 'u' { first.to_uppercase() } else { first.to_lowercase() };
            text = format!("{first}{}", rest.as_str());
        }
        out.extend(encode(&text).iter());
    }
}
