//! A bucket in a Redis server, or one that speaks its protocol: a database of it, or the keys there that begin with a prefix.
//!
//! One connection, made at the first operation from the guest's own process: names are looked up as the container's resolv.conf
//! says, and the pod's network decides who is reached. When it breaks the next operation makes a new one; what can be done
//! twice without harm is done again by itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError,
};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Failure, PAGE, Page, VALUE_BYTES};
use crate::egress::Allowed;
use crate::interfaces::tls::Trust;

/// How long it may take to reach the server, and to be answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that was not used for so long is tried before something that cannot be done twice.
const TRUSTED: Duration = Duration::from_secs(1);

/// Sets a value where another is there (ARGV[2]), or none is (ARGV[1] is 0).
const SWAP: &str = "local there = redis.call('GET', KEYS[1]) \
    if ARGV[1] == '0' then if there then return 0 end elseif there ~= ARGV[2] then return 0 end \
    redis.call('SET', KEYS[1], ARGV[3]) return 1";

pub(super) struct Redis {
    host: String,
    port: u16,
    /// User, password and database.
    settings: RedisConnectionInfo,
    tls: Option<Arc<Trust>>,
    /// Where the guest may connect to.
    allowed: Allowed,
    /// What the names of its keys begin with there.
    prefix: String,
    connection: Mutex<Option<Connection>>,
}

struct Connection {
    connection: MultiplexedConnection,
    used: Instant,
}

/// Whether an operation may be done again where nobody knows whether it was done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twice {
    Harmless,
    Never,
}

impl Redis {
    /// By its URL: `redis://[user:password@]host[:port][/database][?prefix=TEXT]`, or `rediss` with TLS.
    pub(super) fn at(url: &str, trust: &Arc<Trust>, allowed: &Allowed) -> Result<Self, String> {
        let mut parsed = redis::parse_redis_url(url).ok_or("it is no URL")?;
        let tls = (parsed.scheme() == "rediss").then(|| Arc::clone(trust));
        let mut prefix = String::new();
        for (name, value) in parsed.query_pairs() {
            match &*name {
                "prefix" => prefix = value.into_owned(),
                other => return Err(format!("{other:?} is no option of it; prefix is")),
            }
        }
        parsed.set_query(None);
        // TLS is not the library's affair here.
        parsed.set_scheme("redis").map_err(|()| "its scheme is none")?;
        let info = parsed.into_connection_info().map_err(|error| error.to_string())?;
        let ConnectionAddr::Tcp(host, port) = info.addr().clone() else { return Err("it names no host".to_owned()) };
        let settings = info.redis_settings().clone();
        Ok(Redis { host, port, settings, tls, allowed: allowed.clone(), prefix, connection: Mutex::new(None) })
    }

    /// A connection to the name, if that is allowed, or to one of its addresses that are.
    async fn reach(&self) -> io::Result<TcpStream> {
        let named = (self.host.as_str(), self.port);
        if self.allowed.name(&self.host, self.port) {
            return TcpStream::connect(named).await;
        }
        let addresses: Vec<_> = lookup_host(named).await?.filter(|address| self.allowed.address(*address)).collect();
        if addresses.is_empty() {
            return Err(io::Error::other("the egress list of the pod or its handler does not have it"));
        }
        TcpStream::connect(addresses.as_slice()).await
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        let connecting = async {
            let failed = |error: &dyn std::fmt::Display| Failure::Redis(format!("{}:{}: {error}", self.host, self.port));
            let stream = self.reach().await.map_err(|error| failed(&error))?;
            stream.set_nodelay(true).map_err(|error| failed(&error))?;
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
            let refused = |error: RedisError| failed(&error);
            let Some(trust) = &self.tls else {
                let made = MultiplexedConnection::new_with_config(&self.settings, stream, config).await;
                let (connection, driver) = made.map_err(refused)?;
                tokio::spawn(driver);
                return Ok(connection);
            };
            let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
            let stream = trust.connector().connect(name, stream).await.map_err(|error| failed(&error))?;
            let made = MultiplexedConnection::new_with_config(&self.settings, stream, config).await;
            let (connection, driver) = made.map_err(refused)?;
            tokio::spawn(driver);
            Ok(connection)
        };
        let late = || Failure::Redis(format!("{}:{}: no connection within {PATIENCE:?}", self.host, self.port));
        timeout(PATIENCE, connecting).await.map_err(|_| late())?
    }

    async fn connection(&self, twice: Twice) -> Result<MultiplexedConnection, Failure> {
        let mut there = self.connection.lock().await;
        if let Some(Connection { connection, used }) = &mut *there {
            let mut connection = connection.clone();
            let trusted = twice == Twice::Harmless || used.elapsed() < TRUSTED;
            if trusted || redis::cmd("PING").query_async::<()>(&mut connection).await.is_ok() {
                *used = Instant::now();
                return Ok(connection);
            }
            *there = None;
        }
        let connection = self.connect().await?;
        *there = Some(Connection { connection: connection.clone(), used: Instant::now() });
        Ok(connection)
    }

    async fn ask<T: FromRedisValue>(&self, twice: Twice, question: &Pipeline) -> Result<T, Failure> {
        let mut again = twice == Twice::Harmless;
        loop {
            let mut connection = self.connection(twice).await?;
            let error = match question.query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let broken = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
            if broken {
                *self.connection.lock().await = None;
            }
            // A server that does not answer in time would not do it a second time either.
            if !broken || !std::mem::take(&mut again) || error.is_timeout() {
                return Err(failure(&error));
            }
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The length is not known before, so no more is asked for than may be had.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let key = self.key(key);
        let mut question = redis::pipe();
        question.atomic().cmd("EXISTS").arg(&key).cmd("GETRANGE").arg(&key).arg(0).arg(VALUE_BYTES);
        let (there, value): (bool, Vec<u8>) = self.ask(Twice::Harmless, &question).await?;
        if value.len() > VALUE_BYTES { Err(Failure::ValueTooLarge) } else { Ok(there.then_some(value)) }
    }

    pub(super) async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        self.ask(Twice::Harmless, redis::pipe().cmd("SET").arg(self.key(key)).arg(value)).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.ask(Twice::Harmless, redis::pipe().cmd("DEL").arg(self.key(key)).ignore()).await
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool, Failure> {
        let (there,) = self.ask(Twice::Harmless, redis::pipe().cmd("EXISTS").arg(self.key(key))).await?;
        Ok(there)
    }

    pub(super) async fn increment(&self, key: &str, delta: i64) -> Result<i64, Failure> {
        let (number,) = self.ask(Twice::Never, redis::pipe().cmd("INCRBY").arg(self.key(key)).arg(delta)).await?;
        Ok(number)
    }

    pub(super) async fn swap(&self, key: &str, expected: Option<Vec<u8>>, value: Vec<u8>) -> Result<bool, Failure> {
        let mut question = redis::pipe();
        question.cmd("EVAL").arg(SWAP).arg(1).arg(self.key(key));
        question.arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(value);
        let (swapped,) = self.ask(Twice::Never, &question).await?;
        Ok(swapped)
    }

    /// The cursor is the server's. Keys that are no text are left out.
    pub(super) async fn keys(&self, cursor: Option<String>) -> Result<Page, Failure> {
        let cursor: u64 = cursor.map_or(Ok(0), |cursor| cursor.parse()).map_err(|_| Failure::NoCursor)?;
        let mut question = redis::pipe();
        question.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern(&self.prefix)).arg("COUNT").arg(PAGE);
        let ((next, found),): ((u64, Vec<Vec<u8>>),) = self.ask(Twice::Harmless, &question).await?;
        let keys = found.into_iter().filter_map(|key| Some(String::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.to_owned()));
        Ok((keys.collect(), (next != 0).then(|| next.to_string())))
    }
}

/// What matches the keys of a prefix.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + "*"
}

fn failure(error: &RedisError) -> Failure {
    match error.code() {
        Some("NOPERM" | "NOAUTH" | "WRONGPASS" | "READONLY") => Failure::Denied,
        _ => Failure::Redis(error.to_string()),
    }
}
