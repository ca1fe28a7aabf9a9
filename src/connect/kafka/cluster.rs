//! The brokers behind a bootstrap list: a session to each that is needed.

use super::answers::Broker;
use super::awaited::Awaited;
use super::error::KafkaError;
use super::sasl;
use super::session::{Session, Stream};
use crate::base::fatal::{Exit, Fatal};
use crate::connect::peer::address;
use crate::plan::SaslPlan;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Connects to a host and port, TLS included; waits no longer than is said.
pub type Dial<S> = Box<dyn Fn(&str, u16, Duration) -> Result<S, Fatal> + Send + Sync>;

/// So long an address may take to connect, and to answer each of the requests that a session begins with, while there
/// are others to ask, or it may not be needed: longer than healthy brokers take.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// Who we are to a broker.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub sasl: Option<SaslPlan>,
    /// For each request.
    pub timeout: Duration,
}

impl Client {
    /// A session over a fresh connection, its user authenticated.
    pub fn open<S: Stream>(&self, stream: S) -> Result<Session<S>, KafkaError> {
        let mut session = Session::open(stream, &self.id, self.timeout)?;
        if let Some(plan) = &self.sasl {
            sasl::authenticate(&mut session, plan)?;
        }
        Ok(session)
    }
}

pub struct Cluster<S> {
    /// The addresses that the user gave.
    named: Vec<(String, u16)>,
    /// Those and the learned ones; the one that answered last goes first.
    bootstrap: Vec<(String, u16)>,
    client: Client,
    dial: Dial<S>,
    /// The bootstrap address that answered, and the session.
    entry: Option<(String, Session<S>)>,
    sessions: HashMap<i32, Session<S>>,
    heard_by: Awaited,
}

impl<S: Stream> Cluster<S> {
    pub fn new(bootstrap: Vec<(String, u16)>, client: Client, dial: Dial<S>) -> Self {
        let (named, sessions) = (bootstrap.clone(), HashMap::new());
        Self { named, bootstrap, client, dial, entry: None, sessions, heard_by: Awaited::default() }
    }

    /// From now on these hear what is waited for.
    pub fn heard_by(&mut self, waits: &Awaited) {
        self.heard_by = waits.clone();
    }

    /// Asks this address before all others.
    pub fn prefer(&mut self, address: &(String, u16)) {
        self.bootstrap.retain(|other| other != address);
        self.bootstrap.insert(0, address.clone());
    }

    /// Asks this address after all others: those behind it go first.
    pub fn avoid(&mut self, address: &(String, u16)) {
        if let Some(at) = self.bootstrap.iter().position(|other| other == address) {
            self.bootstrap.rotate_left(at + 1);
        }
    }

    /// Asks another address from now on.
    pub fn turn_away(&mut self) {
        if self.entry.take().is_some() {
            self.bootstrap.rotate_left(1);
        }
    }

    /// The address behind [`Self::entry`].
    pub fn answered_last(&self) -> Option<&(String, u16)> {
        self.bootstrap.first().filter(|_| self.entry.is_some())
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

    fn connect(&self, host: &str, port: u16, patience: Duration) -> Result<Session<S>, Fatal> {
        let name = address(host, port);
        self.heard_by.note(&name, "connecting");
        let dialed = (self.dial)(host, port, patience);
        let stream = dialed.map_err(|fatal| explain_advertised(fatal, host, port, &self.named))?;
        let client = Client { timeout: self.client.timeout.min(patience), ..self.client.clone() };
        let mut session = client.open(stream).map_err(|error| error.fatal(&name))?;
        self.heard_by.answered();
        session.set_timeout(self.client.timeout);
        session.heard_by = Some((self.heard_by.clone(), name));
        Ok(session)
    }

    /// The first bootstrap address that answers, with its name; else what is wrong with each.
    pub fn entry(&mut self) -> Result<(&str, &mut Session<S>), Fatal> {
        if self.entry.is_none() {
            let (at, session) = self.find_entry()?;
            self.bootstrap[..=at].rotate_right(1);
            let (host, port) = &self.bootstrap[0];
            self.entry = Some((address(host, *port), session));
        }
        match &mut self.entry {
            Some((name, session)) => Ok((name, session)),
            None => Err(all_failed(Vec::new())),
        }
    }

    /// A silent address holds up the others for a moment only, and has all of its time after them.
    fn find_entry(&self) -> Result<(usize, Session<S>), Fatal> {
        let (mut silent, mut failed): (Vec<usize>, Vec<Fatal>) = ((0..self.bootstrap.len()).collect(), Vec::new());
        let first = if silent.len() > 1 { FIRST_PATIENCE } else { Duration::MAX };
        for patience in [first, Duration::MAX] {
            for at in std::mem::take(&mut silent) {
                let (host, port) = &self.bootstrap[at];
                let began = Instant::now();
                match self.connect(host, *port, patience) {
                    Ok(session) => return Ok((at, session)),
                    // The flags or this host are at fault: the other addresses cannot help.
                    Err(fatal) if fatal.exit != Exit::Unreachable => return Err(fatal),
                    // Nothing tells silence from a refusal that was long in coming: that one is asked again, too. The
                    // kernel's time limit may be over a moment early.
                    Err(_) if began.elapsed() > patience / 2 => silent.push(at),
                    Err(fatal) => failed.push(fatal),
                }
            }
        }
        Err(all_failed(failed))
    }

    /// One request to any broker; on a connection that broke since its last use, once more on a new one. One that is
    /// silent, or ends the connection, is asked after all others from then on; as with [`Self::find_entry`], it holds
    /// them up for a moment only, and has all of its time after them.
    pub fn ask<T>(&mut self, mut request: impl FnMut(&mut Session<S>) -> Result<T, KafkaError>) -> Result<T, Fatal> {
        let (mut is_old, mut failed) = (self.entry.is_some(), Vec::new());
        let first = if self.bootstrap.len() > 1 { FIRST_PATIENCE } else { Duration::MAX };
        for patience in [first, Duration::MAX] {
            let (mut tried, mut is_silent) = (BTreeSet::new(), false);
            failed.clear();
            while tried.len() < self.bootstrap.len() {
                let (name, session) = self.entry()?;
                if tried.contains(name) {
                    break;
                }
                let error = match session.within(patience, &mut request) {
                    Err(error) if error.breaks_connection() => error,
                    other => return other.map_err(|error| error.fatal(name)),
                };
                let (name, fatal) = (name.to_owned(), error.fatal(name));
                if std::mem::take(&mut is_old) && !error.is_silence() {
                    self.entry = None;
                    continue;
                }
                self.turn_away();
                is_silent |= error.is_silence();
                tried.insert(name);
                failed.push(fatal);
            }
            if !is_silent || patience == Duration::MAX {
                break;
            }
        }
        Err(all_failed(failed))
    }

    /// The session to a broker that metadata named.
    pub fn broker(&mut self, broker: &Broker) -> Result<&mut Session<S>, Fatal> {
        self.broker_within(broker, Duration::MAX)
    }

    /// The same; connecting, and each of the requests that a session begins with, takes no longer than `patience`.
    pub(super) fn broker_within(&mut self, broker: &Broker, patience: Duration) -> Result<&mut Session<S>, Fatal> {
        if !self.sessions.contains_key(&broker.id) {
            let session = self.connect(&broker.host, broker.port, patience)?;
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

/// Says of an address that the user did not give where it comes from.
pub(super) fn explain_advertised(fatal: Fatal, host: &str, port: u16, named: &[(String, u16)]) -> Fatal {
    let is_named = named.iter().any(|(name, at)| name == host && *at == port);
    if is_named || fatal.exit != Exit::Unreachable {
        return fatal;
    }
    let named: Vec<String> = named.iter().map(|(host, port)| address(host, *port)).collect();
    let source = format!("where Kafka at {} says that this broker is: advertised.listeners", named.join(", "));
    Fatal::new(Exit::Unreachable, format!("{} ({source})", fatal.what)).mend(
        "start that broker if it is down; else advertised.listeners of the broker: an address that this host reaches, \
         with a name that is in the certificate",
    )
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
