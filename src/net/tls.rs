//! How a client checks the other end of a TLS connection; aws-lc is the one provider of cryptography, named here and not left to a global.

use crate::check::{Problem, Reason};
use crate::config::target::{Target, Tls};
use crate::task;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The bundle of all AWS regions has 165 KB; a path to something else must not fill the memory.
const LARGEST_BUNDLE: u64 = 4 * 1024 * 1024;

/// The rules for one connection: `ca` is a PEM file with the authorities to trust, the system's when `None`.
///
/// Reads files, so call it where blocking is fine; a given file is read each time, so a new one counts from the next connection on.
/// The system's authorities are read once. [`Tls::Disable`] means that no rules are needed; asked all the same it gives the strictest.
///
/// # Errors
/// `tls` with the path and what to do when the authorities cannot be read.
pub fn client(tls: Tls, ca: Option<&Path>) -> Result<Arc<ClientConfig>, Problem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Problem::new(Reason::Tls, "could not set up TLS").because(error))?;
    let trusted = || ca.map_or_else(system, file);
    let config = match tls {
        Tls::Disable | Tls::VerifyFull => builder.with_root_certificates(trusted()?).with_no_client_auth(),
        Tls::VerifyCa => {
            let verifier = Arc::new(Lenient { provider, roots: Some(trusted()?) });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Tls::Require => {
            let verifier = Arc::new(Lenient { provider, roots: None });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    Ok(Arc::new(config))
}

/// The rules of a target, read on a thread of their own.
///
/// # Errors
/// As [`client`].
pub async fn rules(target: &Target) -> Result<Arc<ClientConfig>, Problem> {
    let (mode, ca) = (target.tls, target.ca.clone());
    let read = task::blocking(move || client(mode, ca.as_deref())).await;
    read.unwrap_or_else(|error| Err(Problem::new(Reason::Tls, "could not set up TLS").because(error)))
}

fn system() -> Result<Arc<RootCertStore>, Problem> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = SYSTEM.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let mut problem = Problem::new(Reason::Tls, "this system has no trusted authorities")
            .hint("install the package ca-certificates, or name a file with ca:");
        problem.source = found.errors.into_iter().next().map(Into::into);
        return Err(problem);
    }
    Ok(Arc::clone(SYSTEM.get_or_init(|| Arc::new(roots))))
}

fn file(path: &Path) -> Result<Arc<RootCertStore>, Problem> {
    let problem = |why: String| {
        Problem::new(Reason::Tls, format!("could not read the authorities in {}", path.display()))
            .because(why)
            .hint("ca: has to name a PEM file that the user of datapulse can read, with the certificates of the authorities")
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_BUNDLE + 1).read_to_end(&mut text))
        .map_err(|error| problem(error.to_string()))?;
    if text.len() as u64 > LARGEST_BUNDLE {
        return Err(problem(format!("it is larger than {LARGEST_BUNDLE} bytes")));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let number = roots.len() + 1;
        let wrong =
            |error: &dyn std::fmt::Display| problem(format!("certificate {number} is not readable: {error}"));
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(problem("it has no certificate".to_owned()));
    }
    Ok(Arc::new(roots))
}

/// Less than the whole check, because the configuration says so. The handshake's signatures are checked in any case.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    /// The certificate has to come from one of these (`verify-ca`); `None`: any will do (`require`).
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// An authority, and a server's certificate from it for the name `db.example`.
    struct Paper {
        ca: String,
        server: Arc<ServerConfig>,
    }

    fn paper() -> Paper {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&params, &ca_key)).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        Paper { ca, server: Arc::new(server) }
    }

    fn kept(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("datapulse-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn handshake(paper: &Paper, tls: Tls, ca: &str, host: &'static str) -> Result<(), String> {
        let path = kept(&format!("{tls:?}-{host}-{}", ca.len()), ca);
        let client = client(tls, Some(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(Arc::clone(&paper.server));
        let connector = TlsConnector::from(client);
        let (near, _far) =
            tokio::join!(connector.connect(host.try_into().unwrap(), near), acceptor.accept(far));
        near.map(|_| ()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn each_mode_checks_what_it_says() {
        let good = paper();
        let other = format!("{}{}", paper().ca, paper().ca);
        let both = format!("{}{}", other, good.ca);
        let cases: [(Tls, &str, &'static str, bool); 9] = [
            (Tls::VerifyFull, &good.ca, "db.example", true),
            (Tls::VerifyFull, &both, "db.example", true),
            (Tls::VerifyFull, &good.ca, "evil.example", false),
            (Tls::VerifyFull, &other, "db.example", false),
            (Tls::VerifyCa, &good.ca, "evil.example", true),
            (Tls::VerifyCa, &other, "db.example", false),
            (Tls::Require, &other, "evil.example", true),
            (Tls::Disable, &good.ca, "evil.example", false),
            (Tls::Disable, &good.ca, "db.example", true),
        ];
        for (tls, ca, host, expected) in cases {
            let result = handshake(&good, tls, ca, host).await;
            assert_eq!(result.is_ok(), expected, "{tls:?} {host}: {result:?}");
        }
    }

    #[test]
    fn a_bad_file_of_authorities_is_named_with_what_to_do() {
        let missing = std::env::temp_dir().join("datapulse-tls-no-such-file");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let half = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for (name, text, why) in [
            ("missing", None, "No such file"),
            ("empty", Some(""), "no certificate"),
            ("garbage", Some("hello"), "no certificate"),
            ("broken", Some(broken), "certificate 1 is not readable"),
            ("half", Some(half), "certificate 1 is not readable"),
        ] {
            let path = text.map_or_else(|| missing.clone(), |text| kept(name, text));
            let problem = client(Tls::VerifyFull, Some(&path)).unwrap_err();
            if text.is_some() {
                std::fs::remove_file(&path).unwrap();
            }
            assert_eq!(problem.reason, Reason::Tls);
            let words = problem.to_string();
            assert!(words.contains(&path.display().to_string()), "{words}");
            assert!(words.contains(why), "{name}: {words}");
            assert!(words.contains("; ca: has to name a PEM file"), "{words}");
        }
    }

    #[test]
    fn no_authorities_are_needed_when_anybody_may_answer() {
        assert!(client(Tls::Require, Some(Path::new("/nonexistent/ca.pem"))).is_ok());
    }
}
