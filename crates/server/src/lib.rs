//! The arcade over HTTP and WebSocket: it speaks for an [`Arena`], and knows nothing of its insides
//! nor of the games played there.
//!
//! On loopback it is open to this machine's user. On any other address it speaks TLS, with a
//! certificate made at start, and asks for a token, printed at start and carried by invite links.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use worldline_arena::{Arena, Config, Shelf};
//! # use worldline_server::{Options, Server, Site};
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (arena, _) = Arena::open(Shelf::open(Path::new("worlds"))?, Config::default())?;
//! let server = Server::bind(Arc::new(arena), Options { site: Site::load(Path::new("web/dist"))?, ..Options::default() }).await?;
//! println!("{}", server.link());
//! server.run().await?;
//! # Ok(()) }
//! ```

mod access;
mod api;
#[cfg(feature = "chain")]
mod chain;
mod error;
mod guard;
pub mod limits;
mod site;
mod socket;
mod tls;
#[cfg(feature = "worlds")]
mod worlds;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use worldline_arena::Arena;

#[cfg(feature = "chain")]
pub use chain::{ChainAccess, Fetched};
pub use error::ApiError;
pub use site::{Site, SiteError};

use access::Access;
use limits::{MAX_BODY, MAX_REEXECUTIONS, MAX_SOCKETS};

/// Where and how to serve.
pub struct Options {
    /// The address to listen on. Anything but loopback means TLS and a token.
    pub host: IpAddr,
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// The site's files.
    pub site: Site,
    /// The chains that pages play on; without them matches run in the arena of this machine.
    #[cfg(feature = "chain")]
    pub chain: Option<ChainAccess>,
    /// The worlds to serve beside the arcade, if there are any.
    #[cfg(feature = "worlds")]
    pub worlds: Option<Worlds>,
}

/// Worlds to serve.
#[cfg(feature = "worlds")]
pub struct Worlds {
    /// The worlds.
    pub runtime: worldline_runtime::Runtime,
    /// The port by which they are reached over SSH, at the server's own address; 0 lets the system choose.
    pub ssh_port: u16,
    /// The folder for the SSH gateway's key and what belongs to the user: keys, secrets.
    pub data: std::path::PathBuf,
}

/// The gateway's key, in the data folder.
#[cfg(feature = "worlds")]
const SSH_KEY: &str = "ssh_host_key";
/// What belongs to the user, in the data folder.
#[cfg(feature = "worlds")]
const USER: &str = "user.json";

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            site: Site::default(),
            #[cfg(feature = "chain")]
            chain: None,
            #[cfg(feature = "worlds")]
            worlds: None,
        }
    }
}

/// What handlers share.
struct Shared {
    arena: Arc<Arena>,
    site: Site,
    access: Arc<Access>,
    sockets: Arc<Semaphore>,
    reexecutions: Arc<Semaphore>,
    #[cfg(feature = "chain")]
    chain: Option<ChainAccess>,
    #[cfg(feature = "worlds")]
    worlds: Option<worlds::Api>,
}

#[derive(Clone)]
struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// A server that has its port.
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    #[cfg(feature = "worlds")]
    ssh: Option<(TcpListener, std::path::PathBuf)>,
}

impl Server {
    /// Takes the port.
    pub async fn bind(arena: Arc<Arena>, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((options.host, options.port)).await?;
        let address = listener.local_addr()?;
        let access = Access::new(options.host.is_loopback());
        #[cfg(feature = "worlds")]
        let (worlds, ssh, access) = match options.worlds {
            Some(Worlds {
                runtime,
                ssh_port,
                data,
            }) => {
                let ssh = TcpListener::bind((options.host, ssh_port)).await?;
                let account = Arc::new(worlds::Account::open(data.join(USER))?);
                let access = Arc::new(access.with(Some(account.clone())));
                let worlds = worlds::Api::new(runtime, account, access.clone());
                (Some(worlds), Some((ssh, data.join(SSH_KEY))), access)
            }
            None => (None, None, Arc::new(access)),
        };
        #[cfg(not(feature = "worlds"))]
        let access = Arc::new(access);
        let app = App(Arc::new(Shared {
            arena,
            site: options.site,
            access,
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            reexecutions: Arc::new(Semaphore::new(MAX_REEXECUTIONS)),
            #[cfg(feature = "chain")]
            chain: options.chain,
            #[cfg(feature = "worlds")]
            worlds,
        }));
        Ok(Self {
            app,
            listener,
            address,
            #[cfg(feature = "worlds")]
            ssh,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for SSH, if it does.
    #[cfg(feature = "worlds")]
    pub fn ssh_address(&self) -> Option<SocketAddr> {
        self.ssh
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The link to open in a browser; with the token where one is needed.
    pub fn link(&self) -> String {
        match self.app.access.token() {
            Some(access) => format!(
                "https://{}/?{}={}",
                self.address,
                guard::QUERY_NAME,
                access.as_str()
            ),
            None => format!("http://{}/", self.address),
        }
    }

    /// Serves until the future is dropped.
    pub async fn run(self) -> io::Result<()> {
        let app = self.app.clone();
        #[cfg(feature = "worlds")]
        if let (Some((listener, key)), Some(worlds)) = (self.ssh, &app.worlds) {
            let gateway = worlds.gateway();
            let ssh = gateway.run(listener, &key);
            let http = serve(app.clone(), self.listener, self.address);
            return tokio::try_join!(http, ssh).map(drop);
        }
        serve(app, self.listener, self.address).await
    }
}

async fn serve(app: App, listener: TcpListener, address: SocketAddr) -> io::Result<()> {
    let router = router(app.clone());
    if app.access.token().is_some() {
        let listener = tls::TlsListener::new(listener, address.ip())?;
        return axum::serve(listener, router).await;
    }
    use axum::serve::ListenerExt;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

fn router(app: App) -> Router {
    let router = Router::new()
        .route("/api/about", get(api::about))
        .route("/api/worlds", get(api::worlds))
        .route("/api/timing", get(api::timing))
        .route("/api/sessions", get(api::sessions).post(api::create))
        .route("/api/sessions/{id}", get(api::session))
        .route("/api/sessions/{id}/join", post(api::join))
        .route("/api/sessions/{id}/ws", get(socket::open))
        .route("/api/replays", get(api::replays))
        .route("/api/replays/{id}", get(api::replay))
        .route("/api/replays/{id}/frames", get(api::frames))
        .route("/api/replays/{id}/states", get(api::replay_states))
        .route("/api/replays/{id}/verify", post(api::check));
    #[cfg(feature = "chain")]
    let router = chain::routes(router);
    let router = router
        .route("/api/{*rest}", get(api::nothing).post(api::nothing))
        .fallback(files)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app.clone());
    #[cfg(feature = "worlds")]
    let router = match &app.worlds {
        Some(worlds) => router.merge(worlds::router(worlds.clone())),
        None => router,
    };
    router.layer(from_fn_with_state(app, guard::guard))
}

async fn files(State(app): State<App>, request: Request) -> Response {
    app.site.get(request.uri().path())
}
