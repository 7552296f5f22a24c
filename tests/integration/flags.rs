//! The man page, the completions and the manual name exactly the flags that the program's own `--help` prints. The first
//! two are made here from the definition of the flags, so that the program does not carry what makes them.
//!
//! `UPDATE_MAN=1 cargo test --test integration flags` writes them again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use teams_pstn_exporter::VERSION;
use teams_pstn_exporter::config::args::Args;

use crate::support::Program;

const NAME: &str = "teams-pstn-exporter";

/// The files below `deploy`, and their text.
fn generated() -> Vec<(PathBuf, String)> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut files = vec![(deploy.join(format!("man/{NAME}.1")), man())];
    for (shell, file) in [
        (Shell::Bash, NAME.to_owned()),
        (Shell::Zsh, format!("_{NAME}")),
        (Shell::Fish, format!("{NAME}.fish")),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command(), NAME, &mut text);
        let text = String::from_utf8(text).unwrap();
        files.push((deploy.join("completions").join(file), text));
    }
    files
}

/// The definition, without the revision and the compiler, which are others in every build.
pub(crate) fn command() -> clap::Command {
    Args::command().version(VERSION)
}

/// One page with the subcommands in it, for they have hardly a flag of their own.
fn man() -> String {
    let manual = "Exporters for Prometheus";
    let page = Man::new(command()).title(NAME).manual(manual);
    let mut text = PREAMBLE.to_owned();
    text += &section(|out| page.render_title(out));
    text += &section(|out| page.render_name_section(out));
    text += &section(|out| page.render_synopsis_section(out));
    text += &section(|out| page.render_description_section(out));
    text += &section(|out| page.render_options_section(out));
    text += ".SH COMMANDS\n";
    for subcommand in command().get_subcommands() {
        text += &[".SS ", subcommand.get_name(), "\n"].concat();
        let own = Man::new(subcommand.clone().disable_help_flag(true));
        let parts = section(|out| own.render_description_section(out))
            + &section(|out| own.render_options_section(out));
        let lines = parts.lines().filter(|line| !line.starts_with(".SH"));
        text.extend(lines.flat_map(|line| [line, "\n"]));
    }
    text += &section(|out| page.render_extra_section(out)).replace(".SH EXTRA", ".SH NOTES");
    text
}

/// The output of `write` without the preamble of the format, which is at the top of the page once.
fn section(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut section = Vec::new();
    write(&mut section).unwrap();
    let section = String::from_utf8(section).unwrap();
    let text = section.strip_prefix(PREAMBLE).unwrap();
    assert!(!text.contains(PREAMBLE), "{text}");
    text.to_owned()
}

/// An apostrophe for every kind of roff.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

#[test]
fn man_page_and_completions_are_up_to_date() {
    for (path, text) in generated() {
        if std::env::var_os("UPDATE_MAN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap();
        assert!(committed == text, "{} is of other flags", path.display());
    }
}

#[tokio::test]
async fn all_name_exactly_the_flags_that_help_prints() {
    let mut printed = BTreeSet::new();
    let mut commands = vec![None];
    let subcommands = command();
    commands.extend(
        subcommands
            .get_subcommands()
            .map(|one| Some(one.get_name())),
    );
    for subcommand in commands {
        let words: Vec<&str> = subcommand.into_iter().chain(["--help"]).collect();
        let (code, help) = Program::start(&words, &[]).end().await;
        assert_eq!(code, Some(0), "{help}");
        let options = help
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'));
        printed.extend(options.flat_map(|line| {
            // A flag in the description of an option is not another option.
            let option = line.split("  ").next().unwrap();
            long_flags(option)
        }));
    }
    assert!(printed.len() >= 13, "{printed:?}");
    for (path, text) in generated() {
        // Of the man page's fonts and dashes.
        let text = ["\\fB", "\\fI", "\\fR", "\\"]
            .iter()
            .fold(text, |text, mark| text.replace(mark, ""));
        let named = if path
            .extension()
            .is_some_and(|extension| extension == "fish")
        {
            fish_flags(&text)
        } else {
            long_flags(&text)
        };
        assert_eq!(named, printed, "{}", path.display());
    }
    let manual = include_str!("../../docs/configuration.md");
    let rows = manual.lines().filter(|line| line.starts_with("| `--"));
    let named = rows.flat_map(|row| long_flags(row.split(" | ").next().unwrap()));
    assert_eq!(
        named.collect::<BTreeSet<_>>(),
        printed,
        "docs/configuration.md"
    );
}

#[tokio::test]
async fn demo_help_has_no_flag_that_it_refuses() {
    for (words, offered) in [(&["demo", "--help"][..], false), (&["--help"], true)] {
        let (code, help) = Program::start(words, &[]).end().await;
        assert_eq!(code, Some(0), "{help}");
        assert_eq!(help.contains("--tenants.shard"), offered, "{help}");
        for flag in ["--config.file", "--web.listen-address"] {
            assert!(help.contains(flag), "{flag} in {help}");
        }
    }
}

/// Every word that begins with two dashes.
fn long_flags(text: &str) -> BTreeSet<String> {
    let inside = |c: char| c.is_ascii_lowercase() || c == '.' || c == '-';
    text.match_indices("--")
        .filter(|(at, _)| !text[..*at].ends_with(inside))
        .filter_map(|(at, _)| {
            let name = &text[at + 2..];
            let end = name.find(|c| !inside(c)).unwrap_or(name.len());
            let name = name[..end].trim_end_matches('.');
            (!name.is_empty()).then(|| name.to_owned())
        })
        .collect()
}

/// `-l NAME` of every completion.
fn fish_flags(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with("complete "))
        .filter_map(|line| line.split_once(" -l ")?.1.split(' ').next())
        .map(str::to_owned)
        .collect()
}
