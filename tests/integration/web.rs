//! The HTTP server over real sockets: routes, limits, TLS, authentication.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::server::{Bound, Limits, Listen, Reload, ServerState, TelemetryPath};
use teams_pstn_exporter::snapshot::{Publisher, Snapshot, Subscriber};
use teams_pstn_exporter::telemetry::Telemetry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::support::{Answer, ask, exchange, request};

mod handshakes;
mod http2;
mod plain;
mod revoked;
mod secure;

/// A server that runs, on a port of its own.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<usize>,
}

impl Server {
    fn start(state: ServerState) -> Self {
        let bound = Bound::bind(&Listen::Addresses(vec!["127.0.0.1:0".parse().unwrap()])).unwrap();
        let address = bound.addresses()[0];
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            bound.serve(state, stopped).await.unwrap()
        });
        Self {
            address,
            stop: Some(stop),
            serving,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        request(self.address, method, path, headers).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
    }
}

fn state() -> ServerState {
    ServerState {
        subscriber: Subscriber::fixed(Snapshot::default()),
        clock: Clock::new(|| time("2026-11-21T13:00:00Z")),
        telemetry_path: TelemetryPath::default(),
        requests_max: 40,
        web_config: None,
        reload: None,
        limits: Limits {
            // The tests that want them over say so.
            header_time: Duration::from_mins(10),
            stall: Duration::from_mins(10),
            response: Duration::from_mins(10),
            idle: Duration::from_mins(10),
            drain: Duration::from_mins(10),
            ..Limits::default()
        },
    }
}

/// The exporter's own metrics.
fn with_figures() -> Subscriber {
    Publisher::new(Arc::new(Telemetry::new(chrono::DateTime::default()))).subscribe()
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A state whose reload is answered by `outcome`.
fn reloading(outcome: Result<(), &'static str>) -> ServerState {
    let (wishes, mut taken) = mpsc::channel::<Reload>(1);
    tokio::spawn(async move {
        while let Some(wish) = taken.recv().await {
            let _ = wish.reply.send(outcome.map_err(str::to_owned));
        }
    });
    ServerState {
        reload: Some(wishes),
        ..state()
    }
}
