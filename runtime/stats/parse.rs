//! Reads the texts of the kernel's counter files. What is not as the kernel writes it counts as not there.

/// Stalls on a resource, as `cpu.pressure`, `memory.pressure` and `io.pressure` tell them
/// (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task stalled.
    pub some: Stall,
    /// All tasks stalled at once.
    pub full: Stall,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Since the start, in microseconds.
    pub total_us: u64,
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last 60 seconds.
    pub avg60: f64,
    /// Per cent of the last 300 seconds.
    pub avg300: f64,
}

/// Counters of one network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// What came in.
    pub received: Traffic,
    /// What went out.
    pub sent: Traffic,
}

/// One direction of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were damaged or could not be handed on.
    pub errors: u64,
    /// Packets that found no room.
    pub dropped: u64,
}

/// A file that holds one number.
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A file that holds a limit: `None` for `max`, and for what v1 has in its place, the greatest number of whole pages.
pub fn limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < UNLIMITED_V1)
}

/// Smaller than v1's "no limit" with any page size (`PAGE_COUNTER_MAX`), and more than any machine has.
pub const UNLIMITED_V1: u64 = 1 << 62;

/// The lines `name number` of files such as `memory.stat`.
pub fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, number(value)?))
    })
}

/// The value of one line of such a file.
pub fn flat_value(text: &str, name: &str) -> Option<u64> {
    flat(text).find_map(|(found, value)| (found == name).then_some(value))
}

/// A pressure file. Kernels before 5.13 have no line `full` for processors: nothing of it is told then.
pub fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut found = false;
    for line in text.lines() {
        let Some((kind, fields)) = line.split_once(' ') else { continue };
        let Some(stall) = stall(fields) else { continue };
        match kind {
            "some" => pressure.some = stall,
            "full" => pressure.full = stall,
            _ => continue,
        }
        found = true;
    }
    found.then_some(pressure)
}

fn stall(fields: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    let mut total = None;
    for field in fields.split_whitespace() {
        let (name, value) = field.split_once('=')?;
        match name {
            "avg10" => stall.avg10 = share(value)?,
            "avg60" => stall.avg60 = share(value)?,
            "avg300" => stall.avg300 = share(value)?,
            "total" => total = Some(number(value)?),
            _ => {}
        }
    }
    stall.total_us = total?;
    Some(stall)
}

fn share(value: &str) -> Option<f64> {
    value.parse().ok().filter(|share: &f64| share.is_finite())
}

/// `/proc/net/dev` (proc_pid_net(5)) without the loopback interface: two lines of heading, then an interface per line, eight
/// columns received and eight sent.
pub fn interfaces(text: &str) -> Vec<Interface> {
    text.lines().skip(2).filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

fn interface(line: &str) -> Option<Interface> {
    // Old interface aliases have a colon in their names.
    let (name, counters) = line.rsplit_once(':')?;
    let mut counters = counters.split_whitespace().map(str::parse::<u64>);
    let received = traffic(&mut counters)?;
    // fifo, frame, compressed, multicast
    let mut counters = counters.skip(4);
    let sent = traffic(&mut counters)?;
    Some(Interface { name: name.trim().to_owned(), received, sent })
}

fn traffic<E>(counters: &mut impl Iterator<Item = Result<u64, E>>) -> Option<Traffic> {
    let mut next = || counters.next()?.ok();
    Some(Traffic { bytes: next()?, packets: next()?, errors: next()?, dropped: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_limits_of_both_versions() {
        assert_eq!(number("18446744073709551615\n"), Some(u64::MAX));
        for odd in ["", "\n", "max\n", "-1\n", "18446744073709551616\n", "1 2\n", "0x10\n"] {
            assert_eq!(number(odd), None, "{odd:?}");
        }
        assert_eq!(limit("67108864\n"), Some(64 << 20));
        assert_eq!(limit("max\n"), None);
        // Pages of 4 KiB and of 64 KiB.
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("9223372036854710272\n"), None);
    }

    #[test]
    fn flat_files_skip_what_is_no_number() {
        let text = "anon 12\nfile\n\nfile_mapped x\nslab 7 8\npgfault 18446744073709551615\n";
        assert_eq!(flat(text).collect::<Vec<_>>(), [("anon", 12), ("pgfault", u64::MAX)]);
        assert_eq!(flat_value(text, "anon"), Some(12));
        assert_eq!(flat_value(text, "slab"), None);
        assert_eq!(flat_value("", "anon"), None);
    }

    #[test]
    fn pressure_has_its_two_lines() {
        let text = "some avg10=99.09 avg60=88.06 avg300=37.17 total=12927949901\n\
                    full avg10=0.50 avg60=0.00 avg300=0.00 total=17\n";
        let read = pressure(text).unwrap();
        assert_eq!(read.some, Stall { total_us: 12_927_949_901, avg10: 99.09, avg60: 88.06, avg300: 37.17 });
        assert_eq!(read.full, Stall { total_us: 17, avg10: 0.5, ..Stall::default() });
    }

    #[test]
    fn pressure_without_a_line_or_with_a_strange_one_is_what_is_left_of_it() {
        let some = pressure("some avg10=1.00 avg60=0.00 avg300=0.00 total=3\n").unwrap();
        assert_eq!((some.some.total_us, some.full), (3, Stall::default()));
        for odd in ["", "some", "some avg10=1.00\n", "some avg10=NaN total=1\n", "some total=-1\n", "other total=1\n"] {
            assert_eq!(pressure(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn interfaces_are_all_but_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo: 44505444679 4310728    0    0    0     0          0         0 44505444679 4310728    0    0    0     0       0          0\n  \
            eth0: 1292058902   60836    1    2    3     4          5         6  4044225   39755    7    8    9    10      11         12\n\
            net1:18446744073709551615 1 0 0 0 0 0 0 5 6 0 0 0 0 0 0\n";
        let read = interfaces(text);
        assert_eq!(read.len(), 2);
        assert_eq!(
            read[0],
            Interface {
                name: "eth0".into(),
                received: Traffic { bytes: 1_292_058_902, packets: 60_836, errors: 1, dropped: 2 },
                sent: Traffic { bytes: 4_044_225, packets: 39_755, errors: 7, dropped: 8 },
            }
        );
        assert_eq!((read[1].name.as_str(), read[1].received.bytes, read[1].sent.packets), ("net1", u64::MAX, 6));
    }

    #[test]
    fn interfaces_that_cannot_be_read_are_left_out() {
        assert_eq!(interfaces(""), []);
        assert_eq!(interfaces("a\nb\neth0: 1 2 3\neth1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth2: x\n"), []);
    }
}
