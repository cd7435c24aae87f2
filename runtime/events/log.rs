//! The latest events, in their order, and who follows them.
//!
//! There is one log for all clients, and a client is a place in it: one that takes nothing costs nothing but that place. It is
//! told that it has fallen behind when what it has not taken had to go, and never just goes without something.
//!
//! A client that comes is first given the events of the last five minutes, of pods that are still there. A kubelet lists, then
//! subscribes, then lists no more for five minutes: what happens in between must not be lost, whether somebody else listens then
//! or not. It knows by the time of an event whether the list was later. Events of pods that are gone would only bring them back
//! into its cache; and the end of a sandbox would make it forget the pod, which may have another sandbox by then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Event;
use crate::sandbox::Sandboxes;

/// How many events are kept: as many as a kubelet takes before it has worked on one (1000). Each is a few hundred bytes.
const KEPT: usize = 1024;

/// How old the events are that a client who comes is given: a kubelet that follows events lists every five minutes.
const RECENT: Duration = Duration::from_secs(300);

/// A client took its events too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client took its events too slowly and {0} of them are gone; list what is there and subscribe again")]
pub struct Behind(pub u64);

/// The events of a runtime.
#[derive(Debug)]
pub struct Events {
    log: Mutex<Log>,
    /// Number of the next event; who waits for it is woken by this.
    next: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    /// With their numbers, which grow, but may leave some out.
    events: VecDeque<(u64, Arc<Event>)>,
    /// The number of the next event.
    next: u64,
    /// What has a smaller number went for want of room.
    lost_before: u64,
    /// The time of the latest event.
    latest: i64,
}

impl Default for Events {
    fn default() -> Self {
        Self { log: Mutex::default(), next: watch::Sender::new(0) }
    }
}

/// The right to change objects, which one at a time has.
#[derive(Debug)]
pub struct Turn<'a> {
    log: MutexGuard<'a, Log>,
    next: &'a watch::Sender<u64>,
}

impl Events {
    /// Waits for the turn. To be held for a change and its event, which takes as long as a commit to tmpfs.
    pub fn turn(&self) -> Turn<'_> {
        Turn { log: self.lock(), next: &self.next }
    }

    /// A client comes: it is given what is recent, and from then on everything.
    pub fn follow(&self) -> Follower {
        let log = self.lock();
        let oldest = wasm_host::protocol::now().saturating_sub(i64::try_from(RECENT.as_nanos()).unwrap_or(i64::MAX));
        let recent = log.events.iter().find(|(_, event)| event.at >= oldest);
        let position = recent.map_or(log.next, |(number, _)| *number);
        Follower { position, replayed: log.next, news: self.next.subscribe() }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Adds an event. Its time is now, or right after the latest event's where the clock has not moved since, or was set back.
    pub fn tell(&mut self, event: Event) {
        let log = &mut *self.log;
        if log.events.len() >= KEPT
            && let Some((number, _)) = log.events.pop_front()
        {
            log.lost_before = number + 1;
        }
        log.latest = wasm_host::protocol::now().max(log.latest + 1);
        log.events.push_back((log.next, Arc::new(Event { at: log.latest, ..event })));
        log.next += 1;
        self.next.send_replace(log.next);
    }

    /// Lets go of the events of a sandbox that is gone, if nobody is waiting for them.
    pub fn forget(&mut self, sandbox: &str) {
        if self.next.receiver_count() == 0 {
            self.log.events.retain(|(_, event)| event.sandbox.id().as_str() != sandbox);
        }
    }
}

/// A client's place in the log.
#[derive(Debug)]
pub struct Follower {
    /// Number of the next event that it takes.
    position: u64,
    /// What has a smaller number happened before it came.
    replayed: u64,
    news: watch::Receiver<u64>,
}

impl Follower {
    /// The next event, once there is one. `None` when the runtime is gone.
    pub async fn next(&mut self, events: &Events, sandboxes: &Sandboxes) -> Option<Result<Arc<Event>, Behind>> {
        loop {
            self.news.mark_unchanged();
            match self.take(events) {
                Err(behind) => return Some(Err(behind)),
                Ok(Some((number, event))) => {
                    if number >= self.replayed || sandboxes.get(event.sandbox.id().as_str()).is_some() {
                        return Some(Ok(event));
                    }
                }
                Ok(None) => self.news.changed().await.ok()?,
            }
        }
    }

    fn take(&mut self, events: &Events) -> Result<Option<(u64, Arc<Event>)>, Behind> {
        let log = events.lock();
        if self.position < log.lost_before {
            return Err(Behind(log.lost_before - self.position));
        }
        let index = log.events.partition_point(|(number, _)| *number < self.position);
        let found = log.events.get(index).cloned();
        if let Some((number, _)) = &found {
            self.position = number + 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventKind;
    use crate::sandbox::{Held, Sandbox, SandboxRecord, SandboxStatus};
    use crate::store::Store;

    struct Pods {
        events: Events,
        sandboxes: Sandboxes,
        store: Arc<Store>,
        _place: tempfile::TempDir,
    }

    impl Pods {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(&place.path().join("live"), &place.path().join("mirror"), "boot").unwrap();
            Self { events: Events::default(), sandboxes: Sandboxes::default(), store: Arc::new(store), _place: place }
        }

        fn sandbox(&self, id: &str) -> Arc<Sandbox> {
            let metadata = crate::sandbox::metadata::example(id);
            let record = SandboxRecord { metadata, status: SandboxStatus::creating(Held::default()) };
            let sandbox = Sandbox::restore(record, Arc::clone(&self.store));
            self.sandboxes.insert(Arc::clone(&sandbox));
            sandbox
        }

        fn tell(&self, sandbox: &Arc<Sandbox>, subject: &str) {
            self.events.turn().tell(Event {
                subject: subject.to_owned(),
                kind: EventKind::Created,
                at: 0,
                sandbox: Arc::clone(sandbox),
                sandbox_status: sandbox.status(),
                containers: Vec::new(),
            });
        }

        async fn next(&self, follower: &mut Follower) -> Result<String, Behind> {
            Ok(follower.next(&self.events, &self.sandboxes).await.unwrap()?.subject.clone())
        }
    }

    #[tokio::test]
    async fn each_client_is_told_everything_in_order_from_when_it_came() {
        let pods = Pods::new();
        let sandbox = pods.sandbox("s");
        let (mut one, mut two) = (pods.events.follow(), pods.events.follow());
        for subject in ["a", "b", "c"] {
            pods.tell(&sandbox, subject);
        }
        for follower in [&mut one, &mut two] {
            for subject in ["a", "b", "c"] {
                assert_eq!(pods.next(follower).await.as_deref(), Ok(subject));
            }
        }
        let waiting = tokio::time::timeout(Duration::from_millis(20), pods.next(&mut one)).await;
        assert!(waiting.is_err(), "there is nothing more: {waiting:?}");
    }

    #[tokio::test]
    async fn who_comes_late_is_told_what_is_recent_of_pods_that_are_there() {
        let pods = Pods::new();
        let (stays, goes) = (pods.sandbox("stays"), pods.sandbox("goes"));
        let first = pods.events.follow();
        for (sandbox, subject) in [(&stays, "a"), (&goes, "b"), (&stays, "c"), (&goes, "goes")] {
            pods.tell(sandbox, subject);
        }
        pods.sandboxes.remove(goes.id());
        let mut late = pods.events.follow();
        pods.tell(&goes, "live");
        for subject in ["a", "c", "live"] {
            assert_eq!(pods.next(&mut late).await.as_deref(), Ok(subject));
        }
        drop((first, late));
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_so_and_how_far_and_the_others_are_not() {
        let pods = Pods::new();
        let sandbox = pods.sandbox("s");
        let (mut slow, mut quick) = (pods.events.follow(), pods.events.follow());
        for number in 0..KEPT + 10 {
            pods.tell(&sandbox, &number.to_string());
            assert_eq!(pods.next(&mut quick).await, Ok(number.to_string()));
        }
        assert_eq!(pods.next(&mut slow).await, Err(Behind(10)));
    }

    #[test]
    fn what_nobody_waits_for_goes_with_its_pod() {
        let pods = Pods::new();
        let (stays, goes) = (pods.sandbox("stays"), pods.sandbox("goes"));
        for sandbox in [&stays, &goes, &stays] {
            pods.tell(sandbox, "c");
        }
        let follower = pods.events.follow();
        pods.events.turn().forget("goes");
        assert_eq!(pods.events.lock().events.len(), 3);
        drop(follower);
        pods.events.turn().forget("goes");
        assert_eq!(pods.events.lock().events.len(), 2);
    }

    #[test]
    fn times_grow_also_where_the_clock_does_not() {
        let pods = Pods::new();
        let sandbox = pods.sandbox("s");
        pods.events.lock().latest = i64::MAX - 10;
        pods.tell(&sandbox, "a");
        pods.tell(&sandbox, "b");
        let times: Vec<i64> = pods.events.lock().events.iter().map(|(_, event)| event.at).collect();
        assert_eq!(times, [i64::MAX - 9, i64::MAX - 8]);
    }
}
