//! The time that a caller gives a call: `grpc-timeout`, as the gRPC specification of HTTP/2 has it ("Requests").
//!
//! tonic ends such a call as well, but says CANCELLED, which is the code of a caller that went away. A caller that is told so
//! just before its own clock runs out takes its own deadline for somebody's cancellation. So the call is ended here, at the
//! same moment, with DEADLINE_EXCEEDED: tonic asks the inner service first.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

/// Puts [`WithDeadline`] around a service.
#[derive(Clone, Copy)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline { inner }
    }
}

/// Ends calls whose time is over, by dropping their work.
#[derive(Clone)]
pub struct WithDeadline<S> {
    inner: S,
}

impl<S, Q, A> Service<Request<Q>> for WithDeadline<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
    A: Default,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let Some(time) = timeout(request.headers()) else { return Box::pin(self.inner.call(request)) };
        let call = tokio::time::timeout(time, self.inner.call(request));
        Box::pin(async move {
            call.await.unwrap_or_else(|_| {
                let message = format!("the call took longer than the {time:?} that its caller gives it");
                Ok(Status::new(Code::DeadlineExceeded, message).into_http())
            })
        })
    }
}

/// At most eight digits and a unit. What is malformed sets no deadline; the caller has its own clock.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::ServiceExt as _;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value.parse().unwrap())])
    }

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        let read = |value| timeout(&headers(value));
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for malformed in ["", "S", "5", "5 S", "-1S", "+1S", "123456789S", "1s"] {
            assert_eq!(read(malformed), None, "{malformed:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_call_ends_when_its_time_is_over() {
        let mut request = Request::new(());
        *request.headers_mut() = headers("1m");
        let stuck = tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, Infallible>>());
        let ended = DeadlineLayer.layer(stuck).oneshot(request.clone()).await.unwrap();
        assert_eq!(ended.headers().get("grpc-status").unwrap(), "4");
        *request.headers_mut() = headers("1H");
        let prompt = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let answered = DeadlineLayer.layer(prompt).oneshot(request).await.unwrap();
        assert!(answered.headers().get("grpc-status").is_none());
    }
}
