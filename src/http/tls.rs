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

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, Got, Stage, ask, count, stage, until};
    use super::super::{Limits, WebConfig};
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ClientConfig;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::TlsConnector;

    /// A certificate with its key, signed by a CA.
    struct Pair {
        cert: String,
        key: String,
    }

    struct Authority(Issuer<'static, KeyPair>, String);

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self(Issuer::new(params, key), pem)
        }

        fn sign(&self, name: &str) -> Pair {
            let key = KeyPair::generate().unwrap();
            let cert =
                CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
            Pair { cert: cert.pem(), key: key.serialize_pem() }
        }
    }

    /// A client that trusts this authority, with a certificate of its own or without.
    fn client(authority: &Authority, own: Option<&Pair>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.1.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        TlsConnector::from(Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap())
                    .unwrap()
            }
        }))
    }

    /// Asks over TLS; `None` when the handshake or the request failed.
    async fn scrape(stage: &Stage, client: &TlsConnector, name: &'static str) -> Option<Got> {
        let stream = client.connect(ServerName::try_from(name).unwrap(), stage.connect().await).await.ok()?;
        // With TLS 1.3 a client learns only after its handshake that its certificate was refused.
        let asked = super::super::task::spawn(async move { ask(stream, "GET /metrics", &[]).await });
        { asked }.join().await.ok()
    }

    fn open(folder: &Folder, more: &str) -> WebConfig {
        let section = format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{more}");
        let web = WebConfig::open(&folder.write("web.yml", &section));
        web.unwrap_or_else(|faults| panic!("{faults}")).looking_every(Duration::ZERO)
    }

    #[tokio::test]
    async fn a_new_certificate_on_disk_is_used_and_a_half_written_pair_is_not() {
        let (folder, old, new) = (Folder::new("change"), Authority::new(), Authority::new());
        let pair = old.sign("old.test");
        folder.write("cert.pem", &pair.cert);
        folder.write("key.pem", &pair.key);
        let stage = stage(open(&folder, ""), Limits::default(), None).await;
        let (trusts_old, trusts_new) = (client(&old, None), client(&new, None));
        assert_eq!(scrape(&stage, &trusts_old, "old.test").await.unwrap().status, 200);
        assert!(scrape(&stage, &trusts_new, "new.test").await.is_none());

        let pair = new.sign("new.test");
        folder.write("cert.pem", &pair.cert);
        assert_eq!(
            scrape(&stage, &trusts_old, "old.test").await.unwrap().status,
            200,
            "cert and key do not fit yet"
        );
        folder.write("key.pem", &pair.key);
        assert_eq!(scrape(&stage, &trusts_new, "new.test").await.unwrap().status, 200);
        assert!(scrape(&stage, &trusts_old, "old.test").await.is_none());
        folder.write("web.yml", "{}");
        assert_eq!(
            scrape(&stage, &trusts_new, "new.test").await.unwrap().status,
            200,
            "TLS is not switched off"
        );
    }

    #[tokio::test]
    async fn whoever_speaks_no_tls_is_closed_at_the_deadline_of_the_handshake() {
        let (folder, authority) = (Folder::new("garbage"), Authority::new());
        let pair = authority.sign("a.test");
        folder.write("cert.pem", &pair.cert);
        folder.write("key.pem", &pair.key);
        let limits = Limits { handshake: Duration::from_millis(100), ..Limits::default() };
        let stage = stage(open(&folder, ""), limits, None).await;
        let _silent = stage.connect().await;
        let mut plain = stage.connect().await;
        plain.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        until("both closed", || count(&stage.counters.handshake_failures) == 2).await;
        assert_eq!(count(&stage.counters.requests), 0);
    }

    #[tokio::test]
    async fn clients_are_let_in_by_their_certificates() {
        let (folder, authority, stranger) = (Folder::new("mutual"), Authority::new(), Authority::new());
        let pair = authority.sign("a.test");
        folder.write("cert.pem", &pair.cert);
        folder.write("key.pem", &pair.key);
        folder.write("ca.pem", &authority.1);
        let [prometheus, other, foreign] = [
            authority.sign("prometheus.test"),
            authority.sign("other.test"),
            stranger.sign("prometheus.test"),
        ];
        let owns = [None, Some(&prometheus), Some(&other), Some(&foreign)];
        for (rules, admitted) in [
            ("client_auth_type: RequireAndVerifyClientCert", [false, true, true, false]),
            ("client_auth_type: VerifyClientCertIfGiven", [true, true, true, false]),
            (
                "client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [x.test, prometheus.test]",
                [false, true, false, false],
            ),
            (
                "client_auth_type: RequireAndVerifyClientCert\n  max_version: TLS12",
                [false, true, true, false],
            ),
        ] {
            let stage = stage(
                open(&folder, &format!("  client_ca_file: ca.pem\n  {rules}\n")),
                Limits::default(),
                None,
            )
            .await;
            for (own, expected) in owns.iter().zip(admitted) {
                let got = scrape(&stage, &client(&authority, *own), "a.test").await;
                assert_eq!(got.is_some_and(|got| got.status == 200), expected, "{rules}");
            }
        }
    }

    #[test]
    fn rules_for_client_certificates_have_to_make_sense() {
        let (folder, authority) = (Folder::new("rules"), Authority::new());
        let pair = authority.sign("a.test");
        folder.write("cert.pem", &pair.cert);
        folder.write("key.pem", &pair.key);
        folder.write("ca.pem", &authority.1);
        for (rules, expected) in [
            ("client_ca_file: ca.pem", "set client_auth_type: RequireAndVerifyClientCert"),
            ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file is missing"),
            ("client_auth_type: RequireAnyClientCert", "write RequireAndVerifyClientCert"),
            ("client_auth_type: RequestClientCert", "write VerifyClientCertIfGiven"),
            (
                "client_auth_type: Yes",
                "accepted: NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
            ),
            (
                "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: key.pem",
                "there is no certificate in PEM format",
            ),
            (
                "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [\"a@b\"]",
                "only DNS names and IP addresses",
            ),
            (
                "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305, TLS_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP256, X25519]\n  prefer_server_cipher_suites: false",
                "",
            ),
        ] {
            let text = format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  {rules}\n");
            match WebConfig::open(&folder.write("web.yml", &text)) {
                Ok(_) => assert_eq!(expected, "", "{rules}"),
                Err(faults) => assert!(
                    !expected.is_empty() && faults.to_string().contains(expected),
                    "{rules}: {faults}"
                ),
            }
        }
        let other = authority.sign("a.test");
        folder.write("key.pem", &other.key);
        let text = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}";
        let faults = WebConfig::open(&folder.write("web.yml", text)).unwrap_err();
        assert!(faults.to_string().contains("key and certificate do not fit"), "{faults}");
    }
}
