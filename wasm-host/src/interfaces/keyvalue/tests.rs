//! Buckets without a guest: every kind of store answers alike.

use super::*;
use crate::guest::roots;

fn buckets(env: &[&str]) -> Result<Buckets, SettingError> {
    let trust = Arc::new(Trust::new(roots::Named::default()));
    Buckets::of(&env.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>(), &trust, &Allowed::default())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn buckets_are_named_by_the_environment() {
    let buckets = buckets(&["CRI_WASM_KEYVALUE_MY_STORE=memory:", "CRI_WASM_KEYVALUE_cache.v2=dir:/cache"]).unwrap();
    for name in ["", "default", "my-store", "my_store", "MY_STORE", "cache.v2", "cache-v2"] {
        assert!(buckets.open(name).is_some(), "{name}");
    }
    assert!(Arc::ptr_eq(&buckets.open("").unwrap(), &buckets.open("default").unwrap()));
    assert!(!Arc::ptr_eq(&buckets.open("").unwrap(), &buckets.open("my-store").unwrap()));
    assert!(buckets.open("mystore").is_none());
}

#[test]
fn settings_that_cannot_be_understood_are_named_without_their_password() {
    for (variable, value) in [
        ("CRI_WASM_KEYVALUE_A", "disk:/x"),
        ("CRI_WASM_KEYVALUE_A", "dir:relative"),
        ("CRI_WASM_KEYVALUE_A", "memory:1"),
        ("CRI_WASM_KEYVALUE_A", ""),
        ("CRI_WASM_KEYVALUE_A", "redis://"),
        ("CRI_WASM_KEYVALUE_A", "redis://host/db"),
        ("CRI_WASM_KEYVALUE_A", "redis://host/0?timeout=1"),
    ] {
        let refused = buckets(&[&format!("{variable}={value}")]).err().unwrap().to_string();
        assert!(refused.starts_with(&format!("the environment variable {variable}={value:?}: ")), "{refused}");
    }
    let refused = buckets(&["CRI_WASM_KEYVALUE_A=redis://me:secret@host/x"]).err().unwrap().to_string();
    assert!(!refused.contains("secret") && refused.contains("redis://…@host/x"), "{refused}");
    let refused = buckets(&["CRI_WASM_KEYVALUE_a-b=memory:", "CRI_WASM_KEYVALUE_A_B=memory:"]).err().unwrap().to_string();
    assert!(refused.contains("another variable says where the same bucket is"), "{refused}");
}

async fn is_a_bucket(store: &Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    store.set("a", b"1".to_vec()).await.unwrap();
    store.set("b/c", Vec::new()).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.get("b/c").await.unwrap(), Some(Vec::new()));
    assert!(store.exists("a").await.unwrap() && !store.exists("b").await.unwrap());
    assert_eq!(store.increment("a", 41).await.unwrap(), 42);
    assert_eq!(store.increment("new", -2).await.unwrap(), -2);
    assert_eq!(store.get("a").await.unwrap(), Some(b"42".to_vec()));
    assert!(matches!(store.increment("b/c", 1).await, Err(Failure::NoNumber)));
    assert!(matches!(store.increment("a", i64::MAX).await, Err(Failure::Overflow)));
    assert!(!store.swap("a", None, b"x".to_vec()).await.unwrap());
    assert!(store.swap("a", Some(b"42".to_vec()), b"x".to_vec()).await.unwrap());
    assert!(store.swap("fresh", None, b"y".to_vec()).await.unwrap());
    assert!(!store.swap("fresh", Some(b"z".to_vec()), b"y".to_vec()).await.unwrap());
    let many = store.get_many(vec!["a".into(), "none".into(), "fresh".into()]).await.unwrap();
    assert_eq!(many, [("a".into(), Some(b"x".to_vec())), ("none".into(), None), ("fresh".into(), Some(b"y".to_vec()))]);
    store.delete_many(vec!["a".into(), "none".into(), "new".into()]).await.unwrap();
    store.delete("fresh").await.unwrap();
    assert_eq!(store.keys(None).await.unwrap(), (vec!["b/c".to_owned()], None));
    assert!(matches!(store.set("a", vec![0; VALUE_BYTES + 1]).await, Err(Failure::ValueTooLarge)));
    assert!(matches!(store.get(&"k".repeat(KEY_BYTES + 1)).await, Err(Failure::KeyTooLong { .. })));
    // Pages: every key once.
    store.set_many((0..2 * PAGE).map(|number| (format!("{number:05}"), b"v".to_vec())).collect()).await.unwrap();
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let (keys, next) = store.keys(cursor).await.unwrap();
        assert!(keys.len() <= PAGE);
        all.extend(keys);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<String> = (0..2 * PAGE).map(|number| format!("{number:05}")).collect();
    expected.push("b/c".to_owned());
    all.sort();
    assert_eq!(all, expected);
}

#[test]
fn memory_is_a_bucket() {
    run(is_a_bucket(&Store::Memory(Memory::default())));
}

#[test]
fn a_directory_is_a_bucket() {
    let place = tempfile::tempdir().unwrap();
    run(is_a_bucket(&Store::Directory(Directory::at(place.path().to_str().unwrap()))));
    assert_eq!(std::fs::read(place.path().join("b%2Fc")).unwrap(), b"");
    assert!(!place.path().join(".new").exists());
}

#[test]
fn memory_has_a_bound() {
    let memory = Memory::default();
    let value = || vec![0; VALUE_BYTES];
    let full = (0..).find(|number: &usize| memory.set(&number.to_string(), value()).is_err()).unwrap();
    assert_eq!(full, memory::MOST_BYTES / VALUE_BYTES - 1);
    memory.delete("0");
    memory.set("again", value()).unwrap();
    memory.set("again", Vec::new()).unwrap();
    memory.set("0", value()).unwrap();
    assert!(matches!(memory.set("1000", value()), Err(Failure::Full(_))));
}

#[test]
fn increments_of_a_directory_are_counted_whoever_makes_them() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_str().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let directory = Directory::at(path);
                run(async {
                    for _ in 0..50 {
                        directory.increment("hits", 1).await.unwrap();
                    }
                });
            });
        }
    });
    assert_eq!(std::fs::read_to_string(place.path().join("hits")).unwrap(), "200");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let directory = Directory::at("/nonexistent");
    for refused in [run(directory.get("a")).map(drop), run(directory.set("a", Vec::new())), run(directory.keys(None)).map(drop)] {
        assert_eq!(refused.unwrap_err().to_string(), "/nonexistent: there is no such directory");
    }
}
