//! One process of a fleet. It reads commands from its standard input, and ends with it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::shared::{Identity, SealingKey, Shareable, Shared};
use tower_bearer_auth::{BoxError, Error, ErrorKind, FetchContext, IssuedToken, TokenProvider, TokenSource};

use crate::probe;

const ORIGIN: &str = "https://api.example.com";
const SEALING_KEY: &str = "8f14e45fceea167a5a36dedd4bea2543a1d0c6e83f027327d8461063f4ac58a6";
/// 100 requests a second.
const EVERY: Duration = Duration::from_millis(10);

/// The issuer of `World`, as this process sees it.
struct Issuer {
    address: String,
    process: usize,
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let token = self.request().await.map_err(Error::transient)?;
        if token == "unavailable" {
            return Err(Error::new(ErrorKind::Unavailable, "the issuer is unavailable"));
        }
        Ok(IssuedToken::bearer(token)?.expires_in(Duration::from_secs(1800)))
    }
}

impl Issuer {
    async fn request(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(format!("token {}\n", self.process).as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response.trim().to_owned())
    }
}

impl Shareable for Issuer {
    async fn identity(&self, (): &()) -> Result<Identity, Error> {
        Ok(Identity::new("https://issuer.test/token").field("client", "canary-client").credential("canary-secret"))
    }
}

type Source = TokenSource<Shared<Issuer, tower_bearer_auth_redis::RedisStore>>;
type Api = Arc<Mutex<BufReader<TcpStream>>>;

pub(crate) async fn main(number: &str, address: &str) -> Result<(), BoxError> {
    let process = number.parse()?;
    let store = probe::store()?;
    let provider = Issuer { address: address.to_owned(), process };
    let shared = Shared::builder(provider, store).sealing_key(SealingKey::from_hex(SEALING_KEY)?).build()?;
    let source = TokenSource::new(shared);
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("api {process}\n").as_bytes()).await?;
    let api = Arc::new(Mutex::new(BufReader::new(stream)));
    println!("ready");
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        match command.as_str() {
            "token" => match source.token().await {
                Ok(token) => println!("{}", token.expose_secret()),
                Err(error) => println!("failed {error}"),
            },
            "load" => {
                let failed = load(&source, &api, commands.next_line()).await;
                println!("{failed}");
            }
            other => println!("failed: unknown command {other}"),
        }
    }
    Ok(())
}

/// Sends requests until `stop` is ready. Returns how many failed, and the first error.
async fn load<T>(source: &Source, api: &Api, stop: impl Future<Output = T>) -> String {
    let mut failed = Vec::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stop = std::pin::pin!(stop);
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            _ = ticks.tick() => {
                let (source, api) = (source.clone(), Arc::clone(api));
                calls.spawn(async move { call(&source, api).await.err().map(|error| error.to_string()) });
                while let Some(result) = calls.try_join_next() {
                    failed.extend(result.unwrap());
                }
            }
        }
    }
    failed.extend(calls.join_all().await.into_iter().flatten());
    format!("{} {}", failed.len(), failed.first().map_or("", String::as_str))
}

/// One request through the layer.
async fn call(source: &Source, api: Api) -> Result<(), BoxError> {
    let service = service_fn(move |request: Request<String>| {
        let api = Arc::clone(&api);
        async move {
            let token =
                request.headers()[header::AUTHORIZATION].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
            let mut api = api.lock().await;
            api.write_all(format!("{token}\n").as_bytes()).await.unwrap();
            let mut status = String::new();
            api.read_line(&mut status).await.unwrap();
            let mut response = Response::new(String::new());
            if status.trim() != "200" {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let challenge = r#"Bearer error="invalid_token""#.parse().unwrap();
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let layer = source.layer().allow_origin(ORIGIN)?;
    let request = Request::get(format!("{ORIGIN}/orders")).body(String::new())?;
    let response = layer.layer(service).oneshot(request).await?;
    if response.status() == StatusCode::OK {
        Ok(())
    } else {
        Err(format!("the API returned {}", response.status()).into())
    }
}
