//! The reference tables in `docs`, compared with the code that they describe.
//!
//! `UPDATE_DOCS=1 cargo test --test integration docs` writes them again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;

use crate::contract::{CONTRACT, Entry, all_metrics};
use crate::flags::command;

#[test]
fn configuration_tables_are_up_to_date() {
    compare("configuration.md", &[("flags", flags()), ("keys", keys())]);
}

#[tokio::test(start_paused = true)]
async fn metrics_tables_are_up_to_date() {
    let exposition = all_metrics().await;
    compare("metrics.md", &[("metrics", metrics(&exposition.0))]);
}

/// Compares the text below each marker of a document with the generated one, or replaces it.
fn compare(document: &str, parts: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(document);
    let committed = fs::read_to_string(&path).unwrap();
    let mut text = committed.clone();
    for (part, generated) in parts {
        let marker = format!("<!-- generated: {part} -->\n");
        let (before, rest) = text.split_once(&marker).expect(part);
        let (_, after) = rest.split_once("<!-- end -->").expect(part);
        text = format!("{before}{marker}\n{generated}\n<!-- end -->{after}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        committed == text,
        "docs/{document} differs from the code: run UPDATE_DOCS=1 cargo test --test integration docs"
    );
}

/// The commands and the flags of the program.
fn flags() -> String {
    let command = command();
    let mut text = "| command | does |\n| --- | --- |\n".to_owned();
    let about = command.get_about().unwrap();
    writeln!(text, "| `teams-pstn-exporter` | {about} |").unwrap();
    for subcommand in command.get_subcommands() {
        let (name, about) = (subcommand.get_name(), subcommand.get_about().unwrap());
        writeln!(text, "| `teams-pstn-exporter {name}` | {about} |").unwrap();
    }
    text += "\n| flag | default | |\n| --- | --- | --- |\n";
    text.extend(command.get_arguments().filter_map(row));
    text += "| `--help` | | Print help |\n| `--version` | | Print version |\n";
    for subcommand in command.get_subcommands() {
        let rows: String = subcommand.get_arguments().filter_map(row).collect();
        if !rows.is_empty() {
            let name = subcommand.get_name();
            write!(
                text,
                "\n| flag of `{name}` | default | |\n| --- | --- | --- |\n{rows}"
            )
            .unwrap();
        }
    }
    text
}

/// The row of a flag. `None` for what is no flag, such as the users of `pseudonym`.
fn row(flag: &clap::Arg) -> Option<String> {
    let long = flag.get_long()?;
    let default = flag
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_str().unwrap()));
    let default = default.collect::<Vec<_>>().join(", ");
    let help = cell(&flag.get_help()?.to_string());
    let values = flag.get_possible_values();
    let takes_value = flag.get_action().takes_values();
    let values: Vec<_> = values
        .iter()
        .filter(|_| takes_value)
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let values = if values.is_empty() {
        String::new()
    } else {
        format!(": {}", values.join(", "))
    };
    Some(format!("| `--{long}` | {default} | {help}{values} |\n"))
}

/// The keys of the configuration file, a table for each section, in the order in which the sections refer to each other.
fn keys() -> String {
    let schema: Value = serde_json::from_str(&Config::schema()).unwrap();
    let mut text = section("Top level", &schema);
    let mut pending: Vec<(String, String)> = references("", &schema);
    pending.reverse();
    let mut seen = Vec::new();
    while let Some((place, name)) = pending.pop() {
        if seen.contains(&name) {
            continue;
        }
        let definition = &schema["$defs"][&name];
        text += "\n";
        text += &section(&format!("`{place}`"), definition);
        let mut inner = references(&place, definition);
        inner.reverse();
        pending.extend(inner);
        seen.push(name);
    }
    let defined = schema["$defs"].as_object().unwrap();
    assert_eq!(seen.len(), defined.len(), "{seen:?}");
    text
}

/// The places below a section that are sections themselves, and the names of their definitions.
fn references(place: &str, section: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in properties(section) {
        let place = if place.is_empty() {
            key.clone()
        } else {
            format!("{place}.{key}")
        };
        let alternatives = value["items"]["anyOf"].as_array();
        let items = alternatives.into_iter().flatten().chain([&value["items"]]);
        for item in items {
            if let Some(name) = reference(item) {
                found.push((format!("{place}[]"), name));
            }
        }
        if let Some(name) = reference(value) {
            found.push((place, name));
        }
    }
    found
}

fn reference(value: &Value) -> Option<String> {
    let name = value["$ref"].as_str()?.strip_prefix("#/$defs/")?;
    Some(name.to_owned())
}

fn properties(section: &Value) -> &Map<String, Value> {
    section["properties"].as_object().expect("a section")
}

fn section(title: &str, section: &Value) -> String {
    let description = section["description"].as_str().unwrap();
    let required = section["required"].as_array();
    let required: Vec<_> = required.into_iter().flatten().collect();
    let mut text = format!(
        "### {title}\n\n{description}\n\n| key | value | default | |\n| --- | --- | --- | --- |\n"
    );
    for (key, value) in properties(section) {
        let default = match &value["default"] {
            Value::Null if required.iter().any(|name| *name == key) => "required".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            Value::Array(list) => format!("`[{}]`", plain(list)),
            other => format!("`{other}`"),
        };
        let meaning = cell(value["description"].as_str().unwrap());
        writeln!(
            text,
            "| `{key}` | {} | {default} | {meaning} |",
            values(value)
        )
        .unwrap();
    }
    text
}

/// The values that a key accepts, in a few words.
fn values(value: &Value) -> String {
    if let Some(list) = value["enum"].as_array() {
        let list: Vec<_> = list
            .iter()
            .map(|one| format!("`{}`", one.as_str().unwrap()))
            .collect();
        return list.join(", ");
    }
    if let Some(alternatives) = value["anyOf"].as_array() {
        let alternatives: Vec<_> = alternatives.iter().map(values).collect();
        return alternatives.join(" or ");
    }
    if !value["const"].is_null() {
        return format!("`{}`", value["const"]);
    }
    let range = match (value["minimum"].as_u64(), value["maximum"].as_u64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        _ => String::new(),
    };
    let one = match (value["type"].as_str(), value["format"].as_str()) {
        _ if reference(value).is_some() => "a mapping",
        (Some("array"), _) if reference(&value["items"]).is_some() => "list of mappings",
        (Some("array"), _) => return format!("list of {}", values(&value["items"])),
        (Some("integer"), _) => "integer",
        (_, Some("uuid")) => "GUID",
        (_, Some("uri")) => "URL",
        (None, _) => "number",
        _ if value["pattern"] == "^[0-9]" => "duration",
        _ => "text",
    };
    format!("{one}{range}")
}

fn plain(list: &[Value]) -> String {
    let list: Vec<_> = list
        .iter()
        .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .collect();
    list.join(", ")
}

/// A table for each report, one for what is configured, and one for the exporter itself.
fn metrics(exposition: &str) -> String {
    let mut text = String::new();
    let mut rest: Vec<&Entry> = CONTRACT
        .iter()
        .filter(|(family, ..)| family.starts_with("teams_pstn_"))
        .collect();
    let reports = ReportKind::ALL.iter().map(|report| {
        let prefix = format!("teams_pstn_{report}");
        (format!("Report `{report}`"), vec![prefix])
    });
    let others = [
        (
            "Billing period, budgets and departments",
            vec!["billing", "budget", "pool", "department"],
        ),
        ("Polls of each report", vec!["report"]),
        ("The exporter", vec![""]),
    ];
    let others = others.map(|(title, words)| {
        let prefixes = words.iter().map(|word| format!("teams_pstn_{word}"));
        (title.to_owned(), prefixes.collect())
    });
    for (title, prefixes) in reports.chain(others) {
        let (own, left): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|(family, ..)| prefixes.iter().any(|prefix| family.starts_with(prefix)));
        rest = left;
        writeln!(
            text,
            "## {title}\n\n| metric | type | labels | |\n| --- | --- | --- | --- |"
        )
        .unwrap();
        for (family, kind, labels, by_tenant) in own {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = labels.join(", ");
            let mark = if *by_tenant { "ᵗ" } else { "" };
            let help = help(exposition, family);
            writeln!(text, "| `{family}`{mark} | {kind} | {labels} | {help} |").unwrap();
        }
        text += "\n";
    }
    assert!(rest.is_empty(), "{rest:?}");
    text.trim_end().to_owned() + "\n"
}

/// The HELP text of a family.
fn help(exposition: &str, family: &str) -> String {
    let prefix = format!("# HELP {family} ");
    let line = exposition
        .lines()
        .find_map(|line| line.strip_prefix(&prefix));
    cell(line.expect(family))
}

/// Text that is safe in a cell of a table.
fn cell(text: &str) -> String {
    let text = text
        .replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('\n', " ");
    text.replace("__other__", "`__other__`")
}
