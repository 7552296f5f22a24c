//! Holds the code against "Who may know whom" in `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each module and the siblings that it knows: neither more nor fewer.
const KNOWS: &[(&str, &[&str])] = &[
    ("allocator", &[]),
    (
        "bench",
        &["exposition", "graph", "gzip", "report", "snapshot"],
    ),
    (
        "check",
        &[
            "config", "daemon", "graph", "period", "poller", "report", "server", "storage",
        ],
    ),
    (
        "config",
        &["graph", "period", "report", "secret_file", "server"],
    ),
    ("cores", &[]),
    (
        "daemon",
        &[
            "config",
            "graph",
            "healthcheck",
            "logging",
            "machine",
            "period",
            "poller",
            "pseudonym",
            "report",
            "server",
            "signals",
            "snapshot",
            "systemd",
            "telemetry",
        ],
    ),
    ("demo", &["config", "daemon", "period", "report"]),
    ("exposition", &["gzip", "money"]),
    (
        "fuzz",
        &[
            "config",
            "exposition",
            "graph",
            "money",
            "period",
            "report",
            "report_metrics",
            "server",
            "storage",
        ],
    ),
    ("graph", &["secret_file"]),
    ("gzip", &[]),
    ("healthcheck", &["server"]),
    ("logging", &["config", "machine"]),
    ("machine", &[]),
    ("money", &[]),
    ("period", &[]),
    (
        "poller",
        &[
            "config",
            "exposition",
            "graph",
            "period",
            "report",
            "report_metrics",
            "secret_file",
            "snapshot",
            "storage",
            "telemetry",
        ],
    ),
    ("pseudonym", &["config", "poller", "report"]),
    ("report", &["exposition", "graph", "money", "period"]),
    (
        "report_metrics",
        &[
            "exposition",
            "graph",
            "money",
            "period",
            "report",
            "telemetry",
        ],
    ),
    ("secret_file", &["machine"]),
    (
        "server",
        &["exposition", "period", "report", "secret_file", "snapshot"],
    ),
    ("signals", &["logging", "machine"]),
    (
        "snapshot",
        &["exposition", "gzip", "period", "report", "telemetry"],
    ),
    (
        "storage",
        &["exposition", "gzip", "period", "report", "snapshot"],
    ),
    ("systemd", &[]),
    ("telemetry", &["graph"]),
];

/// Crates whose knowledge stays in one place, and the modules that may use them.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("reqwest::", &["graph"]),
    ("hyper::", &["server"]),
    ("clap::", &["config"]),
    ("prometheus::", &["telemetry", "exposition", "snapshot"]),
];

#[test]
fn modules_know_whom_they_may() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, text) in sources() {
        assert!(
            !text.contains("crate::{"),
            "{module}: a name a path, or this test cannot read it"
        );
        let siblings = found.entry(module.clone()).or_default();
        for (at, _) in text.match_indices("crate::") {
            let name: String = text[at + "crate::".len()..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            if !name.is_empty() && name != module {
                siblings.insert(name);
            }
        }
    }
    found.remove("lib");
    found.remove("main");
    let expected: BTreeMap<String, BTreeSet<String>> = KNOWS
        .iter()
        .map(|(module, siblings)| {
            (
                (*module).to_owned(),
                siblings.iter().map(|name| (*name).to_owned()).collect(),
            )
        })
        .collect();
    for (module, siblings) in &found {
        assert_eq!(Some(siblings), expected.get(module), "{module}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn outside_crates_stay_where_they_belong() {
    for (krate, modules) in OUTSIDE {
        let users: BTreeSet<String> = sources()
            .into_iter()
            .filter(|(_, text)| uses(text, krate))
            .map(|(module, _)| module)
            .collect();
        let allowed: BTreeSet<String> = modules.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(users, allowed, "{krate}");
    }
}

/// True if the text has a path that begins with this crate, and not merely one that goes through it.
fn uses(text: &str, krate: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.match_indices(krate)
        .any(|(at, _)| !text[..at].ends_with(inside))
}

/// The code of every file in `src` without comments and tests, with the name of its topmost module.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    files(&root)
        .into_iter()
        .filter(|path| {
            !path
                .file_stem()
                .is_some_and(|stem| stem.to_string_lossy().contains("test"))
        })
        .map(|path| {
            let inside = path.strip_prefix(&root).expect("below src");
            let top = inside.components().next().expect("a file").as_os_str();
            let module = Path::new(top)
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = std::fs::read_to_string(&path).expect("readable");
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .expect("a first part");
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            (module, lines.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}
