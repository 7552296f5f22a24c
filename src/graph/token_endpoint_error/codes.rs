//! Codes of the token endpoint's errors, with a remedy for each.
//!
//! See <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>; codes that are not on this page are
//! from <https://login.microsoftonline.com/error> and Microsoft's own libraries.

/// A known error.
#[derive(Debug)]
pub(super) struct Known {
    codes: &'static [u64],
    /// True if the same request can succeed later.
    pub(super) retry: bool,
    pub(super) remedy: &'static str,
    /// The remedy if the credential is a file with another issuer's token. The reasons for rejecting such a token
    /// differ from those for an assertion that the exporter signed.
    pub(super) token_file: Option<&'static str>,
}

/// The known error with this code.
pub(super) fn known(code: u64) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.codes.contains(&code))
}

const fn error(codes: &'static [u64], remedy: &'static str) -> Known {
    Known {
        codes,
        retry: false,
        remedy,
        token_file: None,
    }
}

const fn assertion(codes: &'static [u64], remedy: &'static str, token_file: &'static str) -> Known {
    Known {
        token_file: Some(token_file),
        ..error(codes, remedy)
    }
}

/// The remedy for a temporary failure.
pub(super) const TRANSIENT: &str =
    "the identity platform has a temporary failure; no action is needed unless it persists";

const ISSUER_KEYS: &str = "Entra cannot verify the signature of the federated token; check that its issuer publishes the signing key at its jwks_uri, and that the token is the issuer's newest";

const KNOWN: &[Known] = &[
    // Client secrets.
    error(
        &[7_000_215, 70_002],
        "the client secret is wrong; often the secret's id was pasted instead of its value",
    ),
    error(
        &[7_000_222],
        "the client secret has expired; create a new one in the app registration under certificates & secrets",
    ),
    error(
        &[7_000_216, 7_000_218, 900_144, 90_014],
        "the request arrived without its credential or another field; check whether a proxy changes requests; if there is no proxy, report this error as a bug",
    ),
    // Certificates, and tokens of other issuers.
    assertion(
        &[700_027, 7_000_274],
        "the signature does not verify; upload this very certificate to the app registration and check that it has not expired",
        ISSUER_KEYS,
    ),
    assertion(
        &[50_012, 700_030],
        "Entra does not accept the certificate; upload this very certificate to the app registration, and check that the app's policies allow its issuer and subject",
        ISSUER_KEYS,
    ),
    assertion(
        &[50_013, 50_027, 5_002_723],
        "Entra cannot use the assertion; set this machine's clock by NTP or chrony, and upload this very certificate to the app registration",
        "Entra cannot use the federated token; check that the file has one whole JWT with the audience api://AzureADTokenExchange, made for this exporter and not expired",
    ),
    error(
        &[1_000_502],
        "the certificate has expired or is not valid yet; create a new one, upload it to the app registration and replace the file",
    ),
    error(
        &[7_000_214, 7_000_277],
        "the certificate was revoked; create a new one, upload it to the app registration and replace the file",
    ),
    assertion(
        &[700_024, 500_133],
        "the assertion is not valid at this time; set this machine's clock by NTP or chrony",
        "the federated token has expired or is not valid yet; check this machine's clock, and that the file is the one that its issuer renews (in Kubernetes, a projected service account token)",
    ),
    assertion(
        &[700_021],
        "the assertion is of another application; check client_id",
        "the federated token names another application; check client_id, and that the file is a token of an external issuer with a federated credential of this application",
    ),
    assertion(
        &[700_023],
        "the assertion is for another token endpoint; check tenant_id, the cloud and authority_url",
        "the federated token is for another audience; let its issuer make it for the audience api://AzureADTokenExchange",
    ),
    error(
        &[70_021],
        "no federated credential of the application matches the token; compare issuer, subject and audience in the app registration with the token's claims iss, sub and aud",
    ),
    error(
        &[700_211],
        "no federated credential of the application has the token's issuer; copy the token's claim iss exactly, including whether it ends in a slash",
    ),
    error(
        &[700_212],
        "no federated credential of the application has the token's audience; let the issuer make the token for api://AzureADTokenExchange, or enter the token's claim aud in the federated credential",
    ),
    error(
        &[700_213],
        "no federated credential of the application has the token's subject; copy the token's claim sub exactly",
    ),
    error(
        &[7_002_138],
        "the subjects of the federated credential and of the token differ only in upper and lower case; copy the token's claim sub exactly",
    ),
    error(
        &[700_222, 700_236],
        "a token of Entra itself cannot serve as a federated token; use a token of an external issuer, or a managed identity",
    ),
    // The application.
    error(
        &[700_016],
        "no such application in this tenant; check the client id, the tenant id and whether an admin has consented",
    ),
    error(
        &[70_001, 700_011, 7_000_112],
        "the application is disabled or not in this directory; check the client id and the enterprise application",
    ),
    error(
        &[7_000_229],
        "the application is registered but not in this tenant; check the tenant id, and let an admin consent so that it becomes an enterprise application",
    ),
    error(
        &[700_025],
        "the application is a public client, which has no secret or certificate; register a confidential one",
    ),
    error(
        &[50_194, 9_001_023],
        "the tenant id is common, consumers or organizations, which works for people only; set the GUID or domain of the one tenant",
    ),
    // The tenant and its cloud.
    error(
        &[90_002],
        "no such tenant; check the tenant id and whether the cloud is the right one",
    ),
    error(
        &[900_023, 900_021],
        "the tenant id is neither a GUID nor a domain name",
    ),
    error(
        &[50_059, 50_128, 90_019],
        "the request names no tenant that Entra knows; check the tenant id and authority_url",
    ),
    error(
        &[5_000_224],
        "the tenant is blocked or was deleted; check the tenant id; if it is correct, ask Microsoft's support",
    ),
    error(
        &[90_038, 900_382, 900_432],
        "the tenant belongs to another national cloud; set its cloud",
    ),
    error(
        &[900_384],
        "the tenant is probably in another national cloud; set its cloud, and check that authority_url and graph_url belong to it",
    ),
    // The resource of the token.
    error(
        &[70_011, 1_002_012],
        "the scope must be the origin of the Graph root, followed by /.default; check the cloud and the Graph URL",
    ),
    error(
        &[500_011, 50_001, 500_014],
        "Microsoft Graph is unknown or disabled in this tenant; check the tenant id, the cloud and graph_url, and that the enterprise application Microsoft Graph is enabled",
    ),
    // Policies.
    error(
        &[53_003],
        "Conditional Access blocks the application; exclude it or add this host to the locations that are allowed",
    ),
    error(
        &[530_032],
        "a security policy of the tenant blocks the application; ask an admin to find the policy in the sign-in log of service principals and to exclude the application from it",
    ),
    error(
        &[530_035],
        "the tenant's security defaults block the application; ask an admin to check the sign-in log of service principals, or to replace security defaults with Conditional Access that excludes the application",
    ),
    error(
        &[500_021],
        "a proxy restricts which tenants may be reached (Restrict-Access-To-Tenants); ask its admin to allow this tenant, or to let this host's requests bypass the proxy",
    ),
    error(
        &[1_002_016],
        "a proxy that decrypts TLS uses TLS 1.0, TLS 1.1 or 3DES to Entra; update it, or exclude these requests from decryption",
    ),
    error(
        &[50_196],
        "too many identical requests; wait some minutes and run only one exporter for the tenant",
    ),
    Known {
        retry: true,
        ..error(&[90_006, 90_012, 90_024, 90_033, 90_055, 90_090], TRANSIENT)
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_one_entry() {
        let mut codes = HashSet::new();
        for code in KNOWN.iter().flat_map(|known| known.codes) {
            assert!(codes.insert(code), "{code} twice");
        }
    }

    /// Names and addresses in an error's text can be redacted.
    #[test]
    fn remedies_do_not_refer_to_the_text_of_the_error() {
        for known in KNOWN {
            for remedy in [Some(known.remedy), known.token_file].into_iter().flatten() {
                assert!(!remedy.contains("message"), "{remedy}");
            }
        }
    }
}
