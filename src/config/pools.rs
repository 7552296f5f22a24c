//! Resolves pools of included minutes.

use std::num::NonZeroUsize;

use super::read::{Field, Place};
use super::references::{Seen, check_tenant};
use super::reports::contains;
use super::scalar::{Location, Name};
use super::sections::Pool;
use super::thresholds::thresholds;
use super::{ConfigErrors, Report, Tenant};
use crate::report::ReportKind;
use crate::report::pool;

/// Returns the pools, or `None` if one of them is invalid.
pub(super) fn pools(
    field: Field<Vec<Field<Pool>>>,
    reports: Option<&[Report]>,
    tenants: Option<&[Tenant]>,
    errors: &mut ConfigErrors,
) -> Option<Vec<pool::Pool>> {
    let (place, items) = match field {
        Field::Missing => return Some(Vec::new()),
        field => field.set()?,
    };
    if reports.is_some_and(|reports| !contains(reports, ReportKind::CallLog)) {
        errors.at(
            &place,
            "needs the report call_log, which is not polled; add call_log to reports",
        );
    }
    let mut names = Seen::names("pool");
    let mut pools = Vec::new();
    for (place, pool) in items.into_iter().filter_map(Field::set) {
        names.check_name(&place.path, &pool.name, errors);
        check_tenant(&pool.tenant, tenants, errors);
        pools.push(pool.resolve(errors));
    }
    pools.into_iter().collect()
}

impl Pool {
    fn resolve(self, errors: &mut ConfigErrors) -> Option<pool::Pool> {
        let default = pool::Pool::default_thresholds;
        let thresholds = thresholds(self.thresholds, default, errors);
        let licenses = licenses(self.license_capability, errors);
        let locations = match self.usage_location {
            Field::Missing => Some(Vec::new()),
            field => field
                .value()
                .map(|items| values(items, |Location(code)| code)),
        };
        let text = |field: Field<Name>| field.value().map(|Name(text)| text);
        let name = self.name.value()?.0;
        let license_count = self.licenses.value()?;
        let (place, minutes) = self.minutes_per_license.set()?;
        let seconds = seconds(license_count, minutes);
        if seconds.is_none() {
            let what = "too many to count; give the included minutes of one licence in a month";
            errors.at(&place, what);
        }
        Some(pool::Pool {
            name,
            tenant: text(self.tenant),
            license_capability: licenses?,
            usage_location: locations?,
            destination_context: text(self.destination_context),
            call_type: text(self.call_type),
            seconds: seconds?,
            thresholds,
        })
    }
}

/// Returns the licences of a pool. Records an error if there are none, or if one has no shared minutes.
fn licenses(field: Field<Vec<Field<Name>>>, errors: &mut ConfigErrors) -> Option<Vec<String>> {
    let (place, items) = field.set()?;
    if items.is_empty() {
        let what = "the list is empty; name at least one licence, for example MCOPSTN1";
        errors.at(&place, what);
    }
    let Place { path, .. } = place;
    for item in &items {
        if let Field::Set(Place { line, .. }, Name(name)) = item
            && name.eq_ignore_ascii_case(PER_USER)
        {
            errors.push(
                *line,
                format!("{path}: users of {PER_USER} do not share their minutes; remove {PER_USER} from the pool"),
            );
        }
    }
    Some(values(items, |Name(name)| name))
}

/// Returns the valid values of a list.
fn values<T>(items: Vec<Field<T>>, text: impl Fn(T) -> String) -> Vec<String> {
    let values = items.into_iter().filter_map(Field::value);
    values.map(text).collect()
}

/// Returns the included seconds; `None` if the number is too large.
fn seconds(licenses: NonZeroUsize, minutes: NonZeroUsize) -> Option<i64> {
    let minutes = licenses.get().checked_mul(minutes.get())?;
    i64::try_from(minutes.checked_mul(60)?).ok()
}

/// The pay-as-you-go licence, which has no shared minutes.
const PER_USER: &str = "MCOPSTN8";
