//! A fake Microsoft Graph with its token endpoint, over real HTTP, for the demo and for tests.
//!
//! It shares no type with the client: it writes its own JSON and reads URLs and forms in its own words, so that a
//! misreading of the API cannot agree with itself. It is stricter than the service where the documentation is. What it
//! does not do: TLS, HTTP/2, and anything that needs a call records service beyond the functions that the exporter asks.

pub mod address;
mod assertion;
pub mod blocks;
mod body;
mod callrecords;
pub mod calls;
mod dice;
pub mod direct_routing;
mod entra;
pub mod faults;
pub mod journal;
pub mod log;
pub mod messages;
mod object;
pub mod people;
pub mod scenario;
mod service;
mod spontaneous;
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

use faults::{Fault, Queue, Spontaneous, When};
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

/// What to simulate, and where.
#[derive(Clone)]
pub struct Options {
    /// Port 0 for any; the address of a simulator before for that one again.
    pub listen: SocketAddr,
    /// Scheme, host and port as clients see them, where something stands between; else those listened on.
    pub origin: Option<String>,
    /// Who may ask, and what there is to tell them.
    pub tenants: Vec<Tenant>,
    /// Rows of a page; Graph's are of 1,000.
    pub page_size: usize,
    /// Seconds that a token is good for.
    pub token_lifetime: u32,
    /// Faults that come without being asked for.
    pub spontaneous: Option<Spontaneous>,
    /// How many requests [`Simulator::requests`] remembers.
    pub requests_kept: usize,
    /// The time of day: of token lifetimes, of `Date`, and after which nothing has happened yet.
    pub now: Arc<Now>,
}

/// A customer of Microsoft's with one registered application. Any of its credentials proves it.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// As in the path of the token endpoint: a GUID or a domain.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// Client secrets that are good.
    pub secrets: Vec<String>,
    /// Client secrets that were good once.
    pub expired_secrets: Vec<String>,
    /// X.509 certificates in DER whose keys may sign assertions.
    pub certificates: Vec<Vec<u8>>,
    /// Assertions of another identity provider that are trusted, letter by letter.
    pub federated_tokens: Vec<String>,
    /// Whether the machine has this application's identity.
    pub managed_identity: bool,
    /// The value of `X-IDENTITY-HEADER` by which an App Service shows that it has it.
    pub identity_header: Option<String>,
    /// Application permissions that an administrator has consented to.
    pub roles: Vec<String>,
    /// What it dials out of meetings.
    pub world: World,
    /// Its other telephony: of a company what its people do, else nothing to begin with.
    pub logs: Logs,
}

/// A wall clock.
pub type Now = dyn Fn() -> DateTime<Utc> + Send + Sync;

/// What all connections know.
struct Shared {
    origin: String,
    page_size: usize,
    token_lifetime: u32,
    now: Arc<Now>,
    tenants: RwLock<HashMap<String, Tenant>>,
    faults: Mutex<Queue>,
    throttled: Mutex<Throttled>,
    spontaneous: Option<Spontaneous>,
    journal: Journal,
    /// Ids of assertions that were used, and when they expire.
    spent: Mutex<HashMap<String, i64>>,
}

impl Simulator {
    /// Binds and serves.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        // With SO_REUSEADDR: a simulator that was killed may be started on its port again while old connections linger.
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one origin of authority and Graph, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.origin
    }

    /// Breaks all connections off and frees the port, now.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // Its end is all that is asked for; how it ended changes nothing.
        let _ = (&mut self.serving).await;
    }

    /// Lets something go wrong. Faults are taken in the order of their coming.
    pub fn push_fault(&self, when: When, fault: Fault) {
        self.shared.faults().push(when, fault);
    }

    /// Forgets the faults that still wait. What stalls already goes on stalling.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Changes a tenant for the requests to come: secrets, roles, its world.
    ///
    /// # Panics
    /// Where there is no such tenant.
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

    /// The logs of a tenant, to change what they tell or to ask what they add up to.
    ///
    /// # Panics
    /// Where there is no such tenant.
    pub fn logs(&self, tenant_id: &str) -> Logs {
        let tenants = self.shared.tenants();
        let tenant = tenants
            .get(tenant_id)
            .expect("the caller names a tenant that it has given");
        tenant.logs.clone()
    }

    /// The newest requests, as many as are kept, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.journal.requests()
    }

    /// How many requests there were.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.journal.counts().borrow()
    }

    /// Waits until so many requests were received since the start.
    pub async fn wait_for_requests(&self, received: u64) {
        self.wait_until(|counts| counts.received >= received).await;
    }

    /// Waits until the counts are such.
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
    /// On a free port of loopback, without tenants, by a clock.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            origin: None,
            tenants: Vec::new(),
            page_size: 1_000,
            token_lifetime: 3_599,
            spontaneous: None,
            requests_kept: journal::KEPT,
            now: Arc::new(now),
        }
    }
}

impl Tenant {
    /// A tenant whose application has a secret and the permission.
    #[must_use]
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
            spontaneous: options.spontaneous,
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

    /// Whether the assertion was not used before; from now on it was.
    fn spend(&self, assertion: assertion::Assertion, now: i64) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // What has expired for good needs no remembering: so it cannot grow without end.
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
        // A connection that broke before it was accepted is its client's affair; without descriptors only time helps.
        let Ok((stream, place)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| service::answer(&shared, request));
            // Errors here are clients that went away, and faults that were asked for.
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
        .expect("nobody closes the semaphore");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// A thousand tenants may each keep a few open.
const CONNECTIONS_MAX: usize = 4_096;
