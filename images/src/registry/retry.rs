//! When a request is made again: how often, after which pause, and until when.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

/// The pause before the second try; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause that is ours; a registry may ask for more.
const LONGEST: Duration = Duration::from_secs(15);
/// From the first try to the headers of an answer, pauses included. The kubelet asks again by itself after that.
const TOTAL: Duration = Duration::from_secs(60);

/// How patient we are with one host, for one request.
pub(super) struct Patience {
    /// Tries left after the one under way.
    left: u32,
    pause: Duration,
    pub(super) deadline: Instant,
}

impl Patience {
    /// Five tries where no other host is left; two where one is, since it may have an answer now.
    pub(super) fn new(last: bool) -> Patience {
        Patience { left: if last { 4 } else { 1 }, pause: FIRST, deadline: Instant::now() + TOTAL }
    }

    /// How long to wait before the next try, `asked` being the registry's wish; nothing where there is none.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        // Between half of the pause and all of it, so that the nodes of a cluster do not come back as one.
        let ours = self.pause.mul_f64(0.5 + 0.5 * random());
        self.pause = (self.pause * 2).min(LONGEST);
        let pause = asked.map_or(ours, |asked| asked.max(ours));
        (Instant::now() + pause < self.deadline).then_some(pause)
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        // More is an error, and an addition to a time point must not overflow.
        Ok(seconds) => Some(Duration::from_secs(u64::min(seconds, 1 << 20))),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// From 0 to 1. A hasher's keys are random, and no more is needed here.
fn random() -> f64 {
    let word = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(word >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())])
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        assert_eq!(retry_after(&header("7")), Some(Duration::from_secs(7)));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let read = retry_after(&header(&soon)).unwrap();
        assert!(read > Duration::from_secs(90) && read <= Duration::from_secs(100), "{read:?}");
        assert_eq!(retry_after(&header("Wed, 21 Oct 2015 07:28:00 GMT")), Some(Duration::ZERO));
        assert_eq!(retry_after(&header("soon")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert!(retry_after(&header(&u64::MAX.to_string())).is_some());
    }

    #[tokio::test]
    async fn pauses_grow_and_end() {
        let mut patience = Patience::new(true);
        let pauses: Vec<Duration> = std::iter::from_fn(|| patience.pause(None)).collect();
        assert_eq!(pauses.len(), 4);
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST && pauses[3] >= FIRST * 4, "{pauses:?}");
        let mut patience = Patience::new(false);
        assert!(patience.pause(None).is_some() && patience.pause(None).is_none());
        let mut patience = Patience::new(true);
        assert!(patience.pause(Some(Duration::from_secs(2))).unwrap() >= Duration::from_secs(2));
        assert_eq!(patience.pause(Some(Duration::from_secs(600))), None);
    }
}
