//! Faults around the process: files that hang, a log that is not read, limits of the system, a wrong clock.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::pipe::fcntl_getpipe_size;
use teams_pstn_exporter::machine;
use teams_pstn_simulator::world::World;
use tokio::process::Command;
use tokio::time::Instant;

use crate::support::{
    ANY_PORT, ENVIRONMENT, Folder, PROGRAM, Program, SECRET_FILE, Setup, scrape, scrape_until,
    signal, yaml,
};

const SUCCESSFUL: &str = "teams_pstn_config_last_reload_successful";

#[tokio::test]
async fn file_that_is_no_regular_one_stops_neither_scrapes_nor_the_end() {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    for (name, replacement, part) in [
        ("config.yml", "pipe", "a pipe, not a regular file"),
        ("config.yml", "/dev/zero", "a device, not a regular file"),
        ("secret", "pipe", "a pipe, not a regular file"),
        ("secret", "/dev/null", "a device, not a regular file"),
        ("key", "pipe", "a pipe, not a regular file"),
        ("key", "/dev/null", "a device, not a regular file"),
    ] {
        let labels = "labels: {user: pseudonym, pseudonym_key_file: key}\n";
        let folder = Folder::configured(simulator.url(), labels);
        let option = folder.option();
        let mut program = Program::start(&[ANY_PORT, &option], &[]);
        let address = program.address().await;
        program.logged("poll complete").await;
        replace(&folder.path(name), replacement);
        program.signal("HUP").await;
        let line = program.logged("configuration not reloaded").await;
        assert!(line.contains(part), "{name} {replacement}: {line}");
        scrape_until(address, |metrics| metrics.value(SUCCESSFUL) == "0").await;
        program.stop().await;
    }
}

/// Puts a pipe, or a link to a device, in the place of a file.
fn replace(path: &Path, replacement: &str) {
    fs::remove_file(path).unwrap();
    if replacement == "pipe" {
        let status = std::process::Command::new("mkfifo").arg(path).status();
        assert!(status.unwrap().success());
    } else {
        std::os::unix::fs::symlink(replacement, path).unwrap();
    }
}

#[tokio::test]
async fn log_that_is_not_read_stops_neither_polls_nor_scrapes_nor_the_end() {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    for format in ["logfmt", "json"] {
        let folder = Folder::new();
        let option = folder.configure(simulator.url(), "");
        let (reader, mut writer) = std::io::pipe().unwrap();
        let size = fcntl_getpipe_size(&writer).unwrap();
        writer.write_all(&vec![b'\n'; size]).unwrap();
        // The address cannot be read from the log.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["--web.systemd-socket", &option, "--log.level=debug"])
            .arg(format!("--log.format={format}"))
            .env_clear()
            .envs([("LISTEN_FDS", "1"), ("LISTEN_FDS_FIRST_FD", "0")])
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(writer)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        scrape_until(address, |metrics| {
            let polls = metrics.samples("teams_pstn_report_polls_total");
            polls
                .iter()
                .any(|sample| sample.value.parse::<f64>().unwrap() >= 3.0)
        })
        .await;
        signal(child.id().unwrap(), "TERM").await;
        let status = tokio::time::timeout(Duration::from_mins(1), child.wait()).await;
        assert_eq!(
            status.expect("it ends").unwrap().code(),
            Some(0),
            "{format}"
        );
        drop(reader);
    }
}

#[tokio::test]
async fn interim_responses_without_end_keep_no_scrape_waiting() {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    let graph = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("graph_url: http://{}", graph.local_addr().unwrap());
    // The threads end when the program closes its connections, and with the test.
    std::thread::spawn(move || {
        for stream in graph.incoming() {
            let mut stream = stream.unwrap();
            let responses = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
            std::thread::spawn(move || while stream.write_all(&responses).is_ok() {});
        }
    });
    let reports = "reports: [dialout, call_log, sms, direct_routing]\n";
    let folder = Folder::configured(simulator.url(), reports);
    let simulated = format!("graph_url: {}", simulator.url());
    let text = yaml(simulator.url(), SECRET_FILE, reports);
    folder.write("config.yml", text.replace(&simulated, &url));
    let option = folder.option();
    let mut program = Program::start(&[ANY_PORT, &option], &[]);
    let address = program.address().await;
    for _ in 0..20 {
        let begun = Instant::now();
        scrape(address).await;
        let duration = begun.elapsed();
        assert!(duration < Duration::from_secs(2), "{duration:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn state_file_over_the_limit_of_file_sizes_is_an_error_and_no_signal() {
    let (simulator, _) = Setup::of(World::Rows { count: 500 }).simulate().await;
    let folder = Folder::configured(simulator.url(), "storage: {path: state}\n");
    let option = folder.option();
    // In blocks of 512 bytes.
    let mut program = limited("ulimit -f 1", &[ANY_PORT, &option]);
    let address: SocketAddr = program.address().await;
    scrape_until(address, |metrics| {
        let failed = metrics.get("teams_pstn_storage_files_total{outcome=\"write_failed\"}");
        failed.is_some_and(|count| count != "0")
    })
    .await;
    scrape(address).await;
    program.stop().await;
}

#[tokio::test]
async fn limits_that_are_too_low_are_errors_with_a_remedy() {
    for (limit, part) in [
        ("ulimit -n 8", "the limit of open files is 8; raise it"),
        ("ulimit -n 15", "the limit of open files is 15; raise it"),
        (
            "ulimit -s 64",
            "the limit of the stack is 65536 bytes; raise it",
        ),
        (
            "ulimit -v 40960",
            "the limit of address space is 41943040 bytes; raise it",
        ),
        (
            "ulimit -d 32768",
            "the limit of data memory is 33554432 bytes; raise it",
        ),
    ] {
        for words in [&[ANY_PORT, "demo"][..], &["--config.check"], &["check"]] {
            let (code, said) = limited(limit, words).end().await;
            assert_eq!(code, Some(1), "{limit} {words:?} {said}");
            assert!(said.contains(part) && said.lines().count() == 1, "{said}");
        }
    }
}

/// The program under a limit of the shell's.
fn limited(limit: &str, words: &[&str]) -> Program {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\""), PROGRAM]);
    Program::start_by(shell, words, &[])
}

#[tokio::test]
async fn certificate_file_that_would_hang_or_has_another_format_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    fs::write(&pipe, "").unwrap();
    replace(&pipe, "pipe");
    let request = folder.path().join("request");
    fs::write(&request, "-----BEGIN CERTIFICATE REQUEST-----\n").unwrap();
    for (path, part) in [
        (request.to_str().unwrap(), "it is a certificate request"),
        (pipe.to_str().unwrap(), "a pipe, not a regular file"),
        ("/dev/zero", "a device, not a regular file"),
    ] {
        let variables = [&ENVIRONMENT[..], &[("SSL_CERT_FILE", path)]].concat();
        let (code, said) = Program::start(&["--config.check"], &variables).end().await;
        assert_eq!(code, Some(1), "{said}");
        let expected = format!("cannot read SSL_CERT_FILE {path}: {part}");
        assert!(said.contains(&expected), "{said}");
    }
}

#[tokio::test]
async fn clock_that_is_set_back_before_1970_ends_the_exporter_with_a_message() {
    let (_simulator, exporter, time) = Setup::of(World::Rows { count: 3 }).start().await;
    time.set("1969-12-31T23:59:59Z");
    let error = exporter.end().await.unwrap_err().to_string();
    assert!(error.starts_with("the clock shows 1969-12-31"), "{error}");
}

#[test]
fn clock_before_1970_is_an_error_with_a_remedy() {
    for (time, good) in [
        ("1901-01-01T00:00:00Z", false),
        ("1969-12-31T23:59:59Z", false),
        ("1970-01-01T00:00:00Z", true),
        ("2026-11-29T00:00:00Z", true),
    ] {
        let outcome = machine::check(time.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(outcome.is_ok(), good, "{outcome:?}");
        assert!(
            outcome
                .err()
                .is_none_or(|error| error.contains("set it, for example by NTP"))
        );
    }
}
