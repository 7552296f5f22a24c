//! Environment variables: the tenant that the variables of Microsoft's own SDKs configure, and systemd's state folder.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::files::usable;
use super::read::Scalar;
use super::scalar::{CHINA, Guid, TenantId};
use super::{ConfigErrors, Tenant};
use crate::graph::address::{Cloud, RootUrl};
use crate::graph::credential::{Credential, SecretSource, stray_characters};

/// Reads the tenant. Returns `None` after recording an error for each missing or invalid variable.
pub(super) fn tenant(
    variable: &dyn Fn(&str) -> Option<String>,
    errors: &mut ConfigErrors,
) -> Option<Tenant> {
    let tenant_id = required::<TenantId>(TENANT_ID, variable(TENANT_ID), errors);
    let client_id = required::<Guid>(CLIENT_ID, variable(CLIENT_ID), errors);
    let credential = credential(variable, errors);
    let (cloud, authority_url) = match variable(AUTHORITY_HOST) {
        Some(host) if !host.is_empty() => authority(&host, errors),
        _ => (Cloud::Global, None),
    };
    if tenant_id.is_none() && client_id.is_none() && credential.is_none() {
        errors.push(
            None,
            if cfg!(feature = "demo") {
                "no tenant is configured; set the variables above, or give --config.file=PATH, or try `teams-pstn-exporter demo`, which needs no account"
            } else {
                "no tenant is configured; set the variables above, or give --config.file=PATH"
            },
        );
    }
    Some(Tenant {
        name: None,
        tenant_id: tenant_id?.0,
        client_id: Some(client_id?.0),
        credential: credential?,
        credential_expiry: None,
        cloud,
        graph_url: None,
        authority_url,
    })
}

/// Returns the folder that systemd created for state, or the first one of several. A relative path is ignored, because
/// systemd sets absolute paths.
pub(super) fn state_directory(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folders = variable(STATE_DIRECTORY)?;
    let first = folders.split(':').next().map(PathBuf::from);
    first.filter(|folder| folder.is_absolute())
}

fn required<T: Scalar>(name: &str, value: Option<String>, errors: &mut ConfigErrors) -> Option<T> {
    let value = match value {
        Some(value) if !value.is_empty() => value,
        other => {
            let what = other.map_or("not set", |_| "empty");
            errors.push(None, format!("{name} is {what}; {}", T::HINT));
            return None;
        }
    };
    T::parse(&value)
        .map_err(|wrong| errors.push(None, format!("{name}: {}", wrong.message::<T>(&value))))
        .ok()
}

fn credential(
    variable: &dyn Fn(&str) -> Option<String>,
    errors: &mut ConfigErrors,
) -> Option<Credential> {
    // Every value is stored in memory that is wiped, because it may be a secret. An empty variable counts as not set,
    // as in the SDKs.
    let mut given: Vec<(&str, SecretString)> = [SECRET, CERTIFICATE, FEDERATED]
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?.into())))
        .collect();
    let is_empty = |(_, value): &(&str, SecretString)| value.expose_secret().is_empty();
    let empty = given.iter().filter(|one| is_empty(one));
    let empty: Vec<&str> = empty.map(|(name, _)| *name).collect();
    given.retain(|one| !is_empty(one));
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    let Ok([(name, value)]) = <[_; 1]>::try_from(given) else {
        errors.push(
            None,
            match (&*names, &*empty) {
                ([], []) => format!(
                    "none of {SECRET}, {CERTIFICATE} and {FEDERATED} is set; set one of them"
                ),
                ([], [name]) => format!("{name} is empty; set it, or one of the others"),
                ([], _) => format!("{} are empty; set one of them", empty.join(" and ")),
                _ => format!("{} are set; keep one of them", names.join(" and ")),
            },
        );
        return None;
    };
    if name == SECRET {
        if let Some(what) = stray_characters(value.expose_secret()) {
            errors.push(None, format!("{name} {what}"));
        }
        return Some(Credential::Secret(SecretSource::Inline(value)));
    }
    let path = PathBuf::from(value.expose_secret());
    if let Err(what) = usable(&path, &path, "the working directory") {
        errors.push(None, format!("{name}: {what}"));
    }
    Some(if name == CERTIFICATE {
        Credential::Certificate {
            certificate: path,
            key: None,
        }
    } else {
        Credential::FederatedTokenFile(path)
    })
}

/// Returns the cloud of an authority, or the authority itself if it belongs to no known cloud. Both clouds of the US
/// Government have the same authority, which selects `us-gov-l4`. Only a configuration file can select `us-gov-l5`.
fn authority(host: &str, errors: &mut ConfigErrors) -> (Cloud, Option<RootUrl>) {
    let text = if host.contains("://") {
        host.to_owned()
    } else {
        format!("https://{host}")
    };
    let authority = match RootUrl::parse(&text) {
        Ok(authority) => authority,
        Err(wrong) => {
            let what = wrong.message::<RootUrl>(host);
            errors.push(None, format!("{AUTHORITY_HOST}: {what}"));
            return (Cloud::Global, None);
        }
    };
    match authority.host() {
        "login.microsoftonline.com" => (Cloud::Global, None),
        "login.microsoftonline.us" => (Cloud::UsGovL4, None),
        "login.chinacloudapi.cn" | "login.partner.microsoftonline.cn" => {
            let remedy = "tenants of this cloud cannot be exported; use a tenant of another cloud";
            errors.push(None, format!("{AUTHORITY_HOST}: {CHINA}; {remedy}"));
            (Cloud::Global, None)
        }
        _ => (Cloud::Global, Some(authority)),
    }
}

const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
const TENANT_ID: &str = "AZURE_TENANT_ID";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const FEDERATED: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
