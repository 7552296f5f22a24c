//! A fake Microsoft Graph with its token endpoint, over real HTTP, for the demo and for tests.
//!
//! It shares no type with the client: it writes its own JSON and parses URLs and forms with its own code, so a misreading
//! of the API in one of them fails the tests. If the documentation is stricter than the service, so is the simulator. It
//! has no TLS, no HTTP/2, and only those functions of the call records that the exporter requests.

pub mod address;
mod assertion;
pub mod blocked_users;
mod body;
mod callrecords;
pub mod calls;
pub mod company;
mod dialout;
pub mod direct_routing;
mod entra;
pub mod faults;
pub mod journal;
pub mod log;
mod object;
pub mod people;
mod random_faults;
mod rng;

mod service;
pub mod sms;
pub mod sums;
mod traffic;
mod unreliable;
pub mod world;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod row_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
#[cfg(test)]
mod traffic_tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use faults::{Fault, Queue, RandomFaults, When};
use journal::{Counts, Journal, Request};
use log::Logs;
use unreliable::Throttled;
use world::World;

/// A running simulator. It ends with [`Simulator::stop`], or when it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// The simulated tenants and the address of the simulator.
#[derive(Clone)]
pub struct Options {
    /// Port 0 for any free port; the address of an earlier simulator to replace it.
    pub listen: SocketAddr,
    /// Scheme, host and port for clients, if a proxy is in between. `None` for the listening address.
    pub origin: Option<String>,
    /// The tenants, with their credentials and data.
    pub tenants: Vec<Tenant>,
    /// Rows of a page; Graph's have 1,000.
    pub page_size: usize,
    /// Lifetime of a token in seconds.
    pub token_lifetime: u32,
    /// Random faults, if any.
    pub random_faults: Option<RandomFaults>,
    /// Number of requests that [`Simulator::requests`] returns at most.
    pub requests_kept: usize,
    /// The clock of token lifetimes and of `Date`. Rows after its time are not served.
    pub now: Arc<Now>,
}

/// A customer of Microsoft's with one registered application. Any of its credentials proves it.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The id in the path of the token endpoint: a GUID or a domain.
    pub tenant_id: String,
    /// Id of the application.
    pub client_id: String,
    /// Valid client secrets.
    pub secrets: Vec<String>,
    /// Expired client secrets.
    pub expired_secrets: Vec<String>,
    /// X.509 certificates in DER that verify assertions.
    pub certificates: Vec<Vec<u8>>,
    /// Assertions of another identity provider that are trusted, verbatim.
    pub federated_tokens: Vec<String>,
    /// True if the machine has this application's managed identity.
    pub managed_identity: bool,
    /// The value of `X-IDENTITY-HEADER` in requests of an App Service with this identity.
    pub identity_header: Option<String>,
    /// Application permissions that an administrator has consented to.
    pub roles: Vec<String>,
    /// Source of the dial-out report.
    pub world: World,
    /// The other logs: those of a company if the world is one, else empty.
    pub logs: Logs,
}

/// A wall clock.
pub type Now = dyn Fn() -> DateTime<Utc> + Send + Sync;

/// State that all connections share.
struct Shared {
    origin: String,
    page_size: usize,
    token_lifetime: u32,
    now: Arc<Now>,
    tenants: RwLock<HashMap<String, Tenant>>,
    faults: Mutex<Queue>,
    throttled: Mutex<Throttled>,
    random_faults: Option<RandomFaults>,
    journal: Journal,
    /// Ids of used assertions, with their expiry.
    spent: Mutex<HashMap<String, i64>>,
}

impl Simulator {
    /// Binds the address and starts to serve.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        // With SO_REUSEADDR: a killed simulator can restart on its port while old connections linger.
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options, address));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared), stopped));
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            serving,
        })
    }

    /// The listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one origin of authority and Graph, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.shared.origin
    }

    /// Closes all connections and frees the port.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // Only the end of the task matters, not its result.
        let _ = (&mut self.serving).await;
    }

    /// Adds a fault. Faults are taken in the order of their arrival.
    pub fn push_fault(&self, when: When, fault: Fault) {
        self.shared.faults().push(when, fault);
    }

    /// Removes the waiting faults. Requests that stall already continue to stall.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Changes a tenant for later requests: secrets, roles, its world.
    ///
    /// # Panics
    /// If there is no such tenant.
    pub fn change(&self, tenant_id: &str, change: impl FnOnce(&mut Tenant)) {
        let mut tenants = self
            .shared
            .tenants
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(
            tenants
                .get_mut(tenant_id)
                .expect("the caller names a tenant that it has given"),
        );
    }

    /// The logs of a tenant, to change their rows or to compute their totals.
    ///
    /// # Panics
    /// If there is no such tenant.
    pub fn logs(&self, tenant_id: &str) -> Logs {
        let tenants = self.shared.tenants();
        let tenant = tenants
            .get(tenant_id)
            .expect("the caller names a tenant that it has given");
        tenant.logs.clone()
    }

    /// The newest requests, as many as are kept, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.journal.requests()
    }

    /// Counts of requests.
    pub fn counts(&self) -> Counts {
        *self.shared.journal.counts().borrow()
    }

    /// Waits until this many requests were received since the start.
    pub async fn wait_for_requests(&self, received: u64) {
        self.wait_until(|counts| counts.received >= received).await;
    }

    /// Waits until `such` returns true for the counts.
    ///
    /// # Panics
    /// Never: the simulator holds what the counts come from.
    pub async fn wait_until(&self, such: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.journal.counts();
        counts
            .wait_for(such)
            .await
            .expect("the journal lives as long as the simulator");
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Options {
    /// Options for a free port of loopback, without tenants, with a clock.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            origin: None,
            tenants: Vec::new(),
            page_size: 1_000,
            token_lifetime: 3_599,
            random_faults: None,
            requests_kept: journal::KEPT,
            now: Arc::new(now),
        }
    }
}

impl Tenant {
    /// A tenant with an application that has a secret and the permission.
    pub fn new(tenant_id: &str, client_id: &str, secret: &str, world: World) -> Self {
        Self {
            tenant_id: tenant_id.to_owned(),
            client_id: client_id.to_owned(),
            secrets: vec![secret.to_owned()],
            expired_secrets: Vec::new(),
            certificates: Vec::new(),
            federated_tokens: Vec::new(),
            managed_identity: false,
            identity_header: None,
            roles: vec!["CallRecord-PstnCalls.Read.All".to_owned()],
            logs: match &world {
                World::Company(company) => Logs::of(company),
                World::Table(_) | World::Rows { .. } => Logs::default(),
            },
            world,
        }
    }
}

impl Shared {
    fn new(options: Options, address: SocketAddr) -> Self {
        Self {
            origin: options
                .origin
                .unwrap_or_else(|| format!("http://{address}")),
            page_size: options.page_size.max(1),
            token_lifetime: options.token_lifetime,
            now: options.now,
            tenants: RwLock::new(
                options
                    .tenants
                    .into_iter()
                    .map(|tenant| (tenant.tenant_id.clone(), tenant))
                    .collect(),
            ),
            faults: Mutex::default(),
            throttled: Mutex::default(),
            random_faults: options.random_faults,
            journal: Journal::new(options.requests_kept),
            spent: Mutex::default(),
        }
    }

    fn tenants(&self) -> RwLockReadGuard<'_, HashMap<String, Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttled(&self) -> MutexGuard<'_, Throttled> {
        self.throttled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Queue> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks an assertion as used. Returns true if it was not used before.
    fn spend(&self, assertion: assertion::Assertion, now: i64) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // Expired ids are removed, so the map does not grow without limit.
        spent.retain(|_, expires| *expires > now - 3_600);
        spent.insert(assertion.id, assertion.expires).is_none()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = accept(&listener, &places) => accepted,
        };
        // A connection that broke before it was accepted needs no action. If descriptors run out, only waiting helps.
        let Ok((stream, place)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| service::answer(&shared, request));
            // Errors here are clients that disconnected, and requested faults.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// A thousand tenants can each have a few connections.
const CONNECTIONS_MAX: usize = 4_096;
