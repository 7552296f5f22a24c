//! Files that a configuration names, and the configuration itself.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{CLIENT, SECRET, TENANT};

/// A folder of files that a configuration names.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        // As Kubernetes and careful people do: no reader ever sees half a file.
        let new = self.path("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }

    /// A folder with a configuration file of the usual tenant at `url`, and the files that it names.
    pub(crate) fn configured(url: &str, more: &str) -> Self {
        let folder = Self::new();
        folder.configure(url, more);
        folder
    }

    /// Writes a configuration file of the usual tenant at `url`, and the files that it names. Returns the option for it.
    pub(crate) fn configure(&self, url: &str, more: &str) -> String {
        self.write("secret", SECRET);
        self.write("key", "0123456789abcdef0123456789abcdef\n");
        self.write("config.yml", yaml(url, SECRET_FILE, more));
        self.option()
    }

    /// The option that names the configuration file.
    pub(crate) fn option(&self) -> String {
        format!("--config.file={}", self.path("config.yml").display())
    }
}

/// A configuration of the usual tenant at `url`, with these lines for its credential and these at the end.
pub(crate) fn yaml(url: &str, credential: &str, more: &str) -> String {
    format!(
        "poll: {{interval: 1s, timeout: 20s}}
tenants:
  - tenant_id: {TENANT}
    client_id: {CLIENT}
    {credential}
    graph_url: {url}
    authority_url: {url}
{more}"
    )
}

/// The credential that [`Folder::configure`] writes.
pub(crate) const SECRET_FILE: &str = "client_secret_file: secret";
