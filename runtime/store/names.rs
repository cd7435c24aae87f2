//! Which names are taken, so that two creates of one name never make two objects.
//!
//! A create runs to its end even when its caller goes away (its deadline passed, its connection broke). Its object then waits
//! here unclaimed: a retry of the same name is handed that object and does not fail for a name that its own first try has taken.
//! CRI-O does the same; containerd answers such a retry with an error until the kubelet counts the attempt up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The reserved names of one kind of object.
#[derive(Debug, Default)]
pub struct Names {
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
enum Entry {
    /// A create is under way; the channel closes when it has ended either way.
    Creating { done: watch::Receiver<()> },
    /// The object is there. `claimed`: a caller has been given its id.
    Created { id: String, claimed: bool },
}

/// What [`Names::reserve`] found.
#[derive(Debug)]
pub enum Reserve {
    /// The name was free and is now the caller's.
    Reserved(Reservation),
    /// A create of this name is under way; wait for it and ask again.
    InProgress(Pending),
    /// The object was made for a caller that went away before it had the answer.
    Unclaimed(String),
    /// The object of this id has the name.
    Taken(String),
}

/// A create of the same name that has not ended yet.
#[derive(Debug)]
pub struct Pending(watch::Receiver<()>);

impl Pending {
    /// Returns when that create has ended, well or badly.
    pub async fn wait(mut self) {
        // Nothing is ever sent: the only change is that the sender goes.
        while self.0.changed().await.is_ok() {}
    }
}

/// A name held for a create that is under way; dropping it without [`commit`](Self::commit) frees the name.
#[derive(Debug)]
pub struct Reservation {
    names: Arc<Names>,
    name: String,
    committed: bool,
    // Dropped last of all, so that whoever waits finds the entry already settled.
    _done: watch::Sender<()>,
}

impl Reservation {
    /// The object is there: its name stays taken until [`Names::release`].
    pub fn commit(mut self, id: &str) {
        self.committed = true;
        self.names.lock().insert(self.name.clone(), Entry::Created { id: id.to_owned(), claimed: false });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.committed {
            self.names.lock().remove(&self.name);
        }
    }
}

impl Names {
    /// Reserves `name` if it is free.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Reserve {
        let mut entries = self.lock();
        match entries.get(name) {
            Some(Entry::Creating { done }) => Reserve::InProgress(Pending(done.clone())),
            Some(Entry::Created { id, claimed: false }) => Reserve::Unclaimed(id.clone()),
            Some(Entry::Created { id, claimed: true }) => Reserve::Taken(id.clone()),
            None => {
                let (sender, done) = watch::channel(());
                entries.insert(name.to_owned(), Entry::Creating { done });
                Reserve::Reserved(Reservation { names: Arc::clone(self), name: name.to_owned(), committed: false, _done: sender })
            }
        }
    }

    /// A caller is given the id: from now on another create of this name is refused.
    pub fn claim(&self, name: &str) {
        if let Some(Entry::Created { claimed, .. }) = self.lock().get_mut(name) {
            *claimed = true;
        }
    }

    /// Takes the name of an object that was found on disk.
    pub fn restore(&self, name: &str, id: &str, claimed: bool) {
        self.lock().insert(name.to_owned(), Entry::Created { id: id.to_owned(), claimed });
    }

    /// Frees the name if the object of this id has it.
    pub fn release(&self, name: &str, id: &str) {
        let mut entries = self.lock();
        if matches!(entries.get(name), Some(Entry::Created { id: holder, .. }) if holder == id) {
            entries.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(names: &Arc<Names>, name: &str) -> Reservation {
        match names.reserve(name) {
            Reserve::Reserved(reservation) => reservation,
            other => panic!("not reserved: {other:?}"),
        }
    }

    #[test]
    fn a_failed_create_frees_the_name_for_its_retry() {
        let names = Arc::new(Names::default());
        drop(reserved(&names, "a"));
        drop(reserved(&names, "a"));
    }

    #[test]
    fn a_create_whose_caller_went_away_is_handed_to_the_retry() {
        let names = Arc::new(Names::default());
        reserved(&names, "a").commit("1");
        assert!(matches!(names.reserve("a"), Reserve::Unclaimed(id) if id == "1"));
        names.claim("a");
        assert!(matches!(names.reserve("a"), Reserve::Taken(id) if id == "1"));
    }

    #[test]
    fn a_name_is_free_again_when_its_object_is_released_and_no_other() {
        let names = Arc::new(Names::default());
        reserved(&names, "a").commit("1");
        names.release("a", "2");
        assert!(matches!(names.reserve("a"), Reserve::Unclaimed(_)));
        names.release("a", "1");
        drop(reserved(&names, "a"));
    }

    #[tokio::test]
    async fn a_second_create_waits_for_the_first_to_end() {
        let names = Arc::new(Names::default());
        let first = reserved(&names, "a");
        let Reserve::InProgress(pending) = names.reserve("a") else { panic!("the name was free") };
        let waiter = tokio::spawn(pending.wait());
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        first.commit("1");
        waiter.await.unwrap();
        assert!(matches!(names.reserve("a"), Reserve::Unclaimed(id) if id == "1"));
    }
}
