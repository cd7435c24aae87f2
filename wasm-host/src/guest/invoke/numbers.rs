//! Values of core modules as text: decimal numbers, or hexadecimal ones with `0x`.

use wasmtime::{Val, ValType};

/// Reads an argument.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(of: &ValType, text: &str) -> Result<Val, String> {
    let value = match of {
        ValType::I32 => integer(text, i64::from(i32::MIN), i64::from(u32::MAX)).and_then(|value| {
            // A number of 32 bits, with or without a sign.
            let value = i32::try_from(value).ok().or_else(|| u32::try_from(value).ok().map(u32::cast_signed));
            value.map(Val::I32)
        }),
        ValType::I64 => integer(text, i64::MIN, i64::MAX).or_else(|| unsigned(text).map(u64::cast_signed)).map(Val::I64),
        ValType::F32 => text.parse::<f32>().ok().map(|value| Val::F32(value.to_bits())),
        ValType::F64 => text.parse::<f64>().ok().map(|value| Val::F64(value.to_bits())),
        other => return Err(format!("an argument of the type {other} cannot be given here")),
    };
    value.ok_or_else(|| format!("{text:?} is no {of}"))
}

fn integer(text: &str, least: i64, most: i64) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(&format!("{sign}{digits}"), 16).ok()?,
        None => text.parse().ok()?,
    };
    (least..=most).contains(&value).then_some(value)
}

fn unsigned(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Text of a result.
pub(super) fn write(value: &Val) -> String {
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        Val::V128(value) => value.as_u128().to_string(),
        Val::FuncRef(None) | Val::ExternRef(None) | Val::AnyRef(None) | Val::ExnRef(None) | Val::ContRef(None) => {
            "<null>".to_owned()
        }
        Val::FuncRef(_) => "<funcref>".to_owned(),
        Val::ExternRef(_) => "<externref>".to_owned(),
        Val::AnyRef(_) => "<anyref>".to_owned(),
        Val::ExnRef(_) => "<exnref>".to_owned(),
        Val::ContRef(_) => "<contref>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_signs_and_bases_and_bounds() {
        let i32 = |text: &str| read(&ValType::I32, text).ok().map(|value| value.unwrap_i32());
        assert_eq!((i32("-5"), i32("0x10"), i32("-0x10"), i32("4294967295")), (Some(-5), Some(16), Some(-16), Some(-1)));
        assert_eq!((i32("4294967296"), i32("-2147483649"), i32("x"), i32("")), (None, None, None, None));
        let i64 = |text: &str| read(&ValType::I64, text).ok().map(|value| value.unwrap_i64());
        assert_eq!((i64("0xffffffffffffffff"), i64("-9223372036854775808")), (Some(-1), Some(i64::MIN)));
        assert_eq!(i64("18446744073709551616"), None);
        assert_eq!(write(&read(&ValType::F64, "1.5e3").unwrap()), "1500");
        assert_eq!(read(&ValType::F32, "one").unwrap_err(), "\"one\" is no f32");
        assert!(read(&ValType::FUNCREF, "0").is_err());
    }
}
