//! Handshakes that succeed or fail because of a certificate, and their lines in the log.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::DEFAULT_VERSIONS;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::secure::{Authority, Files, Leaf, TLS, client, get_over, handshake};
use crate::support::Log;

const VERIFIED: &str = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";

/// A certificate that its own key has signed, of an authority if nothing else is changed.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["scraper.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    Leaf {
        certificate: certificate.der().clone(),
        pem: certificate.pem(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        key_pem: key.serialize_pem(),
    }
}

#[tokio::test]
async fn certificate_that_is_its_own_authority_is_a_client() {
    let only =
        |usage| move |params: &mut CertificateParams| params.extended_key_usages = vec![usage];
    for (name, leaf, is_in_client_ca, good) in [
        ("as openssl makes it", self_signed(|_| {}), true, true),
        (
            "no authority",
            self_signed(|params| params.is_ca = IsCa::NoCa),
            true,
            true,
        ),
        (
            "for clients",
            self_signed(only(ExtendedKeyUsagePurpose::ClientAuth)),
            true,
            true,
        ),
        (
            "for anything",
            self_signed(only(ExtendedKeyUsagePurpose::Any)),
            true,
            true,
        ),
        (
            "for servers",
            self_signed(only(ExtendedKeyUsagePurpose::ServerAuth)),
            true,
            false,
        ),
        ("of another", self_signed(|_| {}), false, false),
        (
            "expired",
            self_signed(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            true,
            false,
        ),
        (
            "of tomorrow",
            self_signed(|params| params.not_before = date_time_ymd(4000, 1, 1)),
            true,
            false,
        ),
        (
            "of other names",
            self_signed(|params| params.subject_alt_names = Vec::new()),
            true,
            false,
        ),
    ] {
        for sans in ["", "  client_allowed_sans: [scraper.example]\n"] {
            let files = Files::new(&format!("{TLS}{VERIFIED}{sans}"));
            if is_in_client_ca {
                files.write("ca.pem", &leaf.pem);
            }
            let (server, _) = files.start();
            let config = client(&files.authority, Some(leaf.copy()), DEFAULT_VERSIONS);
            let good = good || (name == "of other names" && sans.is_empty());
            assert_eq!(
                get_over(&server, config).await.is_some(),
                good,
                "{name} {sans}"
            );
        }
    }
}

#[tokio::test]
async fn handshake_that_fails_because_of_a_certificate_is_logged_with_a_remedy() {
    let log = Log::capture();
    let dns = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let sans = format!("{VERIFIED}  client_allowed_sans: [scraper.example]\n");
    for (options, leaf, remedy) in [
        (
            VERIFIED,
            Some(Authority::new().sign(dns("a"))),
            "a client certificate that a CA in client_ca has issued",
        ),
        (
            VERIFIED,
            Some(self_signed(|_| {})),
            "put this certificate itself into client_ca",
        ),
        (&*sans, None, "a name of client_allowed_sans"),
        (
            VERIFIED,
            Some(self_signed(|params| {
                params.is_ca = IsCa::NoCa;
                params.not_after = date_time_ymd(2020, 1, 1);
            })),
            "renew the client certificate",
        ),
    ] {
        let files = Files::new(&format!("{TLS}{options}"));
        let leaf = leaf.unwrap_or_else(|| files.authority.sign(dns("other.example")));
        if remedy.starts_with("renew") {
            files.write("ca.pem", &leaf.pem);
        }
        let (server, _) = files.start();
        log.take();
        for _ in 0..3 {
            let config = client(&files.authority, Some(leaf.copy()), DEFAULT_VERSIONS);
            assert!(get_over(&server, config).await.is_none(), "{remedy}");
        }
        let text = log.take();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("level=info"))
            .collect();
        let [line] = &lines[..] else {
            panic!("not one line: {text}");
        };
        assert!(
            line.contains(remedy) && line.contains("client=127.0.0.1"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn client_that_refuses_the_certificate_of_the_server_is_logged_with_a_remedy() {
    let log = Log::capture();
    let files = Files::new(TLS);
    let (server, _) = files.start();
    let config = client(&Authority::new(), None, DEFAULT_VERSIONS);
    handshake(&server, config).await.unwrap_err();
    // The server has read the alert when it answers a later connection, or soon after.
    let mut text = log.take();
    for _ in 0..100 {
        let config = client(&files.authority, None, DEFAULT_VERSIONS);
        get_over(&server, config).await.unwrap();
        text += &log.take();
    }
    assert!(
        text.contains("check that the certificate is valid"),
        "{text}"
    );
    // The exporter probes itself without a certificate.
    let files = Files::new(&format!("{TLS}{VERIFIED}"));
    let (server, _) = files.start();
    log.take();
    let config = client(&files.authority, None, DEFAULT_VERSIONS);
    assert!(get_over(&server, config).await.is_none());
    assert!(!log.take().contains("level=info"));
}

#[tokio::test]
async fn file_that_becomes_a_pipe_leaves_the_last_good_configuration() {
    let options = "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n";
    for name in ["web.yml", "cert.pem", "key.pem", "ca.pem"] {
        let files = Files::new(&format!("{TLS}{options}"));
        let (server, web_config) = files.start();
        let path = files.path().join(name);
        let good = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(pipe.unwrap().success());
        for _ in 0..2 {
            let config = client(&files.authority, None, DEFAULT_VERSIONS);
            assert!(get_over(&server, config).await.is_some(), "{name}");
            let reload_error = web_config.reload_error().expect("it is not in force");
            assert!(
                reload_error.contains("a pipe, not a regular file"),
                "{reload_error}"
            );
        }
        files.write(name, &good);
        let config = client(&files.authority, None, DEFAULT_VERSIONS);
        assert!(get_over(&server, config).await.is_some(), "{name}");
        assert_eq!(web_config.reload_error(), None, "{name}");
    }
}
