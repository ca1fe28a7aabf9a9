//! The brokers behind a bootstrap list: a session to each that is needed.

use super::answers::Broker;
use super::error::KafkaError;
use super::session::{Session, Stream};
use crate::base::fatal::{Exit, Fatal};
use crate::connect::dial::address;
use crate::plan::SaslPlan;
use std::collections::HashMap;
use std::time::Duration;

/// Connects to a host and port, TLS included.
pub type Dial<S> = Box<dyn Fn(&str, u16) -> Result<S, Fatal> + Send + Sync>;

/// Who we are to a broker.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub sasl: Option<SaslPlan>,
    /// For each request.
    pub timeout: Duration,
}

impl Client {
    /// A session over a fresh connection.
    pub fn open<S: Stream>(&self, stream: S) -> Result<Session<S>, KafkaError> {
        Session::open(stream, &self.id, self.sasl.as_ref(), self.timeout)
    }
}

pub struct Cluster<S> {
    bootstrap: Vec<(String, u16)>,
    client: Client,
    dial: Dial<S>,
    /// The bootstrap address that answered, and the session.
    entry: Option<(String, Session<S>)>,
    sessions: HashMap<i32, Session<S>>,
}

impl<S: Stream> Cluster<S> {
    pub fn new(bootstrap: Vec<(String, u16)>, client: Client, dial: Dial<S>) -> Self {
        Self { bootstrap, client, dial, entry: None, sessions: HashMap::new() }
    }

    /// Asks these brokers too, after the bootstrap addresses, for those may be the ones that die.
    pub fn learn(&mut self, brokers: &[Broker]) {
        for broker in brokers {
            let address = (broker.host.clone(), broker.port);
            if !self.bootstrap.contains(&address) {
                self.bootstrap.push(address);
            }
        }
    }

    fn connect(&self, host: &str, port: u16) -> Result<Session<S>, Fatal> {
        let stream = (self.dial)(host, port)?;
        self.client.open(stream).map_err(|error| error.fatal(&address(host, port)))
    }

    /// The first bootstrap address that answers, with its name; else what is wrong with each.
    pub fn entry(&mut self) -> Result<(&str, &mut Session<S>), Fatal> {
        if self.entry.is_none() {
            let mut failed: Vec<Fatal> = Vec::new();
            for (host, port) in &self.bootstrap {
                match self.connect(host, *port) {
                    Ok(session) => {
                        self.entry = Some((address(host, *port), session));
                        break;
                    }
                    Err(fatal) => failed.push(fatal),
                }
            }
            if self.entry.is_none() {
                return Err(all_failed(failed));
            }
        }
        match &mut self.entry {
            Some((name, session)) => Ok((name, session)),
            None => Err(all_failed(Vec::new())),
        }
    }

    /// One request to any broker; on a connection that broke since its last use, once more on a new one.
    pub fn ask<T>(&mut self, mut request: impl FnMut(&mut Session<S>) -> Result<T, KafkaError>) -> Result<T, Fatal> {
        for last in [self.entry.is_none(), true] {
            let (name, session) = self.entry()?;
            match request(session) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let fatal = error.fatal(name);
                    if error.breaks_connection() {
                        self.entry = None;
                    }
                    if last || !error.breaks_connection() {
                        return Err(fatal);
                    }
                }
            }
        }
        Err(all_failed(Vec::new()))
    }

    /// The session to a broker that metadata named.
    pub fn broker(&mut self, broker: &Broker) -> Result<&mut Session<S>, Fatal> {
        if !self.sessions.contains_key(&broker.id) {
            let session = self.connect(&broker.host, broker.port)?;
            self.sessions.insert(broker.id, session);
        }
        let lost = || Fatal::new(Exit::Unreachable, format!("Kafka broker {} is gone", broker.id));
        self.sessions.get_mut(&broker.id).ok_or_else(lost)
    }

    /// Drops the session to a broker: its connection broke, or leads elsewhere now.
    pub fn forget(&mut self, broker: i32) {
        self.sessions.remove(&broker);
    }
}

fn all_failed(mut failed: Vec<Fatal>) -> Fatal {
    match failed.len() {
        0 => Fatal::new(Exit::Unreachable, "no bootstrap address is named").mend("kafka://host:port/topic"),
        1 => failed.remove(0),
        _ => {
            let mend = failed.iter().find_map(|fatal| fatal.mend.clone());
            let all: Vec<String> = failed.into_iter().map(|fatal| fatal.what).collect();
            let fatal = Fatal::new(Exit::Unreachable, format!("no bootstrap address answers: {}", all.join("; ")));
            Fatal { mend, ..fatal }
        }
    }
}

#[cfg(test)]
mod tests;
