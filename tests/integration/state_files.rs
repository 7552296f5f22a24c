//! What is on the disk and when: as soon as it is served, again where a write failed, and never under names that the
//! labels do not have.

use teams_pstn_exporter::simulator::faults::{Fault, When};
use teams_pstn_exporter::simulator::world::World;
use tempfile::TempDir;

use crate::harness::Setup;
use crate::storage::{files, keeping, start, written};

#[tokio::test(start_paused = true)]
async fn what_is_served_is_kept_before_the_period_before_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = keeping(&simulator, folder.path());
    let october = "fromDateTime=2026-10-01";
    simulator.push_fault(When::graph().asking(october).always(), Fault::StallHead);
    let mut exporter = start(&config, &time);
    let metrics = written(&mut exporter, 1).await;
    assert_eq!(metrics.report("rows"), "10");
    // The period before is still being asked for.
    assert_eq!(metrics.failures("timeout"), 0);
    assert_eq!(files(folder.path()).len(), 1);
    exporter.stop().await;
    simulator.stop().await;
    let exporter = start(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(restored.of_report(), metrics.of_report());
}
