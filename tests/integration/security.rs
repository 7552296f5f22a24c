//! The threat model of SECURITY.md: that the tests it names exist, and those that have no other place.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use secrecy::ExposeSecret as _;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::graph::credential::Credential;
use teams_pstn_exporter::graph::credential::SecretSource;
use teams_pstn_simulator::world::World;
use tokio::process::Command;

use crate::support::{
    ANY_PORT, CLIENT, Folder, Metrics, PROGRAM, Program, SECRET, Setup, TENANT, request,
};

#[test]
fn threat_model_names_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (_, model) = text.split_once("## Threat model").unwrap();
    let (model, _) = model.split_once("\n## ").unwrap();
    let lines: Vec<&str> = model
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .collect();
    assert!(lines.len() > 10, "the table is not read");
    for line in lines {
        let held_by = line
            .trim_end_matches([' ', '|'])
            .rsplit('|')
            .next()
            .unwrap();
        let mut names = 0;
        for name in held_by.split(',') {
            let name = name.trim().trim_matches('`');
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            let path = root.join(file);
            assert!(path.is_file(), "{file} of {line}");
            if !test.is_empty() {
                let code = fs::read_to_string(path).unwrap();
                let at = code.find(&format!("fn {test}("));
                let at = at.unwrap_or_else(|| panic!("no {name} of {line}"));
                // The attribute, or the block of properties that it stands in.
                let before = &code[..at];
                let attribute = before.rfind("test]").max(before.rfind("test("));
                let is_test = attribute.is_some_and(|end| !before[end..].contains("\n}\n"));
                assert!(is_test, "{name} is no test");
            }
            names += 1;
        }
        assert!(names > 0, "nothing holds {line}");
    }
}

/// A daemon with a secret in a file, at its first good poll.
async fn running(folder: &Folder, more: &str) -> (teams_pstn_simulator::Simulator, Program) {
    let (simulator, _) = Setup::of(World::Rows { count: 3 }).simulate().await;
    let option = folder.configure(simulator.url(), more);
    let mut program = Program::start(&[ANY_PORT, &option], &[]);
    program.logged("poll complete").await;
    (simulator, program)
}

#[tokio::test]
async fn no_secret_is_on_the_command_line() {
    let folder = Folder::new();
    let (simulator, with_a_file) = running(&folder, "").await;
    let environment = [
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT),
        ("AZURE_CLIENT_SECRET", SECRET),
        ("AZURE_AUTHORITY_HOST", simulator.url()),
    ];
    let mut with_a_variable = Program::start(&[ANY_PORT], &environment);
    with_a_variable.address().await;
    for program in [&with_a_file, &with_a_variable] {
        for file in ["cmdline", "comm"] {
            let text = fs::read(format!("/proc/{}/{file}", program.id())).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("teams-pstn"), "{file}: {text}");
            assert!(!text.contains(SECRET), "{file}: {text}");
        }
    }
    let mut commands = commands().await;
    commands.push(String::new());
    for command in commands {
        let words = [command.as_str(), "--help"];
        let words = &words[usize::from(command.is_empty())..];
        let (code, help) = Program::start(words, &environment).end().await;
        assert_eq!(code, Some(0));
        assert!(!help.contains(SECRET), "{help}");
        let options: Vec<&str> = help
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .collect();
        assert!(options.len() > 5, "{command}: {options:?}");
        for option in options {
            let takes = ["secret", "password", "token", "key"];
            assert!(!takes.iter().any(|word| option.contains(word)), "{option}");
        }
    }
}

/// By the program's own help.
async fn commands() -> Vec<String> {
    let (_, help) = Program::start(&["--help"], &[]).end().await;
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let names: Vec<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    for name in ["demo", "check", "healthcheck", "pseudonym"] {
        assert!(names.iter().any(|other| other == name), "{help}");
    }
    names
}

/// The owner of the files in `/proc` is the process's user if the process may be dumped, and root otherwise. So the
/// test runs the process as another user.
#[tokio::test]
async fn no_core_is_ever_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("teams-pstn-exporter");
    let (program, user) = if rustix::process::geteuid().is_root() {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Not by this process: a child that another test starts meanwhile would hold the copy open for writing until it is
        // another program itself, and what is open for writing cannot be started.
        let copied = Command::new("cp").arg(PROGRAM).arg(&copy).status().await;
        assert!(copied.unwrap().success());
        let mut command = Command::new(&copy);
        command.uid(UNPRIVILEGED_USER).gid(UNPRIVILEGED_USER);
        (command, UNPRIVILEGED_USER)
    } else {
        let user = rustix::process::geteuid().as_raw();
        (Command::new(PROGRAM), user)
    };
    let mut program = Program::start_by(program, &["demo", "--log.level=info", ANY_PORT], &[]);
    let address = program.address().await;
    let of = |file: &str| format!("/proc/{}/{file}", program.id());
    let status = fs::read_to_string(of("status")).unwrap();
    assert!(status.contains(&format!("\nUid:\t{user}\t")), "{status}");
    for file in ["environ", "mem", "fd"] {
        let owner = fs::metadata(of(file)).unwrap().uid();
        assert_ne!(owner, user, "{file}");
    }
    let limits = fs::read_to_string(of("limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    // The hard one is what others are given without limit.
    assert_eq!(words[..2], ["0", "0"], "soft and hard");
    // It can read of itself what others cannot.
    let metrics = Metrics(request(address, "GET", "/metrics", "").await.body);
    let descriptors: u32 = metrics.value("process_open_fds").parse().unwrap();
    assert!(descriptors > 3, "{descriptors}");
    for family in ["process_resident_memory_bytes", "process_max_fds"] {
        assert_ne!(metrics.value(family), "0", "{family}");
    }
}

/// A user who is neither root nor the owner of any file.
const UNPRIVILEGED_USER: u32 = 65534;

#[tokio::test]
async fn nothing_is_written_that_others_may_read() {
    let folder = Folder::new();
    let before = names(&folder.path(""));
    let (_simulator, mut program) = running(&folder, "storage: {path: state}\n").await;
    // The poll of the previous period, and the next one: the files of the first have been written by then.
    program.logged("poll complete").await;
    program.logged("poll complete").await;
    program.stop().await;
    let new: Vec<String> = names(&folder.path(""))
        .into_iter()
        .filter(|name| !before.contains(name))
        .collect();
    assert_eq!(
        new,
        ["config.yml", "key", "secret", "state"],
        "three of the test, and one more"
    );
    let state = folder.path("state");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let files = names(&state);
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(mode(&state.join(&file)), 0o600, "{file}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// By the types of the fields that hold them: a secret in a `String` would be left behind in memory.
#[test]
fn secrets_are_wiped_by_their_type() {
    fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<secrecy::SecretString>();
    is_wiped::<zeroize::Zeroizing<Vec<u8>>>();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, holds) in [
        ("src/graph/credential.rs", "Inline(SecretString)"),
        (
            "src/graph/managed_identity.rs",
            "header: (&'static str, SecretString)",
        ),
        ("src/graph/credential.rs", "Secret(SecretString)"),
        ("src/graph/credential.rs", "Assertion(SecretString, "),
        (
            "src/graph/credential.rs",
            ") -> Result<Zeroizing<Vec<u8>>, CredentialError>",
        ),
        ("src/graph/assertion.rs", "jwt: SecretString"),
        ("src/graph/token_endpoint.rs", "access_token: SecretString"),
        ("src/server/auth.rs", "password: Zeroizing<Vec<u8>>"),
        (
            "src/server/tls.rs",
            ") -> Result<Option<Zeroizing<Vec<u8>>>, TlsError>",
        ),
        (
            "src/config/environment.rs",
            "given: Vec<(&str, SecretString)>",
        ),
        ("src/config/files.rs", "type Content = Zeroizing<Vec<u8>>"),
        ("src/config/files.rs", ") -> Result<Content, String> {"),
        ("src/graph/assertion.rs", "let signature = Zeroizing::new("),
        (
            "src/graph/assertion.rs",
            "let mut signature = Zeroizing::new(",
        ),
        // With room for all that is read into them: growing leaves copies behind.
        (
            "src/graph/token_endpoint.rs",
            "Zeroizing::new(Vec::with_capacity(BODY_MAX))",
        ),
        (
            "src/secret_file.rs",
            "Zeroizing::new(Vec::with_capacity(max + 1))",
        ),
    ] {
        let code = fs::read_to_string(root.join(file)).unwrap();
        assert!(code.contains(holds), "{file} holds no {holds}");
        assert!(!code.contains("Zeroizing::new(Vec::new())"), "{file} grows");
    }
}

/// A copy would be wiped, and what it was made from left behind.
#[test]
fn a_secret_of_the_environment_stays_where_it_was_read() {
    let place = Cell::new(std::ptr::null());
    let variable = |name: &str| {
        let value = match name {
            "AZURE_TENANT_ID" => TENANT,
            "AZURE_CLIENT_ID" => CLIENT,
            "AZURE_CLIENT_SECRET" => SECRET,
            _ => return None,
        };
        let value = value.to_owned();
        if name == "AZURE_CLIENT_SECRET" {
            place.set(value.as_ptr());
        }
        Some(value)
    };
    let config = Config::from_environment(variable).unwrap();
    let Credential::Secret(SecretSource::Inline(secret)) = &config.tenants[0].credential else {
        panic!("{config:?}");
    };
    assert_eq!(secret.expose_secret(), SECRET);
    assert_eq!(secret.expose_secret().as_ptr(), place.get());
}
