//! Names and numbers of signals: images and CRI name them, the kernel counts them.

/// The kernel's numbers on every architecture that we run on. SIGCLD, SIGIOT and SIGPOLL are other names of SIGCHLD, SIGABRT and
/// SIGIO.
const NAMED: [(&str, i32); 34] = [
    ("SIGABRT", libc::SIGABRT),
    ("SIGALRM", libc::SIGALRM),
    ("SIGBUS", libc::SIGBUS),
    ("SIGCHLD", libc::SIGCHLD),
    ("SIGCLD", libc::SIGCHLD),
    ("SIGCONT", libc::SIGCONT),
    ("SIGFPE", libc::SIGFPE),
    ("SIGHUP", libc::SIGHUP),
    ("SIGILL", libc::SIGILL),
    ("SIGINT", libc::SIGINT),
    ("SIGIO", libc::SIGIO),
    ("SIGIOT", libc::SIGABRT),
    ("SIGKILL", libc::SIGKILL),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGPOLL", libc::SIGIO),
    ("SIGPROF", libc::SIGPROF),
    ("SIGPWR", libc::SIGPWR),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGSEGV", libc::SIGSEGV),
    ("SIGSTKFLT", libc::SIGSTKFLT),
    ("SIGSTOP", libc::SIGSTOP),
    ("SIGSYS", libc::SIGSYS),
    ("SIGTERM", libc::SIGTERM),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGTSTP", libc::SIGTSTP),
    ("SIGTTIN", libc::SIGTTIN),
    ("SIGTTOU", libc::SIGTTOU),
    ("SIGURG", libc::SIGURG),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGWINCH", libc::SIGWINCH),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
];

/// First and last real-time signal as C libraries count them: the first two of the kernel's are theirs.
const REALTIME: (i32, i32) = (34, 64);

/// The kernel's number of a signal that is named as images do (`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`) or as CRI does
/// (`SIGRTMINPLUS3`, `SIGRTMAXMINUS2`).
pub fn number(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=REALTIME.1).contains(&number).then_some(number);
    }
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if let Some((_, number)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (first, last) = REALTIME;
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        return offset(rest, &["+", "PLUS"]).map(|offset| first + offset);
    }
    let rest = name.strip_prefix("SIGRTMAX")?;
    offset(rest, &["-", "MINUS"]).map(|offset| last - offset)
}

/// CRI's name of a signal that the kernel counts so.
pub fn cri_name(number: i32) -> Option<String> {
    if let Some((name, _)) = NAMED.iter().find(|(_, known)| *known == number) {
        return Some((*name).to_owned());
    }
    let (first, last) = REALTIME;
    match number {
        number if number == first => Some("SIGRTMIN".to_owned()),
        number if number == last => Some("SIGRTMAX".to_owned()),
        // CRI counts fifteen up from the first one and the rest down from the last one.
        number if number > first && number <= first + 15 => Some(format!("SIGRTMINPLUS{}", number - first)),
        number if number > first && number < last => Some(format!("SIGRTMAXMINUS{}", last - number)),
        _ => None,
    }
}

fn offset(rest: &str, signs: &[&str]) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = signs.iter().find_map(|sign| rest.strip_prefix(sign))?;
    let offset = digits.parse::<i32>().ok()?;
    (0..=REALTIME.1 - REALTIME.0).contains(&offset).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_signal_is_understood() {
        for (name, wanted) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGUSR1", 10),
            ("SIGPOLL", 29),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMINPLUS3", 37),
            ("SIGRTMAX-14", 50),
            ("SIGRTMAXMINUS14", 50),
        ] {
            assert_eq!(number(name), Some(wanted), "{name}");
        }
        for name in ["", "SIG", "SIGNOTHING", "0", "65", "SIGRTMIN+31", "SIGRTMIN-1"] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn cri_names_lead_back_to_their_numbers() {
        for wanted in (1..=31).chain(34..=64) {
            if let Some(name) = cri_name(wanted) {
                assert_eq!(number(&name), Some(wanted), "{name}");
            } else {
                assert_eq!(wanted, 0, "signal {wanted} has no name");
            }
        }
        assert_eq!(cri_name(32), None);
    }
}
