//! Dates: `date`, and times of files. Everything is UTC, as there are no time zones where nobody installed them.

use crate::applet;
use crate::applets::format::fill;
use crate::context::{Applet, Context, Outcome, because, fail};
use crate::options::parse;
use crate::sys;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("date", date)];

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// A time of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
    /// 0 is Sunday.
    pub weekday: i64,
    /// 1 to 366.
    pub day_of_year: i64,
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the first of a month, counted in years that begin in March, so that the leap day is the last.
fn days_before(year: i64, month: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 306 + 5) / 10 - 719_468
}

impl Civil {
    /// The calendar's time of seconds since 1970.
    pub fn new(seconds: i64) -> Self {
        let days = seconds.div_euclid(86400);
        let rest = seconds.rem_euclid(86400);
        let mut year = 1970 + days.div_euclid(366);
        while days_before(year + 1, 1) <= days {
            year += 1;
        }
        let mut month = 1;
        while month < 12 && days_before(year, month + 1) <= days {
            month += 1;
        }
        Self {
            year,
            month,
            day: days - days_before(year, month) + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
            day_of_year: days - days_before(year, 1) + 1,
        }
    }

    /// Seconds since 1970.
    pub fn seconds(&self) -> i64 {
        ((days_before(self.year, self.month) + self.day - 1) * 24 + self.hour) * 3600 + self.minute * 60 + self.second
    }

    /// The week of ISO 8601 and its year.
    fn iso_week(&self) -> (i64, i64) {
        let weekday = (self.weekday + 6) % 7;
        let thursday = Civil::new(self.seconds() + (3 - weekday) * 86400);
        (thursday.year, (thursday.day_of_year - 1) / 7 + 1)
    }
}

fn name(list: &[&'static str], index: i64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| list.get(index)).copied().unwrap_or("?")
}

/// A time in the words of strftime.
pub fn format(template: &str, seconds: i64, nanoseconds: u32) -> String {
    let time = Civil::new(seconds);
    fill(template, |rest| {
        let mut next = rest.next();
        let mut plain = false;
        if next == Some('-') {
            plain = true;
            next = rest.next();
        }
        let two = |value: i64| if plain { value.to_string() } else { format!("{value:02}") };
        let hour12 = if time.hour % 12 == 0 { 12 } else { time.hour % 12 };
        let short = |name: &str| name.chars().take(3).collect::<String>();
        match next {
            Some('Y') => time.year.to_string(),
            Some('C') => two(time.year.div_euclid(100)),
            Some('y') => two(time.year.rem_euclid(100)),
            Some('m') => two(time.month),
            Some('d') => two(time.day),
            Some('e') => format!("{:>2}", time.day),
            Some('H') => two(time.hour),
            Some('k') => format!("{:>2}", time.hour),
            Some('I') => two(hour12),
            Some('l') => format!("{hour12:>2}"),
            Some('M') => two(time.minute),
            Some('S') => two(time.second),
            Some('N') => format!("{nanoseconds:09}"),
            Some('s') => seconds.to_string(),
            Some('j') => format!("{:03}", time.day_of_year),
            Some('a') => short(name(&DAYS, time.weekday)),
            Some('A') => name(&DAYS, time.weekday).to_string(),
            Some('b' | 'h') => short(name(&MONTHS, time.month - 1)),
            Some('B') => name(&MONTHS, time.month - 1).to_string(),
            Some('p') => if time.hour < 12 { "AM" } else { "PM" }.to_string(),
            Some('P') => if time.hour < 12 { "am" } else { "pm" }.to_string(),
            Some('u') => if time.weekday == 0 { 7 } else { time.weekday }.to_string(),
            Some('w') => time.weekday.to_string(),
            Some('U') => two((time.day_of_year + 6 - time.weekday) / 7),
            Some('W') => two((time.day_of_year + 6 - (time.weekday + 6) % 7) / 7),
            Some('V') => two(time.iso_week().1),
            Some('G') => time.iso_week().0.to_string(),
            Some('Z') => "UTC".to_string(),
            Some('z') => "+0000".to_string(),
            Some('F') => format("%Y-%m-%d", seconds, 0),
            Some('T') => format("%H:%M:%S", seconds, 0),
            Some('X') => format("%H:%M:%S", seconds, 0),
            Some('R') => format("%H:%M", seconds, 0),
            Some('D') => format("%m/%d/%y", seconds, 0),
            Some('x') => format("%m/%d/%y", seconds, 0),
            Some('r') => format("%I:%M:%S %p", seconds, 0),
            Some('c') => format("%a %b %e %H:%M:%S %Y", seconds, 0),
            Some('n') => "\n".to_string(),
            Some('t') => "\t".to_string(),
            Some('%') => "%".to_string(),
            Some(other) => format!("%{other}"),
            None => "%".to_string(),
        }
    })
}

/// As `ls -l` shows a time: the clock's for the last half year, else the year.
pub fn short(seconds: i64, now: i64) -> String {
    let recent = (now - seconds) < 182 * 86400 && seconds - now < 86400;
    format(if recent { "%b %e %H:%M" } else { "%b %e  %Y" }, seconds, 0)
}

/// A whole time.
pub fn full(seconds: i64) -> String {
    format("%Y-%m-%d %H:%M:%S +0000", seconds, 0)
}

/// Seconds since 1970 of what people write: `@N`, `YYYY-MM-DD [hh:mm[:ss]]` also with `T` and `Z`, `hh:mm[:ss]`, `now`,
/// `[[CC]YY]MMDDhhmm[.ss]`.
pub fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.split('.').next()?.parse().ok();
    }
    if text == "now" {
        return Some(sys::now().0);
    }
    let today = Civil::new(sys::now().0);
    let (date, clock) = match text.split_once([' ', 'T']) {
        Some((date, clock)) => (Some(date), Some(clock)),
        None if text.contains('-') => (Some(text), None),
        None if text.contains(':') => (None, Some(text)),
        None => return parse_digits(text, &today),
    };
    let mut time = Civil { hour: 0, minute: 0, second: 0, ..today };
    if let Some(date) = date {
        let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
        time.year = parts.next()??;
        time.month = parts.next()??;
        time.day = parts.next()??;
    }
    if let Some(clock) = clock {
        let clock = clock.trim().trim_end_matches("UTC").trim_end_matches('Z').trim_end_matches("+0000").trim();
        let mut parts = clock.split(':').map(|part| part.split('.').next().and_then(|part| part.parse::<i64>().ok()));
        time.hour = parts.next()??;
        time.minute = parts.next()??;
        time.second = parts.next().unwrap_or(Some(0))?;
    }
    checked(time)
}

fn parse_digits(text: &str, today: &Civil) -> Option<i64> {
    let (digits, second) = match text.split_once('.') {
        Some((digits, second)) => (digits, second.parse().ok()?),
        None => (text, 0),
    };
    if !digits.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match digits.len() {
        8 => (today.year, digits),
        10 => {
            let year: i64 = digits.get(..2)?.parse().ok()?;
            (if year < 69 { 2000 + year } else { 1900 + year }, digits.get(2..)?)
        }
        12 => (digits.get(..4)?.parse().ok()?, digits.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    checked(Civil { year, month: two(0)?, day: two(2)?, hour: two(4)?, minute: two(6)?, second, ..*today })
}

fn checked(time: Civil) -> Option<i64> {
    let fits = (1..=12).contains(&time.month)
        && (1..=month_length(time.year, time.month)).contains(&time.day)
        && (0..24).contains(&time.hour)
        && (0..60).contains(&time.minute)
        && (0..=60).contains(&time.second)
        && (-9999..=99999).contains(&time.year);
    fits.then(|| time.seconds())
}

async fn date(context: &mut Context) -> Outcome {
    let long = [("utc", 'u'), ("date", 'd'), ("reference", 'r'), ("rfc-2822", 'R'), ("iso-8601", 'I'), ("set", 's')];
    // -I takes its value in the same word only.
    let iso = context.args.iter().find(|argument| argument.starts_with("-I")).map(|argument| argument[2..].to_string());
    let args: Vec<String> = context.args.iter().filter(|argument| !argument.starts_with("-I")).cloned().collect();
    let parsed = parse(&args, "ud:r:Rs:D:", &long)?;
    let (mut seconds, mut nanoseconds) = sys::now();
    if let Some(text) = parsed.value('d') {
        match parse_date(text) {
            Some(time) => (seconds, nanoseconds) = (time, 0),
            None => return fail(format!("invalid date '{text}'")),
        }
    }
    if let Some(file) = parsed.value('r') {
        match context.status(file, true) {
            Ok(status) => (seconds, nanoseconds) = status.modified,
            Err(error) => return because(file, &error),
        }
    }
    if parsed.has('s') || parsed.operands.iter().any(|operand| !operand.starts_with('+')) {
        return fail("can't set date: Operation not permitted");
    }
    let template = match (parsed.operands.first(), iso.as_deref()) {
        (Some(template), _) => template.get(1..).unwrap_or_default(),
        (None, Some("seconds" | "s")) => "%Y-%m-%dT%H:%M:%S+0000",
        (None, Some("minutes" | "m")) => "%Y-%m-%dT%H:%M+0000",
        (None, Some("hours" | "h")) => "%Y-%m-%dT%H+0000",
        (None, Some(_)) => "%Y-%m-%d",
        (None, None) if parsed.has('R') => "%a, %d %b %Y %H:%M:%S +0000",
        (None, None) => "%a %b %e %H:%M:%S UTC %Y",
    };
    let line = format(template, seconds, nanoseconds);
    context.print(&format!("{line}\n")).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_goes_there_and_back() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 Thu 001"),
            (951_782_400, "2000-02-29 00:00:00 Tue 060"),
            (1_709_251_199, "2024-02-29 23:59:59 Thu 060"),
            (4_102_444_800, "2100-01-01 00:00:00 Fri 001"),
            (-1, "1969-12-31 23:59:59 Wed 365"),
            (-2_203_891_200, "1900-03-01 00:00:00 Thu 060"),
        ] {
            assert_eq!(format("%Y-%m-%d %H:%M:%S %a %j", seconds, 0), text);
            assert_eq!(Civil::new(seconds).seconds(), seconds);
        }
        assert_eq!(parse_date("2024-02-29 12:34:56"), Some(1_709_210_096));
        assert_eq!(parse_date("202402291234.56"), Some(1_709_210_096));
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(format("%G-W%V", 1_704_067_199, 0), "2023-W52");
    }
}
