//! The token endpoints: Entra's, that of virtual machines, and that of App Service.
//!
//! Tokens are signed and not stored, so that tokens of a killed simulator are valid after its restart, like Graph's.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::HeaderMap;
use ring::hmac;
use serde_json::{Value, json};
use url::form_urlencoded;
use uuid::Uuid;

use super::service::Reply;
use super::{Shared, Tenant, assertion};

/// The claims of a token with a valid signature.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub(super) tenant_id: String,
    pub(super) audience: String,
    pub(super) roles: Vec<String>,
    /// Unix seconds.
    pub(super) expires: i64,
}

/// An AADSTS error: number, OAuth name, status and text.
struct Refusal {
    code: u32,
    text: String,
}

/// `POST /{tenant}/oauth2/v2.0/token`
pub(super) fn token(shared: &Shared, tenant: &str, form: &[u8], lifetime: u32) -> Reply {
    let form: HashMap<String, String> = form_urlencoded::parse(form).into_owned().collect();
    match grant(shared, tenant, &form) {
        Ok(tenant) => Reply::json(
            200,
            &json!({
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": issue(shared, &tenant, lifetime),
            }),
        ),
        Err(refusal) => error(shared, refusal.code, &refusal.text),
    }
}

/// An error as the token endpoint writes it.
pub(super) fn error(shared: &Shared, code: u32, text: &str) -> Reply {
    let (status, name) = match code {
        900_144 | 900_023 | 90_002 | 50_027 | 90_014 => (400, "invalid_request"),
        700_016 | 700_011 | 70_001 | 700_025 => (400, "unauthorized_client"),
        70_003 => (400, "unsupported_grant_type"),
        70_011 | 1_002_012 => (400, "invalid_scope"),
        500_011 => (400, "invalid_resource"),
        53_003 | 50_196 => (400, "invalid_grant"),
        90_006 | 90_012 | 90_024 | 90_033 | 90_055 | 90_090 => (503, "temporarily_unavailable"),
        _ => (401, "invalid_client"),
    };
    let timestamp = (shared.now)().format("%Y-%m-%d %H:%M:%SZ").to_string();
    let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
    Reply::json(
        status,
        &json!({
            "error": name,
            "error_description": format!(
                "AADSTS{code}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("{}/error?code={code}", shared.origin),
        }),
    )
}

/// `GET /metadata/identity/oauth2/token` on a virtual machine.
pub(super) fn machine_identity(
    shared: &Shared,
    headers: &HeaderMap,
    query: &str,
    lifetime: u32,
) -> Reply {
    if headers.get("metadata").is_none_or(|value| value != "true") {
        return identity_error("Required metadata header not specified");
    }
    let client_id = parameter(query, "client_id");
    let tenants = shared.tenants();
    let mut candidates = tenants.values().filter(|tenant| {
        tenant.managed_identity
            && client_id
                .as_ref()
                .is_none_or(|client_id| *client_id == tenant.client_id)
    });
    match (candidates.next(), candidates.next()) {
        (None, _) => identity_error("Identity not found"),
        (Some(_), Some(_)) => identity_error(
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the \
             token request",
        ),
        (Some(tenant), None) => identity(shared, tenant, query, "2018-02-01", lifetime),
    }
}

/// `GET /msi/token` beside an App Service.
pub(super) fn app_identity(
    shared: &Shared,
    headers: &HeaderMap,
    query: &str,
    lifetime: u32,
) -> Reply {
    let tenants = shared.tenants();
    let tenant = headers.get("x-identity-header").and_then(|header| {
        tenants.values().find(|tenant| {
            let expected = tenant.identity_header.as_ref();
            expected.is_some_and(|expected| header == expected.as_str())
        })
    });
    match tenant {
        None => Reply::json(
            401,
            &json!({"statusCode": 401, "message": "the X-IDENTITY-HEADER is missing or wrong"}),
        ),
        Some(tenant) => identity(shared, tenant, query, "2019-08-01", lifetime),
    }
}

/// The claims of a token that this simulator or an earlier one issued.
pub(super) fn read(bearer: &str) -> Option<Claims> {
    let (signed, signature) = bearer.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(&signing_key(), signed.as_bytes(), &signature).ok()?;
    let (_, claims) = signed.split_once('.')?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(Claims {
        tenant_id: claims["tid"].as_str()?.to_owned(),
        audience: claims["aud"].as_str()?.to_owned(),
        roles: claims["roles"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|role| role.as_str().map(str::to_owned))
            .collect(),
        expires: claims["exp"].as_i64()?,
    })
}

/// The tenant of an authenticated client.
fn grant(
    shared: &Shared,
    tenant_id: &str,
    form: &HashMap<String, String>,
) -> Result<Tenant, Refusal> {
    if Uuid::try_parse(tenant_id).is_err() && !tenant_id.contains('.') {
        return refuse(
            900_023,
            format!(
                "Specified tenant identifier '{tenant_id}' is neither a valid DNS name, nor a valid external domain."
            ),
        );
    }
    let Some(tenant) = shared.tenants().get(tenant_id).cloned() else {
        return refuse(
            90_002,
            format!(
                "Tenant '{tenant_id}' not found. Check to make sure you have the correct tenant ID and are signing into \
                 the correct cloud."
            ),
        );
    };
    let grant_type = required(form, "grant_type")?;
    let client_id = required(form, "client_id")?;
    let scope = required(form, "scope")?;
    if grant_type != "client_credentials" {
        return refuse(
            70_003,
            format!("The app requested an unsupported grant type '{grant_type}'."),
        );
    }
    if *client_id != tenant.client_id {
        return refuse(
            700_016,
            format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant_id}'. This can \
                 happen if the application has not been installed by the administrator of the tenant."
            ),
        );
    }
    match scope.strip_suffix("/.default") {
        None => refuse(
            1_002_012,
            format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value \
                 with /.default suffixed to the resource identifier (application ID URI)."
            ),
        ),
        Some(resource) if resource != shared.origin => refuse(
            500_011,
            format!("The resource principal named {resource} was not found in the tenant."),
        ),
        Some(_) => {
            prove(shared, &tenant, form)?;
            Ok(tenant)
        }
    }
}

fn prove(shared: &Shared, tenant: &Tenant, form: &HashMap<String, String>) -> Result<(), Refusal> {
    match (form.get("client_secret"), form.get("client_assertion")) {
        (Some(secret), None) => prove_secret(tenant, secret),
        (None, Some(assertion)) => {
            let kind = required(form, "client_assertion_type")?;
            if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
                return refuse(
                    50_027,
                    format!("The client assertion type '{kind}' is not supported."),
                );
            }
            prove_assertion(shared, tenant, assertion)
        }
        (Some(_), Some(_)) => refuse(
            50_027,
            "Both 'client_secret' and 'client_assertion' are given.".to_owned(),
        ),
        (None, None) => refuse(
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
                .to_owned(),
        ),
    }
}

fn prove_secret(tenant: &Tenant, secret: &String) -> Result<(), Refusal> {
    let client_id = &tenant.client_id;
    if tenant.secrets.contains(secret) {
        Ok(())
    } else if tenant.expired_secrets.contains(secret) {
        refuse(
            7_000_222,
            format!(
                "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create \
                 new keys for your app."
            ),
        )
    } else {
        refuse(
            7_000_215,
            format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{client_id}'."
            ),
        )
    }
}

fn prove_assertion(shared: &Shared, tenant: &Tenant, assertion: &String) -> Result<(), Refusal> {
    if tenant.federated_tokens.contains(assertion) {
        return Ok(());
    }
    if tenant.certificates.is_empty() {
        return refuse(
            700_213,
            "No matching federated identity record found for presented assertion subject."
                .to_owned(),
        );
    }
    let audience = format!("{}/{}/oauth2/v2.0/token", shared.origin, tenant.tenant_id);
    let now = (shared.now)();
    let verified = assertion::verify(
        assertion,
        &audience,
        &tenant.client_id,
        &tenant.certificates,
        now,
    )
    .map_err(|(code, text)| Refusal { code, text })?;
    if shared.spend(verified, now.timestamp()) {
        Ok(())
    } else {
        refuse(
            50_012,
            "Authentication failed: the client assertion was used before.".to_owned(),
        )
    }
}

fn identity(shared: &Shared, tenant: &Tenant, query: &str, version: &str, lifetime: u32) -> Reply {
    if parameter(query, "api-version").as_deref() != Some(version) {
        return identity_error(&format!("The api-version is not {version}"));
    }
    match parameter(query, "resource") {
        None => identity_error("Required query variable 'resource' is missing"),
        Some(resource) if resource != shared.origin => {
            identity_error(&format!("Resource {resource} was not found"))
        }
        Some(resource) => {
            let expires = (shared.now)().timestamp() + i64::from(lifetime);
            Reply::json(
                200,
                &json!({
                    "access_token": issue(shared, tenant, lifetime),
                    "client_id": tenant.client_id,
                    "expires_in": lifetime.to_string(),
                    "expires_on": expires.to_string(),
                    "resource": resource,
                    "token_type": "Bearer",
                }),
            )
        }
    }
}

fn identity_error(description: &str) -> Reply {
    Reply::json(
        400,
        &json!({"error": "invalid_request", "error_description": description}),
    )
}

fn issue(shared: &Shared, tenant: &Tenant, lifetime: u32) -> String {
    let now = (shared.now)().timestamp();
    let mut claims = json!({
        "aud": shared.origin,
        "iss": format!("{}/{}/", shared.origin, tenant.tenant_id),
        "iat": now,
        "nbf": now,
        "exp": now + i64::from(lifetime),
        "appid": tenant.client_id,
        "idtyp": "app",
        "tid": tenant.tenant_id,
        "uti": Uuid::new_v4().to_string(),
        "ver": "1.0",
    });
    // A token without any role is issued too, without the claim.
    if !tenant.roles.is_empty() {
        claims["roles"] = json!(tenant.roles);
    }
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256","kid":"simulator"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string()),
    );
    let signature = hmac::sign(&signing_key(), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Not a secret: every client that reaches the simulator can have all of its invented data.
fn signing_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"the simulator's tokens open nothing")
}

fn required<'a>(form: &'a HashMap<String, String>, name: &str) -> Result<&'a String, Refusal> {
    form.get(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Refusal {
            code: 900_144,
            text: format!("The request body must contain the following parameter: '{name}'."),
        })
}

fn refuse<T>(code: u32, text: String) -> Result<T, Refusal> {
    Err(Refusal { code, text })
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
