//! `check` and `pseudonym`, as programs.

use std::fmt::Write as _;

use serde_json::Value;
use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{self as simulator, Simulator};

use crate::support::{
    CLIENT, Exporter, Folder, NAMES, Program, SECRET, SECRET_FILE, TENANT, check, people, run,
    simulator, tenant, yaml,
};

/// A simulator, and a folder with a configuration for it.
async fn site(more: &str) -> (Simulator, Folder) {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::configured(simulator.url(), more);
    (simulator, folder)
}

/// The output of a check that ends with this code.
async fn checked(folder: &Folder, expected: i32) -> String {
    let (code, said) = check(&folder.path("config.yml"), &[]).await;
    assert_eq!(code, expected, "{said}");
    said
}

#[track_caller]
fn has(said: &str, part: &str) {
    assert!(said.contains(part), "no {part:?} in {said}");
}

#[tokio::test]
async fn successful_check_prints_every_finding() {
    let (simulator, folder) = site("").await;
    let said = checked(&folder, 0).await;
    let host = simulator.address();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "ok      configuration: tenants: 1; reports: dialout (every 1s); labels.user: upn",
            &format!("ok      connection {host}: answers"),
            "ok      clock: agrees with the servers' clocks",
            lines[3],
            "ok      permission: CallRecord-PstnCalls.Read.All",
            "ok      first page dialout: 3 rows",
            "ok      series dialout: 3 of the 20000 label combinations that max_series allows",
            &format!(
                "warning names dialout: 3 names of users are readable at :10053 by everyone who can reach the port; remedy: {REMEDY}"
            ),
            "ok      exposition: 9 series in 2 KiB",
            "verdict: passed, 9 checks, 1 warning",
        ],
    );
    assert!(
        lines[3].starts_with("ok      token: valid for 359"),
        "{said}"
    );
}

/// The files that the daemon starts with, beside the configuration: part of the output, and the exit code.
#[tokio::test]
async fn files_of_the_daemon_by_table() {
    let simulator = simulator(vec![tenant()]).await;
    let url = simulator.url();
    let folder = Folder::configured(url, "");
    let path = |name: &str| folder.path(name).display().to_string();
    let web = |text: &str| {
        std::fs::write(folder.path("web.yml"), text).unwrap();
        format!("--web.config.file={}", path("web.yml"))
    };
    let configure = |more: &str| {
        folder.configure(url, more);
    };
    let check = async |flags: &[&str], code: i32, part: &str, verdict: &str| {
        let option = folder.option();
        let words = [&["check", &option], flags].concat();
        let (ended, said) = run(&words, &[]).await;
        assert_eq!(ended, code, "{said}");
        assert!(said.contains(part), "no {part:?} in {said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with(verdict), "{said}");
    };
    let good = web("basic_auth_users: {}\n");
    let found = format!(
        "ok      web configuration {}: can be used, without TLS\n",
        path("web.yml")
    );
    check(&[&good], 0, &found, "verdict: passed, 10 checks, 1 warning").await;
    let bad = web("tls_server_config: {cert_file: nowhere.pem, key_file: nowhere.pem}\n");
    let found = format!("failure web configuration {}: ", path("web.yml"));
    check(
        &[&bad],
        2,
        &found,
        "verdict: failed, 1 of 10 checks, 1 warning; ",
    )
    .await;

    configure("storage: {path: state}");
    let missing = format!("ok      storage {}: does not exist yet", path("state"));
    check(&[], 0, &missing, "verdict: passed, 10 checks, 1 warning").await;
    assert!(!folder.path("state").exists());
    std::fs::create_dir(folder.path("state")).unwrap();
    let state = folder.path(&format!("state/{TENANT}.{CLIENT}.dialout.state"));
    std::fs::write(&state, "torn").unwrap();
    let torn = "dialout.state is not used, and will be set aside or removed at the next start";
    check(&[], 0, torn, "verdict: passed, 11 checks, 2 warnings").await;
    assert_eq!(std::fs::read(&state).unwrap(), b"torn");
    std::fs::remove_file(&state).unwrap();
    let found = format!(
        "ok      storage {}: can be written; state files to restore: 0",
        path("state")
    );
    check(&[], 0, &found, "verdict: passed, 10 checks, 1 warning").await;
    assert_eq!(std::fs::read_dir(folder.path("state")).unwrap().count(), 0);
    configure("storage: {path: secret/state}");
    let file = format!(
        "failure storage {}: cannot write {}",
        path("secret/state"),
        path("secret")
    );
    check(
        &[],
        1,
        &file,
        "verdict: failed, 1 of 10 checks, 1 warning; ",
    )
    .await;
}

#[tokio::test]
async fn expired_date_of_a_working_secret_is_a_warning() {
    let (simulator, folder) = site("").await;
    let credential = format!("{SECRET_FILE}\n    client_secret_expires: 2020-01-31");
    folder.write("config.yml", yaml(simulator.url(), &credential, ""));
    let said = checked(&folder, 0).await;
    assert!(
        said.contains(
            "warning credential: client_secret_expires is 2020-01-31 00:00 UTC, but the secret still gets a token; \
             remedy: correct the date"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn the_document_has_stable_keys() {
    let (_simulator, folder) = site("").await;
    let file = folder.option();
    let (code, json) = run(&["check", "--check.format=json", &file], &[]).await;
    assert_eq!(code, 0, "{json}");
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["result"], "warning");
    assert_eq!(document["version"], teams_pstn_exporter::VERSION);
    let checks = document["checks"].as_array().unwrap();
    let names: Vec<&str> = checks
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "configuration",
            "connection",
            "clock",
            "token",
            "permission",
            "first_page",
            "series",
            "names",
            "exposition"
        ]
    );
    for check in checks {
        let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "check", "level", "message", "remedy", "subject", "tenant", "value"
            ]
        );
    }
    assert_eq!(
        (&checks[6]["value"], &checks[6]["subject"]),
        (&3.0.into(), &"dialout".into())
    );
}

/// The finding about names, by listen address and protection.
#[tokio::test]
async fn readers_of_names_by_table() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::new();
    let users =
        "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n";
    let users = format!(
        "--web.config.file={}",
        folder.write("web.yml", users).display()
    );
    let [local, other] =
        ["127.0.0.1:7", "192.0.2.1:7"].map(|address| format!("--web.listen-address={address}"));
    let [local, other, users] = [&*local, &*other, &*users];
    let warning = |place: &str| {
        format!(
            "warning names dialout: 3 names of users are readable at {place} by everyone who can reach the port; remedy: {REMEDY}"
        )
    };
    let ok = |at: &str| format!("ok      names dialout: 3 names of users are readable at {at}");
    for (labels, flags, line) in [
        ("upn", &[][..], Some(warning(":10053"))),
        (
            "display_name",
            &[local, other],
            Some(warning("127.0.0.1:7, 192.0.2.1:7")),
        ),
        (
            "upn",
            &["--web.systemd-socket"],
            Some(warning("the sockets of systemd")),
        ),
        (
            "upn",
            &[local],
            Some(ok("127.0.0.1:7 by this machine only")),
        ),
        (
            "upn",
            &["--web.listen-address=localhost:7"],
            Some(ok("localhost:7 by this machine only")),
        ),
        (
            "upn",
            &[other, users],
            Some(ok("192.0.2.1:7 by clients with a password or certificate")),
        ),
        ("id", &[other], None),
        ("none", &[other], None),
    ] {
        let option = folder.configure(simulator.url(), &format!("labels: {{user: {labels}}}"));
        let (code, said) = run(&[&["check", &*option], flags].concat(), &[]).await;
        assert_eq!(code, 0, "{said}");
        let found = said.lines().find(|line| line.contains(" names dialout: "));
        assert_eq!(found, line.as_deref(), "{said}");
    }
}

/// The daemon says it once, at the start.
#[tokio::test]
async fn names_that_everyone_can_read_are_logged_at_the_start() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::new();
    let text = "names of users are readable at ";
    for (labels, address, count) in [
        ("upn", "0.0.0.0:0", 1),
        ("upn", "127.0.0.1:0", 0),
        ("pseudonym, pseudonym_key_file: key", "0.0.0.0:0", 0),
    ] {
        let option = folder.configure(simulator.url(), &format!("labels: {{user: {labels}}}"));
        let address = format!("--web.listen-address={address}");
        let mut program = Program::start(&[&option, &address], &[]);
        program.logged("poll complete").await;
        let said = program.stop().await;
        assert_eq!(said.matches(text).count(), count, "{said}");
    }
}

/// A reload that shows names for the first time says it too, and the next one does not.
#[tokio::test]
async fn names_that_a_reload_shows_are_logged_once() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::new();
    let configure = |user: &str| {
        let labels = format!("labels: {{user: {user}}}");
        folder.configure(simulator.url(), &labels)
    };
    let option = configure("none");
    let mut program = Program::start(&[&option, "--web.listen-address=0.0.0.0:0"], &[]);
    program.logged("poll complete").await;
    for _ in 0..2 {
        configure("upn");
        program.signal("HUP").await;
        program.logged("configuration reloaded").await;
    }
    let said = program.stop().await;
    let text = "names of users are readable at ";
    assert_eq!(said.matches(text).count(), 1, "{said}");
}

const REMEDY: &str = "if a firewall protects the port, nothing is needed; otherwise set passwords or client certificates in --web.config.file, listen on 127.0.0.1:10053 only (--web.listen-address), or show no names (labels.user and reports[].user: pseudonym or none)";

/// A fault, and the beginning and the end of the line that tells of it.
#[tokio::test]
async fn failures_by_table() {
    let (simulator, folder) = site("").await;
    let check = async |when: When, fault: Fault, begin: &str, end: &str| {
        simulator.push_fault(when.always(), fault);
        let said = checked(&folder, 1).await;
        simulator.clear_faults();
        let mut lines = said.lines();
        let found = lines.any(|line| line.starts_with(begin) && line.contains(end));
        assert!(found, "{begin} … {end}\n{said}");
        assert!(!said.contains(SECRET), "{said}");
        assert_eq!(said.matches("failure ").count(), 1, "{said}");
        // Nothing was fetched, so there is no size to report.
        assert!(!said.contains(" exposition: "), "{said}");
    };
    for (fault, end) in [
        (
            Fault::EmptyForbidden,
            "; remedy: add the application permission CallRecord-PstnCalls.Read.All",
        ),
        (
            Fault::ExpireToken,
            "Graph refused the token and also a new one",
        ),
        (
            Fault::status(404),
            "; remedy: this Graph does not know the report",
        ),
        (
            Fault::throttle("86400"),
            "; remedy: Graph throttles the application",
        ),
        (
            Fault::Html,
            "; remedy: a proxy, filter or login page answers in Graph's place",
        ),
        (
            Fault::Redirect("http://127.0.0.1:1/".to_owned()),
            "never follows a redirect with a token",
        ),
        (
            Fault::ForeignNextLink("https://evil.example/".to_owned()),
            "the token is not sent there",
        ),
    ] {
        check(When::graph(), fault, "failure first page dialout: ", end).await;
    }
    let token = async |fault, end: &str| {
        check(When::token().tenant(TENANT), fault, "failure token: ", end).await;
    };
    for (code, remedy) in TOKEN_ERRORS {
        token(Fault::TokenError(*code), &format!("; remedy: {remedy}")).await;
    }
    let proxy = "; remedy: check authority_url, and whether a proxy or portal";
    token(Fault::Html, proxy).await;
}

/// Every documented error of the token endpoint that a retry cannot fix, and how its remedy begins.
const TOKEN_ERRORS: &[(u32, &str)] = &[
    (
        7_000_215,
        "the client secret is wrong; often the secret's id was pasted",
    ),
    (7_000_222, "the client secret has expired"),
    (700_016, "no such application in this tenant"),
    (700_027, "the signature does not verify"),
    (90_002, "no such tenant"),
    (900_023, "the tenant id is neither a GUID"),
    (90_038, "the tenant belongs to another national cloud"),
    (900_382, "the tenant belongs to another national cloud"),
    (900_432, "the tenant belongs to another national cloud"),
    (70_011, "the scope must be the origin"),
    (1_002_012, "the scope must be the origin"),
    (70_001, "the application is disabled"),
    (700_011, "the application is disabled"),
    (700_025, "the application is a public client"),
    (53_003, "Conditional Access blocks"),
    (700_213, "no federated credential"),
    (50_196, "too many identical requests"),
];

#[tokio::test]
async fn silent_server_is_a_timeout() {
    let (simulator, folder) = site("").await;
    let quick = yaml(simulator.url(), SECRET_FILE, "").replace("20s", "1s");
    folder.write("config.yml", quick);
    for (when, fault, begin) in [
        (When::any(), Fault::StallHead, "failure connection"),
        (
            When::token().tenant(TENANT),
            Fault::StallHead,
            "failure token: ",
        ),
        (
            When::graph(),
            Fault::StallBody,
            "failure first page dialout: ",
        ),
        (
            When::token().tenant(TENANT),
            Fault::TokenError(90_033),
            "failure token: ",
        ),
    ] {
        simulator.push_fault(when.always(), fault);
        let begun = tokio::time::Instant::now();
        let (code, said) = check(&folder.path("config.yml"), &[]).await;
        simulator.clear_faults();
        assert_eq!(code, 1, "{said}");
        let line = said.lines().find(|line| line.starts_with(begin));
        assert!(
            line.is_some_and(|line| line.contains("; remedy: ")),
            "{begin}: {said}"
        );
        assert!(begun.elapsed().as_secs() < 10, "bounded");
    }
}

#[tokio::test]
async fn clocks_by_table() {
    for (ahead, code, line) in [
        (-50, 0, "ok      clock: 5"),
        (90, 0, "warning clock: "),
        (-90, 0, "warning clock: "),
        (400, 1, "failure clock: "),
        (-400, 1, "failure clock: "),
    ] {
        let clock = Clock::system();
        let simulator = Simulator::start(simulator::Options {
            tenants: vec![tenant()],
            ..simulator::Options::new(move || clock.now() + chrono::TimeDelta::seconds(ahead))
        })
        .await
        .unwrap();
        let folder = Folder::configured(simulator.url(), "");
        let said = checked(&folder, code).await;
        let found = said.lines().find(|found| found.starts_with(line));
        let found = found.unwrap_or_else(|| panic!("{line}: {said}"));
        let direction = if ahead > 0 {
            " s behind the"
        } else {
            " s ahead of the"
        };
        assert!(found.contains(direction), "{found}");
        assert_eq!(
            found.contains("; remedy: set this machine's clock"),
            !line.starts_with("ok")
        );
    }
}

#[tokio::test]
async fn a_missing_permission_is_a_hint_and_then_a_failure() {
    let (simulator, folder) = site("").await;
    simulator.change(TENANT, |tenant| {
        tenant.roles = vec!["User.Read.All".to_owned()];
    });
    let said = checked(&folder, 1).await;
    has(&said, "warning permission: the token grants neither");
    has(&said, "failure first page dialout: Graph answered 403");
    simulator.change(TENANT, |tenant| {
        tenant.roles = vec!["CallRecords.Read.All".to_owned()];
    });
    let said = checked(&folder, 0).await;
    has(&said, "ok      permission: CallRecords.Read.All\n");
}

#[tokio::test]
async fn series_are_counted_on_known_pages() {
    let mut large = tenant();
    large.world = World::Rows { count: 1_700 };
    let simulator = simulator(vec![large]).await;
    let folder = Folder::configured(simulator.url(), "");
    let file = folder.path("config.yml");
    let said = checked(&folder, 0).await;
    has(
        &said,
        "ok      first page dialout: 1000 rows, and more pages\n",
    );
    has(&said, "ok      series dialout: at least 1000 of the 20000");
    has(&said, "ok      exposition: at least 3000 series in ");
    folder.write(
        "config.yml",
        yaml(simulator.url(), SECRET_FILE, "labels: {max_series: 400}"),
    );
    let said = checked(&folder, 0).await;
    has(
        &said,
        "warning series dialout: at least 1000 of the 400 label combinations that max_series allows; the smallest will be aggregated",
    );
    has(&said, "exposition: at least 1200 series in ");
    folder.write(
        "config.yml",
        yaml(simulator.url(), SECRET_FILE, "labels: {user: none}"),
    );
    let (_, said) = check(&file, &[]).await;
    has(&said, "ok      series dialout: at least 10 of");
}

#[tokio::test]
async fn budgets_that_match_no_row_are_reported() {
    let simulator = simulator(vec![tenant()]).await;
    let now = Clock::system().now();
    let hours = (1..=60).map(|hours| (hours, now - chrono::TimeDelta::hours(hours.into())));
    let calls: Vec<Call> = hours.map(|(n, time)| Call::at(n, time)).collect();
    simulator.logs(TENANT).calls.set(calls);
    let table = [
        ("usd", "currency: USD", None),
        ("one", "currency: USD, user: ZEBEDEE@contoso.com", None),
        ("chf", "currency: CHF", Some("no charge in CHF; seen USD")),
        (
            "place",
            "currency: USD, usage_location: DE",
            Some("no charge in USD, usage_location DE; seen US"),
        ),
        (
            "context",
            "currency: USD, usage_location: US, destination_context: Internationall",
            Some(
                "no charge in USD, usage_location US, destination_context Internationall; seen International",
            ),
        ),
        (
            "absent",
            "currency: USD, user: absent@example.org",
            Some("no charge in USD by this user"),
        ),
        (
            "calls",
            "currency: XYZ, report: call_log",
            Some("no charge in XYZ; seen "),
        ),
    ];
    let mut budgets = "reports: [dialout, call_log]\nbudgets:\n".to_owned();
    for (name, selectors, _) in table {
        writeln!(budgets, "  - {{name: {name}, amount: 1, {selectors}}}").unwrap();
    }
    let folder = Folder::configured(simulator.url(), &budgets);
    let said = checked(&folder, 0).await;
    for (name, _, cause) in table {
        let line = said
            .lines()
            .find(|line| line.contains(&format!(" budget {name}: ")));
        let begin = cause.map(|cause| {
            format!("warning budget {name}: matches no row of the first page: {cause}")
        });
        match (line, begin) {
            (None, None) => {}
            (Some(line), Some(begin)) => assert!(
                line.starts_with(&begin) && line.contains("; remedy: correct the budget"),
                "{line}"
            ),
            (line, _) => panic!("{name}: {line:?} in {said}"),
        }
    }
    for name in NAMES {
        assert!(!said.to_lowercase().contains(name), "{said}");
    }
}

/// The calls of each licence, by which an administrator writes a pool.
#[tokio::test]
async fn licences_and_pools_of_the_call_log_are_reported() {
    let simulator = simulator(vec![tenant()]).await;
    let now = Clock::system().now();
    let yesterday = now - chrono::TimeDelta::days(1);
    let calls = (1..=3).map(|number| Call::at(number, yesterday));
    simulator.logs(TENANT).calls.set(calls.collect());
    let pools = "reports: [call_log]
pools:
  - {name: matching, license_capability: [MCOPSTN1], licenses: 1, minutes_per_license: 1}
  - {name: other, license_capability: [MCOPSTN2], licenses: 1, minutes_per_license: 1}
";
    let folder = Folder::configured(simulator.url(), pools);
    let said = checked(&folder, 0).await;
    // On the first day of a month, yesterday is in another period.
    if said.contains("first page call_log: 3 rows") {
        let license = "ok      licence MCOPSTN1, Domestic: 3 outgoing calls on the first page, 180 s in all; 0 with a charge, 3 without";
        let pool = "warning pool other: matches no row of the first page; remedy: compare license_capability";
        for line in [license, pool] {
            assert!(
                said.lines().any(|said| said.starts_with(line)),
                "{line} in {said}"
            );
        }
        assert!(!said.contains(" pool matching: "), "{said}");
    }
}

/// If no user has made a call yet, a budget has no finding, but the readers of later names have one.
#[tokio::test]
async fn empty_page_has_no_budget_findings() {
    let mut quiet = tenant();
    quiet.world = World::Rows { count: 0 };
    let simulator = simulator(vec![quiet]).await;
    let budget = "budgets: [{name: a, currency: CHF, amount: 1}]";
    let folder = Folder::configured(simulator.url(), budget);
    let said = checked(&folder, 0).await;
    has(&said, "ok      first page dialout: 0 rows\n");
    assert!(!said.contains(" budget "), "{said}");
    let later = "warning names dialout: no names of users yet; as soon as there are some, they will be readable at :10053 by everyone who can reach the port; remedy: ";
    has(&said, later);
}

#[tokio::test]
async fn configuration_errors_have_the_requested_format() {
    let folder = Folder::new();
    let file = folder.write("config.yml", "poll: {intervall: 1h}\ntenants: []\n");
    let file = format!("--config.file={}", file.display());
    let (code, text) = run(&["check", &file], &[]).await;
    assert_eq!(code, 2, "{text}");
    let (mistakes, verdict) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(mistakes.lines().count() >= 2, "{text}");
    assert!(
        mistakes
            .lines()
            .all(|line| line.starts_with("failure configuration: ")),
        "{text}"
    );
    assert!(verdict.starts_with("verdict: failed, "), "{text}");
    let (code, json) = run(&["check", "--check.format=json", &file], &[]).await;
    assert_eq!(code, 2, "{json}");
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["result"], "failure");
    assert_eq!(
        document["checks"].as_array().unwrap().len(),
        mistakes.lines().count()
    );
    let (code, text) = run(&["check"], &[]).await;
    assert_eq!(code, 2, "{text}");
    has(
        &text,
        "failure configuration: environment: AZURE_TENANT_ID is not set",
    );
}

#[tokio::test]
async fn unreachable_hosts_are_reported_separately() {
    // A port that was free a moment ago.
    let gone = simulator(vec![]).await;
    let url = gone.url().to_owned();
    gone.stop().await;
    for (url, begin, remedy) in [
        (
            url.as_str(),
            "failure connection 127.0.0.1:",
            "; remedy: check the URL and the firewall",
        ),
        (
            "https://nowhere.invalid",
            "failure name nowhere.invalid: nowhere.invalid cannot be resolved: ",
            "; remedy: check the name and this machine's resolver",
        ),
    ] {
        let folder = Folder::configured(url, "");
        let said = checked(&folder, 1).await;
        let line = said.lines().find(|line| line.starts_with("failure"));
        assert!(
            line.is_some_and(|line| line.starts_with(begin) && line.contains(remedy)),
            "{said}"
        );
        assert_eq!(
            said.matches("failure ").count(),
            1,
            "one cause, one failure: {said}"
        );
        assert!(!said.contains(" exposition: "), "{said}");
    }
}

#[tokio::test]
async fn tenants_come_in_the_order_of_the_configuration() {
    let ids: Vec<String> = (0..40)
        .map(|number| format!("00000000-0000-0000-0000-{number:012}"))
        .collect();
    let tenants = ids
        .iter()
        .map(|id| simulator::Tenant::new(id, CLIENT, SECRET, people()))
        .collect();
    let simulator = simulator(tenants).await;
    let url = simulator.url();
    let folder = Folder::configured(url, "");
    let mut text = "tenants:\n".to_owned();
    for (number, id) in ids.iter().enumerate() {
        writeln!(text, "  - {{name: t{number}, tenant_id: {id}, client_id: {CLIENT}, client_secret_file: secret, graph_url: \"{url}\", authority_url: \"{url}\"}}").unwrap();
    }
    folder.write("config.yml", text);
    simulator.push_fault(
        When::graph().tenant(&ids[7]).always(),
        Fault::EmptyForbidden,
    );
    let said = checked(&folder, 1).await;
    let pages: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(" first page "))
        .collect();
    for (number, line) in pages.iter().enumerate() {
        let level = if number == 7 { "failure" } else { "ok     " };
        assert!(
            line.starts_with(&format!("{level} t{number} first page dialout: ")),
            "{line}"
        );
    }
    assert_eq!(pages.len(), 40);
    has(
        &said,
        "\nok      exposition: at least 351 series in 50 KiB\nverdict: failed, 1 of ",
    );
}

#[tokio::test]
async fn a_pseudonym_is_the_label_of_a_running_daemon() {
    let simulator = simulator(vec![tenant()]).await;
    let labels = "labels: {user: pseudonym, pseudonym_key_file: key}";
    let folder = Folder::configured(simulator.url(), labels);
    let mut daemon = Exporter::of_file(&folder.path("config.yml"));
    daemon.polled().await;
    let samples = daemon.scrape().await.samples("teams_pstn_dialout_charge");
    let users = [
        "ottilie.quaver@CONTOSO.com",
        "zebedee@contoso.com",
        "ximena@contoso.com",
    ];
    let option = folder.option();
    let words = [&["pseudonym", &option], &users[..]].concat();
    let (code, printed) = run(&words, &[]).await;
    assert_eq!(code, 0, "{printed}");
    let printed: Vec<(&str, &str)> = printed
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .collect();
    assert_eq!(
        printed.iter().map(|(user, _)| *user).collect::<Vec<_>>(),
        users
    );
    for (_, pseudonym) in printed {
        let is_label = samples
            .iter()
            .any(|sample| sample.label("user") == pseudonym);
        assert!(is_label, "{pseudonym} in {samples:?}");
    }
    assert_eq!(samples.len(), 3);
    for name in NAMES {
        assert!(!format!("{samples:?}").to_lowercase().contains(name));
    }
}

#[tokio::test]
async fn there_are_no_pseudonyms_without_a_key() {
    let folder = Folder::configured("http://127.0.0.1:1", "labels: {user: id}");
    let (code, text) = run(&["pseudonym", &folder.option(), "a@b"], &[]).await;
    assert_eq!(code, 2, "{text}");
    has(
        &text,
        "set labels.user to pseudonym and labels.pseudonym_key_file",
    );
    assert!(!text.contains("a@b"), "{text}");
    let (code, text) = run(&["pseudonym", "a@b"], &[]).await;
    assert_eq!(code, 2, "{text}");
}
