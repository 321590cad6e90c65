//! Signature Version 4 for what we ask ourselves: credentials that are kept until shortly before their end, and the signing.

use super::{Aws, Place};
use crate::check::{Problem, Reason};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Credentials are asked for anew this long before their end.
const EARLY: Duration = Duration::from_mins(5);

/// Credentials by place: a role is not assumed anew for every login.
#[derive(Default)]
pub(super) struct Signers(Mutex<BTreeMap<Place, Credentials>>);

/// Who signs, and for where.
pub(super) struct Signer {
    pub(super) region: String,
    credentials: Credentials,
}

impl Aws {
    /// Credentials and region of a place.
    pub(super) async fn signer(&self, place: &Place, now: SystemTime) -> Result<Signer, Problem> {
        let config = self.config(place).await?;
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        let known = self.signers.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned();
        let fresh = |credentials: &Credentials| credentials.expiry().is_none_or(|end| end > now + EARLY);
        if let Some(credentials) = known.filter(fresh) {
            return Ok(Signer { region, credentials });
        }
        let problem = || {
            Problem::new(Reason::Credentials, "no AWS credentials").hint(
                "give the service a role (instance profile, IRSA, ECS task role) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        };
        let provider = config.credentials_provider().ok_or_else(problem)?;
        let credentials = provider.provide_credentials().await.map_err(|error| problem().because(error))?;
        self.signers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place.clone(), credentials.clone());
        Ok(Signer { region, credentials })
    }
}

impl Signer {
    /// Signs a request. With `expires` the signature goes into the query of the address, else into headers.
    pub(super) fn sign(
        &self,
        service: &str,
        request: (&str, &str, &[(&str, &str)], &[u8]),
        expires: Option<Duration>,
        now: SystemTime,
    ) -> Result<SigningInstructions, Problem> {
        let problem = |error: Box<dyn std::error::Error + Send + Sync>| {
            Problem::new(Reason::Credentials, format!("could not sign a request to {service}")).because(error)
        };
        let (method, uri, headers, body) = request;
        let mut settings = SigningSettings::default();
        if expires.is_some() {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = expires;
        }
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| problem(error.into()))?;
        let signable = SignableRequest::new(method, uri, headers.iter().copied(), SignableBody::Bytes(body))
            .map_err(|error| problem(error.into()))?;
        let signed = sign(signable, &params.into()).map_err(|error| problem(error.into()))?;
        Ok(signed.into_parts().0)
    }
}
