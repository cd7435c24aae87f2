//! wasi:keyvalue, of both drafts.

use crate::bindings::wasi::{keyvalue0_2_0_draft as draft, keyvalue0_2_0_draft2 as draft2};

const USAGE: &str = "no such command of a bucket";

pub fn run(bucket: &str, words: &[&str]) -> Result<String, String> {
    use draft2::atomics::{self, Cas, CasError};
    use draft2::{batch, store};
    let failed = |error: store::Error| format!("{error:?}");
    let bucket = store::open(bucket).map_err(failed)?;
    match words {
        ["get", key] => bucket.get(key).map(text).map_err(failed),
        ["set", key, value] => bucket.set(key, value.as_bytes()).map(|()| "set".to_owned()).map_err(failed),
        ["delete", key] => bucket.delete(key).map(|()| "deleted".to_owned()).map_err(failed),
        ["exists", key] => bucket.exists(key).map(|there| there.to_string()).map_err(failed),
        ["keys"] => {
            let (mut keys, mut cursor) = (Vec::new(), None::<String>);
            loop {
                let page = bucket.list_keys(cursor.as_deref()).map_err(failed)?;
                keys.extend(page.keys);
                cursor = page.cursor;
                if cursor.is_none() {
                    return Ok(sorted(keys));
                }
            }
        }
        ["count", key, delta] => {
            atomics::increment(&bucket, key, delta.parse().map_err(|_| USAGE)?).map(|sum| sum.to_string()).map_err(failed)
        }
        ["counts", key, times] => {
            let times: u32 = times.parse().map_err(|_| USAGE)?;
            let mut last = 0;
            for _ in 0..times {
                last = atomics::increment(&bucket, key, 1).map_err(failed)?;
            }
            Ok(last.to_string())
        }
        ["cas", key, value] => {
            let there = Cas::new(&bucket, key).map_err(failed)?;
            let before = there.current().map_err(failed)?;
            atomics::swap(there, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
            Ok(format!("{} became {value}", text(before)))
        }
        ["race", key, value] => {
            let there = Cas::new(&bucket, key).map_err(failed)?;
            bucket.set(key, b"somebody else's").map_err(failed)?;
            match atomics::swap(there, value.as_bytes()) {
                Err(CasError::CasFailed(newer)) => {
                    let now = text(newer.current().map_err(failed)?);
                    atomics::swap(newer, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
                    Ok(format!("{now} became {value}"))
                }
                other => Err(format!("the swap ended with {other:?}")),
            }
        }
        ["many", pairs @ ..] => {
            let pairs: Vec<(&str, &str)> = pairs.iter().filter_map(|pair| pair.split_once('=')).collect();
            let values: Vec<(String, Vec<u8>)> =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
            batch::set_many(&bucket, &values).map_err(failed)?;
            let mut keys: Vec<String> = pairs.iter().map(|(key, _)| (*key).to_owned()).collect();
            keys.push("not there".to_owned());
            let read = batch::get_many(&bucket, &keys).map_err(failed)?;
            batch::delete_many(&bucket, &keys).map_err(failed)?;
            let left = batch::get_many(&bucket, &keys).map_err(failed)?.into_iter().filter(|(_, value)| value.is_some()).count();
            let read: Vec<String> = read.into_iter().map(|(key, value)| format!("{key}={}", text(value))).collect();
            Ok(format!("{}; {left} left", read.join(",")))
        }
        _ => Err(USAGE.to_owned()),
    }
}

pub fn run_first_draft(bucket: &str, words: &[&str]) -> Result<String, String> {
    use draft::{atomics, batch, store};
    let failed = |error: store::Error| format!("{error:?}");
    let bucket = store::open(bucket).map_err(failed)?;
    match words {
        ["get", key] => bucket.get(key).map(text).map_err(failed),
        ["set", key, value] => bucket.set(key, value.as_bytes()).map(|()| "set".to_owned()).map_err(failed),
        ["delete", key] => bucket.delete(key).map(|()| "deleted".to_owned()).map_err(failed),
        ["exists", key] => bucket.exists(key).map(|there| there.to_string()).map_err(failed),
        ["keys"] => {
            let (mut keys, mut cursor) = (Vec::new(), None);
            loop {
                let page = bucket.list_keys(cursor).map_err(failed)?;
                keys.extend(page.keys);
                cursor = page.cursor;
                if cursor.is_none() {
                    return Ok(sorted(keys));
                }
            }
        }
        ["count", key, delta] => {
            atomics::increment(&bucket, key, delta.parse().map_err(|_| USAGE)?).map(|sum| sum.to_string()).map_err(failed)
        }
        ["fill", count] => {
            let count: u32 = count.parse().map_err(|_| USAGE)?;
            let values: Vec<(String, Vec<u8>)> = (0..count).map(|number| (format!("{number:05}"), vec![b'x'])).collect();
            batch::set_many(&bucket, &values).map_err(failed)?;
            let there = batch::get_many(&bucket, &["00000".to_owned(), "none".to_owned()]).map_err(failed)?;
            Ok(format!("{:?}", there.into_iter().map(|pair| pair.map(|(key, _)| key)).collect::<Vec<_>>()))
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn sorted(mut keys: Vec<String>) -> String {
    keys.sort();
    let count = keys.len();
    if count > 20 { format!("{count} keys") } else { keys.join(",") }
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or("-".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}
