//! Checks of names: names must differ, and a tenant that a budget or pool names must exist.

use std::collections::HashMap;
use std::hash::Hash;

use super::ConfigErrors;
use super::read::quote_value;

/// Keys with their lines, to detect duplicates.
pub(super) struct Seen<K> {
    what: &'static str,
    remedy: &'static str,
    lines: HashMap<K, usize>,
}

impl<K: Hash + Eq> Seen<K> {
    pub(super) fn new(what: &'static str, remedy: &'static str) -> Self {
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

/// Records an error if a budget or pool names an unknown tenant.
pub(super) fn check_tenant(
    at: &str,
    line: usize,
    name: &str,
    tenants: &[super::Tenant],
    errors: &mut ConfigErrors,
) {
    let names: Vec<&str> = tenants.iter().filter_map(|t| t.name.as_deref()).collect();
    if names.contains(&name) {
        return;
    }
    let remedy = match names.as_slice() {
        [] => "remove this selector, because the only tenant has no name".to_owned(),
        names => format!("choose from {}", names[..names.len().min(10)].join(", ")),
    };
    let name = quote_value(name);
    errors.push(
        line,
        format!("{at}.tenant: no tenant is named {name}; {remedy}"),
    );
}
