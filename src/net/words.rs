//! What servers and certificates say, in words that fit on a line and give nothing away.

use rustls::CertificateError;
use std::io;

/// A server's message can be as long as the statement that it complains about.
const LONGEST_MESSAGE: usize = 300;

/// The same words each time (no ages, no clock), and what to do.
pub(super) fn certificate(wrong: &CertificateError) -> (String, &'static str) {
    let (words, hint) = match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "the certificate comes from an unknown authority",
            "name the file with the server's authority in ca:",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "the certificate has expired",
            "renew the server's certificate, or check the clock of this machine",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "the certificate is not valid yet",
            "check the clock of this machine and the server's certificate",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            return (
                tame(&wrong.to_string(), ""),
                "host: has to be a name in the server's certificate; tls: verify-ca does not compare it",
            );
        }
        CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => (
            "the certificate is an authority and not one of a server",
            "give the server a certificate that is signed by an authority; tls: require does not look at it",
        ),
        _ => return (tame(&wrong.to_string(), ""), "check the server's certificate"),
    };
    (words.to_owned(), hint)
}

pub(super) fn certificate_error(error: &io::Error) -> Option<&CertificateError> {
    match rustls_error(error)? {
        rustls::Error::InvalidCertificate(wrong) => Some(wrong),
        _ => None,
    }
}

pub(super) fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Text from a server, for one line of a log or page: no control characters, not too long, and no value of a table.
pub(super) fn tame(message: &str, code: &str) -> String {
    let mut text = String::new();
    for (place, part) in message.split('"').enumerate() {
        if place > 0 {
            text.push('"');
        }
        // Class 22 is `invalid input syntax for type integer: "what somebody typed"`.
        if place % 2 == 1 && code.starts_with("22") {
            text.push('…');
        } else {
            text.extend(part.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST_MESSAGE) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_server_fits_on_a_line_and_shows_no_value() {
        assert_eq!(tame("relation \"a\nb\" does not exist", "42P01"), "relation \"a b\" does not exist");
        assert_eq!(
            tame("invalid input syntax for type integer: \"canary\"", "22P02"),
            "invalid input syntax for type integer: \"…\""
        );
        let long = tame(&"ä".repeat(1000), "XX000");
        assert_eq!(long.chars().count(), LONGEST_MESSAGE + 1);
    }
}
