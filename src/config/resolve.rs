//! From the sections to a [`Config`]: what is left out, what belongs together, what must differ.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use super::read::{Field, Scalar, repeated};
use super::readable::Files;
use super::scalar::{Guid, Name, Root, TenantId};
use super::sections::{Billing, Budget, File, Labels, Poll, Storage, Tenant};
use super::{Config, Credential, Mistakes, UserLabel};
use crate::graph::credential::SecretSource;
use crate::report::ReportKind;

impl File {
    /// The configuration, if nothing is wrong. Relative paths start at `folder`. The tenants are those of `base`, if there
    /// is one, and so is what is left out of the sections that a demo has of its own.
    pub(super) fn resolve(
        self,
        folder: &Path,
        base: Option<&Config>,
        told: &mut Mistakes,
    ) -> Option<Config> {
        let files = Files::of(folder);
        let default = base.map(|base| base.poll).unwrap_or_default();
        let poll = self.poll.value().unwrap_or_default().resolve(default, told);
        let default = base.map(|base| base.billing).unwrap_or_default();
        let billing = self.billing.value().unwrap_or_default().resolve(default);
        let labels = self.labels.value().unwrap_or_default();
        let labels = labels.resolve(&files, told);
        let reports = match base {
            Some(base) if self.reports.is_absent() => Some(base.reports.clone()),
            _ => reports(self.reports, told),
        };
        let tenants = match base {
            Some(base) => simulated(&self.tenants, &base.tenants, told),
            None => tenants(self.tenants, &files, told),
        };
        let budgets = match (base, &reports) {
            (Some(base), Some(reports)) if self.budgets.is_absent() => Some(
                base.budgets
                    .iter()
                    .filter(|budget| reports.contains(&budget.report))
                    .cloned()
                    .collect(),
            ),
            _ => budgets(self.budgets, reports.as_deref(), tenants.as_deref(), told),
        };
        let storage = storage(self.storage, folder, told);
        Some(Config {
            poll,
            billing,
            labels,
            reports: reports?,
            tenants: tenants?,
            budgets: budgets?,
            storage,
        })
    }
}

impl Poll {
    fn resolve(self, default: super::Poll, told: &mut Mistakes) -> super::Poll {
        let interval = self.interval.value().unwrap_or(default.interval);
        if let Field::Good(line, max_age) = self.max_age
            && max_age <= interval
        {
            told.tell(
                line,
                "poll.max_age: not longer than poll.interval, so every report would be too old before the next; make it several intervals",
            );
        }
        super::Poll {
            interval,
            timeout: self.timeout.value().unwrap_or(default.timeout),
            max_age: self.max_age.value(),
        }
    }
}

impl Billing {
    fn resolve(self, default: super::Billing) -> super::Billing {
        super::Billing {
            cycle_day: self.cycle_day.value().unwrap_or(default.cycle_day),
        }
    }
}

impl Labels {
    fn resolve(self, files: &Files<'_>, told: &mut Mistakes) -> super::Labels {
        let default = super::Labels::default();
        let key = self.pseudonym_key_file.line();
        match (&self.user, key) {
            (Field::Good(line, UserLabel::Pseudonym), None) => told.tell(
                *line,
                "labels.user: pseudonym needs a key; give labels.pseudonym_key_file",
            ),
            (Field::Good(_, UserLabel::Pseudonym) | Field::Bad(_), _) | (_, None) => {}
            (_, Some(line)) => told.tell(
                line,
                "labels.pseudonym_key_file: there is nothing to use it for; remove it or set labels.user to pseudonym",
            ),
        }
        super::Labels {
            user: self.user.value().unwrap_or(default.user),
            pseudonym_key_file: files.key(self.pseudonym_key_file, told),
            max_series: self.max_series.value().unwrap_or(default.max_series),
        }
    }
}

impl Tenant {
    fn resolve(
        self,
        at: &str,
        line: usize,
        files: &Files<'_>,
        told: &mut Mistakes,
    ) -> Option<super::Tenant> {
        let managed = !self.managed_identity.is_absent();
        if self.tenant_id.is_absent() {
            told.tell(line, format!("{at}: no tenant_id; {}", TenantId::REMEDY));
        }
        if self.client_id.is_absent() && !managed {
            told.tell(line, format!("{at}: no client_id; {}", Guid::REMEDY));
        }
        self.tell_companions(at, told);
        let given = [
            ("client_secret_file", self.client_secret_file.line()),
            (
                "client_certificate_file",
                self.client_certificate_file.line(),
            ),
            ("federated_token_file", self.federated_token_file.line()),
            ("managed_identity", self.managed_identity.line()),
        ];
        tell_credentials(at, line, &given, told);
        let file = |field: Field<PathBuf>, key: &str, told: &mut Mistakes| {
            files.readable(field, &format!("{at}.{key}"), told)
        };
        let text = |field: Field<PathBuf>, key: &str, told: &mut Mistakes| {
            files.secret(field, &format!("{at}.{key}"), told)
        };
        let secret = text(self.client_secret_file, "client_secret_file", told);
        let certificate = file(
            self.client_certificate_file,
            "client_certificate_file",
            told,
        );
        let key = file(
            self.client_certificate_key_file,
            "client_certificate_key_file",
            told,
        );
        let federated = text(self.federated_token_file, "federated_token_file", told);
        let credential = secret
            .map(|path| Credential::Secret(SecretSource::File(path)))
            .or(certificate.map(|certificate| Credential::Certificate { certificate, key }))
            .or(federated.map(Credential::FederatedTokenFile))
            .or(managed.then_some(Credential::ManagedIdentity));
        Some(super::Tenant {
            name: self.name.value().map(|Name(name)| name.into()),
            tenant_id: self.tenant_id.value()?.0,
            client_id: self.client_id.value().map(|Guid(id)| id),
            credential: credential?,
            credential_expiry: self.client_secret_expires.value().map(|expiry| expiry.0),
            cloud: self.cloud.value().unwrap_or_default(),
            graph_url: self.graph_url.value().map(|Root(url)| url),
            authority_url: self.authority_url.value().map(|Root(url)| url),
        })
    }

    /// Tells of the keys that say something about a credential that is not there.
    fn tell_companions(&self, at: &str, told: &mut Mistakes) {
        let pairs = [
            (
                self.client_secret_expires.line(),
                "client_secret_expires",
                self.client_secret_file.is_absent(),
                "client_secret_file",
            ),
            (
                self.client_certificate_key_file.line(),
                "client_certificate_key_file",
                self.client_certificate_file.is_absent(),
                "client_certificate_file",
            ),
        ];
        for (line, key, alone, partner) in pairs {
            if let (Some(line), true) = (line, alone) {
                told.tell(
                    line,
                    format!("{at}.{key}: says nothing without {partner}; remove it"),
                );
            }
        }
    }
}

impl Budget {
    fn resolve(self, at: &str, line: usize, told: &mut Mistakes) -> Option<super::Budget> {
        let missing = [
            ("name", self.name.is_absent(), "it becomes the label budget"),
            ("currency", self.currency.is_absent(), "for example USD"),
            ("amount", self.amount.is_absent(), "for example 500"),
        ];
        for (key, _, why) in missing.iter().filter(|(_, absent, _)| *absent) {
            told.tell(line, format!("{at}: no {key}; give one, {why}"));
        }
        let text = |field: Field<Name>| field.value().map(|Name(text)| text);
        Some(super::Budget {
            name: self.name.value()?.0,
            currency: self.currency.value()?.0,
            amount: self.amount.value()?.0,
            report: self.report.value().unwrap_or(ReportKind::Dialout),
            tenant: text(self.tenant),
            user: text(self.user),
            usage_location: self.usage_location.value().map(|location| location.0),
            destination_context: text(self.destination_context),
        })
    }
}

/// The folder of the state files.
fn storage(field: Field<Storage>, folder: &Path, told: &mut Mistakes) -> Option<PathBuf> {
    let (line, storage) = field.good()?;
    if storage.path.is_absent() {
        told.tell(
            line,
            "storage: no path; give the folder for the state files, as the annotated example shows",
        );
    }
    Some(folder.join(storage.path.value()?))
}

fn reports(field: Field<Vec<Field<ReportKind>>>, told: &mut Mistakes) -> Option<Vec<ReportKind>> {
    let (line, items) = match field {
        Field::Absent => return Some(vec![ReportKind::Dialout]),
        field => field.good()?,
    };
    if items.is_empty() {
        told.tell(
            line,
            "reports: none is named; name at least one, for example dialout, or remove the key",
        );
    }
    let mut reports = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let Some((line, report)) = item.good() else {
            continue;
        };
        if reports.contains(&report) {
            told.tell(
                line,
                format!("reports[{index}]: {report} is named twice; remove one of them"),
            );
        }
        reports.push(report);
    }
    Some(reports)
}

/// The tenants of the demo, which are never those of the file.
fn simulated(
    field: &Field<Vec<Field<Tenant>>>,
    tenants: &[super::Tenant],
    told: &mut Mistakes,
) -> Option<Vec<super::Tenant>> {
    if let Some(line) = field.line() {
        told.tell(
            line,
            "tenants: the demo polls a simulated tenant only; remove the section, or start the exporter without `demo`",
        );
        return None;
    }
    Some(tenants.to_vec())
}

/// The tenants; none where one of them is wrong.
fn tenants(
    field: Field<Vec<Field<Tenant>>>,
    files: &Files<'_>,
    told: &mut Mistakes,
) -> Option<Vec<super::Tenant>> {
    if field.is_absent() {
        told.tell(
            None,
            "no tenants; add the section tenants, as the annotated example shows",
        );
    }
    let (line, items) = field.good()?;
    if items.is_empty() {
        told.tell(
            line,
            "tenants: none is given; add one, as the annotated example shows",
        );
    }
    let count = items.len();
    let mut names = Seen::new("name", "names must differ, they become the label tenant");
    let mut clients = Seen::new(
        "pair of tenant_id and client_id",
        "its cost would be exported twice, so remove one of them",
    );
    let mut tenants = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let at = format!("tenants[{index}]");
        let Some((line, tenant)) = item.good() else {
            continue;
        };
        if let Some(Name(name)) = tenant.name.as_ref() {
            names.tell_again(&at, tenant.name.line().unwrap_or(line), name.clone(), told);
        } else if tenant.name.is_absent() && count > 1 {
            told.tell(
                line,
                format!("{at}: no name, although there are {count} tenants; give one, it becomes the label tenant"),
            );
        }
        if let Some(TenantId(id)) = tenant.tenant_id.as_ref() {
            let client = tenant.client_id.as_ref().map(|Guid(id)| id.as_str());
            if client.is_some() || tenant.client_id.is_absent() {
                let pair = (id.clone(), client.unwrap_or_default().to_owned());
                clients.tell_again(&at, line, pair, told);
            }
        }
        tenants.push(tenant.resolve(&at, line, files, told));
    }
    let tenants: Option<Vec<_>> = tenants.into_iter().collect();
    tenants.filter(|tenants| tenants.len() == count)
}

/// The budgets; none where one of them is wrong. A tenant's name is looked up only where all tenants are known.
fn budgets(
    field: Field<Vec<Field<Budget>>>,
    reports: Option<&[ReportKind]>,
    tenants: Option<&[super::Tenant]>,
    told: &mut Mistakes,
) -> Option<Vec<super::Budget>> {
    let items = match field {
        Field::Absent => return Some(Vec::new()),
        field => field.value()?,
    };
    let mut names = Seen::new("name", "names must differ, they become the label budget");
    let mut budgets = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let at = format!("budgets[{index}]");
        let Some((line, budget)) = item.good() else {
            continue;
        };
        if let Field::Good(line, Name(name)) = &budget.name {
            names.tell_again(&at, *line, name.clone(), told);
        }
        if let (Field::Good(line, Name(name)), Some(tenants)) = (&budget.tenant, tenants) {
            tell_stranger(&at, *line, name, tenants, told);
        }
        if let Some(reports) = reports {
            tell_report(&at, line, &budget.report, reports, told);
        }
        budgets.push(budget.resolve(&at, line, told));
    }
    budgets.into_iter().collect()
}

/// Tells of a budget that nothing would be spent of.
fn tell_report(
    at: &str,
    line: usize,
    report: &Field<ReportKind>,
    reports: &[ReportKind],
    told: &mut Mistakes,
) {
    match report {
        Field::Good(line, report) if !report.has_money() => {
            let with_money = ReportKind::ALL.iter().filter(|report| report.has_money());
            let names: Vec<&str> = with_money.map(|report| report.as_str()).collect();
            let names = names.join(", ");
            told.tell(
                *line,
                format!("{at}.report: {report} knows no money; choose from {names}"),
            );
        }
        Field::Good(line, report) if !reports.contains(report) => told.tell(
            *line,
            format!("{at}.report: {report} is not polled; add it to reports"),
        ),
        Field::Absent if !reports.contains(&ReportKind::Dialout) => told.tell(
            line,
            format!("{at}: it is spent in dialout, which is not polled; add it to reports, or name another, as report: pstn_calls"),
        ),
        Field::Good(..) | Field::Absent | Field::Bad(_) => {}
    }
}

/// Tells of a budget for a tenant that there is not.
fn tell_stranger(
    at: &str,
    line: usize,
    name: &str,
    tenants: &[super::Tenant],
    told: &mut Mistakes,
) {
    let names: Vec<&str> = tenants.iter().filter_map(|t| t.name.as_deref()).collect();
    if names.contains(&name) {
        return;
    }
    let remedy = match names.as_slice() {
        [] => "the only tenant has no name, so remove this selector".to_owned(),
        names => format!("choose from {}", names[..names.len().min(10)].join(", ")),
    };
    let name = repeated(name);
    told.tell(
        line,
        format!("{at}.tenant: no tenant is named {name}; {remedy}"),
    );
}

/// Tells where there is not exactly one credential.
fn tell_credentials(at: &str, line: usize, given: &[(&str, Option<usize>)], told: &mut Mistakes) {
    let mut there: Vec<(usize, &str)> = given
        .iter()
        .filter_map(|(key, line)| Some(((*line)?, *key)))
        .collect();
    there.sort_unstable();
    let Some((_, first)) = there.first() else {
        told.tell(
            line,
            format!("{at}: no credential; give one of client_secret_file, client_certificate_file, federated_token_file and managed_identity"),
        );
        return;
    };
    for (line, key) in &there[1..] {
        told.tell(
            *line,
            format!("{at}.{key}: a second credential beside {first}; keep one of them"),
        );
    }
}

/// What has been seen, to tell what comes again.
struct Seen<K> {
    what: &'static str,
    remedy: &'static str,
    lines: HashMap<K, usize>,
}

impl<K: Hash + Eq> Seen<K> {
    fn new(what: &'static str, remedy: &'static str) -> Self {
        Self {
            what,
            remedy,
            lines: HashMap::new(),
        }
    }

    fn tell_again(&mut self, at: &str, line: usize, key: K, told: &mut Mistakes) {
        if let Some(before) = self.lines.get(&key) {
            let Self { what, remedy, .. } = self;
            told.tell(
                line,
                format!("{at}: the same {what} as on line {before}; {remedy}"),
            );
        } else {
            self.lines.insert(key, line);
        }
    }
}
