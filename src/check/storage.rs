//! Checks the folder of the state files: can the daemon write there, and which files would it restore?

use std::path::Path;
use std::sync::Arc;

use super::CheckContext;
use super::finding::{Check, Finding};
use crate::chain::Chain;
use crate::storage::{StorageError, try_folder};
use crate::tenant;

/// Checks the folder and the state files of all tenants. The check fails if the disk does not answer within the time
/// limit.
pub(super) async fn check(context: &Arc<CheckContext>) -> Vec<Finding> {
    let Some(folder) = context.config.storage.clone() else {
        return Vec::new();
    };
    let (looker, place) = (Arc::clone(context), folder.clone());
    let looking = tokio::task::spawn_blocking(move || look(&looker, &place));
    let found = match tokio::time::timeout(context.patience, looking).await {
        Ok(found) => found.expect("looking does not panic"),
        Err(_) => vec![Finding::failure(
            Check::Storage,
            format!("no answer in {} s", context.patience.as_secs()),
            Some("check whether the file system hangs, or choose another storage.path"),
        )],
    };
    let about = |finding: Finding| finding.about(folder.display());
    found.into_iter().map(about).collect()
}

fn look(context: &CheckContext, folder: &Path) -> Vec<Finding> {
    let failure = |error: StorageError| {
        Finding::failure(
            Check::Storage,
            Chain(&error),
            Some("let the exporter's user write there, or correct storage.path"),
        )
    };
    match try_folder(folder) {
        Err(error) => return vec![failure(error)],
        Ok(false) => {
            let message = "does not exist yet; the exporter creates it";
            return vec![Finding::ok(Check::Storage, message)];
        }
        Ok(true) => {}
    }
    let mut findings = Vec::new();
    let mut restored = 0_u32;
    for tenant in &context.config.tenants {
        for (report, saved) in tenant::plan(&context.config, tenant).stored() {
            let name = tenant.name.as_deref();
            match saved {
                Ok(None) => {}
                Ok(Some(_)) => restored += 1,
                Err(error @ StorageError::Rejected { .. }) => findings.push(
                    Finding::warning(
                        Check::Storage,
                        format!("{report}: {}", Chain(&error)),
                        "keep a copy if you want to examine it; otherwise nothing is needed, because the report is fetched again",
                    )
                    .for_tenant(name),
                ),
                Err(error) => findings.push(failure(error).for_tenant(name)),
            }
        }
    }
    let message = format!("can be written; state files to restore: {restored}");
    findings.insert(
        0,
        Finding::ok(Check::Storage, message).measured(f64::from(restored)),
    );
    findings
}
