//! What a request asks for: the dialect by Accept, gzip by Accept-Encoding, and the parameters of its query.

use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName};
use metrics::exposition::Dialect;

/// The dialect that the client likes best; Prometheus text when it says nothing that we speak.
pub(super) fn dialect(headers: &HeaderMap) -> Dialect {
    let mut text = 0;
    let mut open = 0;
    for range in ranges(headers, &ACCEPT) {
        let known = |versions: &[&str]| range.version.is_none_or(|version| versions.contains(&version));
        match range.name.to_ascii_lowercase().as_str() {
            // Prometheus lists what it likes best first, so of equals the first one wins.
            "application/openmetrics-text" if known(&["1.0.0"]) && range.quality > text => {
                open = open.max(range.quality);
            }
            "text/plain" if known(&["0.0.4"]) && range.quality > text => text = range.quality,
            "text/*" | "*/*" => text = text.max(range.quality),
            _ => {}
        }
    }
    if open > 0 && open >= text { Dialect::OpenMetrics } else { Dialect::Text }
}

/// Whether the body may be gzip.
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for range in ranges(headers, &ACCEPT_ENCODING) {
        match range.name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = Some(range.quality),
            "*" => any = Some(range.quality),
            "identity" => identity = Some(range.quality),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// One item of an Accept header.
struct Range<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// In thousandths, as RFC 9110 section 12.4.2 writes it.
    quality: u16,
}

fn ranges<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = Range<'a>> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let mut range = Range { name: parts.next().unwrap_or(""), version: None, quality: 1000 };
        for part in parts {
            match part.split_once('=').map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim())) {
                Some((key, value)) if key == "q" => range.quality = thousandths(value),
                Some((key, value)) if key == "version" => range.version = Some(value.trim_matches('"')),
                _ => {}
            }
        }
        range
    })
}

/// A quality that cannot be read is none.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if digits => 1000,
        "0" if digits => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// The parameters of a request's query, percent-decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands behind the `?`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// All values of a parameter, in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A part of a path with its `%41` read; a `+` is a plus.
pub fn decoded(text: &str) -> String {
    decode(&text.replace('+', "%2B"))
}

/// `%41` and `+`; what is no valid escape stays as it is, what is no UTF-8 becomes U+FFFD.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, left @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = left;
                }
                _ => bytes.push(b'%'),
            },
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(name: &HeaderName, lines: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(name.clone(), HeaderValue::from_static(line));
        }
        map
    }

    #[test]
    fn the_dialect_is_what_the_client_likes_best() {
        for (accept, open) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false),
            // Prometheus 2.42 and 3.x
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                true,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ],
                true,
            ),
            (
                &[
                    "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
                ],
                false,
            ),
            (&["application/openmetrics-text"], true),
            (&["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"], true),
            (&["application/openmetrics-text;version=0.0.1"], false),
            (&["application/openmetrics-text;q=0"], false),
            (&["application/openmetrics-text;q=0.001"], true),
            (&["application/openmetrics-text;q=bad"], false),
            (&["text/plain", "application/openmetrics-text"], false),
            (&["application/openmetrics-text", "text/plain"], true),
        ] {
            assert_eq!(
                matches!(dialect(&headers(&ACCEPT, accept)), Dialect::OpenMetrics),
                open,
                "{accept:?}"
            );
        }
    }

    #[test]
    fn gzip_is_sent_only_to_who_takes_it() {
        for (accept, expected) in [
            (&[][..], false),
            (&["gzip"], true),
            (&["deflate, GZIP;q=0.5"], true),
            (&["gzip;q=0"], false),
            (&["gzip;q=0.000"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["*, gzip;q=0"], false),
            (&["identity"], false),
            (&["gzip;q=0.5, identity"], false),
            (&["br", "gzip"], true),
            (&["gzipped"], false),
        ] {
            assert_eq!(gzip(&headers(&ACCEPT_ENCODING, accept)), expected, "{accept:?}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let query = Query::parse("check=a%20b&x=1&check=c%2Bd+e&check&check=%zz%4&&%63heck=%ff");
        assert_eq!(query.all("check").collect::<Vec<_>>(), ["a b", "c+d e", "", "%zz%4", "\u{fffd}"]);
        assert_eq!(query.first("x"), Some("1"));
        assert_eq!(query.first("y"), None);
        assert_eq!(Query::parse(""), Query::default());
    }
}
