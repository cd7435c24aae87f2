//! wasi:tls: TLS over the guest's own connections, with the authorities that its container trusts.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use wasmtime::component::Linker;
use wasmtime_wasi_tls::{Error, TlsProvider, TlsStream, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder, p2, p3};

use crate::guest::{ComponentState, roots};

/// Whom a guest trusts. Read at the first connection: lists of authorities have hundreds of kilobytes.
pub(super) struct Trust {
    named: roots::Named,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    pub(super) fn new(named: roots::Named) -> Self {
        Trust { named, config: OnceLock::new() }
    }

    pub(super) fn connector(&self) -> TlsConnector {
        let config = self.config.get_or_init(|| {
            let config = ClientConfig::builder().with_root_certificates(roots::load(&self.named)).with_no_client_auth();
            Arc::new(config)
        });
        Arc::clone(config).into()
    }
}

/// What a store's connections are made by; `None`: nothing in it makes any.
struct Provider(Option<Arc<Trust>>);

type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn TlsStream>, Error>> + Send>>;

impl TlsProvider for Provider {
    fn connect(&self, server_name: String, transport: Box<dyn TlsTransport>) -> Connecting {
        let trust = self.0.clone();
        Box::pin(async move {
            let trust = trust.ok_or_else(|| Error::msg("the interface was not imported"))?;
            let name = ServerName::try_from(server_name).map_err(|_| Error::msg("the server's name is none"))?;
            let stream = trust.connector().connect(name, transport).await.map_err(Error::msg)?;
            Ok(Box::new(stream) as Box<dyn TlsStream>)
        })
    }
}

pub(super) fn context(trust: Option<Arc<Trust>>) -> WasiTlsCtx {
    WasiTlsCtxBuilder::new().provider(Box::new(Provider(trust))).build()
}

pub(super) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    let mut options = p2::LinkOptions::default();
    options.tls(true);
    p2::add_to_linker(linker, &options)?;
    p3::add_to_linker(linker)
}
