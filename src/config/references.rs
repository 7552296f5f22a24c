//! Checks of names: names must differ, and a tenant that a budget or pool names must exist.

use std::collections::HashMap;
use std::hash::Hash;

use super::ConfigErrors;
use super::read::{Field, quote_value};
use super::scalar::Name;

/// Keys with their lines, to detect duplicates.
pub(super) struct Seen<K> {
    what: &'static str,
    remedy: String,
    lines: HashMap<K, usize>,
}

impl<K: Hash + Eq> Seen<K> {
    pub(super) fn new(what: &'static str, remedy: String) -> Self {
        Self {
            what,
            remedy,
            lines: HashMap::new(),
        }
    }

    pub(super) fn check_duplicate(
        &mut self,
        at: &str,
        line: usize,
        key: K,
        errors: &mut ConfigErrors,
    ) {
        if let Some(before) = self.lines.get(&key) {
            let Self { what, remedy, .. } = self;
            errors.push(
                line,
                format!("{at}: the same {what} as on line {before}; {remedy}"),
            );
        } else {
            self.lines.insert(key, line);
        }
    }
}

impl Seen<String> {
    /// Creates a check of names that become the values of `label`.
    pub(super) fn names(label: &str) -> Self {
        let remedy = format!("names must differ, because they become the label {label}");
        Self::new("name", remedy)
    }

    pub(super) fn check_name(&mut self, at: &str, name: &Field<Name>, errors: &mut ConfigErrors) {
        if let Field::Set(line, Name(name)) = name {
            self.check_duplicate(at, *line, name.clone(), errors);
        }
    }
}

/// Records an error if a budget or pool names an unknown tenant. Checks nothing if the tenants are invalid.
pub(super) fn check_tenant(
    at: &str,
    name: &Field<Name>,
    tenants: Option<&[super::Tenant]>,
    errors: &mut ConfigErrors,
) {
    let (Field::Set(line, Name(name)), Some(tenants)) = (name, tenants) else {
        return;
    };
    let names: Vec<&str> = tenants.iter().filter_map(|t| t.name.as_deref()).collect();
    if names.contains(&name.as_str()) {
        return;
    }
    let remedy = match names.as_slice() {
        [] => "remove this selector, because the only tenant has no name".to_owned(),
        names => format!("choose from {}", names[..names.len().min(10)].join(", ")),
    };
    let name = quote_value(name);
    errors.push(
        *line,
        format!("{at}.tenant: no tenant is named {name}; {remedy}"),
    );
}
