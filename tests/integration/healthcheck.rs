//! `healthcheck` as a process, asking a daemon that is one.

use std::fs;
use std::path::Path;

use crate::support::{ANY_PORT, Program};

/// The exit code of `healthcheck` with these flags, and what it says.
async fn healthcheck(flags: &[&str]) -> (Option<i32>, String) {
    let words = [&["healthcheck"], flags].concat();
    Program::start(&words, &[]).end().await
}

/// A web configuration file with this in its TLS section, and a certificate for a name that is not loopback's.
fn secured(folder: &Path, more: &str) -> String {
    let names = vec!["exporter.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let file = folder.join("web.yml");
    let text = format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{more}");
    fs::write(&file, text).unwrap();
    format!("--web.config.file={}", file.display())
}

/// With basic authentication, for it must not matter.
const USERS: &str =
    "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n";

#[tokio::test]
async fn a_running_exporter_is_healthy_with_and_without_tls() {
    let client = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n";
    for more in [
        None,
        Some(USERS.to_owned()),
        Some(client.to_owned()),
        Some(format!("{client}  max_version: TLS12\n")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = more.as_ref().map(|more| secured(folder.path(), more));
        let secured: Vec<&str> = file.iter().map(String::as_str).collect();
        let words = [&["demo", "--log.level=info", ANY_PORT], &secured[..]].concat();
        let mut demo = Program::start(&words, &[]);
        let address = demo.address().await;
        let scheme = if more.is_some() { "https" } else { "http" };
        demo.printed(&format!("  {scheme}://{address}/metrics"))
            .await;
        let port = address.port();
        for address in [format!("127.0.0.1:{port}"), format!(":{port}")] {
            let address = format!("--web.listen-address={address}");
            let flags = [&[address.as_str()], &secured[..]].concat();
            let (code, said) = healthcheck(&flags).await;
            assert_eq!((code, said.as_str()), (Some(0), ""), "{more:?} {address}");
        }
        if more.is_some() {
            // Without TLS it speaks another language.
            let address = format!("--web.listen-address=127.0.0.1:{port}");
            let (code, said) = healthcheck(&[&address]).await;
            assert_eq!(code, Some(1), "{more:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{more:?}: {said}");
        }
        demo.stop().await;
    }
}

#[tokio::test]
async fn an_unhealthy_exporter_is_one_line_and_exit_code_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let unreachable = format!("--web.listen-address={address}");
    for (flags, line) in [
        (
            &[unreachable.as_str()][..],
            format!("unhealthy: no HTTP response from {address}"),
        ),
        (
            &["--web.systemd-socket"],
            "cannot check sockets of systemd".to_owned(),
        ),
        (&[ANY_PORT], "cannot check port 0".to_owned()),
        (
            &[&unreachable, "--web.config.file=nowhere.yml"],
            "the web configuration cannot be used: cannot read nowhere.yml".to_owned(),
        ),
    ] {
        let (code, said) = healthcheck(flags).await;
        assert_eq!(code, Some(1), "{flags:?}: {said}");
        let start = format!("teams-pstn-exporter: {line}");
        assert!(said.starts_with(&start), "{flags:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{flags:?}: {said}");
    }
}
