//! Sizes as people write and read them.

/// A number with a suffix: `b` 512, `k` 1024, `kB`/`kD` 1000, `M`, `G`, `T`; nothing for what is none.
pub fn size(text: &str) -> Option<u64> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number: u64 = digits.parse().ok()?;
    let factor: u64 = match suffix {
        "" | "c" => 1,
        "w" => 2,
        "b" => 512,
        "k" | "K" | "KiB" => 1 << 10,
        "kB" | "KB" | "kD" => 1000,
        "m" | "M" | "MiB" => 1 << 20,
        "MB" | "MD" => 1_000_000,
        "g" | "G" | "GiB" => 1 << 30,
        "GB" | "GD" => 1_000_000_000,
        "t" | "T" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Bytes with at most one decimal and a letter, as `ls -h` and `df -h` show them.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut letters = "KMGTPE".chars();
    let mut unit = None;
    while value >= 1024.0 {
        value /= 1024.0;
        unit = letters.next();
    }
    match unit {
        None => bytes.to_string(),
        Some(unit) if value < 9.95 => format!("{value:.1}{unit}"),
        Some(unit) => format!("{value:.0}{unit}"),
    }
}
