//! Where guests of a pod may connect to: the list of its handler, and the pod's own, which can only narrow it.

use std::collections::BTreeMap;

use wasm_host::egress;
use wasm_host::protocol::Egress;

use crate::config::Handler;

/// The pod's list, with commas.
const ANNOTATION: &str = "cri-wasm.dev/egress";

/// A list has an entry that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no egress entry: an address, a network (10.0.0.0/8), a name or *.DOMAIN, with or without :PORT")]
pub struct EntryError(String);

/// Checks entries, of whichever list.
///
/// # Errors
/// Names the first that cannot be read.
pub fn check<'a>(mut entries: impl Iterator<Item = &'a str>) -> Result<(), EntryError> {
    entries.find(|entry| !egress::is_entry(entry)).map_or(Ok(()), |entry| Err(EntryError(entry.to_owned())))
}

/// The entries of a pod's own list; `None`: it has none, and what its handler allows holds.
pub fn of_pod(annotations: &BTreeMap<String, String>) -> Option<impl Iterator<Item = &str>> {
    let list = annotations.get(ANNOTATION)?;
    Some(list.split(',').map(str::trim).filter(|entry| !entry.is_empty()))
}

/// All lists that hold for a pod's guests.
pub fn lists(handler: Option<&Handler>, annotations: &BTreeMap<String, String>) -> Vec<Egress> {
    let of_handler = handler.and_then(|handler| handler.egress.clone()).map(|allowed| Egress { allowed });
    let of_pod = of_pod(annotations).map(|entries| Egress { allowed: entries.map(str::to_owned).collect() });
    of_handler.into_iter().chain(of_pod).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_narrows_what_its_handler_allows() {
        let handler = |egress: Option<&[&str]>| Handler {
            egress: egress.map(|entries| entries.iter().map(|entry| (*entry).to_owned()).collect()),
            ..Handler::default()
        };
        let annotated = BTreeMap::from([(ANNOTATION.to_owned(), "10.0.0.1, example.com:443,".to_owned())]);
        let said = |lists: Vec<Egress>| lists.into_iter().map(|list| list.allowed.join(" ")).collect::<Vec<_>>();
        assert!(lists(Some(&handler(None)), &BTreeMap::new()).is_empty());
        assert_eq!(said(lists(Some(&handler(Some(&["10.0.0.0/8"]))), &annotated)), ["10.0.0.0/8", "10.0.0.1 example.com:443"]);
        // An empty list allows nothing.
        let nothing = BTreeMap::from([(ANNOTATION.to_owned(), String::new())]);
        assert_eq!(said(lists(None, &nothing)), [""]);
    }

    #[test]
    fn an_entry_that_is_none_is_named() {
        assert!(check(["10.0.0.0/8", "name"].into_iter()).is_ok());
        assert!(check(["http://name"].into_iter()).unwrap_err().to_string().contains("\"http://name\""));
    }
}
