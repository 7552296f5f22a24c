//! The rendered page, shared by all requests for it.
//!
//! With many tenants the page has several hundred KiB. A client that requests it many times and reads no response would
//! keep as many copies in memory. Therefore the page is rendered only once per snapshot and second, and responses share
//! its bytes. Slow clients may keep older versions in memory. If all versions together exceed a limit, requests get the
//! newest one, even if it is out of date, until some versions are released.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::snapshot::Snapshot;

/// The newest version of the page.
#[derive(Debug, Default)]
pub(super) struct RenderedPage {
    newest: Mutex<Option<Version>>,
    /// Bytes of all versions that are still in memory.
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Version {
    /// The snapshot that was rendered. The reference is weak, so that it does not keep an old snapshot in memory.
    snapshot: Weak<Snapshot>,
    second: i64,
    web_config_error: Option<String>,
    html: Bytes,
}

/// A rendered page whose bytes are counted as long as it is in memory.
struct Counted {
    html: String,
    held: Arc<AtomicUsize>,
}

impl RenderedPage {
    /// Returns the page of a snapshot. Renders it if there is no version yet, or if the newest is out of date. If all
    /// versions together exceed [`HELD_MAX`], returns the newest one instead, even if it is out of date.
    pub(super) fn get(
        &self,
        snapshot: &Arc<Snapshot>,
        now: DateTime<Utc>,
        web_config_error: Option<String>,
        render: impl FnOnce(Option<&str>) -> String,
    ) -> Bytes {
        let mut newest = self.newest.lock();
        if let Some(version) = &*newest {
            let is_current = version.snapshot.as_ptr() == Arc::as_ptr(snapshot)
                && version.second == now.timestamp()
                && version.web_config_error == web_config_error;
            if is_current || self.held.load(Relaxed) > HELD_MAX {
                return version.html.clone();
            }
        }
        let html = render(web_config_error.as_deref());
        self.held.fetch_add(html.len(), Relaxed);
        let html = Bytes::from_owner(Counted {
            html,
            held: Arc::clone(&self.held),
        });
        *newest = Some(Version {
            snapshot: Arc::downgrade(snapshot),
            second: now.timestamp(),
            web_config_error,
            html: html.clone(),
        });
        html
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        self.html.as_bytes()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(self.html.len(), Relaxed);
    }
}

/// Maximum bytes of all versions in memory before another one is rendered: enough for dozens of versions with fifty
/// tenants, and a sixteenth of the memory of a container with 128 MiB.
const HELD_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_rendered_once_for_each_snapshot_second_and_web_config_error() {
        let page = RenderedPage::default();
        let snapshots = [(); 2].map(|()| Arc::new(Snapshot::default()));
        let mut rendered = 0;
        for (snapshot, second, web_config_error, expected) in [
            (0, 0, None, 1),
            (0, 0, None, 1),
            (1, 0, None, 2),
            (1, 1, None, 3),
            (1, 1, Some("no"), 4),
            (1, 1, Some("no"), 4),
        ] {
            let now = DateTime::from_timestamp(second, 999_999_999).unwrap();
            let web_config_error = web_config_error.map(str::to_owned);
            let html = page.get(
                &snapshots[snapshot],
                now,
                web_config_error,
                |web_config_error| {
                    rendered += 1;
                    format!("{web_config_error:?}")
                },
            );
            assert_eq!(rendered, expected);
            assert!(!html.is_empty());
        }
    }

    #[test]
    fn versions_that_are_held_are_bounded() {
        let page = RenderedPage::default();
        let snapshot = Arc::new(Snapshot::default());
        let size = HELD_MAX / 4;
        let get = |second| {
            let now = DateTime::from_timestamp(second, 0).unwrap();
            page.get(&snapshot, now, None, |_| " ".repeat(size))
        };
        let held: Vec<Bytes> = (0..100).map(get).collect();
        assert!(page.held.load(Relaxed) <= HELD_MAX + size);
        drop(held);
        assert_eq!(page.held.load(Relaxed), size, "the newest is kept");
        let again = get(1000);
        assert_eq!((again.len(), page.held.load(Relaxed)), (size, size));
    }
}
