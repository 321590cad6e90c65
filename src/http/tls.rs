//! The section `tls_server_config`: certificate, versions and clients' certificates, as rustls settings.
//!
//! Words and defaults are exporter-toolkit's: <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>

use super::web_config::{Files, Section};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};
use serde::Deserialize;
use std::sync::Arc;

/// What is spoken above TLS: a client that offers only HTTP/2 is told so in the handshake.
const ALPN: &[u8] = b"http/1.1";

/// The keys of the section.
#[derive(Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_ca_file: Option<String>,
    client_auth_type: Option<String>,
    client_allowed_sans: Vec<String>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    prefer_server_cipher_suites: Option<bool>,
}

/// The settings of a TLS server; `None` when there was a fault.
pub(super) fn server(keys: &Keys, section: &mut Section, files: &mut Files) -> Option<Arc<ServerConfig>> {
    let cert = section.either("cert", keys.cert.as_ref(), "cert_file", keys.cert_file.as_ref(), files);
    let key = section.either("key", keys.key.as_ref(), "key_file", keys.key_file.as_ref(), files);
    let chain = cert.and_then(|pem| certificates(&pem, "cert", section));
    let key = key.and_then(|pem| match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Some(key),
        Err(_) => section.fault(
            "key_file",
            "there is no private key in PEM format",
            "it begins with -----BEGIN PRIVATE KEY-----",
        ),
    });
    let versions = versions(keys, section);
    let provider = provider(keys, section).map(Arc::new);
    let (chain, key, versions, provider) = (chain?, key?, versions?, provider?);
    let verifier = verifier(keys, &provider, section, files)?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = match builder {
        Ok(builder) => builder.with_client_cert_verifier(verifier),
        Err(error) => {
            return section.fault("cipher_suites", &format!("no handshake is possible: {error}"), "");
        }
    };
    match builder.with_single_cert(chain, key) {
        Ok(mut config) => {
            config.alpn_protocols = vec![ALPN.to_vec()];
            config.ignore_client_order = keys.prefer_server_cipher_suites.unwrap_or(true);
            Some(Arc::new(config))
        }
        Err(error) => section.fault("key_file", &format!("key and certificate do not fit: {error}"), ""),
    }
}

fn certificates(pem: &[u8], key: &str, section: &mut Section) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Some(found),
        _ => section.fault(
            key,
            "there is no certificate in PEM format",
            "it begins with -----BEGIN CERTIFICATE-----",
        ),
    }
}

fn versions(keys: &Keys, section: &mut Section) -> Option<Vec<&'static SupportedProtocolVersion>> {
    let mut limit = |key: &str, written: Option<&String>, default: u8| match written.map(String::as_str) {
        None => Some(default),
        Some("TLS12") => Some(12),
        Some("TLS13") => Some(13),
        Some("TLS10" | "TLS11") => {
            section.fault(key, "TLS 1.0 and 1.1 are broken and not spoken", "accepted: TLS12, TLS13")
        }
        Some(_) => section.fault(key, "unknown version", "accepted: TLS12, TLS13"),
    };
    let lowest = limit("min_version", keys.min_version.as_ref(), 12);
    let highest = limit("max_version", keys.max_version.as_ref(), 13);
    let range = lowest?..=highest?;
    if range.is_empty() {
        return section.fault("max_version", "it is below min_version", "");
    }
    let known = [(13, &rustls::version::TLS13), (12, &rustls::version::TLS12)];
    Some(known.into_iter().filter(|(number, _)| range.contains(number)).map(|(_, version)| version).collect())
}

/// aws-lc with the chosen TLS 1.2 suites (those of TLS 1.3 are always on, as in Go) and curves.
fn provider(keys: &Keys, section: &mut Section) -> Option<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !keys.cipher_suites.is_empty() {
        let (new, old): (Vec<_>, Vec<_>) =
            provider.cipher_suites.into_iter().partition(|suite| suite.tls13().is_some());
        let mut chosen = Vec::new();
        for written in &keys.cipher_suites {
            // Go knows the ChaCha suites by a shorter name too.
            let full =
                if written.ends_with("POLY1305") { format!("{written}_SHA256") } else { written.clone() };
            let named = |suite: &&SupportedCipherSuite| suite_name(suite.suite()) == full;
            if let Some(suite) = old.iter().find(named) {
                chosen.push(*suite);
            } else if !new.iter().any(|suite| named(&suite)) {
                let accepted: Vec<_> = old.iter().map(|suite| suite_name(suite.suite())).collect();
                let hint = format!("accepted: {}", accepted.join(", "));
                return section.fault("cipher_suites", "a suite that is unknown or no longer safe", &hint);
            }
        }
        provider.cipher_suites = new.into_iter().chain(chosen).collect();
    }
    if !keys.curve_preferences.is_empty() {
        let groups = keys.curve_preferences.iter().map(|written| curve(written, &provider));
        match groups.collect() {
            Some(groups) => provider.kx_groups = groups,
            None => {
                return section.fault(
                    "curve_preferences",
                    "unknown curve",
                    "accepted: X25519MLKEM768, X25519, CurveP256, CurveP384",
                );
            }
        }
    }
    Some(provider)
}

/// The name that Go, and so the file, uses: rustls writes the version into those of TLS 1.3.
fn suite_name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

fn curve(written: &str, provider: &CryptoProvider) -> Option<&'static dyn SupportedKxGroup> {
    let name = match written {
        "X25519MLKEM768" => NamedGroup::X25519MLKEM768,
        "X25519" => NamedGroup::X25519,
        "CurveP256" => NamedGroup::secp256r1,
        "CurveP384" => NamedGroup::secp384r1,
        _ => return None,
    };
    provider.kx_groups.iter().copied().find(|group| group.name() == name)
}

/// Who has to show a certificate. Asking for one without verifying it proves nothing, so those two types are refused.
fn verifier(
    keys: &Keys,
    provider: &Arc<CryptoProvider>,
    section: &mut Section,
    files: &mut Files,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let given = keys.client_ca.is_some() || keys.client_ca_file.is_some();
    let mandatory = match keys.client_auth_type.as_deref() {
        None | Some("" | "NoClientCert") if given || !keys.client_allowed_sans.is_empty() => {
            let hint = "set client_auth_type: RequireAndVerifyClientCert";
            return section.fault(
                "client_auth_type",
                "there are rules for client certificates, but none is asked for",
                hint,
            );
        }
        None | Some("" | "NoClientCert") => return Some(Arc::new(NoClientAuth)),
        Some("VerifyClientCertIfGiven") => false,
        Some("RequireAndVerifyClientCert") => true,
        Some("RequestClientCert") => {
            let hint = "write VerifyClientCertIfGiven";
            return section.fault(
                "client_auth_type",
                "a certificate that nobody verifies proves nothing",
                hint,
            );
        }
        Some("RequireAnyClientCert") => {
            let hint = "write RequireAndVerifyClientCert";
            return section.fault(
                "client_auth_type",
                "a certificate that nobody verifies proves nothing",
                hint,
            );
        }
        Some(_) => {
            let hint = "accepted: NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert";
            return section.fault("client_auth_type", "unknown type", hint);
        }
    };
    if !given {
        return section.fault(
            "client_auth_type",
            "client_ca_file is missing",
            "it names the CA that signed the clients' certificates",
        );
    }
    let pem = section.either(
        "client_ca",
        keys.client_ca.as_ref(),
        "client_ca_file",
        keys.client_ca_file.as_ref(),
        files,
    )?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem, "client_ca_file", section)? {
        if let Err(error) = roots.add(certificate) {
            return section.fault(
                "client_ca_file",
                &format!("a certificate cannot be used as CA: {error}"),
                "",
            );
        }
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
    let inner = match builder.build() {
        Ok(inner) => inner,
        Err(error) => return section.fault("client_ca_file", &format!("the CA cannot be used: {error}"), ""),
    };
    if keys.client_allowed_sans.is_empty() {
        return Some(inner);
    }
    let names = keys.client_allowed_sans.iter().map(|name| ServerName::try_from(name.clone()).ok());
    match names.collect() {
        Some(names) => Some(Arc::new(Named { inner, names })),
        None => section.fault("client_allowed_sans", "only DNS names and IP addresses can be compared", ""),
    }
}

/// Verifies the chain as `inner` does, and then that the certificate is for one of the names.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok()) {
            return Ok(verified);
        }
        Err(Error::General("the client's certificate is for none of client_allowed_sans".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
