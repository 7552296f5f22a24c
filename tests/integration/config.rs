//! The configuration file, from outside: what is accepted, what is refused and in which words.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use teams_pstn_exporter::config::{Config, ConfigErrors, Labels, Poll};
use teams_pstn_exporter::graph::address::Cloud;
use teams_pstn_exporter::graph::credential::Credential;
use teams_pstn_exporter::graph::credential::SecretSource;
use teams_pstn_exporter::period::CycleDay;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::labels::UserLabel;
use tempfile::TempDir;

const TENANT: &str = "tenants:
  - tenant_id: 11111111-2222-3333-4444-555555555555
    client_id: 66666666-7777-8888-9999-000000000000
    client_secret_file: secret
";

const IDS: &str = "tenant_id: 11111111-2222-3333-4444-555555555555
    client_id: 66666666-7777-8888-9999-000000000000";

/// A folder with a configuration and the files that it may name.
struct Folder(TempDir);

impl Folder {
    fn with(config: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write =
            |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("a file");
        write("secret", b"s3cret\n");
        write("key", b"0123456789abcdef");
        write("short", b"0123456789abcde\n\n");
        write("long", "k".repeat(64 * 1024 + 1).as_bytes());
        write("empty", b"");
        write("lines", b"s3cret\nand another\n");
        write("zeros", &[0; 32]);
        write("blank", &[b'\n'; 32]);
        std::os::unix::fs::symlink("/dev/null", folder.path().join("linked")).expect("a link");
        let pipe = Command::new("mkfifo")
            .arg(folder.path().join("pipe"))
            .status();
        assert!(pipe.expect("mkfifo").success());
        write("c.yml", config.as_ref());
        fs::create_dir(folder.path().join("folder")).expect("a folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(&self.path("c.yml"))
    }
}

/// The mistakes in a configuration, every path cut down to its name.
fn mistakes_of(config: impl AsRef<[u8]>) -> Vec<String> {
    let folder = Folder::with(config);
    let mistakes = folder.load().expect_err("a mistake in it");
    let prefix = format!("{}/", folder.0.path().display());
    let lines: Vec<String> = mistakes
        .to_string()
        .lines()
        .map(|line| {
            line.strip_prefix(&prefix)
                .expect("the path first")
                .replace(&prefix, "")
        })
        .collect();
    assert_eq!(lines.len(), mistakes.len());
    lines
}

fn good(config: &str) -> Config {
    Folder::with(config).load().expect("a good configuration")
}

#[test]
fn single_errors_by_table() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let table = fs::read_to_string(fixtures.join("configuration_mistakes.txt")).unwrap();
    let mut count = 0;
    for block in table.split("\n\n") {
        let (cases, config): (Vec<&str>, Vec<&str>) =
            block.lines().partition(|line| line.contains("=> "));
        let config: String = config.into_iter().flat_map(|line| [line, "\n"]).collect();
        for case in cases {
            let (line, mistake) = case.split_once("=> ").unwrap();
            let config = config
                .replace('…', line.trim_end())
                .replace("@one\n", TENANT)
                .replace("@ids", IDS);
            assert_eq!(mistakes_of(&config), [mistake], "{config}");
            count += 1;
        }
    }
    assert!(count >= 150, "{count}");
}

#[test]
fn all_errors_are_reported_in_the_order_of_their_lines() {
    let config = "budgets:
  - {name: a, currency: euros, amount: free, tenant: absent}
poll:
  interval: 0s
  timeut: 5m
labels: {user: pseudonym}
tenants:
  - tenant_id: contoso
    client_secret_file: nowhere
    managed_identity: false
  - cloud: china
    colour: red
reports: [calls, dialout, dialout]
";
    let errors = mistakes_of(config);
    let starts = [
        "c.yml:2: budgets[0].currency: ",
        "c.yml:2: budgets[0].amount: ",
        "c.yml:4: poll.interval: ",
        "c.yml:5: poll.timeut: ",
        "c.yml:6: labels.user: ",
        "c.yml:8: tenants[0].tenant_id: ",
        "c.yml:8: tenants[0]: no name",
        "c.yml:9: tenants[0].client_secret_file: ",
        "c.yml:10: tenants[0].managed_identity: false",
        "c.yml:10: tenants[0].managed_identity: a second credential",
        "c.yml:11: tenants[1].cloud: ",
        "c.yml:11: tenants[1]: no tenant_id",
        "c.yml:11: tenants[1]: no name",
        "c.yml:11: tenants[1]: no client_id",
        "c.yml:11: tenants[1]: no credential",
        "c.yml:12: tenants[1].colour: ",
        "c.yml:13: reports[0]: ",
        "c.yml:13: reports[2]: ",
    ];
    assert_eq!(errors.len(), starts.len(), "{errors:#?}");
    for (line, start) in errors.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn files_without_a_configuration_by_table() {
    let large = format!("{TENANT}# {}\n", "x".repeat(1 << 20));
    assert_eq!(
        mistakes_of(large),
        ["c.yml: larger than 1 MiB; split the tenants over several exporters"]
    );
    assert_eq!(
        mistakes_of(b"poll:\n  interval: 1h # \xff\n"),
        ["c.yml:2: not UTF-8; save the file as UTF-8"]
    );
    let folder = Folder::with(TENANT);
    for name in ["nowhere.yml", "folder"] {
        let path = folder.path(name);
        let errors = Config::load(&path).unwrap_err().to_string();
        let start = format!("{}: cannot be read: ", path.display());
        assert!(errors.starts_with(&start), "{errors}");
    }
}

/// A file that is small on disk must not become large or slow in memory: many keys, deep nesting, long words.
#[test]
fn hostile_files_are_rejected_soon() {
    let keys: Vec<String> = (0..80_000).map(|index| format!("k{index}: 1\n")).collect();
    assert_eq!(mistakes_of(keys.concat()).len(), 80_000 + 1);
    for (unit, count) in [
        ("[", 1 << 20),
        ("{a: ", 1 << 18),
        ("- ", 1 << 19),
        ("? ", 1 << 19),
    ] {
        assert_eq!(mistakes_of(unit.repeat(count)).len(), 1, "{unit}");
    }
    let long = format!("{}: 1\n{TENANT}", "k".repeat(1000));
    assert!(mistakes_of(long)[0].len() < 400);
    let value = format!("labels: {{user: {}}}\n{TENANT}", "k".repeat(100_000));
    assert!(mistakes_of(value)[0].len() < 400);
}

#[test]
fn a_pasted_secret_is_never_repeated() {
    let secret = "Abc8Q~pasted-by-mistake";
    for key in [
        "tenant_id",
        "client_id",
        "client_secret",
        "client_secret_file",
        "client_certificate_file",
        "federated_token_file",
    ] {
        let config = format!("tenants:\n  - {key}: {secret}\n");
        let errors = mistakes_of(config).join("\n");
        assert!(!errors.contains("Abc8Q"), "{errors}");
    }
}

#[test]
fn defaults() {
    let config = good(TENANT);
    assert_eq!(config.poll, Poll::default());
    assert_eq!(config.poll.interval, Duration::from_hours(1));
    assert_eq!(config.poll.timeout, Duration::from_mins(5));
    assert_eq!(config.billing.cycle_day, CycleDay::default());
    assert_eq!(config.labels, Labels::default());
    assert_eq!(config.labels.user, UserLabel::Upn);
    assert_eq!(config.labels.max_series.get(), 20_000);
    assert_eq!(config.reports, [ReportKind::Dialout.into()]);
    assert!(config.budgets.is_empty());
    let [tenant] = config.tenants.as_slice() else {
        panic!("one tenant");
    };
    assert_eq!(tenant.name, None);
    assert_eq!(tenant.cloud, Cloud::Global);
    assert_eq!(tenant.credential_expiry, None);
    assert!(tenant.graph_url.is_none() && tenant.authority_url.is_none());
}

#[test]
fn settings_of_a_report_override_the_defaults() {
    let config = good(&format!(
        "{TENANT}poll: {{interval: 2h}}
labels: {{user: id, pseudonym_key_file: key}}
reports:
  - call_log
  - blocked_users
  - name: dialout
  - name: sms
    interval: 30m
    user: pseudonym
    max_series: 50
"
    ));
    let settings: Vec<_> = config
        .reports
        .iter()
        .map(|report| (report.kind, report.interval, report.max_series))
        .collect();
    assert_eq!(
        settings,
        [
            (ReportKind::CallLog, None, None),
            (ReportKind::BlockedUsers, None, None),
            (ReportKind::Dialout, None, None),
            (
                ReportKind::Sms,
                Some(Duration::from_mins(30)),
                NonZeroUsize::new(50)
            ),
        ]
    );
    assert_eq!(config.poll.log_interval, Duration::from_hours(6));
    assert_eq!(config.labels.user, UserLabel::Id);
    let pseudonym = config.reports[3].user.as_ref();
    assert!(matches!(pseudonym, Some(UserLabel::Pseudonym(_))));
    assert_eq!(config.reports[2].user, None);
}

#[test]
fn thresholds_of_budgets_are_in_ascending_order() {
    let thresholds_of = |key: &str| {
        let config = good(&format!(
            "{TENANT}budgets:\n  - {{name: a, currency: EUR, amount: 1{key}}}\n"
        ));
        let thresholds = config.budgets[0].thresholds.iter();
        let spelled =
            thresholds.map(|threshold| format!("{} {:?}", threshold.at, threshold.severity));
        spelled.collect::<Vec<_>>().join(", ")
    };
    for (key, expected) in [
        ("", "50 Info, 80 Warning, 100 Critical, 120 Critical"),
        (", thresholds: []", ""),
        (
            ", thresholds: [120, {at: 90, severity: critical}, {at: 30}]",
            "30 Info, 90 Critical, 120 Critical",
        ),
    ] {
        assert_eq!(thresholds_of(key), expected, "{key}");
    }
}

#[test]
fn relative_paths_start_at_the_file() {
    let folder = Folder::with(TENANT);
    let config = folder.load().unwrap();
    let Credential::Secret(SecretSource::File(path)) = &config.tenants[0].credential else {
        panic!("a secret");
    };
    assert_eq!(*path, folder.path("secret"));
    let absolute = TENANT.replace("file: secret", &format!("file: {}", path.display()));
    let config = good(&absolute);
    assert!(
        matches!(&config.tenants[0].credential, Credential::Secret(SecretSource::File(p)) if p == path)
    );
}

#[test]
fn durations_by_table() {
    for (text, seconds) in [
        ("1s", 1),
        ("90s", 90),
        ("5m", 300),
        ("1h", 3600),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("1day", 86_400),
        ("\"2h\"", 7200),
        ("31days", 31 * 86_400),
    ] {
        let config = good(&format!("poll: {{interval: {text}}}\n{TENANT}"));
        assert_eq!(config.poll.interval, Duration::from_secs(seconds), "{text}");
    }
}

#[test]
fn amounts_are_exact() {
    for (literal, exact) in [
        ("500", "500"),
        ("500.10", "500.1"),
        ("0.1", "0.1"),
        ("1e+06", "1000000"),
        ("9007199254740993", "9007199254740993"),
        (
            "1234567890123456789012.345678",
            "1234567890123456789012.345678",
        ),
        ("\"9007199254740993.01\"", "9007199254740993.01"),
    ] {
        let budget = format!("budgets: [{{name: a, currency: eur, amount: {literal}}}]\n");
        let config = good(&(budget + TENANT));
        assert_eq!(config.budgets[0].amount.to_string(), exact);
        assert_eq!(config.budgets[0].currency, "EUR");
    }
}

#[test]
fn locations_are_as_in_the_label() {
    // Without quotes NO is a word: Norway is no truth value here.
    for (text, location) in [
        ("DE", "DE"),
        ("de", "DE"),
        ("NO", "NO"),
        ("Unknown", "unknown"),
        ("\"us\"", "US"),
    ] {
        let budget =
            format!("budgets: [{{name: a, currency: eur, amount: 1, usage_location: {text}}}]\n");
        let config = good(&(budget + TENANT));
        assert_eq!(config.budgets[0].usage_location.as_deref(), Some(location));
    }
}

#[test]
fn urls_by_table() {
    for (url, accepted) in [
        ("https://graph.example", true),
        ("https://graph.example:8443/prefix", true),
        ("http://127.0.0.1:8080", true),
        ("http://127.9.9.9", true),
        ("http://[::1]:8080", true),
        ("http://localhost:8080", true),
        ("http://localhost.example", false),
        ("http://127.0.0.1.example", false),
        ("http://0.0.0.0", false),
        ("http://10.0.0.1", false),
        ("http://127.0.0.1@graph.example", false),
        ("file:///etc/passwd", false),
    ] {
        let folder = Folder::with(format!("{TENANT}    graph_url: {url}\n"));
        assert_eq!(folder.load().is_ok(), accepted, "{url}");
    }
}

#[test]
fn the_example_loads() {
    let example = fs::read_to_string(deploy("teams-pstn-exporter.example.yml")).unwrap();
    let folder = Folder::with(example);
    fs::create_dir(folder.path("secrets")).unwrap();
    for name in [
        "pseudonym.key",
        "contoso",
        "fabrikam.crt",
        "fabrikam.key",
        "tailspin.token",
    ] {
        fs::write(folder.path("secrets").join(name), "0123456789abcdef").unwrap();
    }
    fs::write(
        folder.path("departments.csv"),
        "user,department\nann@x,Sales\n",
    )
    .unwrap();
    let config = folder.load().unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = config.tenants.iter().map(|t| t.name.as_deref()).collect();
    assert_eq!(
        names,
        ["contoso", "fabrikam", "tailspin", "wingtip"].map(Some)
    );
    assert!(matches!(
        config.tenants[1].credential,
        Credential::Certificate { key: Some(_), .. }
    ));
    assert!(matches!(
        config.tenants[2].credential,
        Credential::FederatedTokenFile(_)
    ));
    assert!(matches!(
        config.tenants[3].credential,
        Credential::ManagedIdentity(_)
    ));
    assert_eq!(config.tenants[3].client_id, None);
    assert_eq!(
        config.tenants[0].credential_expiry,
        Some("2027-01-31T00:00:00Z".parse().unwrap())
    );
    let kinds: Vec<ReportKind> = config.reports.iter().map(|report| report.kind).collect();
    assert_eq!(kinds, ReportKind::ALL);
    assert_eq!(config.budgets.len(), 5);
    assert_eq!(config.budgets[4].department.as_deref(), Some("Sales"));
    assert_eq!(config.budgets[0].amount.to_string(), "500.5");
    let spent_in: Vec<ReportKind> = config.budgets.iter().map(|budget| budget.report).collect();
    let [dialout, calls] = [ReportKind::Dialout, ReportKind::CallLog];
    assert_eq!(spent_in, [dialout, dialout, dialout, calls, dialout]);
}

/// Every key that the schema knows is shown in the example.
#[test]
fn the_example_is_complete() {
    let example = fs::read_to_string(deploy("teams-pstn-exporter.example.yml")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&Config::schema()).unwrap();
    let sections = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .chain([&schema]);
    for section in sections {
        for key in section["properties"].as_object().unwrap().keys() {
            assert!(example.contains(&format!("{key}:")), "{key}");
        }
    }
}

/// `UPDATE_SCHEMA=1 cargo test --test integration schema` writes it again.
#[test]
fn schema_is_up_to_date() {
    let path = deploy("config.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, Config::schema()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), Config::schema());
}

#[test]
fn environment_by_table() {
    let secret = [
        ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
        ("AZURE_CLIENT_ID", "66666666-7777-8888-9999-00000000000A"),
        ("AZURE_CLIENT_SECRET", "s3cret"),
    ];
    let config = from_environment(&secret).unwrap();
    let tenant = &config.tenants[0];
    assert_eq!(tenant.tenant_id, "contoso.onmicrosoft.com");
    assert_eq!(
        tenant.client_id.as_deref(),
        Some("66666666-7777-8888-9999-00000000000a")
    );
    assert!(
        matches!(&tenant.credential, Credential::Secret(SecretSource::Inline(s)) if s.expose_secret() == "s3cret")
    );
    assert!(!format!("{config:?}").contains("s3cret"));

    let check = |host: &str, cloud: Cloud, url: Option<&str>| {
        let variables = [secret.as_slice(), &[("AZURE_AUTHORITY_HOST", host)]].concat();
        let config = from_environment(&variables).unwrap();
        let tenant = &config.tenants[0];
        assert_eq!(tenant.cloud, cloud, "{host}");
        assert_eq!(
            tenant
                .authority_url
                .as_ref()
                .map(ToString::to_string)
                .as_deref(),
            url,
            "{host}"
        );
    };
    check("", Cloud::Global, None);
    check("https://login.microsoftonline.com/", Cloud::Global, None);
    check("login.microsoftonline.com", Cloud::Global, None);
    check("https://login.microsoftonline.us", Cloud::UsGovL4, None);
    check(
        "https://login.example",
        Cloud::Global,
        Some("https://login.example"),
    );
    check(
        "http://127.0.0.1:1",
        Cloud::Global,
        Some("http://127.0.0.1:1"),
    );

    let folder = Folder::with("");
    let file = folder.path("secret").display().to_string();
    let with = |name, value| from_environment(&[secret[0], secret[1], (name, value)]);
    let config = with("AZURE_CLIENT_CERTIFICATE_PATH", &file).unwrap();
    assert!(
        matches!(&config.tenants[0].credential, Credential::Certificate { certificate, key: None } if *certificate == Path::new(&file))
    );
    let config = with("AZURE_FEDERATED_TOKEN_FILE", &file).unwrap();
    assert!(matches!(
        config.tenants[0].credential,
        Credential::FederatedTokenFile(_)
    ));
}

#[test]
fn state_directory_of_the_service_manager_is_the_default() {
    let kept = |storage: &str, variable: Option<&str>| {
        let tenants = "tenants: [{tenant_id: contoso.example, managed_identity: true}]";
        let config = Folder::with(format!("{tenants}\n{storage}"))
            .load()
            .unwrap();
        let config = config.or_state_directory(|name| {
            assert_eq!(name, "STATE_DIRECTORY");
            variable.map(str::to_owned)
        });
        config.storage
    };
    let own = "storage: {path: /srv/own}";
    for (storage, variable, expected) in [
        ("", None, None),
        ("", Some("/var/lib/it"), Some("/var/lib/it")),
        ("", Some("/var/lib/it:/var/lib/more"), Some("/var/lib/it")),
        // Not what systemd says: nothing is written into whatever folder it was started in.
        ("", Some(""), None),
        ("", Some("it"), None),
        (own, None, Some("/srv/own")),
        (own, Some("/var/lib/it"), Some("/srv/own")),
    ] {
        let expected = expected.map(PathBuf::from);
        assert_eq!(kept(storage, variable), expected, "{storage} {variable:?}");
    }
}

const GOOD: [(&str, &str); 3] = [
    ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
    ("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000"),
    ("AZURE_CLIENT_SECRET", "s3cret"),
];

fn check_environment(variables: &[(&str, &str)], expected: &[&str]) {
    let errors = from_environment(variables).unwrap_err().to_string();
    let here = format!("{}/", std::env::current_dir().unwrap().display());
    let errors = errors.replace(&here, "");
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines, expected);
}

#[test]
fn errors_in_the_environment_by_table() {
    let (good, check) = (GOOD, check_environment);
    let no_tenant = "environment: AZURE_TENANT_ID is not set; copy the directory (tenant) ID from the app registration's overview in Entra";
    let no_client = "environment: AZURE_CLIENT_ID is not set; copy the application (client) ID from the app registration's overview in Entra";
    let no_credential = "environment: none of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE is set; set one of them";
    check(
        &[],
        &[
            no_tenant,
            no_client,
            no_credential,
            "environment: no tenant is configured; set the variables above, or give --config.file=PATH, or try `teams-pstn-exporter demo`, which needs no account",
        ],
    );
    check(&good[1..], &[no_tenant]);
    check(&[good[0], good[2]], &[no_client]);
    check(&good[..2], &[no_credential]);
    let with = |name, value| [good.as_slice(), &[(name, value)]].concat();
    check(
        &with("AZURE_FEDERATED_TOKEN_FILE", "/nowhere"),
        &[
            "environment: AZURE_CLIENT_SECRET and AZURE_FEDERATED_TOKEN_FILE are set; keep one of them",
        ],
    );
    check(
        &with(
            "AZURE_AUTHORITY_HOST",
            "https://login.partner.microsoftonline.cn/",
        ),
        &[
            "environment: AZURE_AUTHORITY_HOST: the cloud china (21Vianet) does not have the API of telephony reports; tenants of this cloud cannot be exported; use a tenant of another cloud",
        ],
    );
    check(
        &with("AZURE_AUTHORITY_HOST", "http://login.example"),
        &[
            "environment: AZURE_AUTHORITY_HOST: plain http would send the token in the clear; use https, because http is permitted only for 127.0.0.1, [::1] and localhost",
        ],
    );
    check(
        &[
            good[0],
            good[1],
            ("AZURE_CLIENT_CERTIFICATE_PATH", "nowhere/s3cret"),
        ],
        &[
            "environment: AZURE_CLIENT_CERTIFICATE_PATH: nowhere/s3cret: there is no such file; a relative path starts at the working directory",
        ],
    );
    check(
        &[
            good[0],
            good[1],
            ("AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere/s3cret"),
        ],
        &[
            "environment: AZURE_CLIENT_CERTIFICATE_PATH: /nowhere/s3cret: there is no such file; write it, or correct the path",
        ],
    );
    check(
        &[good[0], ("AZURE_CLIENT_ID", "s3cret"), good[2]],
        &[
            "environment: AZURE_CLIENT_ID: the value is not a GUID; copy the application (client) ID from the app registration's overview in Entra",
        ],
    );
}

#[test]
fn wrong_environment_variables_by_table() {
    let (good, check) = (GOOD, check_environment);
    let empty = ("AZURE_CLIENT_SECRET", "");
    check(
        &[good[0], good[1], empty],
        &["environment: AZURE_CLIENT_SECRET is empty; set it, or one of the others"],
    );
    check(
        &[
            good[0],
            good[1],
            empty,
            ("AZURE_CLIENT_CERTIFICATE_PATH", ""),
        ],
        &[
            "environment: AZURE_CLIENT_SECRET and AZURE_CLIENT_CERTIFICATE_PATH are empty; set one of them",
        ],
    );
    check(
        &[("AZURE_TENANT_ID", ""), good[1], good[2]],
        &[
            "environment: AZURE_TENANT_ID is empty; copy the directory (tenant) ID from the app registration's overview in Entra",
        ],
    );
    for (secret, cause) in [
        ("\u{feff}s3cret", "begins with a byte order mark; remove it"),
        ("'s3cret'", "has a quote at its beginning or end; remove it"),
        ("\"s3cret", "has a quote at its beginning or end; remove it"),
        (
            " s3cret",
            "has a blank or a line break at its beginning or end; remove it",
        ),
        (
            "s3cret\t\n",
            "has a blank or a line break at its beginning or end; remove it",
        ),
    ] {
        check(
            &[good[0], good[1], ("AZURE_CLIENT_SECRET", secret)],
            &[&format!("environment: AZURE_CLIENT_SECRET {cause}")],
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Folder::with(bytes).load());
    }

    #[test]
    fn text_that_looks_like_yaml_never_panics(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..40),
    ) {
        if let Err(errors) = Folder::with(words.concat()).load() {
            prop_assert!(errors.len() > 0);
            prop_assert_eq!(errors.to_string().lines().count(), errors.len());
        }
    }

    #[test]
    fn what_is_written_is_read(
        interval in 1_u64..1_000_000,
        timeout in 1_u64..1_000_000,
        day in 1_u64..=28,
        max_series in 1_usize..1_000_000,
        names in prop::collection::hash_set("[a-zA-Z0-9 äß:#'\"{}-]{0,20}[a-z]", 1..6),
        amount in 1_i64..i64::MAX,
        scale in 0_u32..10,
    ) {
        let names: Vec<String> = names.into_iter().map(|name| name.trim().to_owned()).collect();
        let unique: std::collections::HashSet<&String> = names.iter().collect();
        prop_assume!(unique.len() == names.len());
        let amount = rust_decimal::Decimal::new(amount, scale);
        let tenants: Vec<String> = names.iter().enumerate().map(|(index, name)| {
            // A JSON string is a YAML string.
            let name = serde_json::to_string(name).unwrap();
            format!("  - {{name: {name}, tenant_id: t{index}.example, managed_identity: true}}\n")
        }).collect();
        let tenants = tenants.concat();
        let selector = serde_json::to_string(&names[0]).unwrap();
        let config = good(&format!(
            "poll: {{interval: {interval}s, timeout: {timeout}s}}\nbilling: {{cycle_day: {day}}}\nlabels:\n  max_series: {max_series}\ntenants:\n{tenants}budgets:\n- name: {selector}\n  amount: {amount}\n  currency: CHF\n  tenant: {selector}\n"
        ));
        prop_assert_eq!(config.poll.interval.as_secs(), interval);
        prop_assert_eq!(config.poll.timeout.as_secs(), timeout);
        prop_assert_eq!(config.billing.cycle_day, CycleDay::try_from(day).unwrap());
        prop_assert_eq!(config.labels.max_series.get(), max_series);
        let read: Vec<&str> = config.tenants.iter().filter_map(|t| t.name.as_deref()).collect();
        prop_assert_eq!(&read, &names);
        prop_assert_eq!(config.budgets[0].amount, amount.into());
        prop_assert_eq!(config.budgets[0].tenant.as_ref(), Some(&names[0]));
    }
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::from_environment(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

/// Pieces that make a file which is nearly YAML, and nearly a configuration.
const WORDS: &[&str] = &[
    "poll",
    "tenants",
    "budgets",
    "labels",
    "name",
    "interval",
    "amount",
    ":",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "\n- ",
    "\n  - ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "? ",
    "#",
    " # ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\t",
    "~",
    "null",
    "true",
    "1e400",
    "-1",
    "\u{feff}",
    "\u{0}",
    "ü",
    "<<: ",
];
