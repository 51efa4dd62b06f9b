//! A `kube::Client` that reaches the API without a socket.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::Body;

use super::service::{self, Api, Content, MAX_BODY};

/// A client of `api`.
pub(super) fn connect(api: &Arc<Api>) -> kube::Client {
    let api = Arc::clone(api);
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = Arc::clone(&api);
        async move { call(&api, request).await }
    });
    kube::Client::new(service, "default")
}

async fn call(
    api: &Arc<Api>,
    request: Request<Body>,
) -> Result<Response<Content>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let body: Bytes = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(service::too_large()),
        Err(error) => return Err(error),
    };
    Ok(api.handle(Request::from_parts(parts, body)).await?)
}
