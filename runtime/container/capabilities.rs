//! Capabilities that a pod asks for, and the little that becomes of them.
//!
//! A guest never holds a capability, whatever its pod adds: WASI has no call that needs one. What is asked for can be seen in the
//! bounding set of its process, where it has no effect. Dropping counts: it takes away the one capability that a guest can hold,
//! the one for low ports of the node's network.

use rustix::thread::CapabilitySet;

use super::metadata::CapabilityRequest;

/// All of them, in requests.
const ALL: &str = "ALL";

/// The one that a guest of user 0 on the node's network holds.
const LOW_PORTS: &str = "NET_BIND_SERVICE";

/// A name that the kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability {0:?}")]
pub struct UnknownCapability(String);

/// The name as it is recorded: in capitals, without `CAP_`.
///
/// # Errors
/// It is none.
pub fn name(text: &str) -> Result<String, UnknownCapability> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == ALL || CapabilitySet::from_name(name).is_some() {
        return Ok(name.to_owned());
    }
    Err(UnknownCapability(text.to_owned()))
}

/// The bounding set, a bit for each number of linux/capability.h. The order of the changes is the one that clusters know from
/// containerd: `ALL` is added, then dropped, then the names are added, then dropped.
pub fn bounding(asked: &CapabilityRequest) -> u64 {
    let has_all = |names: &[String]| names.iter().any(|name| name == ALL);
    let bits = |names: &[String]| {
        let sets = names.iter().filter_map(|name| CapabilitySet::from_name(name));
        sets.fold(CapabilitySet::empty(), CapabilitySet::union)
    };
    let every = || CapabilitySet::all().iter_names().fold(CapabilitySet::empty(), |set, (_, one)| set | one);
    let base = if has_all(&asked.add) && !has_all(&asked.drop) { every() } else { CapabilitySet::empty() };
    (base | bits(&asked.add)).difference(bits(&asked.drop)).bits()
}

/// Whether the capability for low ports is left to a guest that may have it.
pub fn keeps_low_ports(asked: &CapabilityRequest) -> bool {
    let has = |names: &[String], wanted: &str| names.iter().any(|name| name == wanted);
    !has(&asked.drop, LOW_PORTS) && (!has(&asked.drop, ALL) || has(&asked.add, LOW_PORTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(add: &[&str], drop: &[&str]) -> CapabilityRequest {
        let names = |names: &[&str]| names.iter().map(|text| name(text).unwrap()).collect();
        CapabilityRequest { add: names(add), drop: names(drop) }
    }

    #[test]
    fn names_are_taken_with_and_without_their_prefix_and_unknown_ones_named() {
        assert_eq!(name("cap_net_admin").unwrap(), "NET_ADMIN");
        assert_eq!(name("all").unwrap(), "ALL");
        for wrong in ["", "NET_ADMIN | KILL", "SYS_WASM", "CAP_CAP_KILL"] {
            assert_eq!(name(wrong), Err(UnknownCapability(wrong.to_owned())));
        }
    }

    #[test]
    fn the_bounding_set_is_what_is_asked_for() {
        assert_eq!(bounding(&asked(&[], &[])), 0);
        assert_eq!(bounding(&asked(&["NET_ADMIN", "CHOWN"], &["CHOWN"])), 1 << 12);
        let all = bounding(&asked(&["ALL"], &[]));
        assert!(all.count_ones() > 37, "{all:x}");
        assert_eq!(bounding(&asked(&["ALL"], &["KILL"])), all & !(1 << 5));
        assert_eq!(bounding(&asked(&["KILL"], &["ALL"])), 1 << 5);
        assert_eq!(bounding(&asked(&["ALL"], &["ALL"])), 0);
    }

    #[test]
    fn low_ports_are_lost_by_dropping_alone() {
        assert!(keeps_low_ports(&asked(&[], &[])));
        assert!(keeps_low_ports(&asked(&["NET_BIND_SERVICE"], &["ALL"])));
        for drop in ["ALL", "NET_BIND_SERVICE"] {
            assert!(!keeps_low_ports(&asked(&[], &[drop])));
        }
    }
}
