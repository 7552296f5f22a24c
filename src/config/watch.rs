//! Detects changes of the departments file, so that the daemon re-reads it without a restart.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Config;
use crate::secret_file::{self, Stamp};

/// The departments file of the configuration in use, if it has one.
pub(crate) struct DepartmentsWatch {
    path: Option<PathBuf>,
    /// The stamp of the file when it was last read, or when a reload was last requested because of a change.
    known: Option<Stamp>,
    /// The stamp at the last check; `None` if there was no file.
    last: Option<Stamp>,
    looks: Interval,
    looking: Option<JoinHandle<io::Result<Option<Stamp>>>>,
}

impl DepartmentsWatch {
    pub(crate) fn new(config: &Config) -> Self {
        let mut looks = interval(PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self {
            path: None,
            known: None,
            last: None,
            looks,
            looking: None,
        };
        watch.follow(config);
        watch
    }

    /// Watches the departments file of another configuration instead.
    pub(crate) fn follow(&mut self, config: &Config) {
        let departments = config.departments.as_ref();
        let file = departments.and_then(|departments| departments.file.clone());
        (self.path, self.known) = file.map_or((None, None), |(path, stamp)| (Some(path), stamp));
        self.last.clone_from(&self.known);
        self.looking = None;
    }

    /// Waits until the file has changed and then stayed the same for one pause, because an editor may still be writing
    /// it when the change is noticed. Each change is reported once, even if the file is then invalid. The future can be
    /// dropped without losing a change.
    pub(crate) async fn changed(&mut self) {
        let Some(path) = self.path.clone() else {
            return std::future::pending().await;
        };
        loop {
            if self.looking.is_none() {
                self.looks.tick().await;
            }
            let looking = self.looking.get_or_insert_with(|| {
                let path = path.clone();
                tokio::task::spawn_blocking(move || {
                    let watched = path.clone();
                    secret_file::in_time(&path, move || Ok(Stamp::read(&watched)))
                })
            });
            let stamp = looking.await.expect("a look does not panic");
            self.looking = None;
            // If the disk does not answer, a later check finds out if the file has changed.
            let Ok(stamp) = stamp else { continue };
            let last = std::mem::replace(&mut self.last, stamp);
            if self.last == last && self.last != self.known {
                self.known = last;
                return;
            }
        }
    }
}

/// Pause between two checks, as for the files of the web configuration.
const PAUSE: Duration = Duration::from_secs(1);
