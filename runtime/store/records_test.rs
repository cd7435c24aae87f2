//! The store against a model, against kills, and against files that are not what they should be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::records::{Origin, Record, Store, StoreError, Table};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pod {
    id: String,
    value: u64,
}

impl Record for Pod {
    const TABLE: Table = Table::Sandboxes;
    fn id(&self) -> &str {
        &self.id
    }
}

struct Place {
    _directory: tempfile::TempDir,
    live: PathBuf,
    mirror: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("state/records.redb");
        let mirror = directory.path().join("root/records.redb");
        Self { _directory: directory, live, mirror }
    }

    fn open(&self, boot: &str) -> (Store, Origin) {
        Store::open(&self.live, &self.mirror, boot).unwrap()
    }
}

fn pod(id: &str, value: u64) -> Pod {
    Pod { id: id.to_owned(), value }
}

async fn flush(store: &Store) {
    let stop = CancellationToken::new();
    stop.cancel();
    store.follow(stop).await;
}

#[test]
fn random_writes_and_deletes_read_back_as_a_map_would() {
    let place = Place::new();
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    let mut random = rand::rng();
    for round in 0..5 {
        let (store, origin) = place.open("boot");
        assert_eq!(origin, if round == 0 { Origin::Empty } else { Origin::Live });
        for _ in 0..60 {
            let id = format!("{:02}", random.random_range(0..20));
            if random.random_bool(0.3) {
                store.delete(Table::Sandboxes, &id).unwrap();
                model.remove(&id);
            } else {
                let value = random.random();
                store.put(&pod(&id, value)).unwrap();
                model.insert(id, value);
            }
        }
        let read: BTreeMap<_, _> = store.load::<Pod>().unwrap().into_iter().map(|pod| (pod.id, pod.value)).collect();
        assert_eq!(read, model);
    }
}

#[tokio::test]
async fn after_a_reboot_the_mirror_is_taken() {
    let place = Place::new();
    let (store, _) = place.open("first boot");
    store.put(&pod("a", 1)).unwrap();
    flush(&store).await;
    drop(store);
    let (store, origin) = place.open("second boot");
    assert_eq!(origin, Origin::Rebooted);
    assert_eq!(store.load::<Pod>().unwrap(), [pod("a", 1)]);
    drop(store);
    assert_eq!(place.open("second boot").1, Origin::Live);
}

#[tokio::test]
async fn the_mirror_follows_within_two_seconds_and_is_flushed_at_the_stop() {
    let place = Place::new();
    let (store, _) = place.open("one");
    let stop = CancellationToken::new();
    let store = std::sync::Arc::new(store);
    let task = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { store.follow(stop).await }
    });
    store.put(&pod("a", 1)).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Within the second after the first commit: only the flush at the stop can bring it over.
    store.put(&pod("b", 2)).unwrap();
    stop.cancel();
    task.await.unwrap();
    drop(store);
    std::fs::remove_file(&place.live).unwrap();
    let (store, origin) = place.open("one");
    assert_eq!(origin, Origin::Mirror);
    assert_eq!(store.load::<Pod>().unwrap(), [pod("a", 1), pod("b", 2)]);
}

#[test]
fn a_live_store_ahead_of_its_mirror_brings_it_up_at_start() {
    let place = Place::new();
    let (store, _) = place.open("one");
    store.put(&pod("a", 1)).unwrap();
    drop(store);
    drop(place.open("one"));
    std::fs::remove_file(&place.live).unwrap();
    assert_eq!(place.open("one").0.load::<Pod>().unwrap(), [pod("a", 1)]);
}

#[test]
fn a_store_that_does_not_open_is_set_aside_and_the_mirror_is_taken() {
    let place = Place::new();
    let (store, _) = place.open("one");
    store.put(&pod("a", 1)).unwrap();
    drop(store);
    drop(place.open("one"));
    std::fs::write(&place.live, b"this is no store").unwrap();
    let (store, origin) = place.open("one");
    assert_eq!(origin, Origin::Mirror);
    assert_eq!(store.load::<Pod>().unwrap(), [pod("a", 1)]);
    let aside = std::fs::read_dir(place.live.parent().unwrap()).unwrap().count();
    assert_eq!(aside, 2, "the bad file is kept beside the new one");
}

#[test]
fn both_stores_unreadable_start_empty() {
    let place = Place::new();
    drop(place.open("one"));
    std::fs::write(&place.live, [0u8; 5000]).unwrap();
    std::fs::write(&place.mirror, [7u8; 5000]).unwrap();
    let (store, origin) = place.open("one");
    assert_eq!(origin, Origin::Empty);
    assert!(store.load::<Pod>().unwrap().is_empty());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let place = Place::new();
    let _first = place.open("one");
    assert!(matches!(Store::open(&place.live, &place.mirror, "one"), Err(StoreError::InUse { .. })));
}

#[derive(Serialize, Deserialize)]
struct OtherShape {
    id: String,
}

impl Record for OtherShape {
    const TABLE: Table = Table::Sandboxes;
    fn id(&self) -> &str {
        &self.id
    }
}

#[test]
fn a_record_that_does_not_decode_is_set_aside_and_the_others_are_read() {
    let place = Place::new();
    let (store, _) = place.open("one");
    store.put(&pod("a", 1)).unwrap();
    store.put(&OtherShape { id: "b".to_owned() }).unwrap();
    assert_eq!(store.load::<Pod>().unwrap(), [pod("a", 1)]);
    assert_eq!(store.load::<OtherShape>().unwrap().len(), 1, "only the good one is left in the table");
}

/// Set in the child that is to be killed.
const CHILD: &str = "CRI_WASM_TEST_STORE_CHILD";

/// Not a test of its own: the part of [`nothing_acknowledged_is_lost_by_kill`] that runs in the child.
#[test]
fn nothing_acknowledged_is_lost_by_kill_child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let directory = PathBuf::from(directory);
    let (store, _) = Store::open(&directory.join("live"), &directory.join("mirror"), "one").unwrap();
    for value in 0.. {
        store.put(&pod(&format!("{:03}", value % 200), value)).unwrap();
        println!("acknowledged {value}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill() {
    use std::io::{BufRead, BufReader};
    let directory = tempfile::tempdir().unwrap();
    for round in 0..5u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["nothing_acknowledged_is_lost_by_kill_child", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let wanted = 100 + round * 37;
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, value)) = line.split_once("acknowledged ") {
                last = value.trim().parse::<u64>().ok();
                if last >= Some(wanted) {
                    break;
                }
            }
        }
        child.kill().unwrap();
        // What it said before it died counts as well.
        for line in lines.map_while(Result::ok) {
            if let Some((_, value)) = line.split_once("acknowledged ") {
                last = value.trim().parse::<u64>().ok().or(last);
            }
        }
        child.wait().unwrap();
        let last = last.unwrap();
        let (store, _) = Store::open(&directory.path().join("live"), &directory.path().join("mirror"), "one").unwrap();
        let pods: BTreeMap<_, _> = store.load::<Pod>().unwrap().into_iter().map(|pod| (pod.id, pod.value)).collect();
        for value in last.saturating_sub(100)..=last {
            let found = pods.get(&format!("{:03}", value % 200)).copied();
            assert!(found >= Some(value), "round {round}: {value} was acknowledged, {found:?} is there");
        }
    }
}
