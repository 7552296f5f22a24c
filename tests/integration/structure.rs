//! Imports between the modules and files of `src`, compared with "Module dependencies" in `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn modules_use_exactly_the_listed_modules() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, used) in imports() {
        let others = used.iter().map(|used| top(used));
        let others = others.filter(|other| *other != top(&file));
        let uses = found.entry(top(&file).to_owned()).or_default();
        uses.extend(others.map(str::to_owned));
    }
    let mut listed = BTreeMap::new();
    for (modules, uses) in sentences()
        .iter()
        .filter_map(|text| text.split_once(" use"))
    {
        for module in names(modules) {
            let before = listed.insert(module.clone(), names(uses));
            assert_eq!(before, None, "{module} is listed twice");
        }
    }
    for (module, uses) in &found {
        assert_eq!(Some(uses), listed.get(module), "{module}");
    }
    assert_eq!(listed.len(), found.len(), "{listed:?}");
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let mut imports = imports();
    for (file, used) in &mut imports {
        // The items of an enclosing module, such as `super::Error`, are the vocabulary of all files in it.
        used.retain(|used| !file.starts_with(&format!("{used}::")));
    }
    assert!(imports.len() > 100, "{}", imports.len());
    // A file that imports none of the others, or that none of them imports, is in no circle.
    loop {
        let rest = imports.clone();
        imports.retain(|file, used| {
            used.retain(|used| rest.contains_key(used));
            !used.is_empty() && rest.values().any(|used| used.contains(file))
        });
        if imports == rest {
            break;
        }
    }
    assert!(imports.is_empty(), "{imports:#?}");
}

#[test]
fn outside_crates_are_imported_by_the_listed_modules_only() {
    let sources = sources();
    let mut checked = 0;
    for sentence in sentences() {
        let Some((modules, crates)) = sentence.split_once(" import") else {
            continue;
        };
        for name in names(crates) {
            let path = format!("{name}::");
            let has_path = |source: &&Source| source.paths.iter().any(|it| it.starts_with(&path));
            let users = sources.values().filter(has_path);
            let users: BTreeSet<String> = users.map(|it| top(&it.module).to_owned()).collect();
            assert_eq!(users, names(modules), "{name}");
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
}

/// Each file of `src` by the path of its module, and the files that it imports from.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let used = |source: &Source| {
        let files = source.paths.iter();
        let files = files.filter_map(|path| definition(&sources, &source.module, path));
        files.filter(|file| *file != source.module).collect()
    };
    let files = sources.iter().filter(|(module, _)| !module.is_empty());
    files
        .map(|(module, source)| (module.clone(), used(source)))
        .collect()
}

/// The file that defines the item with this path, as the path is written in `module`. `None` for another crate's item, and
/// for an item of `lib.rs`.
fn definition(sources: &BTreeMap<String, Source>, module: &str, path: &str) -> Option<String> {
    let mut file = module.to_owned();
    let mut names = path.split("::").peekable();
    match names.peek().copied()? {
        "crate" => file.clear(),
        "self" | "super" => {}
        child if sources[module].children.contains(child) => {}
        _ => return None,
    }
    for name in names {
        let source = &sources[&file];
        if name == "super" {
            let end = file.rfind("::").unwrap_or(0);
            file.truncate(end);
        } else if source.children.contains(name) {
            let separator = if file.is_empty() { "" } else { "::" };
            file.extend([separator, name]);
        } else if let Some(path) = source.exports.get(name) {
            return definition(sources, &file, path);
        } else if name != "crate" && name != "self" {
            break;
        }
    }
    (!file.is_empty()).then_some(file)
}

/// One file without comments and tests.
#[derive(Default)]
struct Source {
    /// Path of its module; empty for `lib.rs`.
    module: String,
    /// Modules that it declares.
    children: BTreeSet<String>,
    /// Paths in the code and in `use` declarations.
    paths: Vec<String>,
    /// Paths of re-exported items by their names. Passing an item on is not an import.
    exports: BTreeMap<String, String>,
}

impl Source {
    fn of(module: String, code: &str) -> Self {
        let mut source = Self {
            module,
            ..Self::default()
        };
        for statement in format!("\n{code}").split(';') {
            let mut code = statement;
            if let Some((before, _, child)) = declaration(statement, "mod ") {
                code = before;
                source.children.insert(child.to_owned());
            } else if let Some((before, is_public, tree)) = declaration(statement, "use ") {
                code = before;
                for path in leaves(tree) {
                    if is_public {
                        let name = path.rsplit("::").next().expect("a name");
                        source.exports.insert(name.to_owned(), path);
                    } else {
                        source.paths.push(path);
                    }
                }
            }
            let is_outside = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':';
            let paths = code.split(is_outside).filter(|path| path.contains("::"));
            source.paths.extend(paths.map(str::to_owned));
        }
        source
    }
}

/// Splits a statement that ends in a declaration: the text before, if it is public, and the declaration without the keyword.
fn declaration<'a>(statement: &'a str, keyword: &str) -> Option<(&'a str, bool, &'a str)> {
    let at = statement.rfind(keyword)?;
    let line = statement[..at].rfind('\n')?;
    let visibility = statement[line..at].trim();
    let is_item = visibility.is_empty() || visibility.starts_with("pub");
    let rest = statement[at + keyword.len()..].trim();
    (is_item && !rest.contains(" {\n")).then_some((
        &statement[..line],
        !visibility.is_empty(),
        rest,
    ))
}

/// The paths in the tree of a `use` declaration.
fn leaves(tree: &str) -> Vec<String> {
    let Some((prefix, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().expect("a path").trim();
        return vec![path.to_owned()];
    };
    let list = list.trim_end().strip_suffix('}').expect("the list ends");
    let mut depth = 0;
    let items = list.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let items = items
        .filter(|item| !item.trim().is_empty())
        .flat_map(leaves);
    items
        .map(|item| format!("{}{item}", prefix.trim()))
        .collect()
}

/// The first module in a path.
fn top(module: &str) -> &str {
    module.split("::").next().expect("a first part")
}

/// The sentences of the list under "Module dependencies".
fn sentences() -> Vec<String> {
    let text = fs::read_to_string(root().join("lib.rs")).expect("readable");
    let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
    let docs = docs.collect::<Vec<_>>().join("\n");
    let (_, list) = docs.split_once("# Module dependencies").expect("a heading");
    let sentences = list.split("\n - ").skip(1);
    sentences
        .map(|sentence| sentence.replace('\n', ""))
        .collect()
}

/// The names in backticks.
fn names(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn sources() -> BTreeMap<String, Source> {
    let source = |path: PathBuf| {
        let inside = path
            .strip_prefix(root())
            .expect("below src")
            .with_extension("");
        let module = inside.to_string_lossy().replace('/', "::");
        let text = fs::read_to_string(&path).expect("readable");
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .expect("a first part");
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        let module = if module == "lib" {
            String::new()
        } else {
            module
        };
        (module.clone(), Source::of(module, &code))
    };
    let is_code = |path: &PathBuf| {
        let inside = path
            .strip_prefix(root())
            .expect("below src")
            .to_string_lossy();
        !inside.contains("test") && inside != "main.rs"
    };
    files(&root())
        .into_iter()
        .filter(is_code)
        .map(source)
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all
}
