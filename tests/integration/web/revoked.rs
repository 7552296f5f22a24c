//! Connections that are open when their client is no longer allowed.

use hyper_util::client::legacy::connect::HttpInfo;
use rcgen::SanType;
use rustls::DEFAULT_VERSIONS;

use super::secure::{Authority, Files, Leaf, TLS, client, hash};
use super::*;

const VERIFIED: &str = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";

#[tokio::test]
async fn certificate_that_is_no_longer_allowed_ends_its_connection() {
    let verified_as = |name: &str| format!("{VERIFIED}  client_allowed_sans: [{name}]\n");
    let (scraper, other) = (verified_as("scraper.example"), verified_as("other.example"));
    let optional = VERIFIED.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven");
    let requested = "  client_auth_type: RequestClientCert\n";
    for (before, after, has_certificate, stays) in [
        (&*scraper, &*other, true, false),
        (VERIFIED, &*other, true, false),
        (VERIFIED, &*scraper, true, true),
        // Of another authority.
        (
            VERIFIED,
            &*VERIFIED.replace("ca.pem", "ca2.pem"),
            true,
            false,
        ),
        (
            requested,
            &*optional.replace("ca.pem", "ca2.pem"),
            true,
            false,
        ),
        (requested, &*optional, true, true),
        (requested, VERIFIED, false, false),
        ("", VERIFIED, false, false),
        (&*optional, requested, false, true),
        (&*scraper, "", true, true),
    ] {
        for protocol in ["h2", "http/1.1"] {
            let case = format!("{before}→\n{after}{has_certificate} {protocol}");
            let files = Files::new(&format!("{TLS}{before}"));
            files.write("ca2.pem", &Authority::new().pem);
            let (server, _) = files.start();
            let leaf = has_certificate.then(|| scraper_leaf(&files));
            let client = http_client(&files, leaf, protocol);
            let first = port_of(&get(&client, &server, None).await.unwrap(), 200);
            files.write("web.yml", &format!("{TLS}{after}"));
            let second = get(&client, &server, None).await.unwrap();
            assert_eq!(
                first,
                port_of(&second, if stays { 200 } else { 403 }),
                "{case}"
            );
            drop(second.bytes().await);
            match get(&client, &server, None).await {
                Ok(third) => assert!(stays && port_of(&third, 200) == first, "{case}"),
                Err(error) => assert!(!stays, "{case} {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn user_who_is_no_longer_allowed_ends_the_connection() {
    let users = |names: &[&str]| {
        let users: Vec<String> = names
            .iter()
            .map(|name| format!("{name}: {}", hash("x")))
            .collect();
        format!("{TLS}basic_auth_users: {{{}}}\n", users.join(", "))
    };
    for protocol in ["h2", "http/1.1"] {
        let files = Files::new(&users(&["a", "b"]));
        let (server, _) = files.start();
        let client = http_client(&files, None, protocol);
        let first = port_of(&get(&client, &server, Some("a")).await.unwrap(), 200);
        files.write("web.yml", &users(&["b"]));
        let second = port_of(&get(&client, &server, Some("a")).await.unwrap(), 401);
        assert_eq!(first, second, "{protocol}");
        // A login that was never admitted keeps the connection: a browser asks for the password and uses it again.
        let third = port_of(&get(&client, &server, Some("a")).await.unwrap(), 401);
        assert_ne!(second, third, "{protocol}");
        let fourth = port_of(&get(&client, &server, Some("b")).await.unwrap(), 200);
        assert_eq!(third, fourth, "{protocol}");
    }
}

/// The client's port, and so the connection.
fn port_of(answer: &reqwest::Response, status: u16) -> u16 {
    assert_eq!(answer.status().as_u16(), status);
    let info = answer.extensions().get::<HttpInfo>().unwrap();
    info.local_addr().port()
}

async fn get(
    client: &reqwest::Client,
    server: &Server,
    user: Option<&str>,
) -> Result<reqwest::Response, reqwest::Error> {
    let url = format!("https://localhost:{}/metrics", server.address.port());
    let request = client.get(url);
    match user {
        Some(user) => request.basic_auth(user, Some("x")),
        None => request,
    }
    .send()
    .await
}

fn http_client(files: &Files, leaf: Option<Leaf>, protocol: &str) -> reqwest::Client {
    let mut config = client(&files.authority, leaf, DEFAULT_VERSIONS);
    config.alpn_protocols = vec![protocol.into()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .build()
        .unwrap()
}

fn scraper_leaf(files: &Files) -> Leaf {
    let name = "scraper.example".try_into().unwrap();
    files.authority.sign(vec![SanType::DnsName(name)])
}
