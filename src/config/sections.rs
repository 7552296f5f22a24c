//! The sections of the configuration file, as the administrator writes them.
//!
//! The doc comments of the fields become descriptions in the JSON schema, so they are written for administrators.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::read::{Abbreviated, Either, Field, Scalar as _, section};
use super::scalar::{
    CurrencyCode, Expiry, Guid, Location, Name, Percent, Positive, TenantId, True, UserSetting,
};
use crate::graph::address::{Cloud, RootUrl};
use crate::period::CycleDay;
use crate::report::ReportKind;
use crate::report::threshold::Severity;

section! {
    /// Configuration of teams-pstn-exporter.
    #[schemars(title = "teams-pstn-exporter", extend("required" = ["tenants"]))]
    File {
        /// Schedule and time limits of the requests to Microsoft Graph.
        poll: Poll,
        /// Settings of the billing period.
        billing: Billing,
        /// Settings of labels and of the number of series.
        labels: Labels,
        /// The reports to export, each once: a name, or a mapping with settings of its own.
        #[schemars(extend("minItems" = 1, "uniqueItems" = true, "default" = ["dialout"]))]
        reports: Vec<Field<Either<Report>>>,
        /// The tenants to poll, at least one.
        #[schemars(extend("minItems" = 1))]
        tenants: Vec<Field<Tenant>>,
        /// Budgets for a billing period.
        budgets: Vec<Field<Budget>>,
        /// Included minutes of licences in a calendar month; needs the call log.
        pools: Vec<Field<Pool>>,
        /// The departments of users.
        departments: Departments,
        /// Storage of reports, so that they survive a restart.
        storage: Storage,
    }
}

section! {
    /// Schedule and time limits of the requests to Microsoft Graph.
    Poll {
        /// Time from one poll to the next, at least 1s. For logs of calls and messages it is 6h, unless the report has
        /// its own interval. A failed poll of any report is repeated after poll.interval, or after the report's own
        /// interval if that is shorter.
        #[schemars(extend("default" = "1h"))]
        interval: Duration,
        /// Time limit for one report of one tenant, including all pages and retries, at least 1s.
        #[schemars(extend("default" = "5m"))]
        timeout: Duration,
        /// Maximum age of a report that is served. It must be longer than every interval, and should be several
        /// intervals. By default, reports of any age are served.
        max_age: Duration,
    }
}

section! {
    /// Storage of reports, so that they survive a restart.
    Storage {
        /// The folder for the newest complete reports. The exporter creates it if it is missing.
        path: PathBuf = required("give the folder for the state files, as the annotated example shows"),
    }
}

section! {
    /// Settings of the billing period.
    Billing {
        /// The day of the month on which the period starts, at 00:00 UTC.
        #[schemars(extend("default" = 1))]
        cycle_day: CycleDay,
    }
}

section! {
    /// Settings of labels and of the number of series.
    Labels {
        /// Content of the label user. With the value none, samples are sums over all users.
        #[schemars(extend("default" = "upn"))]
        user: UserSetting,
        /// The file with the HMAC key of the pseudonyms, at least 16 bytes; required if a user setting is pseudonym.
        pseudonym_key_file: PathBuf,
        /// Maximum number of label combinations per report and tenant. Each combination has several series. The
        /// smallest combinations are aggregated into the user __other__, so totals stay the same.
        #[schemars(extend("default" = 20_000))]
        max_series: NonZeroUsize,
    }
}

section! {
    /// A report with settings of its own.
    Report {
        /// The name of the report.
        name: ReportKind = required(ReportKind::HINT),
        /// Time from one poll to the next, at least 1s. The default is 6h for logs of calls and messages, and
        /// poll.interval for other reports.
        interval: Duration,
        /// Content of the label user, instead of the setting for all reports.
        user: UserSetting,
        /// Maximum number of label combinations per tenant, instead of the setting for all reports.
        max_series: NonZeroUsize,
    }
}

impl Abbreviated for Report {
    type Short = ReportKind;

    fn from_short(name: Field<ReportKind>) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }
}

section! {
    /// A Microsoft 365 tenant and how to sign in to it.
    #[expect(
        clippy::struct_field_names,
        reason = "each field is named after its key, and tenant_id is Microsoft's name for the id"
    )]
    #[schemars(extend(
        "oneOf" = [
            { "required": ["client_id", "client_secret_file"] },
            { "required": ["client_id", "client_certificate_file"] },
            { "required": ["client_id", "federated_token_file"] },
            { "required": ["managed_identity"] },
        ],
        "dependentRequired" = {
            "client_secret_expires": ["client_secret_file"],
            "client_certificate_key_file": ["client_certificate_file"],
        },
    ))]
    Tenant {
        /// The value of the label tenant; required if there are several tenants.
        name: Name,
        /// The directory (tenant) ID, which is a GUID, or one of the tenant's domains.
        tenant_id: TenantId = required(TenantId::HINT),
        /// The application (client) ID; not needed for a system-assigned managed identity.
        client_id: Guid,
        /// The file with the client secret; read at every token request.
        client_secret_file: PathBuf,
        /// Expiry of the client secret, for the metric and the alert about it.
        client_secret_expires: Expiry,
        /// The PEM file with the certificate. It also has the private key, unless the key has a file of its own.
        client_certificate_file: PathBuf,
        /// The PEM file with the certificate's private key.
        client_certificate_key_file: PathBuf,
        /// The file with the token of a workload identity; read at every token request.
        federated_token_file: PathBuf,
        /// Sign in with the managed identity of the machine that the exporter runs on.
        managed_identity: True,
        /// The cloud that the tenant is in.
        #[schemars(extend("default" = "global"))]
        cloud: Cloud,
        /// Root URL of Graph, instead of the URL of the cloud. It may use plain http only if it names this machine.
        graph_url: RootUrl,
        /// URL of the authority, instead of the URL of the cloud. It may use plain http only if it names this machine.
        authority_url: RootUrl,
    }
}

section! {
    /// Included minutes of licences in a calendar month. A selector that is left out matches everything.
    Pool {
        /// The value of the label pool.
        name: Name = required("give one, it becomes the label pool"),
        /// The licences that pay for the calls, as the call log names them.
        #[schemars(extend("minItems" = 1))]
        license_capability: Vec<Field<Name>> = required("give one, for example [MCOPSTN1]"),
        /// Only users of these locations: two letters each, or unknown.
        usage_location: Vec<Field<Location>>,
        /// Only calls with this destination context, for example Domestic.
        destination_context: Name,
        /// Only calls of this type, as the call log names it. The default is all outgoing calls.
        call_type: Name,
        /// Only this tenant.
        tenant: Name,
        /// The number of licences.
        licenses: NonZeroUsize = required("give one, for example 120"),
        /// The included minutes of one licence in a month.
        minutes_per_license: NonZeroUsize = required("give one, for example 3000"),
        /// The shares in percent at which an alert fires. An item is a number, or a mapping with at and severity.
        #[schemars(extend("default" = [80, 100]))]
        thresholds: Vec<Field<Either<Threshold>>>,
    }
}

section! {
    /// The departments of users.
    Departments {
        /// The CSV file with the header user,department. A user is a user principal name or an object ID. The exporter
        /// re-reads the file when it changes.
        file: PathBuf = required("give the CSV file with the header user,department"),
    }
}

section! {
    /// A threshold with a severity of its own.
    Threshold {
        /// The share in percent.
        at: Percent = required(Percent::HINT),
        /// The severity of the alert. The default is info below 60, warning below 100, and critical from 100 on.
        severity: Severity,
    }
}

impl Abbreviated for Threshold {
    type Short = Percent;

    fn from_short(at: Field<Percent>) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }
}

section! {
    /// A budget for a billing period. A selector that is left out matches everything.
    Budget {
        /// The value of the label budget.
        name: Name = required("give one, it becomes the label budget"),
        /// The currency, as three letters of ISO 4217.
        currency: CurrencyCode = required("give one, for example USD"),
        /// The amount of the budget, which is read exactly, to the last digit.
        amount: Positive = required("give one, for example 500"),
        /// Shares of the amount at which an alert fires, in percent.
        #[schemars(extend("default" = [50, 80, 100, 120]))]
        thresholds: Vec<Field<Either<Threshold>>>,
        /// The report that has the charges: dial-out, calls or SMS.
        #[schemars(extend("default" = "dialout", "enum" = ["dialout", "call_log", "sms"]))]
        report: ReportKind,
        /// Only this tenant.
        tenant: Name,
        /// Only this user.
        user: Name,
        /// Only users of this department in departments.file. The value unmapped selects users that are not in the
        /// file.
        department: Name,
        /// Only users of this location: two letters, or unknown.
        usage_location: Location,
        /// Only charges with this destination context, for example International.
        destination_context: Name,
    }
}
