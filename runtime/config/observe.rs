//! The keys about looking into the daemon: metrics and traces.

use std::net::SocketAddr;

section! {
    /// The daemon's own numbers, for Prometheus: docs/metrics.md names them.
    pub struct Metrics {
        /// Where `GET /metrics` is answered over HTTP, `ADDRESS:PORT`, such as `127.0.0.1:9477`. Unset: nowhere.
        pub address: Option<String> = None,
        /// Whether `address` may be one that other machines reach. What is told names no pod, but how many there are, and
        /// nobody is asked who he is.
        pub allow_remote: bool = false,
    }
}

section! {
    /// Traces: a span for each RPC, with its slow steps below it, part of the kubelet's trace where that sends one.
    pub struct Tracing {
        /// The collector: OTLP over gRPC, without TLS, `http://HOST:PORT`, such as `http://127.0.0.1:4317`. Unset: none are made.
        pub endpoint: Option<String> = None,
        /// How many of a million calls that come with no trace of their own begin one, as the kubelet's
        /// `samplingRatePerMillion`. What a caller has decided about its trace is kept to.
        pub sampling_per_million: u32 = ALL,
    }
}

/// Of a million.
const ALL: u32 = 1_000_000;

/// Why a value cannot be used: the key, its value and the reason.
type Refused = (&'static str, String, &'static str);

impl Tracing {
    /// Which part of the calls that are in no trace begins one, from 0 to 1.
    pub fn ratio(&self) -> f64 {
        f64::from(self.sampling_per_million) / f64::from(ALL)
    }

    /// Why these values cannot be used.
    pub(super) fn check(&self) -> Result<(), Refused> {
        if self.sampling_per_million > ALL {
            return Err(("tracing.sampling_per_million", self.sampling_per_million.to_string(), "it is at most 1000000"));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let refuse = |reason| Err(("tracing.endpoint", endpoint.clone(), reason));
        match endpoint.parse::<http::Uri>() {
            Ok(uri) if uri.scheme_str() == Some("https") => {
                refuse("traces are sent without TLS: name a collector on this node, which sends them on")
            }
            Ok(uri) if uri.scheme_str() == Some("http") && uri.port_u16().is_some() && matches!(uri.path(), "" | "/") => Ok(()),
            _ => refuse("it is http://HOST:PORT, such as \"http://127.0.0.1:4317\""),
        }
    }
}

impl Metrics {
    /// Where to listen. The text was checked when the configuration was loaded.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.address.as_ref()?.parse().ok()
    }

    /// Why these values cannot be used.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let Some(text) = &self.address else { return Ok(()) };
        let Some(address) = self.listen() else {
            return Err(("metrics.address", text.clone(), "it is ADDRESS:PORT, such as \"127.0.0.1:9477\""));
        };
        if !address.ip().is_loopback() && !self.allow_remote {
            let reason = "others than this node reach it; say `allow_remote = true` beside it if they are to";
            return Err(("metrics.address", text.clone(), reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_off_and_beyond_loopback_only_where_that_is_said() {
        assert!(Metrics::default().check().is_ok() && Metrics::default().listen().is_none());
        let at = |address: &str, allow_remote| Metrics { address: Some(address.to_owned()), allow_remote };
        for (address, allow_remote, fits) in [
            ("127.0.0.1:0", false, true),
            ("[::1]:9477", false, true),
            ("0.0.0.0:9477", false, false),
            ("10.0.0.1:9477", true, true),
            ("9477", true, false),
        ] {
            assert_eq!(at(address, allow_remote).check().is_ok(), fits, "{address}");
        }
    }

    #[test]
    fn an_endpoint_of_traces_is_one_that_can_be_used() {
        let to = |endpoint: &str| Tracing { endpoint: Some(endpoint.to_owned()), ..Tracing::default() }.check();
        assert!(Tracing::default().check().is_ok());
        for good in ["http://127.0.0.1:4317", "http://collector.lan:4317/", "http://[::1]:4317"] {
            assert!(to(good).is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:4317", "http://127.0.0.1", "grpc://a:1", "http://a:1/v1/traces", ""] {
            assert!(to(bad).unwrap_err().2.contains("http://HOST:PORT"), "{bad}");
        }
        assert!(to("https://a:4317").unwrap_err().2.contains("without TLS"));
        assert!(Tracing { sampling_per_million: ALL + 1, ..Tracing::default() }.check().is_err());
    }
}
