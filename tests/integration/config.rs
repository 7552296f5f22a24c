//! The configuration file, from outside: what is accepted, what is refused and in which words.

use std::collections::HashMap;
use std::fs;
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

fn expand(config: &str) -> String {
    config.replace("@one", TENANT).replace("@ids", IDS)
}

fn good(config: &str) -> Config {
    Folder::with(config).load().expect("a good configuration")
}

#[test]
fn single_errors_by_table() {
    assert!(TABLE.len() >= 45);
    for (config, mistake) in TABLE {
        assert_eq!(mistakes_of(expand(config)), [*mistake], "{config}");
    }
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
        "c.yml:11: tenants[1]: no name",
        "c.yml:11: tenants[1]: no tenant_id",
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
        ["c.yml:2: not UTF-8; save the file in this encoding"]
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
    assert_eq!(config.reports, [ReportKind::Dialout]);
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
    assert_eq!(config.reports, ReportKind::ALL);
    assert_eq!(config.budgets.len(), 4);
    assert_eq!(config.budgets[0].amount.to_string(), "500.5");
    let spent_in: Vec<ReportKind> = config.budgets.iter().map(|budget| budget.report).collect();
    let [dialout, calls] = [ReportKind::Dialout, ReportKind::CallLog];
    assert_eq!(spent_in, [dialout, dialout, dialout, calls]);
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
            "environment: no tenant to ask; set the variables above, or give --config.file=PATH, or try `teams-pstn-exporter demo`, which needs no account",
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
            "environment: AZURE_AUTHORITY_HOST: the cloud china (21Vianet) does not have the API of telephony reports; nothing of a tenant there can be exported, so name one of another cloud",
        ],
    );
    check(
        &with("AZURE_AUTHORITY_HOST", "http://login.example"),
        &[
            "environment: AZURE_AUTHORITY_HOST: plain http would send the token in the clear; use https, http is for 127.0.0.1, [::1] and localhost only",
        ],
    );
    check(
        &[
            good[0],
            good[1],
            ("AZURE_CLIENT_CERTIFICATE_PATH", "nowhere/s3cret"),
        ],
        &[
            "environment: AZURE_CLIENT_CERTIFICATE_PATH: nowhere/s3cret: there is no such file; mind that a relative path starts at the working directory",
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

/// One mistake each: a configuration and what is said of it. `@one` stands for a good section of tenants, `@ids` for the
/// identifiers of a tenant.
const TABLE: &[(&str, &str)] = &[
    (
        "",
        "c.yml: nothing is configured in it; give at least tenants, as the annotated example shows",
    ),
    (
        "# only a comment\n",
        "c.yml: nothing is configured in it; give at least tenants, as the annotated example shows",
    ),
    (
        "---\n",
        "c.yml: nothing is configured in it; give at least tenants, as the annotated example shows",
    ),
    (
        "@one---\na: 1\n",
        "c.yml:5: a second document begins; remove the line `---` and what follows it",
    ),
    (
        "poll\n",
        "c.yml:1: the file: text is not a mapping; write its keys below it, indented, each as `key: value`",
    ),
    (
        "- poll\n",
        "c.yml:1: the file: a list is not a mapping; write its keys below it, indented, each as `key: value`",
    ),
    (
        "poll: [1\n@one",
        "c.yml:2: not YAML at column 8: illegal placement of ':' indicator; mind the indentation, the space after a colon and the quotes",
    ),
    (
        "poll:\n\tinterval: 1h\n",
        "c.yml:2: not YAML at column 2: tabs disallowed within this context (block indentation); mind the indentation, the space after a colon and the quotes",
    ),
    (
        "poll: {interval: 1h\n",
        "c.yml:1: not YAML at column 7: unclosed bracket '{'; mind the indentation, the space after a colon and the quotes",
    ),
    (
        "a: 'b\n",
        "c.yml:2: not YAML at column 1: invalid indentation in multiline quoted scalar; mind the indentation, the space after a colon and the quotes",
    ),
    (
        "a: b: c\n",
        "c.yml:1: not YAML at column 5: mapping values are not allowed in this context; mind the indentation, the space after a colon and the quotes",
    ),
    (
        "poll:\n  interval: 1h\n timeout: 5m\n@one",
        "c.yml:3: not YAML at column 2: while parsing a block mapping, did not find expected key; mind the indentation, the space after a colon and the quotes",
    ),
    (
        "poll:\n  intervall: 2h\n@one",
        "c.yml:2: poll.intervall: unknown key; did you mean interval?",
    ),
    (
        "poll: {interval: 2h, max_age: 2h}\n@one",
        "c.yml:1: poll.max_age: not longer than poll.interval, so every report would be too old before the next; make it several intervals",
    ),
    (
        "storage: {}\n@one",
        "c.yml:1: storage: no path; give the folder for the state files, as the annotated example shows",
    ),
    (
        "storage: {path: state, folder: state}\n@one",
        "c.yml:1: storage.folder: unknown key; known here: path",
    ),
    (
        "pol:\n  interval: 2h\n@one",
        "c.yml:1: pol: unknown key; did you mean poll?",
    ),
    (
        "interval: 1h\n@one",
        "c.yml:1: interval: unknown key; known here: poll, billing, labels, reports, tenants, budgets, storage",
    ),
    (
        "\"a b\\n\": 1\n@one",
        "c.yml:1: \"a b\\n\": unknown key; known here: poll, billing, labels, reports, tenants, budgets, storage",
    ),
    (
        "? [a]\n: 1\n@one",
        "c.yml:1: a key must be a word; remove it",
    ),
    (
        "poll: 1h\n@one",
        "c.yml:1: poll: text is not a mapping; write its keys below it, indented, each as `key: value`",
    ),
    (
        "poll:\n@one",
        "c.yml:1: poll: no value; write its keys below it, indented, each as `key: value`, or remove it",
    ),
    (
        "poll: [1h]\n@one",
        "c.yml:1: poll: a list is not a mapping; write its keys below it, indented, each as `key: value`",
    ),
    (
        "poll:\n  interval: 1h\n  interval: 2h\n@one",
        "c.yml:3: poll.interval: already given on line 2; remove one of them",
    ),
    (
        "@onepoll: {}\nlabels: {}\npoll: {}\n",
        "c.yml:7: poll: already given on line 5; remove one of them",
    ),
    (
        "poll:\n  interval: 500ms\n@one",
        "c.yml:2: poll.interval: \"500ms\" is too short; give at least 1s",
    ),
    (
        "poll:\n  interval: 0\n@one",
        "c.yml:2: poll.interval: \"0\" is too short; give at least 1s",
    ),
    (
        "poll:\n  interval: 3600\n@one",
        "c.yml:2: poll.interval: \"3600\" is not a duration; write a number with its unit, for example 90s, 30m or 1h",
    ),
    (
        "poll:\n  interval: soon\n@one",
        "c.yml:2: poll.interval: \"soon\" is not a duration; write a number with its unit, for example 90s, 30m or 1h",
    ),
    (
        "poll:\n  interval: 32days\n@one",
        "c.yml:2: poll.interval: \"32days\" is too long; give at most 31days",
    ),
    (
        "poll:\n  interval: true\n@one",
        "c.yml:2: poll.interval: true or false is not a duration; write a number with its unit, for example 90s, 30m or 1h",
    ),
    (
        "poll:\n  interval: {h: 1}\n@one",
        "c.yml:2: poll.interval: a mapping is not a duration; write a number with its unit, for example 90s, 30m or 1h",
    ),
    (
        "poll:\n  interval: -1h\n@one",
        "c.yml:2: poll.interval: \"-1h\" is not a duration; write a number with its unit, for example 90s, 30m or 1h",
    ),
    (
        "poll:\n  timeout: 0s\n@one",
        "c.yml:2: poll.timeout: \"0s\" is too short; give at least 1s",
    ),
    (
        "poll:\n  timeout:\n@one",
        "c.yml:2: poll.timeout: no value; write a number with its unit, for example 90s, 30m or 1h, or remove it",
    ),
    (
        "poll:\n  interval: &a 1h\n@one",
        "c.yml:2: an anchor is not supported; remove the word that begins with `&`",
    ),
    (
        "poll:\n  interval: *a\n@one",
        "c.yml:2: an alias is not supported; write the value out",
    ),
    (
        "poll:\n  interval: !!str 1h\n@one",
        "c.yml:2: a tag is not supported; remove the word that begins with `!`",
    ),
    (
        "billing:\n  cycle_day: 29\n@one",
        "c.yml:2: billing.cycle_day: \"29\" is not a day from 1 to 28; give the day on which the billing period starts, without quotes",
    ),
    (
        "billing:\n  cycle_day: 0\n@one",
        "c.yml:2: billing.cycle_day: \"0\" is not a day from 1 to 28; give the day on which the billing period starts, without quotes",
    ),
    (
        "billing:\n  cycle_day: 1.5\n@one",
        "c.yml:2: billing.cycle_day: \"1.5\" is not a day from 1 to 28; give the day on which the billing period starts, without quotes",
    ),
    (
        "billing:\n  cycle_day: \"1\"\n@one",
        "c.yml:2: billing.cycle_day: text is not a day from 1 to 28; give the day on which the billing period starts, without quotes",
    ),
    (
        "billing:\n  cycle_day: last\n@one",
        "c.yml:2: billing.cycle_day: text is not a day from 1 to 28; give the day on which the billing period starts, without quotes",
    ),
    (
        "labels:\n  user: mail\n@one",
        "c.yml:2: labels.user: unknown value \"mail\"; choose from upn, id, display_name, pseudonym, none",
    ),
    (
        "labels:\n  user: UPN\n@one",
        "c.yml:2: labels.user: unknown value \"UPN\"; did you mean upn?",
    ),
    (
        "labels:\n  user: display-name\n@one",
        "c.yml:2: labels.user: unknown value \"display-name\"; did you mean display_name?",
    ),
    (
        "labels:\n  user: 7\n@one",
        "c.yml:2: labels.user: a number is not a word; choose from upn, id, display_name, pseudonym, none",
    ),
    (
        "labels:\n  user: pseudonym\n@one",
        "c.yml:2: labels.user: pseudonym needs a key; give labels.pseudonym_key_file",
    ),
    (
        "labels:\n  pseudonym_key_file: key\n@one",
        "c.yml:2: labels.pseudonym_key_file: there is nothing to use it for; remove it or set labels.user to pseudonym",
    ),
    (
        "labels:\n  user: id\n  pseudonym_key_file: key\n@one",
        "c.yml:3: labels.pseudonym_key_file: there is nothing to use it for; remove it or set labels.user to pseudonym",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: nowhere\n@one",
        "c.yml:3: labels.pseudonym_key_file: nowhere: there is no such file; mind that a relative path starts at the folder of the configuration file",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: short\n@one",
        "c.yml:3: labels.pseudonym_key_file: short: the key has 15 bytes, at least 16 are needed; make a key with `openssl rand -hex 32`",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: long\n@one",
        "c.yml:3: labels.pseudonym_key_file: long: the file cannot be read: longer than 65536 bytes; name the file that is meant",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: zeros\n@one",
        "c.yml:3: labels.pseudonym_key_file: zeros: all bytes of the key are the same; make a key with `openssl rand -hex 32`",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: blank\n@one",
        "c.yml:3: labels.pseudonym_key_file: blank: the key has 0 bytes, at least 16 are needed; make a key with `openssl rand -hex 32`",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: /dev/null\n@one",
        "c.yml:3: labels.pseudonym_key_file: /dev/null: the file cannot be read: a device, not a regular file; write the content into a file",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: linked\n@one",
        "c.yml:3: labels.pseudonym_key_file: linked: the file cannot be read: a device, not a regular file; write the content into a file",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: pipe\n@one",
        "c.yml:3: labels.pseudonym_key_file: pipe: the file cannot be read: a pipe, not a regular file; write the content into a file",
    ),
    (
        "labels:\n  user: pseudonym\n  pseudonym_key_file: empty\n@one",
        "c.yml:3: labels.pseudonym_key_file: empty: the file is empty; write into it what it is for",
    ),
    (
        "labels:\n  max_series: 0\n@one",
        "c.yml:2: labels.max_series: \"0\" is not a whole number above 0; give for example 20000, without quotes",
    ),
    (
        "labels:\n  max_series: -5\n@one",
        "c.yml:2: labels.max_series: \"-5\" is not a whole number above 0; give for example 20000, without quotes",
    ),
    (
        "labels:\n  max_series: many\n@one",
        "c.yml:2: labels.max_series: text is not a whole number above 0; give for example 20000, without quotes",
    ),
    (
        "reports: dialout\n@one",
        "c.yml:1: reports: text is not a list; write one item per line, each after a dash",
    ),
    (
        "reports: []\n@one",
        "c.yml:1: reports: none is named; name at least one, for example dialout, or remove the key",
    ),
    (
        "reports: [dial-out]\n@one",
        "c.yml:1: reports[0]: unknown value \"dial-out\"; did you mean dialout?",
    ),
    (
        "reports: [minutes]\n@one",
        "c.yml:1: reports[0]: unknown value \"minutes\"; choose from dialout, call_log, direct_routing, sms, blocked_users",
    ),
    (
        "reports: [call-log]\n@one",
        "c.yml:1: reports[0]: unknown value \"call-log\"; did you mean call_log?",
    ),
    (
        "reports:\n  - sms\n  - blocked_users\n  - sms\n@one",
        "c.yml:4: reports[2]: sms is named twice; remove one of them",
    ),
    (
        "reports:\n  - dialout\n  - dialout\n@one",
        "c.yml:3: reports[1]: dialout is named twice; remove one of them",
    ),
    (
        "reports: [1]\n@one",
        "c.yml:1: reports[0]: a number is not the name of a report; give for example dialout",
    ),
    (
        "poll: {}\n",
        "c.yml: no tenants; add the section tenants, as the annotated example shows",
    ),
    (
        "tenants:\n",
        "c.yml:1: tenants: no value; write one item per line, each after a dash, or remove it",
    ),
    (
        "tenants: []\n",
        "c.yml:1: tenants: none is given; add one, as the annotated example shows",
    ),
    (
        "tenants: {}\n",
        "c.yml:1: tenants: a mapping is not a list; write one item per line, each after a dash",
    ),
    (
        "tenants:\n  - contoso\n",
        "c.yml:2: tenants[0]: text is not a mapping; write its keys below it, indented, each as `key: value`",
    ),
    (
        "tenants:\n  -\n",
        "c.yml:2: tenants[0]: no value; write its keys below it, indented, each as `key: value`, or remove it",
    ),
    (
        "tenants:\n  - client_id: 66666666-7777-8888-9999-000000000000\n    client_secret_file: secret\n",
        "c.yml:2: tenants[0]: no tenant_id; copy the directory (tenant) ID from the app registration's overview in Entra",
    ),
    (
        "tenants:\n  - tenant_id: 11111111-2222-3333-4444-555555555555\n    client_secret_file: secret\n",
        "c.yml:2: tenants[0]: no client_id; copy the application (client) ID from the app registration's overview in Entra",
    ),
    (
        "tenants:\n  - tenant_id: contoso\n    client_id: 66666666-7777-8888-9999-000000000000\n    client_secret_file: secret\n",
        "c.yml:2: tenants[0].tenant_id: the value is not a GUID or a domain; copy the directory (tenant) ID from the app registration's overview in Entra",
    ),
    (
        "tenants:\n  - tenant_id: common\n    client_id: 66666666-7777-8888-9999-000000000000\n    client_secret_file: secret\n",
        "c.yml:2: tenants[0].tenant_id: common stands for any tenant; copy the directory (tenant) ID from the app registration's overview in Entra",
    ),
    (
        "tenants:\n  - tenant_id: 11111111-2222-3333-4444-555555555555\n    client_id: exporter\n    client_secret_file: secret\n",
        "c.yml:3: tenants[0].client_id: the value is not a GUID; copy the application (client) ID from the app registration's overview in Entra",
    ),
    (
        "tenants:\n  - tenant_id: 11111111-2222-3333-4444-555555555555\n    client_id: 12345\n    client_secret_file: secret\n",
        "c.yml:3: tenants[0].client_id: a number is not a GUID; copy the application (client) ID from the app registration's overview in Entra",
    ),
    (
        "tenants:\n  - @ids\n",
        "c.yml:2: tenants[0]: no credential; give one of client_secret_file, client_certificate_file, federated_token_file and managed_identity",
    ),
    (
        "tenants:\n  - @ids\n    client_secret: abc\n    managed_identity: true\n",
        "c.yml:4: tenants[0].client_secret: a secret has no place in this file; write it into a file that only the exporter's user can read, and give the path of that as client_secret_file",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    federated_token_file: secret\n",
        "c.yml:5: tenants[0].federated_token_file: a second credential beside client_secret_file; keep one of them",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    client_certificate_file: secret\n",
        "c.yml:5: tenants[0].client_certificate_file: a second credential beside managed_identity; keep one of them",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    cloud: usgov\n",
        "c.yml:5: tenants[0].cloud: unknown value \"usgov\"; write us-gov-l4 for GCC High or us-gov-l5 for the Department of Defense",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    cloud: GCC-High\n",
        "c.yml:5: tenants[0].cloud: unknown value \"GCC-High\"; write us-gov-l4 for GCC High",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: ~/secret\n",
        "c.yml:4: tenants[0].client_secret_file: `~` is not expanded; write the path out, beginning with `/`",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: abc8Q~aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456\n",
        "c.yml:4: tenants[0].client_secret_file: this looks like a secret or its id, not like the path of a file; write the value of the secret into a file and give the path of that",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: lines\n",
        "c.yml:4: tenants[0].client_secret_file: lines: the file has several lines; keep nothing in it but the value of one secret or token",
    ),
    (
        "tenants:\n  - tenant_id: {11111111-2222-3333-4444-555555555555}\n    client_id: 66666666-7777-8888-9999-000000000000\n    client_secret_file: secret\n",
        "c.yml:2: tenants[0].tenant_id: a GUID stands alone; remove the braces, quotes or blanks around it",
    ),
    (
        "tenants:\n  - tenant_id: 11111111-2222-3333-4444-555555555555\n    client_id: \"{66666666-7777-8888-9999-000000000000}\"\n    client_secret_file: secret\n",
        "c.yml:3: tenants[0].client_id: a GUID stands alone; remove the braces, quotes or blanks around it",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    client_secret: abc\n",
        "c.yml:5: tenants[0].client_secret: a secret has no place in this file; write it into a file that only the exporter's user can read, and give the path of that as client_secret_file",
    ),
    (
        "tenants:\n  - <<: {name: contoso, tags: [a, {b: c}]}\n    tenant_id: 11111111-2222-3333-4444-555555555555\n",
        "c.yml:2: `<<` is not supported; write the keys of the other mapping out here, in each place that needs them",
    ),
    (
        "x-app: &app {name: contoso}\n@one",
        "c.yml:1: an anchor is not supported; remove the word that begins with `&`",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: nowhere\n",
        "c.yml:4: tenants[0].client_secret_file: nowhere: there is no such file; mind that a relative path starts at the folder of the configuration file",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: /nowhere/secret\n",
        "c.yml:4: tenants[0].client_secret_file: /nowhere/secret: there is no such file; write it, or correct the path",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: /run/credentials/no.service/secret\n",
        "c.yml:4: tenants[0].client_secret_file: /run/credentials/no.service/secret: there is no such file; systemd makes it for as long as the service runs: check while it does, as root",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret/nowhere\n",
        "c.yml:4: tenants[0].client_secret_file: secret/nowhere: there is no such file; mind that a relative path starts at the folder of the configuration file",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: folder\n",
        "c.yml:4: tenants[0].client_secret_file: folder: a folder is not a file; name a file in it",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: empty\n",
        "c.yml:4: tenants[0].client_secret_file: empty: the file is empty; write into it what it is for",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: \"\"\n",
        "c.yml:4: tenants[0].client_secret_file: the value is not a path; name a file",
    ),
    (
        "tenants:\n  - @ids\n    client_certificate_file: nowhere\n",
        "c.yml:4: tenants[0].client_certificate_file: nowhere: there is no such file; mind that a relative path starts at the folder of the configuration file",
    ),
    (
        "tenants:\n  - @ids\n    client_certificate_file: secret\n    client_certificate_key_file: nowhere\n",
        "c.yml:5: tenants[0].client_certificate_key_file: nowhere: there is no such file; mind that a relative path starts at the folder of the configuration file",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    client_certificate_key_file: secret\n",
        "c.yml:5: tenants[0].client_certificate_key_file: says nothing without client_certificate_file; remove it",
    ),
    (
        "tenants:\n  - @ids\n    federated_token_file: nowhere\n",
        "c.yml:4: tenants[0].federated_token_file: nowhere: there is no such file; mind that a relative path starts at the folder of the configuration file",
    ),
    (
        "tenants:\n  - @ids\n    federated_token_file: secret\n    client_secret_expires: 2027-01-31\n",
        "c.yml:5: tenants[0].client_secret_expires: says nothing without client_secret_file; remove it",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    client_secret_expires: 31.1.2027\n",
        "c.yml:5: tenants[0].client_secret_expires: \"31.1.2027\" is not a date; write it as 2027-01-31 or 2027-01-31T12:00:00Z",
    ),
    (
        "tenants:\n  - @ids\n    client_secret_file: secret\n    client_secret_expires: 2027-02-30\n",
        "c.yml:5: tenants[0].client_secret_expires: \"2027-02-30\" is not a date; write it as 2027-01-31 or 2027-01-31T12:00:00Z",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: false\n",
        "c.yml:4: tenants[0].managed_identity: false is what the key's absence says; remove it",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: yes\n",
        "c.yml:4: tenants[0].managed_identity: text is not true; write true",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    cloud: china\n",
        "c.yml:5: tenants[0].cloud: the cloud china (21Vianet) does not have the API of telephony reports; remove this tenant",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    cloud: us-gov-l3\n",
        "c.yml:5: tenants[0].cloud: unknown value \"us-gov-l3\"; write us-gov-l4 for GCC High or us-gov-l5 for the Department of Defense",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    cloud: azure\n",
        "c.yml:5: tenants[0].cloud: unknown value \"azure\"; choose from global, us-gov-l4, us-gov-l5",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    graph_url: http://graph.microsoft.com\n",
        "c.yml:5: tenants[0].graph_url: plain http would send the token in the clear; use https, http is for 127.0.0.1, [::1] and localhost only",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    graph_url: graph.microsoft.com\n",
        "c.yml:5: tenants[0].graph_url: \"graph.microsoft.com\" is not a URL; write it as https://HOST",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    graph_url: ftp://127.0.0.1\n",
        "c.yml:5: tenants[0].graph_url: \"ftp://127.0.0.1\" is not a URL; write it as https://HOST",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    authority_url: https://user:pass@login.example\n",
        "c.yml:5: tenants[0].authority_url: a user or a password has no place in this URL; remove it",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    authority_url: https://login.example/?a=b\n",
        "c.yml:5: tenants[0].authority_url: a query has no place in this URL; end it before the `?` or `#`",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    name: \"\"\n",
        "c.yml:5: tenants[0].name: \"\" is not a name; write one to 128 characters without control characters and outer blanks",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    name: 365\n",
        "c.yml:5: tenants[0].name: a number is not text; put it in quotes",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    name: \" contoso\"\n",
        "c.yml:5: tenants[0].name: \" contoso\" is not a name; write one to 128 characters without control characters and outer blanks",
    ),
    (
        "tenants:\n  - @ids\n    managed_identity: true\n    clientid: x\n",
        "c.yml:5: tenants[0].clientid: unknown key; did you mean client_id?",
    ),
    (
        "tenants:\n  - name: a\n    @ids\n    managed_identity: true\n  - name: a\n    tenant_id: a.example\n    managed_identity: true\n",
        "c.yml:6: tenants[1]: the same name as on line 2; names must differ, they become the label tenant",
    ),
    (
        "tenants:\n  - name: a\n    @ids\n    managed_identity: true\n  - tenant_id: a.example\n    managed_identity: true\n",
        "c.yml:6: tenants[1]: no name, although there are 2 tenants; give one, it becomes the label tenant",
    ),
    (
        "tenants:\n  - name: a\n    tenant_id: A.example\n    managed_identity: true\n  - name: b\n    tenant_id: a.example\n    managed_identity: true\n",
        "c.yml:5: tenants[1]: the same pair of tenant_id and client_id as on line 2; its cost would be exported twice, so remove one of them",
    ),
    (
        "@onebudgets: 500\n",
        "c.yml:5: budgets: a number is not a list; write one item per line, each after a dash",
    ),
    (
        "@onebudgets:\n  - currency: EUR\n    amount: 1\n",
        "c.yml:6: budgets[0]: no name; give one, it becomes the label budget",
    ),
    (
        "@onebudgets:\n  - name: a\n    amount: 1\n",
        "c.yml:6: budgets[0]: no currency; give one, for example USD",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n",
        "c.yml:6: budgets[0]: no amount; give one, for example 500",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 0\n",
        "c.yml:8: budgets[0].amount: \"0\" is not above zero; give the amount to stay below",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: -0.01\n",
        "c.yml:8: budgets[0].amount: \"-0.01\" is not above zero; give the amount to stay below",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1_000\n",
        "c.yml:8: budgets[0].amount: \"1_000\" is not an amount; write a number, for example 500 or 1250.50",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 500 EUR\n",
        "c.yml:8: budgets[0].amount: \"500 EUR\" is not an amount; write a number, for example 500 or 1250.50",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 0.12345678901234567890123456789\n",
        "c.yml:8: budgets[0].amount: \"0.12345678901234567890123456789\" cannot be held exactly; give at most 28 digits",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: euro\n    amount: 1\n",
        "c.yml:7: budgets[0].currency: \"euro\" is not a currency; write its three letters, for example USD",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    usage_location: Germany\n",
        "c.yml:9: budgets[0].usage_location: \"Germany\" is not a usage location; write the two letters of a country, for example DE, or unknown",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    usage_location: D1\n",
        "c.yml:9: budgets[0].usage_location: \"D1\" is not a usage location; write the two letters of a country, for example DE, or unknown",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    tenant: contoso\n",
        "c.yml:9: budgets[0].tenant: no tenant is named \"contoso\"; the only tenant has no name, so remove this selector",
    ),
    (
        "tenants:\n  - name: a\n    @ids\n    managed_identity: true\nbudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    tenant: b\n",
        "c.yml:10: budgets[0].tenant: no tenant is named \"b\"; choose from a",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n  - name: a\n    currency: USD\n    amount: 1\n",
        "c.yml:9: budgets[1]: the same name as on line 6; names must differ, they become the label budget",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    destination_contxt: International\n",
        "c.yml:9: budgets[0].destination_contxt: unknown key; did you mean destination_context?",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    user: null\n",
        "c.yml:9: budgets[0].user: no value; write one to 128 characters without control characters and outer blanks, or remove it",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    country: DE\n",
        "c.yml:9: budgets[0].country: unknown key; known here: name, currency, amount, report, tenant, user, usage_location, destination_context",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    report: minutes\n",
        "c.yml:9: budgets[0].report: unknown value \"minutes\"; choose from dialout, call_log, direct_routing, sms, blocked_users",
    ),
    (
        "@onereports: [dialout, direct_routing]\nbudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    report: direct_routing\n",
        "c.yml:10: budgets[0].report: direct_routing knows no money; choose from dialout, call_log, sms",
    ),
    (
        "@onereports: [dialout, blocked_users]\nbudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    report: blocked_users\n",
        "c.yml:10: budgets[0].report: blocked_users knows no money; choose from dialout, call_log, sms",
    ),
    (
        "@onebudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    report: sms\n",
        "c.yml:9: budgets[0].report: sms is not polled; add it to reports",
    ),
    (
        "@onereports: [call_log]\nbudgets:\n  - name: a\n    currency: EUR\n    amount: 1\n    report: dialout\n",
        "c.yml:10: budgets[0].report: dialout is not polled; add it to reports",
    ),
    (
        "@onereports: [call_log]\nbudgets:\n  - currency: EUR\n    name: a\n    amount: 1\n",
        "c.yml:7: budgets[0]: it is spent in dialout, which is not polled; add it to reports, or name another, as report: call_log",
    ),
    (
        "null\n",
        "c.yml: nothing is configured in it; give at least tenants, as the annotated example shows",
    ),
];
