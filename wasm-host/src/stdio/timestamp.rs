//! The header of a CRI log line: time, stream and tag.
//!
//! Every line that a guest writes carries one, so nothing here allocates, and the date is worked out once a second.
//! All of it may run in a signal handler.

use rustix::time::{ClockId, clock_gettime};

use super::cri_log::LogStream;

/// `2026-11-21T08:00:00.123456789Z stdout F `.
pub(super) const HEADER_BYTES: usize = 40;

/// Where the tag stands.
const TAG: usize = 38;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// Writes headers, and remembers the text of the last second.
pub(super) struct Clock {
    second: i64,
    // `2026-11-21T08:00:00`
    text: [u8; 19],
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock { second: i64::MIN, text: [b'0'; 19] }
    }

    /// The header of a line that is written now. `tag` is `F` for a whole line and the end of one, `P` for a part.
    pub(super) fn header(&mut self, stream: LogStream, tag: u8) -> [u8; HEADER_BYTES] {
        let now = clock_gettime(ClockId::Realtime);
        self.header_at(now.tv_sec, now.tv_nsec, stream, tag)
    }

    fn header_at(&mut self, second: i64, nanosecond: i64, stream: LogStream, tag: u8) -> [u8; HEADER_BYTES] {
        if second != self.second {
            self.second = second;
            self.text = date(second);
        }
        let mut header = *b"0000-00-00T00:00:00.000000000Z stdout F ";
        let (date, rest) = header.split_at_mut(19);
        date.copy_from_slice(&self.text);
        if let Some(digits) = rest.get_mut(1..10) {
            decimal(digits, nanosecond);
        }
        if let (Some(name), true) = (rest.get_mut(12..18), stream == LogStream::Stderr) {
            name.copy_from_slice(b"stderr");
        }
        with_tag(header, tag)
    }
}

/// The same header with another tag.
pub(super) fn with_tag(mut header: [u8; HEADER_BYTES], tag: u8) -> [u8; HEADER_BYTES] {
    if let Some(place) = header.get_mut(TAG) {
        *place = tag;
    }
    header
}

/// `YYYY-MM-DDTHH:MM:SS` in UTC of a number of seconds since 1970.
fn date(second: i64) -> [u8; 19] {
    let (days, time) = (second.div_euclid(DAY), second.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00";
    for (place, width, value) in
        [(0, 4, year), (5, 2, month), (8, 2, day), (11, 2, time / 3600), (14, 2, time / 60 % 60), (17, 2, time % 60)]
    {
        if let Some(digits) = text.get_mut(place..place + width) {
            decimal(digits, value);
        }
    }
    text
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. The year is counted from March,
/// so that the leap day is its last day and the lengths of the months before it follow one straight line.
fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01, in periods of 400 years, which have 146,097 days each.
    let days = days + 719_468;
    let (period, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (period * 400 + year + next_year, month, day)
}

fn decimal(digits: &mut [u8], mut value: i64) {
    for digit in digits.iter_mut().rev() {
        // A remainder of ten fits.
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0);
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64, nanosecond: i64) -> String {
        String::from_utf8(Clock::new().header_at(second, nanosecond, LogStream::Stdout, b'F').to_vec()).unwrap()
    }

    #[test]
    fn headers_have_the_form_of_the_cri() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000000Z stdout F ");
        let mut clock = Clock::new();
        let header = clock.header_at(1_795_248_000, 120_000_007, LogStream::Stderr, b'P');
        assert_eq!(&header, b"2026-11-21T08:00:00.120000007Z stderr P ");
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (second, text) in [
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_735_689_600, "2025-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
        ] {
            assert!(at(second, 0).starts_with(text), "{second}: {}", at(second, 0));
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_its_predecessor() {
        let mut last = civil(-1);
        for day in 0..146_097 {
            let today = civil(day);
            let (year, month, number) = last;
            let next = [(year, month, number + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(next.contains(&today), "{last:?} -> {today:?}");
            last = today;
        }
        assert_eq!(last, (2369, 12, 31));
    }

    #[test]
    fn the_remembered_second_changes_with_the_clock() {
        let mut clock = Clock::new();
        let first = clock.header_at(10, 1, LogStream::Stdout, b'F');
        let second = clock.header_at(11, 1, LogStream::Stdout, b'F');
        assert_ne!(first, second);
        assert!(second.starts_with(b"1970-01-01T00:00:11.000000001Z"));
    }
}
