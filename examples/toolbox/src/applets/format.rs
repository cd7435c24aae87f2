//! What `printf` and `echo -e` make of their words.

use crate::text::{encode, push};

/// Replaces backslash sequences; true if `\c` ended the output. `zero` takes octal numbers as `\0nnn`, as in `echo` and
/// `%b`; otherwise they are `\nnn`.
pub fn unescape(text: &str, zero: bool, out: &mut Vec<u8>) -> bool {
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '\\' {
            push(out, character);
            continue;
        }
        let Some(next) = rest.next() else {
            out.push(b'\\');
            break;
        };
        match next {
            'a' => out.push(7),
            'b' => out.push(8),
            'c' if zero => return true,
            'e' | 'E' => out.push(27),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '"' if !zero => out.push(b'"'),
            'x' => {
                let mut value = 0;
                let mut count = 0;
                while let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(16)).filter(|_| count < 2) {
                    value = value * 16 + digit;
                    count += 1;
                    rest.next();
                }
                if count == 0 {
                    out.extend(b"\\x");
                } else {
                    out.push(value as u8);
                }
            }
            '0'..='7' => {
                let most = if zero && next == '0' { 3 } else { 2 };
                let mut value = next.to_digit(8).unwrap_or(0);
                let mut count = 0;
                while let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(8)).filter(|_| count < most) {
                    value = value * 8 + digit;
                    count += 1;
                    rest.next();
                }
                out.push((value & 0xff) as u8);
            }
            other => {
                out.push(b'\\');
                push(out, other);
            }
        }
    }
    false
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    alternative: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// A width or precision beyond this is cut.
const WIDEST: usize = 100_000;

/// Fills a template: `piece` answers each `%`, taking what belongs to it from the characters behind it.
pub fn fill(template: &str, mut piece: impl FnMut(&mut std::str::Chars<'_>) -> String) -> String {
    let mut text = String::new();
    let mut rest = template.chars();
    while let Some(character) = rest.next() {
        match character {
            '%' => text.push_str(&piece(&mut rest)),
            other => text.push(other),
        }
    }
    text
}

/// `printf`: the template is used again until all values are. What was wrong with values is returned.
pub fn printf(template: &str, values: &[String], out: &mut Vec<u8>) -> Vec<String> {
    let mut errors = Vec::new();
    let mut values = values.iter();
    loop {
        let before = values.len();
        if once(template, &mut values, out, &mut errors) || values.len() == 0 || values.len() == before {
            return errors;
        }
    }
}

fn once(template: &str, values: &mut std::slice::Iter<'_, String>, out: &mut Vec<u8>, errors: &mut Vec<String>) -> bool {
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        if unescape(before, false, out) || before.ends_with("\\c") {
            return true;
        }
        let mut spec = Spec::default();
        let mut characters = after.char_indices().skip(1).peekable();
        while let Some((_, flag)) = characters.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '#' => spec.alternative = true,
                '0' => spec.zero = true,
                _ => break,
            }
            characters.next();
        }
        let mut number = |characters: &mut std::iter::Peekable<_>, values: &mut std::slice::Iter<'_, String>| -> i64 {
            let characters: &mut std::iter::Peekable<std::iter::Skip<std::str::CharIndices<'_>>> = characters;
            if characters.peek().is_some_and(|(_, star)| *star == '*') {
                characters.next();
                return integer(values.next().map_or("", String::as_str), errors) as i64;
            }
            let mut value = 0_i64;
            while let Some(digit) = characters.peek().and_then(|(_, digit)| digit.to_digit(10)) {
                value = (value * 10 + i64::from(digit)).min(WIDEST as i64);
                characters.next();
            }
            value
        };
        let width = number(&mut characters, values);
        spec.minus |= width < 0;
        spec.width = (width.unsigned_abs() as usize).min(WIDEST);
        if characters.peek().is_some_and(|(_, dot)| *dot == '.') {
            characters.next();
            spec.precision = usize::try_from(number(&mut characters, values)).ok().map(|value| value.min(WIDEST));
        }
        while characters.peek().is_some_and(|(_, letter)| matches!(letter, 'l' | 'h' | 'j' | 'z' | 't')) {
            characters.next();
        }
        let Some((index, conversion)) = characters.next() else {
            errors.push(format!("{after}: invalid format"));
            return true;
        };
        rest = after.get(index + conversion.len_utf8()..).unwrap_or_default();
        if conversion == '%' {
            out.push(b'%');
            continue;
        }
        let value = values.next().map_or("", String::as_str);
        match conversion {
            's' => {
                let bytes = encode(value);
                let cut = bytes.get(..spec.precision.unwrap_or(bytes.len()).min(bytes.len())).unwrap_or_default();
                pad(cut, &spec, out);
            }
            'b' => {
                let mut bytes = Vec::new();
                let stopped = unescape(value, true, &mut bytes);
                bytes.truncate(spec.precision.unwrap_or(bytes.len()));
                pad(&bytes, &spec, out);
                if stopped {
                    return true;
                }
            }
            'c' => pad(encode(value).get(..1).unwrap_or_default(), &spec, out),
            'd' | 'i' => {
                let value = integer(value, errors);
                let sign = sign(value < 0, &spec);
                padded_number(sign, &digits(value.unsigned_abs().to_string(), &spec), &spec, out);
            }
            'u' | 'o' | 'x' | 'X' => {
                let value = integer(value, errors) as i64 as u64;
                let text = match conversion {
                    'u' => value.to_string(),
                    'o' if spec.alternative => format!("0{value:o}"),
                    'o' => format!("{value:o}"),
                    'x' => format!("{value:x}"),
                    _ => format!("{value:X}"),
                };
                let prefix = match conversion {
                    'x' if spec.alternative && value != 0 => "0x",
                    'X' if spec.alternative && value != 0 => "0X",
                    _ => "",
                };
                padded_number(prefix, &digits(text, &spec), &spec, out);
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let number: f64 = match value.trim().parse() {
                    Ok(number) => number,
                    Err(_) => {
                        if !value.is_empty() {
                            errors.push(format!("{value}: invalid number"));
                        }
                        0.0
                    }
                };
                let mut text = float(number.abs(), conversion, spec.precision.unwrap_or(6));
                if conversion.is_ascii_uppercase() {
                    text = text.to_uppercase();
                }
                padded_number(sign(number.is_sign_negative(), &spec), &text, &spec, out);
            }
            other => {
                errors.push(format!("%{other}: invalid format"));
                return true;
            }
        }
    }
    let tail_stops = rest.contains("\\c");
    let rest = rest.split("\\c").next().unwrap_or_default();
    unescape(rest, false, out);
    tail_stops
}

fn sign(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn digits(text: String, spec: &Spec) -> String {
    match spec.precision {
        Some(0) if text == "0" => String::new(),
        Some(least) => format!("{text:0>least$}"),
        None => text,
    }
}

fn pad(bytes: &[u8], spec: &Spec, out: &mut Vec<u8>) {
    let fill = spec.width.saturating_sub(bytes.len());
    if !spec.minus {
        out.extend(std::iter::repeat_n(b' ', fill));
    }
    out.extend_from_slice(bytes);
    if spec.minus {
        out.extend(std::iter::repeat_n(b' ', fill));
    }
}

fn padded_number(sign: &str, digits: &str, spec: &Spec, out: &mut Vec<u8>) {
    let fill = spec.width.saturating_sub(sign.len() + digits.len());
    let float_or_plain = spec.precision.is_none() || digits.contains('.');
    if spec.zero && !spec.minus && float_or_plain {
        out.extend(sign.bytes());
        out.extend(std::iter::repeat_n(b'0', fill));
        out.extend(digits.bytes());
    } else {
        pad(format!("{sign}{digits}").as_bytes(), spec, out);
    }
}

/// An integer: decimal, octal, hexadecimal, or a character behind a quote.
fn integer(text: &str, errors: &mut Vec<String>) -> i128 {
    if let Some(rest) = text.strip_prefix(['\'', '"']) {
        return rest.chars().next().map_or(0, |character| i128::from(u32::from(character)));
    }
    let trimmed = text.trim_start();
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (radix, unsigned) = match unsigned.get(..2) {
        Some("0x" | "0X") => (16, unsigned.get(2..).unwrap_or_default()),
        _ if unsigned.starts_with('0') => (8, unsigned),
        _ => (10, unsigned),
    };
    let digits: String = unsigned.chars().take_while(|digit| digit.is_digit(radix)).collect();
    if digits.len() < unsigned.len() || (digits.is_empty() && !text.is_empty()) {
        errors.push(format!("{text}: invalid number"));
        // busybox prints 0 for what does not begin with a number, and what there is otherwise.
    }
    let value = i128::from_str_radix(if digits.is_empty() { "0" } else { &digits }, radix).unwrap_or(i64::MAX.into());
    if negative { (-value).max(i64::MIN.into()) } else { value.min(u64::MAX.into()) }
}

fn float(value: f64, conversion: char, precision: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".into() } else { "inf".into() };
    }
    match conversion.to_ascii_lowercase() {
        'f' => format!("{value:.precision$}"),
        'e' => exponent(value, precision),
        _ => {
            let precision = precision.max(1);
            let scientific = exponent(value, precision - 1);
            let power: i32 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
            let trim = |text: String| match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
                false => text,
            };
            if power < -4 || power >= precision as i32 {
                let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
                format!("{}e{power}", trim(mantissa.to_string()))
            } else {
                let places = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
                trim(format!("{value:.places$}"))
            }
        }
    }
}

fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_as_c_fills_them() {
        for (template, values, expected) in [
            ("%s-%s|", vec!["a", "b", "c"], "a-b|c-|"),
            ("%5d|%-5d|%05d|%+d", vec!["42", "42", "42", "42"], "   42|42   |00042|+42"),
            ("%x %X %o %#x", vec!["255", "255", "8", "255"], "ff FF 10 0xff"),
            ("%.2f %g %e", vec!["3.14159", "0.0001", "12345"], "3.14 0.0001 1.234500e+04"),
            ("%.3s|%c", vec!["abcdef", "xyz"], "abc|x"),
            ("%b", vec!["a\\tb\\n"], "a\tb\n"),
            ("%d", vec!["0x1f"], "31"),
            ("%*d", vec!["4", "7"], "   7"),
            ("%%\\n", vec![], "%\n"),
            ("\\101\\x42", vec![], "AB"),
        ] {
            let mut out = Vec::new();
            let values: Vec<String> = values.into_iter().map(str::to_string).collect();
            assert_eq!(printf(template, &values, &mut out), Vec::<String>::new());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{template}");
        }
    }
}
