//! Calls of AWS that we sign ourselves, form in and XML out or JSON both ways, for Redshift, RDS, ElastiCache and MemoryDB: a handful of
//! small calls, whose SDK crates would be a third of the build.

use super::sign::Signer;
use super::{Aws, CallResult, Place, failure};
use crate::check::{Problem, Reason};
use crate::net::https::{Client, Reply, Url, quoted};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::time::SystemTime;
use tokio::time::Instant;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const JSON: &str = "application/x-amz-json-1.1";

/// A service that speaks the query protocol.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its IAM prefix, which is also its name in signatures and addresses.
    pub service: &'static str,
    /// Its name in `AWS_ENDPOINT_URL_<SERVICE>`.
    pub service_id: &'static str,
    /// Version of its API.
    pub version: &'static str,
}

/// <https://docs.aws.amazon.com/redshift/latest/APIReference/>
pub(super) const REDSHIFT: Query =
    Query { service: "redshift", service_id: "REDSHIFT", version: "2012-12-01" };
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/>
pub(super) const RDS: Query = Query { service: "rds", service_id: "RDS", version: "2014-10-31" };

/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/>
pub(super) const ELASTICACHE: Query =
    Query { service: "elasticache", service_id: "ELASTICACHE", version: "2015-02-02" };

/// A field of a call: its name and value.
pub type Field<'a> = (&'a str, &'a str);

impl Aws {
    /// Makes a call and gives the XML of its answer.
    ///
    /// # Errors
    /// `permission`, `credentials`, `throttled`, `aws`, and what keeps the answer away.
    pub(super) async fn query(
        &self,
        service: Query,
        place: &Place,
        operation: &str,
        fields: &[Field<'_>],
        deadline: Instant,
    ) -> Result<String, Problem> {
        let mut form = format!("Action={operation}&Version={}", service.version);
        for (name, value) in fields {
            form.push_str(&format!("&{name}={}", encoded(value)));
        }
        let headers = [("content-type", FORM)];
        let call = Call { service: service.service, service_id: service.service_id, operation };
        let reply = self.send(call, place, &headers, form, deadline).await?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status.is_success() {
            return Ok(text);
        }
        let code = element(&text, "Code").unwrap_or_else(|| format!("status {}", reply.status.as_u16()));
        Err(call.refused(&code, &element(&text, "Message").unwrap_or_default()))
    }

    /// Makes a call of the JSON protocol and gives its answer.
    ///
    /// # Errors
    /// As [`Aws::query`].
    pub(super) async fn json(
        &self,
        call: Call<'_>,
        target: &str,
        place: &Place,
        body: &serde_json::Value,
        deadline: Instant,
    ) -> Result<serde_json::Value, Problem> {
        let target = format!("{target}.{}", call.operation);
        let headers = [("content-type", JSON), ("x-amz-target", target.as_str())];
        let reply = self.send(call, place, &headers, body.to_string(), deadline).await?;
        let answer: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
        match answer {
            Some(answer) if reply.status.is_success() => Ok(answer),
            Some(answer) => {
                let text =
                    |name: &str| answer.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
                // `prefix#Name` and `Name:address` are both seen.
                let code = text("__type")
                    .rsplit('#')
                    .next()
                    .and_then(|code| code.split(':').next())
                    .unwrap_or_default();
                Err(call.refused(code, text("message")))
            }
            None => {
                Err(Problem::new(Reason::Protocol, call.what())
                    .because(format!("no JSON: {}", reply.excerpt())))
            }
        }
    }

    async fn send(
        &self,
        call: Call<'_>,
        place: &Place,
        headers: &[(&str, &str)],
        body: String,
        deadline: Instant,
    ) -> Result<Reply, Problem> {
        let now = system_time();
        let signer = self.signer(place, now).await?;
        let endpoint = self.endpoint(place, call.service_id).await?;
        let url = url(call.service, endpoint, &signer)?;
        let headers = signed(&signer, call.service, &url, headers, body.as_bytes(), now)?;
        let mut client = Client::new(&url, None);
        let result = client.post(url.path(), &headers, body, deadline).await;
        let counted = match &result {
            Ok(reply) if reply.status.is_success() => CallResult::Good,
            Ok(reply) if reply.status.as_u16() == 429 || reply.excerpt().contains("Throttling") => {
                CallResult::Throttled
            }
            _ => CallResult::Bad,
        };
        self.calls.count(call.service, call.operation, counted);
        result.map_err(|problem| Problem { what: format!("{}: {}", call.what(), problem.what), ..problem })
    }
}

fn url(service: &str, endpoint: Option<String>, signer: &Signer) -> Result<Url, Problem> {
    let end = if signer.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    // The one whose address is not its name in signatures.
    let host = if service == "memorydb" { "memory-db" } else { service };
    let text = endpoint.unwrap_or_else(|| format!("https://{host}.{}.{end}", signer.region));
    text.parse().map_err(|why: String| {
        Problem::new(Reason::Aws, format!("the endpoint of {service} cannot be used")).because(why)
    })
}

/// A call by its names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) service: &'static str,
    pub(super) service_id: &'static str,
    pub(super) operation: &'a str,
}

impl Call<'_> {
    fn what(&self) -> String {
        format!("{} of {} failed", self.operation, self.service)
    }

    fn refused(&self, code: &str, message: &str) -> Problem {
        failure::service(self.what(), &format!("{}:{}", self.service, self.operation), code, message)
    }
}

#[expect(clippy::disallowed_methods, reason = "a signature is of the moment at which it is sent")]
pub(super) fn system_time() -> SystemTime {
    SystemTime::now()
}

fn signed(
    signer: &Signer,
    service: &str,
    url: &Url,
    headers: &[(&str, &str)],
    body: &[u8],
    now: SystemTime,
) -> Result<HeaderMap, Problem> {
    let unfit =
        |what: &str| Problem::new(Reason::Credentials, format!("{} is no header value", quoted(what)));
    let address = url.to_string();
    let instructions = signer.sign(service, ("POST", &address, headers, body), None, now)?;
    let mut all = HeaderMap::new();
    let made: Vec<(String, String)> =
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let given = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    for (name, value) in given.chain(made) {
        let key: HeaderName = name.parse().map_err(|_unfit| unfit(&name))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_unfit| unfit(&name))?;
        value.set_sensitive(key != CONTENT_TYPE);
        all.insert(key, value);
    }
    Ok(all)
}

/// As `application/x-www-form-urlencoded` wants it, in the strict form that signatures want too.
pub(crate) fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe
}

/// The text of the first element of this name, with its entities resolved. These answers have neither attributes on such
/// elements nor CDATA nor comments.
pub(super) fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).next().map(unescaped)
}

/// What stands inside each element of this name, outermost ones only.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let inside = rest.get(rest.find(&open)? + open.len()..)?;
        // An element of the same name inside is closed first.
        let (mut depth, mut at) = (1, 0);
        loop {
            let end = at + inside.get(at..)?.find(&close)?;
            depth += inside.get(at..end)?.matches(&open).count();
            depth -= 1;
            at = end + close.len();
            if depth == 0 {
                rest = inside.get(at..)?;
                return inside.get(..end);
            }
        }
    })
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_with_their_entities_and_their_likes_inside() {
        let xml = "<A><Code>x &amp; &lt;y&gt;</Code><L><m><n>1</n></m><m><n>2</n></m></L><Tag>a<Tag>b</Tag></Tag></A>";
        assert_eq!(element(xml, "Code").as_deref(), Some("x & <y>"));
        assert_eq!(elements(xml, "m").filter_map(|m| element(m, "n")).collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(elements(xml, "Tag").collect::<Vec<_>>(), ["a<Tag>b</Tag>"]);
        assert_eq!(element("<Code>cut", "Code"), None);
    }

    #[test]
    fn values_of_a_form_are_encoded_as_signatures_want_it() {
        assert_eq!(encoded("a b/ü~"), "a%20b%2F%C3%BC~");
    }
}
