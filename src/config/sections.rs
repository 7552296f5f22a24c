//! The sections of the configuration file as they are written.
//!
//! The comments on the fields are the descriptions in the JSON schema, so they speak to whoever writes the file.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::UserLabel;
use super::read::{Field, section};
use super::scalar::{CurrencyCode, Expiry, Guid, Location, Name, Positive, Root, TenantId, Yes};
use crate::graph::address::Cloud;
use crate::period::CycleDay;
use crate::report::ReportKind;

section! {
    /// Configuration of teams-pstn-exporter.
    #[schemars(title = "teams-pstn-exporter", extend("required" = ["tenants"]))]
    File {
        /// When Microsoft Graph is asked.
        poll: Poll,
        /// What a billing period is.
        billing: Billing,
        /// How much of whom is exported.
        labels: Labels,
        /// The reports to export, each once.
        #[schemars(extend("minItems" = 1, "uniqueItems" = true, "default" = ["dialout"]))]
        reports: Vec<Field<ReportKind>>,
        /// The tenants to ask, at least one.
        #[schemars(extend("minItems" = 1))]
        tenants: Vec<Field<Tenant>>,
        /// What may be spent in a billing period.
        budgets: Vec<Field<Budget>>,
        /// What survives a restart.
        storage: Storage,
    }
}

section! {
    /// When Microsoft Graph is asked.
    Poll {
        /// From one poll to the next, at least 1s.
        #[schemars(extend("default" = "1h"))]
        interval: Duration,
        /// For one report of one tenant, all pages and retries, at least 1s.
        #[schemars(extend("default" = "5m"))]
        timeout: Duration,
        /// A report that is older is no longer served; longer than the interval. Without it any age is.
        max_age: Duration,
    }
}

section! {
    /// What survives a restart.
    #[schemars(extend("required" = ["path"]))]
    Storage {
        /// The folder for the newest complete reports, made where it is missing.
        path: PathBuf,
    }
}

section! {
    /// What a billing period is.
    Billing {
        /// The day of the month on which the period starts, at 00:00 UTC.
        #[schemars(extend("default" = 1))]
        cycle_day: CycleDay,
    }
}

section! {
    /// How much of whom is exported.
    Labels {
        /// What the label user holds; none sums over all users.
        #[schemars(extend("default" = "upn"))]
        user: UserLabel,
        /// For user: pseudonym, the file with the key of the keyed hash, at least 16 bytes.
        pseudonym_key_file: PathBuf,
        /// Series per report and tenant; what is beyond is folded into the user __other__, sums kept.
        #[schemars(extend("default" = 20_000))]
        max_series: NonZeroUsize,
    }
}

section! {
    /// A Microsoft 365 tenant and how to sign in to it.
    #[expect(
        clippy::struct_field_names,
        reason = "the names are the keys, and tenant_id is what Microsoft calls it"
    )]
    #[schemars(extend(
        "required" = ["tenant_id"],
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
        /// The value of the label tenant; may be left out where there is one tenant.
        name: Name,
        /// The directory (tenant) ID, a GUID, or one of the tenant's domains.
        tenant_id: TenantId,
        /// The application (client) ID; may be left out with a managed identity that the system assigned.
        client_id: Guid,
        /// The file with the client secret; read at every token request.
        client_secret_file: PathBuf,
        /// When the client secret ends, for the metric and the alert that tell so.
        client_secret_expires: Expiry,
        /// The PEM file with the certificate, and with its private key unless that has a file of its own.
        client_certificate_file: PathBuf,
        /// The PEM file with the certificate's private key.
        client_certificate_key_file: PathBuf,
        /// The file with the token of a workload identity; read at every token request.
        federated_token_file: PathBuf,
        /// Sign in as the machine that the exporter runs on.
        managed_identity: Yes,
        /// The cloud that the tenant is in.
        #[schemars(extend("default" = "global"))]
        cloud: Cloud,
        /// Instead of the cloud's root of Graph; plain http for this machine only.
        graph_url: Root,
        /// Instead of the cloud's authority; plain http for this machine only.
        authority_url: Root,
    }
}

section! {
    /// What may be spent in a billing period; a selector that is left out matches everything.
    #[schemars(extend("required" = ["name", "currency", "amount"]))]
    Budget {
        /// The value of the label budget.
        name: Name,
        /// ISO 4217.
        currency: CurrencyCode,
        /// What may be spent, exact to the last digit.
        amount: Positive,
        /// The report that it is spent in; one that knows money.
        #[schemars(extend("default" = "dialout"))]
        report: ReportKind,
        /// Only this tenant.
        tenant: Name,
        /// Only this user.
        user: Name,
        /// Only users of this location: two letters, or unknown.
        usage_location: Location,
        /// Only this context, for example International.
        destination_context: Name,
    }
}
