//! Options of applets, as getopt reads them: letters together or apart, values behind them or in the next word, long
//! names, `--` for their end. Operands may stand between options.

use crate::context::Fail;

/// What a command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Options in their order, each with its value or an empty text.
    pub options: Vec<(char, String)>,
    /// What is no option.
    pub operands: Vec<String>,
}

impl Parsed {
    /// Whether an option was given.
    pub fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(own, _)| *own == letter)
    }

    /// The last value of an option.
    pub fn value(&self, letter: char) -> Option<&str> {
        self.options.iter().rev().find(|(own, _)| *own == letter).map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(own, _)| *own == letter).map(|(_, value)| value.as_str())
    }
}

/// Reads options. `spec` has the letters, with `:` behind those that take a value; a `+` at its beginning ends the options
/// at the first operand. `long` gives letters to long names.
pub fn parse(args: &[String], spec: &str, long: &[(&str, char)]) -> Result<Parsed, Fail> {
    let mut parsed = Parsed::default();
    let (in_order, spec) = match spec.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, spec),
    };
    let takes_value = |letter: char| spec.contains(&format!("{letter}:"));
    let mut rest = args.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            break;
        }
        if let Some(name) = argument.strip_prefix("--") {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (name, None),
            };
            let exact = long.iter().find(|(own, _)| *own == name);
            let found = exact.or_else(|| long.iter().find(|(own, _)| own.starts_with(name)));
            let Some(&(_, letter)) = found else {
                return Err(Fail::Message(format!("unrecognized option '--{name}'"), 1));
            };
            let value = match (takes_value(letter), value) {
                (true, None) => match rest.next() {
                    Some(next) => next.clone(),
                    None => return Err(Fail::Message(format!("option '--{name}' requires an argument"), 1)),
                },
                (_, value) => value.unwrap_or_default(),
            };
            parsed.options.push((letter, value));
        } else if argument.len() > 1 && argument.starts_with('-') {
            let mut letters = argument.chars().skip(1);
            while let Some(letter) = letters.next() {
                if letter == ':' || !spec.contains(letter) {
                    return Err(Fail::Message(format!("invalid option -- '{letter}'"), 1));
                }
                if !takes_value(letter) {
                    parsed.options.push((letter, String::new()));
                    continue;
                }
                let inline: String = letters.by_ref().collect();
                let value = match inline.is_empty() {
                    false => inline,
                    true => match rest.next() {
                        Some(next) => next.clone(),
                        None => return Err(Fail::Message(format!("option requires an argument -- '{letter}'"), 1)),
                    },
                };
                parsed.options.push((letter, value));
            }
        } else {
            parsed.operands.push(argument.clone());
            if in_order {
                break;
            }
        }
    }
    parsed.operands.extend(rest.cloned());
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn options_are_read_as_getopt_reads_them() {
        let parsed = parse(&args("-ab x -n5 --count=7 y -n 6 -- -z"), "abn:", &[("count", 'n')]).unwrap();
        assert_eq!(parsed.operands, ["x", "y", "-z"]);
        assert_eq!(parsed.values('n').collect::<Vec<_>>(), ["5", "7", "6"]);
        assert!(parsed.has('a') && parsed.has('b'));
        let parsed = parse(&args("-a x -b"), "+ab", &[]).unwrap();
        assert_eq!(parsed.operands, ["x", "-b"]);
        assert!(parse(&args("-z"), "a", &[]).is_err());
        assert!(parse(&args("-n"), "n:", &[]).is_err());
    }
}
