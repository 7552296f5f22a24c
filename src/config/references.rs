//! Checks of names: names must differ, and a tenant that a budget or pool names must exist.

use std::collections::HashMap;
use std::hash::Hash;

use super::ConfigErrors;
use super::read::{Field, Place, quote_value};
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

    /// Records an error if the key was seen before, at another place.
    pub(super) fn check_duplicate(&mut self, place: &Place, key: K, errors: &mut ConfigErrors) {
        if let Some(before) = self.lines.get(&key) {
            let Self { what, remedy, .. } = self;
            let what = format!("the same {what} as on line {before}; {remedy}");
            errors.at(place, what);
        } else {
            self.lines.insert(key, place.line);
        }
    }
}

impl Seen<String> {
    /// Creates a check of names that become the values of `label`.
    pub(super) fn names(label: &str) -> Self {
        let remedy = format!("names must differ, because they become the label {label}");
        Self::new("name", remedy)
    }

    /// Checks the name of the section at `path`.
    pub(super) fn check_name(&mut self, path: &str, name: &Field<Name>, errors: &mut ConfigErrors) {
        if let Field::Set(Place { line, .. }, Name(name)) = name {
            let (line, path) = (*line, path.to_owned());
            self.check_duplicate(&Place { line, path }, name.clone(), errors);
        }
    }
}

/// Records an error if a budget or pool names an unknown tenant. Checks nothing if the tenants are invalid.
pub(super) fn check_tenant(
    name: &Field<Name>,
    tenants: Option<&[super::Tenant]>,
    errors: &mut ConfigErrors,
) {
    let (Field::Set(place, Name(name)), Some(tenants)) = (name, tenants) else {
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
    errors.at(place, format!("no tenant is named {name}; {remedy}"));
}
