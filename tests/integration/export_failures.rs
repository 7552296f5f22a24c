//! `export` as a program, and what fails: exit code, message, and the old file untouched.

use std::fs;
use std::process::Stdio;

use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{self as simulator, Simulator};
use tokio::process::Command;

use crate::support::{CLIENT, Folder, PROGRAM, Program, SECRET, TENANT, run, simulator};

/// A simulator of three pages of the dial-out report, and a folder with the configuration of its tenant.
async fn prepare() -> (Simulator, Folder, String) {
    let world = World::Rows { count: 2_500 };
    let tenant = simulator::Tenant::new(TENANT, CLIENT, SECRET, world);
    let simulator = simulator(vec![tenant]).await;
    let folder = Folder::configured(simulator.url(), "");
    let option = folder.option();
    (simulator, folder, option)
}

/// Some days that have passed.
const SPAN: [&str; 4] = [
    "export",
    "--report=dialout",
    "--from=2026-01-01",
    "--to=2026-02-01",
];

#[tokio::test]
async fn failures_have_a_remedy_and_leave_the_old_file() {
    for (when, fault, expected) in [
        (
            When::page(2).always(),
            Fault::CutBody,
            "no complete response",
        ),
        (
            When::page(2).always(),
            Fault::RefuseConnection,
            "no complete response",
        ),
        (
            When::page(3),
            Fault::throttle("86400"),
            "throttles the application",
        ),
        (
            When::page(2).always(),
            Fault::StallBody,
            "was not complete at its deadline",
        ),
        (
            When::page(2),
            Fault::EmptyForbidden,
            "CallRecord-PstnCalls.Read.All",
        ),
        (
            When::page(2).always(),
            Fault::ExpireToken,
            "refused the token and also a new one",
        ),
        (
            When::page(3),
            Fault::BadRow {
                at: 7,
                json: "{}".to_owned(),
            },
            "is missing or null",
        ),
    ] {
        let (simulator, folder, option) = prepare().await;
        if fault == Fault::StallBody {
            let config = folder.path("config.yml");
            let text = fs::read_to_string(&config).unwrap();
            fs::write(&config, text.replace("timeout: 20s", "timeout: 3s")).unwrap();
        }
        let old = folder.write("table.csv", "old");
        let output = format!("--output={}", old.display());
        let before = fs::read_dir(folder.path("")).unwrap().count();
        for by in ["--by=row", "--by=user"] {
            simulator.push_fault(when.clone(), fault.clone());
            let words = [&SPAN[..], &[&option, &output, by]].concat();
            let (code, said) = run(&words, &[]).await;
            assert_eq!(code, 1, "{said}");
            assert!(
                said.contains("cannot export dialout: ") && said.contains(expected),
                "{said}"
            );
            assert_eq!(fs::read_to_string(&old).unwrap(), "old");
            assert_eq!(
                fs::read_dir(folder.path("")).unwrap().count(),
                before,
                "{said}"
            );
        }
        simulator.stop().await;
    }
}

/// As `export`: no samples that look complete, and an old file that stays.
#[tokio::test]
async fn backfill_fails_like_export() {
    for (when, fault, expected) in [
        (
            When::page(2).always(),
            Fault::CutBody,
            "no complete response",
        ),
        (
            When::page(3),
            Fault::throttle("86400"),
            "throttles the application",
        ),
        (
            When::page(2).always(),
            Fault::ExpireToken,
            "refused the token and also a new one",
        ),
    ] {
        let (simulator, folder, option) = prepare().await;
        let old = folder.write("samples", "old");
        let output = format!("--output={}", old.display());
        let backfill = [&["backfill"], &SPAN[1..], &[&option]].concat();
        for more in [&[&*output][..], &[]] {
            simulator.push_fault(when.clone(), fault.clone());
            let (code, said) = run(&[&backfill[..], more].concat(), &[]).await;
            assert_eq!(code, 1, "{said}");
            assert!(
                said.contains("cannot export dialout: ") && said.contains(expected),
                "{said}"
            );
            assert!(!said.contains("# EOF"), "{said}");
            assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        }
        simulator.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_expires_half_way_is_renewed() {
    let (simulator, _folder, option) = prepare().await;
    let words = [&SPAN[..], &[&option, "--by=row"]].concat();
    let (code, whole) = run(&words, &[]).await;
    assert_eq!(code, 0, "{whole}");
    simulator.push_fault(When::page(2), Fault::ExpireToken);
    let (code, renewed) = run(&words, &[]).await;
    assert_eq!(code, 0, "{renewed}");
    let table = |said: &str| {
        let lines = said.lines().filter(|line| line.contains("@contoso.com"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(table(&whole).len(), 2_500);
    assert_eq!(table(&renewed), table(&whole));
    assert!(
        whole.contains("export complete") && whole.contains("rows=2500"),
        "{whole}"
    );
    simulator.stop().await;
}

/// Rows that were written to standard output cannot be taken back.
#[tokio::test]
async fn a_table_that_breaks_off_cannot_be_taken_for_a_complete_one() {
    for (format, last) in [("csv", "\"INCOMPLETE"), ("jsonl", "{\"INCOMPLETE")] {
        let (simulator, _folder, option) = prepare().await;
        simulator.push_fault(When::page(2), Fault::EmptyForbidden);
        let format = format!("--format={format}");
        let export = async |by| {
            let words = [&SPAN[..], &[&option, &format, by]].concat();
            let mut command = Command::new(PROGRAM);
            command.args(&words).env_clear().output().await.unwrap()
        };
        let done = export("--by=row").await;
        assert_eq!(done.status.code(), Some(1));
        let table = String::from_utf8(done.stdout).unwrap();
        assert!(table.lines().count() > 1_000, "{table}");
        let end = table.lines().last().unwrap();
        assert!(
            end.starts_with(last) && !table.ends_with(['\n', '"', '}']),
            "{end}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(end).is_err());

        simulator.push_fault(When::page(2), Fault::EmptyForbidden);
        let done = export("--by=user").await;
        assert_eq!(done.status.code(), Some(1));
        assert!(done.stdout.is_empty(), "no sum of a part of the rows");
        simulator.stop().await;
    }
}

#[tokio::test]
async fn outputs_that_cannot_be_written_are_errors() {
    let (simulator, folder, option) = prepare().await;
    // A full disk.
    for by in ["row", "user"] {
        let line = format!(
            "exec {PROGRAM} {} {option} --by={by} >/dev/full",
            SPAN.join(" ")
        );
        let (code, said) = Program::start_by(Command::new("sh"), &["-c", &line], &[])
            .end()
            .await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("cannot write standard output: No space left"),
            "{said}"
        );
        assert!(said.contains("free space"), "{said}");
    }
    // A reader that has ended.
    let mut child = Command::new(PROGRAM)
        .args(SPAN)
        .arg(&option)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("Broken pipe") && said.contains("let it read to the end"),
        "{said}"
    );
    // No place for a file.
    let missing = folder.path("missing").join("table.csv");
    for place in [
        missing.to_str().unwrap(),
        folder.path("").to_str().unwrap(),
        "/dev/null",
    ] {
        let output = format!("--output={place}");
        let words = [&SPAN[..], &[&option, &output]].concat();
        let (code, said) = run(&words, &[]).await;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("give the path of a regular file"), "{said}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_link_stays_and_the_file_that_it_names_is_replaced() {
    let (simulator, folder, option) = prepare().await;
    let real = folder.write("real.csv", "old");
    let link = folder.path("link.csv");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let output = format!("--output={}", link.display());
    let words = [&SPAN[..], &[&option, &output, "--by=destination"]].concat();
    let (code, said) = run(&words, &[]).await;
    assert_eq!(code, 0, "{said}");
    assert!(link.is_symlink());
    let table = fs::read_to_string(&real).unwrap();
    assert!(
        table.starts_with("destination_context,currency,charge,calls,call_seconds\r\n"),
        "{table}"
    );
    simulator.stop().await;
}

#[tokio::test]
async fn wrong_flags_exit_with_2() {
    let (simulator, _folder, option) = prepare().await;
    for flags in [
        &["--report=dialout"][..],
        &["--report=dialout", "--from=2026-01-01"],
        &["--report=dialout", "--period=2026-1"],
        &["--report=dialout", "--period=2026-13"],
        &[
            "--report=dialout",
            "--period=2026-01",
            "--from=2026-01-01",
            "--to=2026-02-01",
        ],
        &["--report=nonsense", "--period=2026-01"],
        &["--report=dialout", "--period=2026-01", "--by=meeting"],
        &["--period=2026-01"],
    ] {
        let words = [&["export", &option][..], flags].concat();
        let (code, said) = run(&words, &[]).await;
        assert_eq!(code, 2, "{flags:?}: {said}");
    }
    simulator.stop().await;
}
