//! `test` and `[`.

use crate::applet;
use crate::context::{Applet, Context, Fail, Outcome};
use crate::sys::{Kind, Status};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("test", test), applet!("[", test), applet!("[[", test)];

async fn test(context: &mut Context) -> Outcome {
    let mut args = context.args.clone();
    if context.name != "test" {
        let closing = if context.name == "[" { "]" } else { "]]" };
        if args.pop().as_deref() != Some(closing) {
            return Err(Fail::Message(format!("missing {closing}"), 2));
        }
    }
    let wrong = |message: String| Fail::Message(message, 2);
    // POSIX decides by the number of words first, so that operands may look like operators.
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => Ok(false),
        [one] => Ok(!one.is_empty()),
        ["!", one] => Ok(one.is_empty()),
        ["!", left, operator, right] if is_binary(operator) => binary(context, left, operator, right).map(|value| !value),
        [left, operator, right] if is_binary(operator) => binary(context, left, operator, right),
        _ => {
            let mut at = 0;
            let value = either(context, &words, &mut at, 0);
            match value {
                Ok(value) if at == words.len() => Ok(value),
                Ok(_) => Err(format!("{}: unexpected operator", words.get(at).copied().unwrap_or_default())),
                Err(error) => Err(error),
            }
        }
    };
    result.map(|value| u8::from(!value)).map_err(wrong)
}

type Value = Result<bool, String>;

/// Parentheses and negations inside each other.
const DEPTH: u32 = 100;

fn either(context: &Context, words: &[&str], at: &mut usize, depth: u32) -> Value {
    let mut value = both(context, words, at, depth)?;
    while words.get(*at) == Some(&"-o") || words.get(*at) == Some(&"||") {
        *at += 1;
        value |= both(context, words, at, depth)?;
    }
    Ok(value)
}

fn both(context: &Context, words: &[&str], at: &mut usize, depth: u32) -> Value {
    let mut value = single(context, words, at, depth)?;
    while words.get(*at) == Some(&"-a") || words.get(*at) == Some(&"&&") {
        *at += 1;
        value &= single(context, words, at, depth)?;
    }
    Ok(value)
}

fn single(context: &Context, words: &[&str], at: &mut usize, depth: u32) -> Value {
    if depth > DEPTH {
        return Err("nested too deep".into());
    }
    let Some(word) = words.get(*at).copied() else { return Err("argument expected".into()) };
    if let (Some(operator), Some(right)) = (words.get(*at + 1), words.get(*at + 2))
        && is_binary(operator)
    {
        *at += 3;
        return binary(context, word, operator, right);
    }
    match word {
        "!" => {
            *at += 1;
            Ok(!single(context, words, at, depth + 1)?)
        }
        "(" => {
            *at += 1;
            let value = either(context, words, at, depth + 1)?;
            if words.get(*at) != Some(&")") {
                return Err("closing paren expected".into());
            }
            *at += 1;
            Ok(value)
        }
        _ => {
            let mut letters = word.chars();
            if let (Some('-'), Some(letter), None, Some(operand)) =
                (letters.next(), letters.next(), letters.next(), words.get(*at + 1))
                && "bcdefghkLprsStuwxznGO".contains(letter)
            {
                *at += 2;
                return Ok(unary(context, letter, operand));
            }
            *at += 1;
            Ok(!word.is_empty())
        }
    }
}

fn is_binary(operator: &str) -> bool {
    matches!(
        operator,
        "=" | "==" | "!=" | "<" | ">" | "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge" | "-nt" | "-ot" | "-ef" | "=~"
    )
}

fn unary(context: &Context, operator: char, operand: &str) -> bool {
    let status = || context.status(operand, true).ok();
    let kind = |wanted: Kind| status().is_some_and(|status| status.kind == wanted);
    match operator {
        'n' => !operand.is_empty(),
        'z' => operand.is_empty(),
        'e' => status().is_some(),
        'f' => kind(Kind::File),
        'd' => kind(Kind::Directory),
        'L' | 'h' => context.status(operand, false).is_ok_and(|status| status.kind == Kind::Link),
        'b' => kind(Kind::Block),
        'c' => kind(Kind::Character),
        'p' => kind(Kind::Pipe),
        'S' => kind(Kind::Socket),
        's' => status().is_some_and(|status| status.size > 0),
        't' => operand.parse().ok().and_then(|fd: u32| context.fds.get(&fd)).is_some_and(|handle| handle.is_terminal()),
        'r' => readable(context, operand),
        'w' => writable(context, operand, status()),
        'x' => executable(context, operand, status()),
        // Nobody can tell owners and modes of files.
        'O' | 'G' => status().is_some(),
        _ => false,
    }
}

fn readable(context: &Context, path: &str) -> bool {
    match context.status(path, true) {
        Ok(status) if status.is_directory() => std::fs::read_dir(context.path(path)).is_ok(),
        Ok(_) => std::fs::File::open(context.path(path)).is_ok(),
        Err(_) => false,
    }
}

/// WASI tells no permissions, so a file is opened, which changes nothing. Of a directory nothing can be said without
/// making something in it.
fn writable(context: &Context, path: &str, status: Option<Status>) -> bool {
    match status {
        Some(status) if status.kind == Kind::File => std::fs::OpenOptions::new().append(true).open(context.path(path)).is_ok(),
        Some(_) => true,
        None => false,
    }
}

/// What could run: a directory can be entered, wasm and scripts can be started.
fn executable(context: &Context, path: &str, status: Option<Status>) -> bool {
    match status {
        Some(status) if status.kind == Kind::File => {
            let mut first = [0; 4];
            std::fs::File::open(context.path(path))
                .and_then(|file| std::io::Read::read(&mut &file, &mut first))
                .is_ok_and(|_| first == *b"\0asm" || first.starts_with(b"#!"))
        }
        Some(status) => status.is_directory(),
        None => false,
    }
}

fn binary(context: &Context, left: &str, operator: &str, right: &str) -> Value {
    let number = |text: &str| -> Result<i64, String> { text.trim().parse().map_err(|_| format!("{text}: bad number")) };
    let numbers = || -> Result<(i64, i64), String> { Ok((number(left)?, number(right)?)) };
    let status = |path: &str| context.status(path, true).ok();
    Ok(match operator {
        "=" => left == right,
        "==" if context.name == "[[" => crate::shell::pattern::Pattern::from_text(right).matches(left),
        "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-eq" => numbers().map(|(left, right)| left == right)?,
        "-ne" => numbers().map(|(left, right)| left != right)?,
        "-lt" => numbers().map(|(left, right)| left < right)?,
        "-le" => numbers().map(|(left, right)| left <= right)?,
        "-gt" => numbers().map(|(left, right)| left > right)?,
        "-ge" => numbers().map(|(left, right)| left >= right)?,
        "-nt" => match (status(left), status(right)) {
            (Some(left), Some(right)) => left.modified > right.modified,
            (left, _) => left.is_some(),
        },
        "-ot" => match (status(left), status(right)) {
            (Some(left), Some(right)) => left.modified < right.modified,
            (_, right) => right.is_some(),
        },
        "-ef" => match (status(left), status(right)) {
            (Some(left), Some(right)) => (left.device, left.inode) == (right.device, right.inode),
            _ => false,
        },
        _ => return Err(format!("{operator}: unknown operand")),
    })
}
