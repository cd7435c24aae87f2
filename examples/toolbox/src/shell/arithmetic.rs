//! `$(( ))`: C's integers of 64 bits with all operators and assignments.

/// Variables of an expression.
pub trait Variables {
    /// The value of a variable; nothing if it is not set.
    fn get(&self, name: &str) -> Option<String>;
    /// Assigns; an error is a text.
    fn set(&mut self, name: &str, value: i64) -> Result<(), String>;
    /// `set -u`.
    fn strict(&self) -> bool {
        false
    }
}

/// How deep parentheses and variables in variables may go.
const DEPTH: u32 = 60;

struct Evaluator<'a> {
    text: &'a [char],
    at: usize,
    variables: &'a mut dyn Variables,
    depth: u32,
    /// Inside what is not evaluated, as the right side of `0 && x`: nothing is assigned, nothing divided.
    skipped: u32,
}

/// The value of an expression.
pub fn evaluate(text: &str, variables: &mut dyn Variables) -> Result<i64, String> {
    evaluate_at(text, variables, 0)
}

fn evaluate_at(text: &str, variables: &mut dyn Variables, depth: u32) -> Result<i64, String> {
    let text: Vec<char> = text.chars().collect();
    let mut evaluator = Evaluator { text: &text, at: 0, variables, depth, skipped: 0 };
    evaluator.blanks();
    if evaluator.at == evaluator.text.len() {
        return Ok(0);
    }
    let value = evaluator.comma()?;
    if evaluator.at < evaluator.text.len() {
        return Err(evaluator.wrong());
    }
    Ok(value)
}

/// The number that a text is: decimal, octal or hexadecimal.
pub fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        (hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (&digits[1..], 8)
    } else {
        (digits, 10)
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    // Too large a number is the largest one, as strtoimax has it.
    let value = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Operators of two sides, by how strongly they bind.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

const ASSIGNMENTS: [&str; 11] = ["<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "="];

impl Evaluator<'_> {
    fn wrong(&self) -> String {
        let rest: String = self.text.iter().skip(self.at).take(40).collect();
        if rest.is_empty() { "arithmetic syntax error".into() } else { format!("arithmetic syntax error at \"{rest}\"") }
    }

    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|character| character.is_whitespace()) {
            self.at += 1;
        }
    }

    fn looking_at(&self, operator: &str) -> bool {
        operator.chars().enumerate().all(|(offset, character)| self.text.get(self.at + offset) == Some(&character))
    }

    fn eat(&mut self, operator: &str) -> bool {
        let found = self.looking_at(operator);
        if found {
            self.at += operator.len();
            self.blanks();
        }
        found
    }

    fn comma(&mut self) -> Result<i64, String> {
        let mut value = self.assignment()?;
        while self.eat(",") {
            value = self.assignment()?;
        }
        Ok(value)
    }

    fn assignment(&mut self) -> Result<i64, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("expression nested too deep".into());
        }
        let start = self.at;
        if let Some(name) = self.name() {
            let operator = ASSIGNMENTS.into_iter().find(|operator| self.looking_at(operator) && !self.looking_at("=="));
            if let Some(operator) = operator {
                self.eat(operator);
                let right = self.assignment()?;
                let value = match operator.strip_suffix('=') {
                    Some("") | None => right,
                    Some(operation) => {
                        let left = self.value_of(&name)?;
                        self.apply(operation, left, right)?
                    }
                };
                self.store(&name, value)?;
                self.depth -= 1;
                return Ok(value);
            }
        }
        self.at = start;
        let value = self.conditional();
        self.depth -= 1;
        value
    }

    fn conditional(&mut self) -> Result<i64, String> {
        let condition = self.binary(0)?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let left = self.skipping(condition == 0, Self::comma)?;
        if !self.eat(":") {
            return Err(self.wrong());
        }
        let right = self.skipping(condition != 0, Self::assignment)?;
        Ok(if condition != 0 { left } else { right })
    }

    fn skipping(&mut self, skip: bool, inner: impl FnOnce(&mut Self) -> Result<i64, String>) -> Result<i64, String> {
        self.skipped += u32::from(skip);
        let value = inner(self);
        self.skipped -= u32::from(skip);
        value
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let operator = operators.iter().copied().find(|operator| {
                self.looking_at(operator)
                    // A longer operator begins with it.
                    && !(matches!(*operator, "|" | "&" | "<" | ">") && self.doubled())
                    && (matches!(*operator, "==" | "!=" | "<=" | ">=" | "||" | "&&") || !self.followed_by_equals(operator))
            });
            let Some(operator) = operator else { return Ok(left) };
            self.eat(operator);
            let skip = match operator {
                "&&" => left == 0,
                "||" => left != 0,
                _ => false,
            };
            let right = self.skipping(skip, |evaluator| evaluator.binary(level + 1))?;
            left = self.apply(operator, left, right)?;
        }
    }

    fn doubled(&self) -> bool {
        self.text.get(self.at) == self.text.get(self.at + 1)
    }

    fn followed_by_equals(&self, operator: &str) -> bool {
        self.text.get(self.at + operator.len()) == Some(&'=') && !matches!(operator, "<" | ">")
    }

    fn apply(&self, operator: &str, left: i64, right: i64) -> Result<i64, String> {
        let shift = (right & 63) as u32;
        Ok(match operator {
            "||" => i64::from(left != 0 || right != 0),
            "&&" => i64::from(left != 0 && right != 0),
            "|" => left | right,
            "^" => left ^ right,
            "&" => left & right,
            "==" => i64::from(left == right),
            "!=" => i64::from(left != right),
            "<=" => i64::from(left <= right),
            ">=" => i64::from(left >= right),
            "<" => i64::from(left < right),
            ">" => i64::from(left > right),
            "<<" => left.wrapping_shl(shift),
            ">>" => left.wrapping_shr(shift),
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            _ if right == 0 && self.skipped > 0 => 0,
            _ if right == 0 => return Err("divide by zero".into()),
            "/" => left.wrapping_div(right),
            _ => left.wrapping_rem(right),
        })
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("expression nested too deep".into());
        }
        let value = self.unary_inner();
        self.depth -= 1;
        value
    }

    fn unary_inner(&mut self) -> Result<i64, String> {
        for (operator, change) in [("++", 1), ("--", -1)] {
            if self.looking_at(operator) {
                let start = self.at;
                self.eat(operator);
                if let Some(name) = self.name() {
                    let value = self.value_of(&name)?.wrapping_add(change);
                    self.store(&name, value)?;
                    return Ok(value);
                }
                self.at = start;
            }
        }
        if self.eat("!") {
            return Ok(i64::from(self.unary()? == 0));
        }
        if self.eat("~") {
            return Ok(!self.unary()?);
        }
        if self.eat("-") {
            return Ok(self.unary()?.wrapping_neg());
        }
        if self.eat("+") {
            return self.unary();
        }
        if self.eat("(") {
            let value = self.comma()?;
            return if self.eat(")") { Ok(value) } else { Err(self.wrong()) };
        }
        if let Some(name) = self.name() {
            let value = self.value_of(&name)?;
            for (operator, change) in [("++", 1), ("--", -1)] {
                if self.eat(operator) {
                    self.store(&name, value.wrapping_add(change))?;
                }
            }
            return Ok(value);
        }
        let digits: String = self.text.iter().skip(self.at).take_while(|character| character.is_ascii_alphanumeric()).collect();
        match number(&digits) {
            Some(value) if !digits.is_empty() => {
                self.at += digits.len();
                self.blanks();
                Ok(value)
            }
            _ => Err(self.wrong()),
        }
    }

    fn name(&mut self) -> Option<String> {
        let rest = self.text.get(self.at..)?;
        if !rest.first().is_some_and(|first| *first == '_' || first.is_ascii_alphabetic()) {
            return None;
        }
        let name: String = rest.iter().take_while(|character| **character == '_' || character.is_ascii_alphanumeric()).collect();
        self.at += name.len();
        self.blanks();
        Some(name)
    }

    fn value_of(&mut self, name: &str) -> Result<i64, String> {
        let Some(text) = self.variables.get(name) else {
            return if self.variables.strict() && self.skipped == 0 { Err(format!("{name}: parameter not set")) } else { Ok(0) };
        };
        match number(&text) {
            Some(value) => Ok(value),
            None if self.depth >= DEPTH => Err("expression nested too deep".into()),
            None => evaluate_at(&text, self.variables, self.depth + 10),
        }
    }

    fn store(&mut self, name: &str, value: i64) -> Result<(), String> {
        if self.skipped > 0 { Ok(()) } else { self.variables.set(name, value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    impl Variables for HashMap<String, String> {
        fn get(&self, name: &str) -> Option<String> {
            HashMap::get(self, name).cloned()
        }
        fn set(&mut self, name: &str, value: i64) -> Result<(), String> {
            self.insert(name.into(), value.to_string());
            Ok(())
        }
    }

    #[test]
    fn expressions_have_the_values_that_c_gives_them() {
        let mut variables = HashMap::from([("x".to_string(), "5".to_string()), ("y".into(), "x+1".into())]);
        for (text, expected) in [
            ("", 0),
            ("1+2*3", 7),
            ("(1+2)*3", 9),
            ("7%4-8/3", 1),
            ("1<<4|3", 19),
            ("x>=5&&x<=5", 1),
            ("x=x+1, x*2", 12),
            ("x+=4", 10),
            ("x++ + ++x", 22),
            ("y", 13),
            ("0x1f + 010", 39),
            ("!0 + ~0", 0),
            ("1 ? 2 : 3 ? 4 : 5", 2),
            ("0 && (x=99)", 0),
            ("x", 12),
            ("-3 * -3", 9),
            ("1 - -1", 2),
            ("2 == 2 != 0", 1),
            ("x <<= 2", 48),
            ("9223372036854775807 + 1", i64::MIN),
            ("1 || 1/0", 1),
        ] {
            assert_eq!(evaluate(text, &mut variables), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        let mut variables = HashMap::from([("loop".to_string(), "loop".to_string())]);
        for text in ["1+", "1 2", "(1", "1/0", "08", "5=3", "loop", "@", &"(".repeat(1000)] {
            assert!(evaluate(text, &mut variables).is_err(), "{text}");
        }
    }
}
