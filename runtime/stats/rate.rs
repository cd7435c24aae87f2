//! How much of a processor is used at present: the difference of two samples that somebody asked for. Nothing polls.

use std::time::{Duration, Instant};

/// Samples that are closer than this tell nothing: the kernel itself counts running time in ticks.
const MIN_DISTANCE: Duration = Duration::from_secs(1);

/// The last samples of one counter.
#[derive(Debug, Default)]
pub struct Rate {
    base: Option<(Instant, u64)>,
    nano_cores: Option<u64>,
}

impl Rate {
    /// Takes in a sample of used nanoseconds; tells billionths of a processor since the one before. `None` until there are two.
    ///
    /// A sample that comes less than a second after the one before is told the rate that was found then.
    pub fn observe(&mut self, now: Instant, usage_ns: u64) -> Option<u64> {
        let Some((then, before)) = self.base else {
            self.base = Some((now, usage_ns));
            return None;
        };
        // A group that was made anew starts at zero.
        let Some(used) = usage_ns.checked_sub(before) else {
            *self = Self { base: Some((now, usage_ns)), nano_cores: None };
            return None;
        };
        let elapsed = now.saturating_duration_since(then);
        if elapsed >= MIN_DISTANCE {
            let rate = u128::from(used) * 1_000_000_000 / elapsed.as_nanos();
            self.nano_cores = Some(u64::try_from(rate).unwrap_or(u64::MAX));
            self.base = Some((now, usage_ns));
        }
        self.nano_cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_first_sample_has_no_rate_and_the_second_has() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.observe(start, 5 * SECOND), None);
        assert_eq!(rate.observe(start + Duration::from_secs(10), 10 * SECOND), Some(SECOND / 2));
        assert_eq!(rate.observe(start + Duration::from_secs(12), 14 * SECOND), Some(2 * SECOND));
    }

    #[test]
    fn samples_close_together_share_a_rate_and_do_not_move_its_base() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.observe(start, 0), None);
        assert_eq!(rate.observe(start + Duration::from_millis(1), 500), None);
        assert_eq!(rate.observe(start + Duration::from_secs(2), SECOND), Some(SECOND / 2));
        assert_eq!(rate.observe(start + Duration::from_millis(2500), 9 * SECOND), Some(SECOND / 2));
        assert_eq!(rate.observe(start + Duration::from_secs(4), 9 * SECOND), Some(4 * SECOND));
    }

    #[test]
    fn a_counter_that_starts_anew_has_no_rate_and_huge_ones_do_not_overflow() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.observe(start, u64::MAX - 1);
        assert_eq!(rate.observe(start + Duration::from_secs(5), 7), None);
        assert_eq!(rate.observe(start + Duration::from_secs(6), u64::MAX), Some(u64::MAX - 7));
        assert_eq!(rate.observe(start + Duration::from_secs(3), u64::MAX), Some(u64::MAX - 7));
    }
}
