//! Builds a [`Config`] from the sections: defaults, dependencies between keys, and uniqueness.

use std::path::Path;

use super::files;
use super::pools::pools;
use super::read::{Field, Place, Scalar};
use super::references::{Seen, check_tenant};
use super::reports::{PseudonymKey, check_max_age, contains, reports};
use super::scalar::{Guid, Name, TenantId, True};
use super::sections::{Budget, Departments, File, Labels, Poll, Tenant};
use super::thresholds::thresholds;
use super::{Config, ConfigErrors};
use crate::chain::Chain;
use crate::graph::credential::{Credential, SecretSource};
use crate::graph::managed_identity::ManagedIdentityEndpoint;
use crate::report::ReportKind;
use crate::report::budget;
use crate::report::threshold::Threshold;

impl File {
    /// Returns the configuration if it has no errors. Relative paths start at `folder`. If `base` is set, as in the
    /// demo, it provides the tenants, and the defaults of the sections poll, billing, reports, budgets, pools and
    /// departments.
    pub(super) fn resolve(
        self,
        folder: &Path,
        base: Option<&Config>,
        errors: &mut ConfigErrors,
    ) -> Option<Config> {
        let default = base.map(|base| base.poll).unwrap_or_default();
        let poll = self.poll.value().unwrap_or_default();
        let max_age_line = poll.max_age.line();
        let poll = poll.resolve(default);
        let mut billing = base.map(|base| base.billing).unwrap_or_default();
        let cycle_day = self
            .billing
            .value()
            .and_then(|section| section.cycle_day.value());
        billing.cycle_day = cycle_day.unwrap_or(billing.cycle_day);
        let mut labels = self.labels.value().unwrap_or_default();
        let mut key = PseudonymKey::of(&mut labels, folder, errors);
        let labels = labels.resolve(&mut key, errors);
        let reports = match base {
            Some(base) if self.reports.is_missing() => Some(base.reports.clone()),
            _ => reports(self.reports, &mut key, errors),
        };
        key.check_use(errors);
        check_max_age(&poll, max_age_line, reports.as_deref(), errors);
        let tenants = match base {
            Some(base) => simulated(&self.tenants, &base.tenants, errors),
            None => tenants(self.tenants, folder, errors),
        };
        let departments = match base {
            Some(base) if self.departments.is_missing() => Ok(base.departments.clone()),
            _ => departments(self.departments, folder, errors),
        };
        let budgets = match (base, &reports) {
            (Some(base), Some(reports)) if self.budgets.is_missing() => Some(
                base.budgets
                    .iter()
                    .filter(|budget| contains(reports, budget.report))
                    .cloned()
                    .collect(),
            ),
            _ => budgets(
                self.budgets,
                reports.as_deref(),
                tenants.as_deref(),
                departments.as_ref(),
                errors,
            ),
        };
        let pools = match (base, &reports) {
            (Some(base), Some(reports)) if self.pools.is_missing() => {
                let has_calls = contains(reports, ReportKind::CallLog);
                let pools = base.pools.iter().filter(|_| has_calls);
                Some(pools.cloned().collect())
            }
            _ => pools(self.pools, reports.as_deref(), tenants.as_deref(), errors),
        };
        let storage = self
            .storage
            .value()
            .and_then(|storage| storage.path.value());
        Some(Config {
            poll,
            billing,
            labels,
            reports: reports?,
            tenants: tenants?,
            budgets: budgets?,
            pools: pools?,
            departments: departments.ok()?,
            storage: storage.map(|path| folder.join(path)),
        })
    }
}

impl Poll {
    fn resolve(self, default: super::Poll) -> super::Poll {
        super::Poll {
            interval: self.interval.value().unwrap_or(default.interval),
            log_interval: default.log_interval,
            timeout: self.timeout.value().unwrap_or(default.timeout),
            max_age: self.max_age.value(),
        }
    }
}

impl Labels {
    fn resolve(self, key: &mut PseudonymKey, errors: &mut ConfigErrors) -> super::Labels {
        let default = super::Labels::default();
        let user = key.label(self.user, errors);
        super::Labels {
            user: user.unwrap_or(default.user),
            max_series: self.max_series.value().unwrap_or(default.max_series),
        }
    }
}

impl Tenant {
    fn resolve(
        self,
        place: &Place,
        folder: &Path,
        errors: &mut ConfigErrors,
    ) -> Option<super::Tenant> {
        let endpoint = managed_identity(&self.managed_identity, errors);
        if self.client_id.is_missing() && self.managed_identity.is_missing() {
            errors.at(place, format!("no client_id; {}", Guid::HINT));
        }
        self.check_companions(errors);
        let given = [
            self.client_secret_file.place(),
            self.client_certificate_file.place(),
            self.federated_token_file.place(),
            self.managed_identity.place(),
        ];
        check_credentials(place, given, errors);
        let secret = files::secret(folder, self.client_secret_file, errors);
        let certificate = files::file(folder, self.client_certificate_file, errors);
        let key = files::file(folder, self.client_certificate_key_file, errors);
        let federated = files::secret(folder, self.federated_token_file, errors);
        let credential = secret
            .map(|path| Credential::Secret(SecretSource::File(path)))
            .or(certificate.map(|certificate| Credential::Certificate { certificate, key }))
            .or(federated.map(Credential::FederatedTokenFile))
            .or(endpoint.map(Credential::ManagedIdentity));
        Some(super::Tenant {
            name: self.name.value().map(|Name(name)| name.into()),
            tenant_id: self.tenant_id.value()?.0,
            client_id: self.client_id.value().map(|Guid(id)| id),
            credential: credential?,
            credential_expiry: self.client_secret_expires.value().map(|expiry| expiry.0),
            cloud: self.cloud.value().unwrap_or_default(),
            graph_url: self.graph_url.value(),
            authority_url: self.authority_url.value(),
        })
    }

    /// Records an error for each key that is set without the key that it depends on. For example,
    /// `client_secret_expires` has no effect without `client_secret_file`.
    fn check_companions(&self, errors: &mut ConfigErrors) {
        let expires = self.client_secret_expires.place();
        let key = self.client_certificate_key_file.place();
        let no_secret = self.client_secret_file.is_missing();
        let no_certificate = self.client_certificate_file.is_missing();
        for (place, alone, partner) in [
            (expires, no_secret, "client_secret_file"),
            (key, no_certificate, "client_certificate_file"),
        ] {
            if let (Some(place), true) = (place, alone) {
                errors.at(place, format!("has no effect without {partner}; remove it"));
            }
        }
    }
}

/// Returns the endpoint of the machine's managed identity. Records an error if the environment names an endpoint that
/// cannot be used.
fn managed_identity(
    field: &Field<True>,
    errors: &mut ConfigErrors,
) -> Option<ManagedIdentityEndpoint> {
    let place = field.place()?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    ManagedIdentityEndpoint::from_environment(variable)
        .map_err(|error| errors.at(place, Chain(&error)))
        .ok()
}

impl Budget {
    fn resolve(self, errors: &mut ConfigErrors) -> Option<budget::Budget> {
        let thresholds = thresholds(self.thresholds, Threshold::defaults, errors);
        let text = |field: Field<Name>| field.value().map(|Name(text)| text);
        Some(budget::Budget {
            name: self.name.value()?.0,
            currency: self.currency.value()?.0,
            amount: self.amount.value()?.0,
            thresholds,
            report: self.report.value().unwrap_or(ReportKind::Dialout),
            tenant: text(self.tenant),
            user: text(self.user),
            department: text(self.department),
            usage_location: self.usage_location.value().map(|location| location.0),
            destination_context: text(self.destination_context),
        })
    }
}

/// Returns the departments, or `Err` after recording an error.
fn departments(
    field: Field<Departments>,
    folder: &Path,
    errors: &mut ConfigErrors,
) -> Result<Option<super::Departments>, Invalid> {
    if field.is_missing() {
        return Ok(None);
    }
    let section = field.value().ok_or(Invalid)?;
    let departments = files::departments(folder, section.file, errors);
    departments.map(Some).ok_or(Invalid)
}

/// Returns the tenants of the demo. Tenants in the file are an error.
fn simulated(
    field: &Field<Vec<Field<Tenant>>>,
    tenants: &[super::Tenant],
    errors: &mut ConfigErrors,
) -> Option<Vec<super::Tenant>> {
    if let Some(place) = field.place() {
        errors.at(
            place,
            "the demo polls a simulated tenant only; remove the section, or start the exporter without `demo`",
        );
        return None;
    }
    Some(tenants.to_vec())
}

/// Returns the tenants, or `None` if one of them is invalid.
fn tenants(
    field: Field<Vec<Field<Tenant>>>,
    folder: &Path,
    errors: &mut ConfigErrors,
) -> Option<Vec<super::Tenant>> {
    if field.is_missing() {
        errors.push(
            None,
            "no tenants; add the section tenants, as the annotated example shows",
        );
    }
    let (place, items) = field.set()?;
    if items.is_empty() {
        let what = "the list is empty; add a tenant, as the annotated example shows";
        errors.at(&place, what);
    }
    let count = items.len();
    let mut names = Seen::names("tenant");
    let remedy = "remove one of the two tenants, because the same cost would be exported twice";
    let mut clients = Seen::new("pair of tenant_id and client_id", remedy.to_owned());
    let mut tenants = Vec::new();
    for (place, tenant) in items.into_iter().filter_map(Field::set) {
        names.check_name(&place.path, &tenant.name, errors);
        if tenant.name.is_missing() && count > 1 {
            errors.at(
                &place,
                format!("no name, although there are {count} tenants; give each a name, which becomes the label tenant"),
            );
        }
        if let Some(TenantId(id)) = tenant.tenant_id.as_ref() {
            let client = tenant.client_id.as_ref().map(|Guid(id)| id.as_str());
            if client.is_some() || tenant.client_id.is_missing() {
                let pair = (id.clone(), client.unwrap_or_default().to_owned());
                clients.check_duplicate(&place, pair, errors);
            }
        }
        tenants.push(tenant.resolve(&place, folder, errors));
    }
    let tenants: Option<Vec<_>> = tenants.into_iter().collect();
    tenants.filter(|tenants| tenants.len() == count)
}

/// Returns the budgets, or `None` if one is invalid. If all tenants are
/// valid, also checks that the tenants of the budgets exist.
fn budgets(
    field: Field<Vec<Field<Budget>>>,
    reports: Option<&[super::Report]>,
    tenants: Option<&[super::Tenant]>,
    departments: Result<&Option<super::Departments>, &Invalid>,
    errors: &mut ConfigErrors,
) -> Option<Vec<budget::Budget>> {
    let items = match field {
        Field::Missing => return Some(Vec::new()),
        field => field.value()?,
    };
    let mut names = Seen::names("budget");
    let mut budgets = Vec::new();
    for (place, budget) in items.into_iter().filter_map(Field::set) {
        names.check_name(&place.path, &budget.name, errors);
        check_tenant(&budget.tenant, tenants, errors);
        check_department(&budget.department, departments, errors);
        if let Some(reports) = reports {
            check_report(&place, &budget.report, reports, errors);
        }
        budgets.push(budget.resolve(errors));
    }
    budgets.into_iter().collect()
}

/// Records an error for a budget whose report has no charges or is not polled.
fn check_report(
    place: &Place,
    report: &Field<ReportKind>,
    reports: &[super::Report],
    errors: &mut ConfigErrors,
) {
    match report {
        Field::Set(place, report) if !report.info().has_money() => {
            let with_money = ReportKind::ALL.iter().filter(|report| report.info().has_money());
            let names: Vec<&str> = with_money.map(|report| report.as_str()).collect();
            let names = names.join(", ");
            errors.at(place, format!("{report} has no charges; choose from {names}"));
        }
        Field::Set(place, report) if !contains(reports, *report) => {
            errors.at(place, format!("{report} is not polled; add it to reports"));
        }
        Field::Missing if !contains(reports, ReportKind::Dialout) => errors.at(
            place,
            "the default report of a budget is dialout, which is not polled; add dialout to reports, or give the budget another report, such as call_log",
        ),
        Field::Set(..) | Field::Missing | Field::Invalid(_) => {}
    }
}

/// Records an error if a budget's department is not in the file. Checks nothing if the departments are invalid.
fn check_department(
    field: &Field<Name>,
    departments: Result<&Option<super::Departments>, &Invalid>,
    errors: &mut ConfigErrors,
) {
    let (Field::Set(place, Name(name)), Ok(departments)) = (field, departments) else {
        return;
    };
    let what = match departments {
        Some(departments) => departments.of.find(name).err(),
        None => Some("there are no departments; give departments.file".to_owned()),
    };
    if let Some(what) = what {
        errors.at(place, what);
    }
}

/// Records an error unless exactly one of the four kinds of credential is given.
fn check_credentials(place: &Place, given: [Option<&Place>; 4], errors: &mut ConfigErrors) {
    let mut given: Vec<&Place> = given.into_iter().flatten().collect();
    given.sort_unstable();
    let Some((first, others)) = given.split_first() else {
        errors.at(
            place,
            "no credential; give one of client_secret_file, client_certificate_file, federated_token_file and managed_identity",
        );
        return;
    };
    let (_, first) = first.path.rsplit_once('.').unwrap_or_default();
    for other in others {
        let what = format!("a second credential in addition to {first}; keep one of them");
        errors.at(other, what);
    }
}

/// A section is invalid; the error was already recorded.
struct Invalid;
