//! What AWS and the way to it can say, as a problem with a reason.

use super::http::THROTTLES;
use crate::check::{Problem, Reason};
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error;

/// Error codes for credentials that are missing, wrong or over; <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>
const CREDENTIALS: [&str; 9] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "RequestExpired",
];

/// A failed call. `what` says what was wanted, and `action` is the IAM action that it needs.
pub fn problem<E, R>(what: impl Into<String>, action: &str, error: SdkError<E, R>) -> Problem
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let what = what.into();
    match error {
        SdkError::ServiceError(refused) => {
            let error = refused.into_err();
            service(
                what,
                action,
                error.code().unwrap_or("no error code"),
                error.message().unwrap_or_default(),
            )
        }
        SdkError::TimeoutError(_) => {
            Problem::new(Reason::Timeout, what).because("AWS did not answer in time")
        }
        SdkError::ResponseError(broken) => Problem::new(Reason::Protocol, what).because(format!(
            "the answer could not be read: {}",
            innermost(&SdkError::<E, R>::ResponseError(broken))
        )),
        error => local(what, &error),
    }
}

/// What AWS refused, by the code of its error.
pub(super) fn service(what: String, action: &str, code: &str, message: &str) -> Problem {
    let reason = match code {
        code if THROTTLES.contains(&code) => Reason::Throttled,
        code if CREDENTIALS.contains(&code) => Reason::Credentials,
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "AuthorizationError" => {
            Reason::Permission
        }
        _ => Reason::Aws,
    };
    let message = crate::net::https::quoted(message);
    let problem = Problem::new(reason, what).because(if message.is_empty() {
        code.to_owned()
    } else {
        format!("{code}: {message}")
    });
    match reason {
        Reason::Permission => problem.hint(format!(
            "allow {action} to the role that datapulse runs as; docs/iam has a policy for each check"
        )),
        Reason::Credentials => {
            problem.hint("the credentials are wrong or have expired; look at what gives them to the service")
        }
        Reason::Throttled => problem.hint("AWS asks to slow down; raise `every`, or ask for a higher quota"),
        _ => problem,
    }
}

/// What went wrong before AWS had the request.
fn local(what: String, error: &(dyn Error + 'static)) -> Problem {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return Problem::new(Reason::Credentials, what)
                .because(format!("no AWS credentials: {}", innermost(error)))
                .hint("give the service a role (instance profile, IRSA, ECS task role) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let reason = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => Reason::Connect,
                std::io::ErrorKind::TimedOut => Reason::ConnectTimeout,
                _ => Reason::Io,
            };
            return Problem::new(reason, what).because(error.to_string());
        }
        next = error.source();
    }
    let words = innermost(error);
    let reason = match () {
        () if words.contains("dns") || words.contains("lookup") => Reason::Dns,
        () if words.contains("certificate") || words.contains("tls") => Reason::Tls,
        () if words.contains("timed out") || words.contains("timeout") => Reason::ConnectTimeout,
        () if words.contains("larger than") => Reason::TooLarge,
        () => Reason::Io,
    };
    Problem::new(reason, what).because(words)
}

/// The words of the last error of a chain: those before only say that something failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_reason_that_says_what_to_do() {
        for (code, reason) in [
            ("ThrottlingException", Reason::Throttled),
            ("TooManyRequestsException", Reason::Throttled),
            ("ExpiredTokenException", Reason::Credentials),
            ("AccessDeniedException", Reason::Permission),
            ("InvalidRequestException", Reason::Aws),
        ] {
            assert_eq!(service("x".into(), "athena:StartQueryExecution", code, "m").reason, reason, "{code}");
        }
        let denied = service(
            "could not start the query".into(),
            "athena:StartQueryExecution",
            "AccessDeniedException",
            "no",
        );
        assert!(denied.to_string().contains("allow athena:StartQueryExecution"), "{denied}");
    }
}
