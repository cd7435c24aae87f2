//! Names of signals. No guest can send or catch any, but scripts name them, and `kill -l` lists them.

/// Linux's signals from 1 on.
pub const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The name of what `trap` names: a signal by name or number, or EXIT.
pub fn condition(text: &str) -> Option<String> {
    if text == "0" || text.eq_ignore_ascii_case("EXIT") {
        return Some("EXIT".into());
    }
    if let Ok(number) = text.parse::<usize>() {
        return NAMES.get(number.checked_sub(1)?).map(|name| (*name).to_string());
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name).then(|| name.to_string())
}
