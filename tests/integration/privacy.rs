//! No secret, no token and no request body anywhere that someone may read.

use std::fs;

use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::World;

use crate::support::{ANY_PORT, CLIENT, Folder, Program, SECRET, Setup, TENANT, request};

/// Fails where a text holds the secret in any spelling, a token, or a form or header that carries them.
fn check(what: &str, text: &str) {
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    assert_ne!(encoded, SECRET);
    // Every token of the simulator is a JWT, and so begins with the text `{"`.
    for never in [
        SECRET,
        &encoded,
        "eyJ",
        "client_secret=",
        "grant_type=",
        "Bearer",
    ] {
        assert!(!text.contains(never), "{never} in {what}:\n{text}");
    }
}

async fn check_run(format: &str) {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    // The exporter must not show an echo of a server either.
    let echo = format!(
        "{{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: {SECRET} is wrong\",\"error_codes\":[7000215]}}"
    );
    simulator.push_fault(When::token(), Fault::literal(401, echo));
    simulator.push_fault(
        When::token(),
        Fault::literal(200, format!("{{\"access_token\":7,\"x\":\"{SECRET}\"}}")),
    );
    simulator.push_fault(When::token(), Fault::literal(500, SECRET));
    simulator.push_fault(When::graph(), Fault::status(503));
    simulator.push_fault(When::graph().times(2), Fault::ExpireToken);
    simulator.push_fault(When::graph(), Fault::Html);
    let folder = Folder::new();
    let option = folder.configure(simulator.url(), "");
    let format_option = format!("--log.format={format}");
    let words = [ANY_PORT, &option, "--log.level=debug", &format_option];
    let mut program = Program::start(&words, &[]);
    let address = program.address().await;
    // The wrong secret, the token that is none, the expired token, the web page; then all is well.
    for _ in 0..4 {
        program.logged("poll failed").await;
        check(
            "/-/ready",
            &request(address, "GET", "/-/ready", "").await.body,
        );
        check("/", &request(address, "GET", "/", "").await.body);
    }
    program.logged("poll complete").await;
    for path in ["/metrics", "/", "/-/ready", "/nowhere"] {
        let answer = request(address, "GET", path, "").await;
        check(path, &answer.head);
        check(path, &answer.body);
    }
    // A secret in the wrong setting must not get into the log.
    let misplaced = format!("tenants:\n- client_secret: {SECRET}\n  client_id: {SECRET}\n");
    folder.write("config.yml", misplaced);
    let refused = request(address, "POST", "/-/reload", "").await;
    assert_eq!(refused.status, 500);
    assert!(refused.body.contains("client_secret"), "{}", refused.body);
    check("/-/reload", &refused.body);
    let said = program.stop().await;
    for part in [
        "asked for a token",
        "asked Graph",
        "AADSTS7000215",
        "not reloaded",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    check("the log", &said);
}

#[tokio::test]
async fn secrets_are_absent_from_logfmt() {
    check_run("logfmt").await;
}

#[tokio::test]
async fn secrets_are_absent_from_json() {
    check_run("json").await;
}

/// The module that logs is named at debug only, and a duration has no more than three decimals.
#[tokio::test]
async fn lines_of_the_log_by_level() {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    let folder = Folder::new();
    let option = folder.configure(simulator.url(), "");
    for (level, is_named) in [("debug", true), ("info", false)] {
        for (format, target, duration) in [
            ("logfmt", "target=", "duration_seconds="),
            ("json", "\"target\":", "\"duration_seconds\":"),
        ] {
            let level = format!("--log.level={level}");
            let format = format!("--log.format={format}");
            let mut program = Program::start(&[ANY_PORT, &option, &level, &format], &[]);
            program.logged("poll complete").await;
            program.signal("TERM").await;
            let (_, said) = program.end().await;
            assert_eq!(said.contains(target), is_named, "{said}");
            let (_, number) = said.split_once(duration).unwrap();
            let end = number.find([' ', ',', '\n']).unwrap();
            let (_, decimals) = number[..end].split_once('.').unwrap();
            assert!((1..=3).contains(&decimals.len()), "{}", &number[..end]);
        }
    }
}

/// Without a file: the authority of the environment is the simulator, which knows no such Graph.
#[tokio::test]
async fn secrets_of_the_environment_are_absent_from_the_log() {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    // Any authority will do: nothing is asked of Graph without a token.
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&authority, certificate.cert.pem()).unwrap();
    let environment = [
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT),
        ("AZURE_CLIENT_SECRET", SECRET),
        ("AZURE_AUTHORITY_HOST", simulator.url()),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ];
    let mut program = Program::start(&[ANY_PORT, "--log.level=debug"], &environment);
    program.logged("poll failed").await;
    let said = program.stop().await;
    assert!(said.contains("AADSTS500011"), "{said}");
    check("the log", &said);
}

/// A secret that was pasted into the wrong variable is not repeated.
#[tokio::test]
async fn secrets_are_absent_from_error_messages() {
    let environment = [
        ("AZURE_TENANT_ID", SECRET),
        ("AZURE_CLIENT_ID", SECRET),
        ("AZURE_CLIENT_SECRET", SECRET),
    ];
    let (code, said) = Program::start(&[ANY_PORT], &environment).end().await;
    assert_eq!(code, Some(2));
    check("the output", &said);
}
