//! Bandwidth limits as pods ask for them.
//!
//! Kubernetes has no field for them: the annotations
//! `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth` hold a
//! resource quantity in bits per second, such as `10M`. The pod API knows the
//! grammar of quantities; this is the part of it that such a value can use,
//! counted exactly and rounded up to whole bits.

/// The annotation that limits what reaches the pod.
pub const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress-bandwidth";
/// The annotation that limits what leaves the pod.
pub const EGRESS_ANNOTATION: &str = "kubernetes.io/egress-bandwidth";

/// The limits that Kubernetes itself puts on these annotations: 1k and 1P.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;

/// Digits before and after the point that are looked at together; more than
/// this cannot stand for a rate between [`LEAST`] and [`MOST`].
const MAX_DIGITS: usize = 28;

/// Why a bandwidth annotation is refused.
#[derive(Debug, thiserror::Error)]
pub enum BandwidthError {
    /// The text is no resource quantity.
    #[error("{0:?} is not a quantity such as 10M")]
    NotAQuantity(String),
    /// It is one, but out of the range that Kubernetes allows.
    #[error("{0:?} is not between 1k and 1P bits per second")]
    OutOfRange(String),
}

/// Reads a bandwidth annotation.
///
/// The result is in bits per second.
///
/// # Errors
/// The text is no quantity, or it lies outside of 1k to 1P.
pub fn parse(text: &str) -> Result<u64, BandwidthError> {
    let not_a_quantity = || BandwidthError::NotAQuantity(text.to_owned());
    let out_of_range = || BandwidthError::OutOfRange(text.to_owned());
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.starts_with('-') {
        return Err(out_of_range());
    }
    let number_length =
        unsigned.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_length);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(not_a_quantity());
    }
    let (binary_power, decimal_power) = powers(suffix).ok_or_else(not_a_quantity)?;

    let digits = format!("{}{fraction}", whole.trim_start_matches('0'));
    if digits.len() > MAX_DIGITS {
        return Err(out_of_range());
    }
    let mantissa: u128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| not_a_quantity())? };
    let fraction_digits = i32::try_from(fraction.len()).map_err(|_| out_of_range())?;
    let tens = decimal_power.saturating_sub(fraction_digits);
    let scaled = mantissa.checked_mul(1_u128 << binary_power).ok_or_else(out_of_range)?;
    let factor = 10_u128.checked_pow(tens.unsigned_abs());
    let bits = match (tens < 0, factor) {
        (false, Some(factor)) => scaled.checked_mul(factor).ok_or_else(out_of_range)?,
        (false, None) if scaled == 0 => 0,
        (false, None) => return Err(out_of_range()),
        (true, Some(factor)) => scaled.div_ceil(factor),
        (true, None) => u128::from(scaled > 0),
    };
    u64::try_from(bits).ok().filter(|bits| (LEAST..=MOST).contains(bits)).ok_or_else(out_of_range)
}

/// The powers of two and of ten that a suffix stands for.
fn powers(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            if digits.len() > 4 {
                return None;
            }
            (0, digits.parse().ok()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_read_as_kubernetes_reads_it() {
        let cases = [
            ("10M", 10_000_000),
            ("1k", 1_000),
            ("1P", 1_000_000_000_000_000),
            ("1Ki", 1_024),
            ("1.5Mi", 1_572_864),
            ("2e6", 2_000_000),
            ("1E3", 1_000),
            ("+12e3", 12_000),
            ("1000", 1_000),
            ("1000.1", 1_001),
            ("1000001m", 1_001),
            (".5M", 500_000),
            ("5.M", 5_000_000),
            ("0000000000000000000000000000000001M", 1_000_000),
        ];
        for (text, bits) in cases {
            assert_eq!(parse(text).unwrap(), bits, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "M", ".", "1.2.3", "10 M", "10MB", "ten", "1e", "1e+", "1K", "0x10", "1eE3", " 1M"] {
            assert!(matches!(parse(text), Err(BandwidthError::NotAQuantity(_))), "{text}");
        }
    }

    #[test]
    fn a_rate_that_kubernetes_would_refuse_is_refused() {
        for text in ["0", "999", "-10M", "2P", "1E", "1Ei", "1e999", "1e-999", "99999999999999999999999999999999"] {
            assert!(matches!(parse(text), Err(BandwidthError::OutOfRange(_))), "{text}");
        }
    }
}
