//! The program as a process: what it prints, what its exit code says, how it takes signals.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use teams_pstn_simulator::world::World;
use tokio::process::Command;

use crate::support::{
    ANY_PORT, ENVIRONMENT, Folder, Metrics, PATIENCE, PROGRAM, Program, SECRET, Setup, address_in,
    promtool, request, scrape, scrape_until,
};

const SUCCESSFUL: &str = "teams_pstn_config_last_reload_successful";

#[tokio::test]
async fn demo_needs_no_configuration_and_promtool_accepts_its_metrics() {
    let mut demo = Program::start(&["demo", "--log.level=info", ANY_PORT], &[]);
    let address = address_in(&demo.printed("/metrics").await);
    demo.logged("poll complete").await;
    let metrics = scrape_until(address, |metrics| {
        let up = metrics.samples("teams_pstn_report_up");
        up.len() == 5 && up.iter().all(|report| report.value == "1")
    })
    .await;
    for family in ["charge", "calls", "call_seconds"] {
        let samples = metrics.samples(&format!("teams_pstn_dialout_{family}"));
        assert!(samples.len() > 200, "{} of {family}", samples.len());
        for sample in samples {
            let labels = ["currency", "destination_context", "usage_location", "user"];
            assert_eq!(sample.label_names(), labels, "{sample:?}");
        }
    }
    for (family, label, values) in [
        (
            "budget_threshold_ratio",
            "budget",
            &["calls", "dial-out"][..],
        ),
        (
            "pool_threshold_ratio",
            "pool",
            &["uk-calling", "us-calling"],
        ),
        (
            "department_charge",
            "department",
            &[
                "Engineering",
                "Finance",
                "Legal",
                "Sales",
                "Support",
                "unmapped",
            ],
        ),
    ] {
        let samples = metrics.samples(&format!("teams_pstn_{family}"));
        let found: BTreeSet<&str> = samples.iter().map(|sample| sample.label(label)).collect();
        assert!(found.iter().eq(values), "{family}: {found:?}");
    }
    let blocked = metrics.samples("teams_pstn_blocked_users_since_timestamp_seconds");
    assert!(
        blocked
            .iter()
            .any(|sample| sample.label("user").ends_with("@contoso.com"))
    );
    promtool(&metrics.0);
    for path in ["/", "/-/healthy", "/-/ready"] {
        assert_eq!(
            request(address, "GET", path, "").await.status,
            200,
            "{path}"
        );
    }
    let said = demo.stop().await;
    assert!(said.contains("stopped"), "{said}");
    assert!(!said.contains("reason=throttled"), "{said}");
}

/// A log of every poll would scroll the invitation off the screen.
#[tokio::test]
async fn demo_reads_a_configuration_and_prints_its_invitation_last() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demo.yml");
    fs::write(
        &file,
        "reports: [dialout, call_log]\nlabels: {user: none}\n\
         pools:\n- {name: all, license_capability: [MCOPSTN2], licenses: 1, minutes_per_license: 1}\n\
         budgets:\n- {name: travel, report: dialout, currency: USD, amount: 30000}\n",
    )
    .unwrap();
    let option = format!("--config.file={}", file.display());
    let mut demo = Program::start(&["demo", ANY_PORT, &option, "--web.telemetry-path=/m"], &[]);
    let address = address_in(&demo.printed("  http://127.0.0.1:").await);
    demo.printed(&format!("curl -s http://{address}/m |")).await;
    let metrics = async || Metrics(request(address, "GET", "/m", "").await.body);
    let mut polled = metrics().await;
    while polled.samples("teams_pstn_budget_spent").is_empty() {
        polled = metrics().await;
    }
    assert_eq!(
        polled.value("teams_pstn_budget_amount{budget=\"travel\",currency=\"USD\"}"),
        "30000"
    );
    assert_eq!(polled.samples("teams_pstn_report_up").len(), 2);
    assert!(
        polled
            .samples("teams_pstn_pool_size_seconds")
            .iter()
            .all(|pool| pool.label("pool") == "all")
    );
    assert!(!polled.samples("teams_pstn_department_charge").is_empty());
    for sample in polled.samples("teams_pstn_dialout_charge") {
        assert!(!sample.label_names().contains(&"user"), "{sample:?}");
    }
    let said = demo.stop().await;
    assert!(!said.contains("poll complete"), "{said}");
}

/// The output of `--config.check` if all is well.
const GOOD: &str = "the configuration is good: tenants: 1; reports: dialout";

#[tokio::test]
async fn exit_codes_by_table() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--web.listen-address={}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bad = format!(
        "--config.file={}",
        file("bad.yml", "tenants: []\nbogus: 1\n")
    );
    let missing = format!("--config.file={}/missing.yml", folder.path().display());
    let bad_web = format!("--web.config.file={}", file("web.yml", "bogus: 1\n"));
    let environment: &[(&str, &str)] = &ENVIRONMENT;
    let none: &[(&str, &str)] = &[];
    for (words, environment, code, parts) in [
        (
            &["demo", &taken][..],
            none,
            1,
            &["cannot listen on 127.0.0.1:"][..],
        ),
        (
            &[&taken],
            environment,
            1,
            &[
                "cannot listen on 127.0.0.1:",
                "Address already in use (os error 98); another process listens there; find it with ss -ltnp and stop it, or choose another --web.listen-address",
            ],
        ),
        // Of the range 240.0.0.0/4, which no interface takes.
        (
            &["--web.listen-address=240.0.0.1:0"],
            environment,
            1,
            &["; this machine has no such address; choose another --web.listen-address"],
        ),
        (
            &["demo", &bad],
            none,
            2,
            &["bad.yml:1: tenants: the demo polls", "bad.yml:2: "],
        ),
        (
            &["demo", "--tenants.shard=0/2"],
            none,
            2,
            &["the demo has one simulated tenant only; remove --tenants.shard"],
        ),
        (
            &[ANY_PORT],
            none,
            2,
            &["AZURE_TENANT_ID is not set", "demo"],
        ),
        (
            &[ANY_PORT, &bad],
            none,
            2,
            &["bad.yml:1: tenants", "bad.yml:2: ", "bogus"],
        ),
        (
            &[ANY_PORT, &missing],
            none,
            2,
            &["missing.yml: cannot be read"],
        ),
        (
            &["demo", ANY_PORT, &bad_web],
            none,
            2,
            &["web configuration", "bogus"],
        ),
        (&["--bogus"], none, 2, &["--bogus"]),
        (
            &["demo", "--config.check"],
            none,
            0,
            &["the configuration is good: tenants: 1; reports: dialout (every 5s), call_log"],
        ),
        (&["--config.check", &bad], none, 2, &["bad.yml:1: tenants"]),
        (&["--config.check"], environment, 0, &[GOOD]),
        (&["--version"], none, 0, &["teams-pstn-exporter"]),
        (&["--help"], none, 0, &["--web.listen-address"]),
    ] {
        let (found, said) = Program::start(words, environment).end().await;
        assert_eq!(found, Some(code), "{words:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{words:?}: no {part:?} in {said}");
        }
        assert!(!said.contains(SECRET), "{words:?}: {said}");
    }
    drop(listener);
}

/// More of them than fit into a line of the log.
#[tokio::test]
async fn every_error_has_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yml");
    let keys: Vec<String> = (1..=30).map(|number| format!("bogus{number}")).collect();
    fs::write(&path, keys.join(": 1\n") + ": 1\n").unwrap();
    let config = format!("--config.file={}", path.display());
    let web = folder.path().join("web.yml");
    fs::write(&web, "bogus: 1\n").unwrap();
    let web = format!("--web.config.file={}", web.display());
    for words in [
        &[ANY_PORT, &config][..],
        &["--config.check", &config],
        &["--config.check", &config, &web],
    ] {
        let (code, said) = Program::start(words, &[]).end().await;
        assert_eq!(code, Some(2), "{words:?}: {said}");
        for (line, key) in (1..).zip(&keys) {
            let mistakes: Vec<&str> = said
                .lines()
                .filter(|it| it.contains(&format!("bad.yml:{line}: {key}: ")))
                .collect();
            assert_eq!(mistakes.len(), 1, "{words:?}: {key}: {said}");
            assert_eq!(
                mistakes[0].matches(": bogus").count(),
                1,
                "{words:?}: {said}"
            );
        }
        let web_is_reported = said.contains("the web configuration cannot be used: ");
        assert_eq!(web_is_reported, words.contains(&web.as_str()), "{said}");
    }
}

/// As `check | head` does: the check goes on to its end, and its exit code is what it has found.
#[tokio::test]
async fn closed_pipe_is_not_reported() {
    for format in ["text", "json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = Command::new(PROGRAM)
            .args(["check", &format!("--check.format={format}")])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(2), ""));
    }
}

#[tokio::test]
async fn hangups_reload_and_interrupts_stop() {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    let folder = Folder::new();
    let option = folder.configure(simulator.url(), "");
    let file = folder.path("config.yml");
    let good = fs::read_to_string(&file).unwrap();
    let mut program = Program::start(&[ANY_PORT, &option, "--log.level=debug"], &[]);
    let address = program.address().await;
    program.logged("poll complete").await;
    assert_eq!(scrape(address).await.value(SUCCESSFUL), "1");
    for (text, line, successful) in [
        ("tenants: [\n", "configuration not reloaded", "0"),
        (good.as_str(), "configuration reloaded", "1"),
    ] {
        fs::write(&file, text).unwrap();
        program.signal("HUP").await;
        program.logged(line).await;
        scrape_until(address, |metrics| metrics.value(SUCCESSFUL) == successful).await;
        program.logged("poll complete").await;
    }
    program.signal("INT").await;
    let (code, said) = program.end().await;
    assert_eq!(code, Some(0), "{said}");
}
