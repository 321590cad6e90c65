//! The HTTP client under the SDK: its own, with the answers capped and every request counted.

use super::{CallResult, Calls};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;

/// A page of results has at most 1,000 rows (Athena) or 10,000 (Logs Insights); a larger answer is none of theirs.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// Where an error says its name; <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization>
const ERROR_TYPE: &str = "x-amzn-errortype";
/// Words of errors that mean: too fast.
pub(super) const THROTTLES: [&str; 7] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "SlowDown",
];

/// The client, one for all services, so that connections are shared.
pub(super) fn client(calls: Arc<Calls>) -> SharedHttpClient {
    let inner = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_https();
    SharedHttpClient::new(Counted { inner, calls })
}

#[derive(Debug)]
struct Counted {
    inner: SharedHttpClient,
    calls: Arc<Calls>,
}

impl HttpClient for Counted {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Connector { inner, calls: Arc::clone(&self.calls) })
    }
}

#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    calls: Arc<Calls>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut call = Counting::new(&request, &self.calls);
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let answer = read(answer.await?).await?;
            call.ended(&answer);
            Ok(answer)
        })
    }
}

/// Reads an answer whole, up to the cap. Redirects are not followed by the client below, so none leads elsewhere.
async fn read(mut answer: HttpResponse) -> Result<HttpResponse, ConnectorError> {
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| {
        // The kind decides whether it is tried again: too large stays too large, a broken connection may not.
        if error.is::<http_body_util::LengthLimitError>() {
            ConnectorError::user(format!("the answer is larger than {LARGEST_ANSWER} bytes").into())
        } else {
            ConnectorError::io(error)
        }
    })?;
    *answer.body_mut() = SdkBody::from(body.to_bytes().to_vec());
    Ok(answer)
}

/// One request on its way. Given up before its answer it counts as an error: it was made, and it is billed.
struct Counting {
    calls: Arc<Calls>,
    /// Service and operation; `None` for what is no call of an API, such as a question to the instance's metadata.
    call: Option<(String, String)>,
    result: CallResult,
}

impl Counting {
    fn new(request: &HttpRequest, calls: &Arc<Calls>) -> Self {
        Self { calls: Arc::clone(calls), call: name(request), result: CallResult::Bad }
    }

    fn ended(&mut self, answer: &HttpResponse) {
        let body = answer.body().bytes().unwrap_or_default();
        self.result = match answer.status().as_u16() {
            200..=299 => CallResult::Good,
            429 => CallResult::Throttled,
            _ if is_throttle(answer.headers().get(ERROR_TYPE), body) => CallResult::Throttled,
            _ => CallResult::Bad,
        };
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some((service, operation)) = &self.call {
            self.calls.count(service, operation, self.result);
        }
    }
}

/// The service by its IAM prefix, as it stands in the signature, and the operation, as the protocols say it.
fn name(request: &HttpRequest) -> Option<(String, String)> {
    let credential = request.headers().get("authorization").and_then(|text| text.split("Credential=").nth(1));
    // Credential=KEY/DATE/REGION/SERVICE/aws4_request
    let service = credential.and_then(|scope| scope.split('/').nth(3));
    if let Some(target) = request.headers().get("x-amz-target") {
        let operation = target.rsplit('.').next()?;
        return Some((service?.to_owned(), operation.to_owned()));
    }
    let body = std::str::from_utf8(request.body().bytes()?).ok()?;
    let operation = body.split('&').find_map(|pair| pair.strip_prefix("Action="))?;
    // Web identities are exchanged without a signature, always at STS.
    Some((service.unwrap_or("sts").to_owned(), operation.to_owned()))
}

fn is_throttle(header: Option<&str>, body: &[u8]) -> bool {
    let beginning = String::from_utf8_lossy(body.get(..512).unwrap_or(body));
    THROTTLES
        .iter()
        .any(|word| header.is_some_and(|header| header.contains(word)) || beginning.contains(word))
}
