//! The CRI socket: who may connect, which versions of the CRI are answered, and how the server ends.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use rustix::fs::{Gid, Mode};
use thiserror::Error;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::deadline::DeadlineLayer;

/// The kubelet's own limit for a message in either direction, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// The socket cannot be served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The path is taken by something that is no socket, or its directory cannot be written.
    #[error("cannot listen on {path}", path = path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another daemon answers there.
    #[error("another daemon listens on {path}; give this one a socket and a state directory of its own", path = path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
    },
    /// The gRPC server gave up.
    #[error("serving {path}", path = path.display())]
    Serve {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Binds the socket. One that a dead daemon left behind is replaced.
///
/// `mode` are its permission bits, `group` its owner: a name of `/etc/group`, or a number.
pub fn bind(path: &Path, mode: u32, group: &str) -> Result<UnixListener, ServerError> {
    let failed = |source| ServerError::Bind { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ServerError::Busy { path: path.to_owned() });
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            std::fs::remove_file(path).map_err(failed)?
        }
        Ok(_) => return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"))),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Whoever may write to the socket is root on this node: closed until it belongs to the right group.
    let group = group_id(group).map_err(failed)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0)).map_err(|error| failed(error.into()))?;
    match rustix::fs::chown(path, None, Some(group)) {
        // A caller that is not root keeps its own group; it can only be a test.
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(failed(error.into())),
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|error| failed(error.into()))?;
    Ok(listener)
}

fn group_id(name: &str) -> io::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    match number {
        Some(number) => Ok(Gid::from_raw(number)),
        // A node without the file still has root's group.
        None if name == "root" => Ok(Gid::ROOT),
        None => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no group {name:?} (socket_group)"))),
    }
}

/// Serves until `stop`, then lets calls under way finish, for `drain` at most, and removes the socket.
pub async fn serve(
    listener: UnixListener,
    path: PathBuf,
    routes: Routes,
    v1alpha2: bool,
    stop: CancellationToken,
    drain: Duration,
) -> Result<(), ServerError> {
    let incoming = UnixListenerStream::new(listener);
    let layer = tower::util::MapRequestLayer::new(move |request| if v1alpha2 { as_v1(request) } else { request });
    let server = Server::builder()
        .layer(layer)
        .layer(DeadlineLayer)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let served = tokio::select! {
        served = server => served.map_err(|source| ServerError::Serve { path: path.clone(), source }),
        () = async { stop.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!(seconds = drain.as_secs(), "calls were still under way when the time to drain was over");
            Ok(())
        }
    };
    // The next daemon replaces it anyway; a client that connects meanwhile gets a clear error instead of a hang.
    let _ = std::fs::remove_file(&path);
    served
}

/// `runtime.v1alpha2` has the messages of `runtime.v1`: kubelets 1.20 to 1.22 know only that name.
fn as_v1<B>(mut request: http::Request<B>) -> http::Request<B> {
    if let Some(rest) = request.uri().path().strip_prefix("/runtime.v1alpha2.") {
        let mut parts = request.uri().clone().into_parts();
        if let Ok(path) = format!("/runtime.v1.{rest}").parse() {
            parts.path_and_query = Some(path);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1alpha2_is_answered_by_v1() {
        let path = |uri: &str| as_v1(http::Request::builder().uri(uri).body(()).unwrap()).uri().path().to_owned();
        assert_eq!(path("http://x/runtime.v1alpha2.RuntimeService/Version"), "/runtime.v1.RuntimeService/Version");
        assert_eq!(path("http://x/runtime.v1.RuntimeService/Version"), "/runtime.v1.RuntimeService/Version");
        assert_eq!(path("http://x/grpc.health.v1.Health/Check"), "/grpc.health.v1.Health/Check");
    }

    #[tokio::test]
    async fn a_living_daemon_keeps_its_socket() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let _listener = bind(&path, 0o600, "root").unwrap();
        assert!(matches!(bind(&path, 0o600, "root"), Err(ServerError::Busy { .. })));
    }

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced_and_a_file_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        drop(bind(&path, 0o600, "root").unwrap());
        drop(bind(&path, 0o600, "root").unwrap());
        let file = place.path().join("f");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(bind(&file, 0o600, "root"), Err(ServerError::Bind { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}
