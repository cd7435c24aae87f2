//! What plugins answer to `ADD`, and what a pod needs of it.
//!
//! The answer itself is kept as it came, because later plugins and later
//! commands get it back. The shapes from 0.3.0 to 1.1.0 differ only in members
//! that nothing here reads.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::spec_version::{NotAVersion, SpecVersion};

/// A pod's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The pod's interface.
    pub interface: String,
    /// The addresses of that interface, in the order of the plugins.
    pub ips: Vec<IpAddr>,
    /// The hardware address, if the plugins told it.
    pub mac: Option<String>,
    /// Name servers, if the network brings its own.
    pub nameservers: Vec<String>,
    /// A plugin of the network maps the node's ports to the pod's.
    #[serde(default)]
    pub maps_ports: bool,
}

/// Why an answer is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Not JSON, or a member has another type than it must.
    #[error("not a CNI result")]
    Json(#[from] serde_json::Error),
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// The `cniVersion` is no version.
    #[error(transparent)]
    NotAVersion(#[from] NotAVersion),
    /// The result's shape is not known.
    #[error("the result's version {0} is not supported")]
    Version(SpecVersion),
    /// An address belongs to an interface that is not in the list.
    #[error("address {address} belongs to interface {index}, and there are {count}")]
    NoSuchInterface {
        /// The address as the plugin wrote it.
        address: String,
        /// The index it gave.
        index: i64,
        /// How many interfaces the result has.
        count: usize,
    },
    /// Something stands where an address should.
    #[error("{0:?} is not an address")]
    NotAnAddress(String),
    /// A pod without an address cannot be reached; no runtime starts one.
    #[error("no address for {0}")]
    NoAddress(String),
}

#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    interfaces: Option<Vec<InterfaceShape>>,
    #[serde(default)]
    ips: Option<Vec<IpShape>>,
    #[serde(default)]
    dns: Option<DnsShape>,
}

#[derive(Deserialize)]
struct InterfaceShape {
    name: String,
    #[serde(default)]
    mac: String,
}

#[derive(Deserialize)]
struct IpShape {
    address: String,
    #[serde(default)]
    interface: Option<i64>,
}

#[derive(Deserialize, Default)]
struct DnsShape {
    #[serde(default)]
    nameservers: Option<Vec<String>>,
}

/// Reads what a plugin wrote. A result without a version has the version of the
/// configuration that the plugin was given.
pub fn parse(output: &[u8], version: SpecVersion) -> Result<Map<String, Value>, ResultError> {
    let Value::Object(mut result) = serde_json::from_slice(output)? else {
        return Err(ResultError::NotAnObject);
    };
    let told = result.get("cniVersion").and_then(Value::as_str).filter(|text| !text.is_empty());
    match told {
        Some(text) => {
            let told: SpecVersion = text.parse()?;
            if told < SpecVersion::OLDEST || told > SpecVersion::NEWEST {
                return Err(ResultError::Version(told));
            }
        }
        None => {
            result.insert("cniVersion".to_owned(), Value::String(version.to_string()));
        }
    }
    // What comes later reads these members: they are looked at here, where the
    // plugin that wrote them can still be named.
    serde_json::from_value::<Shape>(Value::Object(result.clone()))?;
    Ok(result)
}

/// Takes the pod's part out of the last plugin's result. An address without an
/// interface is the pod's: plugins of before 0.3.0's interface list, and `ipam`
/// results that are passed on, have none.
pub fn attachment(network: &str, interface: &str, result: Map<String, Value>) -> Result<Attachment, ResultError> {
    let shape: Shape = serde_json::from_value(Value::Object(result))?;
    let interfaces = shape.interfaces.unwrap_or_default();
    let mut ips = Vec::new();
    for ip in shape.ips.unwrap_or_default() {
        if let Some(index) = ip.interface {
            let place = usize::try_from(index).ok().and_then(|index| interfaces.get(index));
            let Some(place) = place else {
                return Err(ResultError::NoSuchInterface { address: ip.address, index, count: interfaces.len() });
            };
            if place.name != interface {
                continue;
            }
        }
        let text = ip.address.split('/').next().unwrap_or_default();
        ips.push(text.parse().map_err(|_| ResultError::NotAnAddress(ip.address.clone()))?);
    }
    if ips.is_empty() {
        return Err(ResultError::NoAddress(interface.to_owned()));
    }
    let mac = interfaces.into_iter().find(|found| found.name == interface).map(|found| found.mac);
    Ok(Attachment {
        network: network.to_owned(),
        interface: interface.to_owned(),
        ips,
        mac: mac.filter(|mac| !mac.is_empty()),
        nameservers: shape.dns.unwrap_or_default().nameservers.unwrap_or_default(),
        maps_ports: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attach(result: Value) -> Result<Attachment, ResultError> {
        attachment("net", "eth0", parse(result.to_string().as_bytes(), SpecVersion::NEWEST)?)
    }

    #[test]
    fn only_the_addresses_of_the_pods_interface_are_the_pods() {
        let got = attach(json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "cni0" }, { "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/x" }],
            "ips": [
                { "address": "fd00::2/64", "interface": 1 },
                { "address": "10.9.0.1/24", "interface": 0 },
                { "address": "10.9.0.2/24", "interface": 1 },
            ],
            "dns": { "nameservers": ["10.9.0.1"] },
        }))
        .unwrap();
        assert_eq!(got.ips, ["fd00::2".parse::<IpAddr>().unwrap(), "10.9.0.2".parse().unwrap()]);
        assert_eq!(got.mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(got.nameservers, ["10.9.0.1"]);
    }

    #[test]
    fn addresses_without_an_interface_are_the_pods() {
        let got = attach(json!({ "cniVersion": "0.3.1", "ips": [{ "version": "4", "address": "10.9.0.2/24" }] }));
        assert_eq!(got.unwrap().ips, ["10.9.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_result_without_an_address_is_refused() {
        for result in [json!({}), json!({ "ips": null, "interfaces": null, "dns": {} })] {
            assert!(matches!(attach(result), Err(ResultError::NoAddress(_))));
        }
    }

    #[test]
    fn an_address_of_an_unknown_interface_is_refused() {
        for index in [-1, 1] {
            let got = attach(json!({
                "interfaces": [{ "name": "eth0" }], "ips": [{ "address": "10.9.0.2/24", "interface": index }],
            }));
            assert!(matches!(got, Err(ResultError::NoSuchInterface { .. })));
        }
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "{", "[]", "null", r#"{"ips":[{"address":"x"}]}"#, r#"{"ips":7}"#, r#"{"cniVersion":"0.2.0"}"#] {
            let got = parse(text.as_bytes(), SpecVersion::NEWEST).and_then(|result| attachment("net", "eth0", result));
            assert!(got.is_err(), "{text}");
        }
    }
}
