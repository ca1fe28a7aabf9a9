//! A bearer token's file, read again while the run goes on: what issues tokens for a time puts the next one into the
//! same file (Kubernetes projects them so). Blocks, off the cores; each core of an HTTP target finds the new one in its
//! inbox.

use crate::base::fatal::Fatal;
use crate::plan::{BearerPlan, Secret};
use crate::sys::threads;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const LOOK_EVERY_NS: u64 = 1_000_000_000;
/// A token that is new is looked at again so soon: a file that is being written may have half of it.
const LOOK_AGAIN_NS: u64 = 250_000_000;
/// So long after a token was refused the next one is in use, if the file had it then.
pub const RENEWAL_NS: u64 = 1_500_000_000;
const _: () = assert!(LOOK_EVERY_NS + LOOK_AGAIN_NS < RENEWAL_NS);
/// After so many looks in vain the file is gone, and not only being written.
const FAILURES_TOLD: u32 = 3;

/// A core's end.
pub struct TokenInbox {
    tokens: Receiver<Secret>,
    /// The thread ends when nobody has one any more.
    _wanted: Arc<()>,
}

impl TokenInbox {
    /// The newest token, where it is news. Neither waits nor allocates.
    pub fn take(&self) -> Option<Secret> {
        self.tokens.try_recv().ok()
    }
}

/// Reads the file again and again, from a thread on these processors, and puts what is new into one inbox for each of
/// so many cores. What is no file, a pipe say, is read but once: there are none then.
///
/// # Errors
/// Exit 3 where no thread can be had.
pub fn watch(bearer: &BearerPlan, cores: usize, cpus: &[usize]) -> Result<Vec<TokenInbox>, Fatal> {
    let Some(watch) = Watch::of(bearer, bearer.bytes_max()) else { return Ok(Vec::new()) };
    let wanted = Arc::new(());
    let (slots, inboxes): (Vec<_>, _) = (0..cores).map(|_| slot(&wanted)).unzip();
    let alive = Arc::downgrade(&wanted);
    // Nobody waits for its end: a read from a file system that hangs must not hold up that of the run.
    let _detached = threads::start("token", cpus, "a thread", move || look_on(watch, &alive, &slots))?;
    Ok(inboxes)
}

/// The thread's end of an inbox with room for one token. It reads as well: a newer one takes an older one's place.
type Slot = (Sender<Secret>, Receiver<Secret>);

fn slot(wanted: &Arc<()>) -> (Slot, TokenInbox) {
    let (sender, tokens) = bounded(1);
    ((sender, tokens.clone()), TokenInbox { tokens, _wanted: wanted.clone() })
}

fn look_on(mut watch: Watch, alive: &Weak<()>, slots: &[Slot]) {
    loop {
        std::thread::sleep(watch.pause());
        if alive.strong_count() == 0 {
            return;
        }
        if let Some(token) = watch.look() {
            slots.iter().for_each(|slot| put(slot, &token));
        }
    }
}

fn put((sender, older): &Slot, token: &Secret) {
    while sender.try_send(token.clone()).is_err_and(|error| error.is_full()) {
        let _replaced = older.try_recv();
    }
}

/// A file that is looked at again and again.
pub struct Watch {
    flag: &'static str,
    path: PathBuf,
    reader: Reader,
    looked: Instant,
}

impl Watch {
    /// `bytes_max`: of the longest token that there is room for. `None` where it was read from no file, but a pipe say.
    pub fn of(bearer: &BearerPlan, bytes_max: usize) -> Option<Self> {
        let is_file = bearer.path.metadata().is_ok_and(|file| file.is_file());
        let reader = Reader { current: bearer.token.clone(), candidate: None, bytes_max, failures: 0 };
        is_file.then(|| Self { flag: bearer.flag, path: bearer.path.clone(), reader, looked: Instant::now() })
    }

    /// Between two looks.
    fn pause(&self) -> Duration {
        Duration::from_nanos(if self.reader.candidate.is_some() { LOOK_AGAIN_NS } else { LOOK_EVERY_NS })
    }

    /// The token that is used from now on, where it is another one. Tells what it finds. Looks only if it is
    /// time to: governance asks whenever it has a moment.
    pub fn look(&mut self) -> Option<Secret> {
        if self.looked.elapsed() < self.pause() {
            return None;
        }
        self.looked = Instant::now();
        let (flag, shown) = (self.flag, self.path.display());
        match self.reader.look(read(&self.path)) {
            News::None => None,
            News::Renewed(token) => {
                tracing::info!(event = "token", "--{flag} '{shown}': requests have the new token from now on");
                Some(token)
            }
            News::Failed(why) => {
                let mend = format!("put a token into {shown}; it is looked at every second");
                tracing::warn!(event = "token", "--{flag} '{shown}': {why}; the last token stays\n  mend: {mend}");
                None
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Secret> {
    // What has become a pipe would be waited for.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no file any more"));
    }
    Secret::read(path)?.as_token().map_err(|why| io::Error::new(ErrorKind::InvalidData, why))
}

/// What came of a look at the file.
#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Renewed(Secret),
    Failed(String),
}

/// What is known of the file.
struct Reader {
    current: Secret,
    /// Another one, seen once.
    candidate: Option<Secret>,
    bytes_max: usize,
    /// Looks in vain, in a row.
    failures: u32,
}

impl Reader {
    fn look(&mut self, read: io::Result<Secret>) -> News {
        let fitting = read.and_then(|token| match token.expose().len() {
            bytes if bytes > self.bytes_max => {
                let what = format!("its token is {bytes} bytes; requests of this run have room for {}", self.bytes_max);
                Err(io::Error::new(ErrorKind::InvalidData, what))
            }
            _ => Ok(token),
        });
        let token = match fitting {
            Ok(token) => token,
            Err(why) => {
                (self.candidate, self.failures) = (None, self.failures.saturating_add(1));
                return if self.failures == FAILURES_TOLD { News::Failed(why.to_string()) } else { News::None };
            }
        };
        self.failures = 0;
        if token == self.current {
            self.candidate = None;
            return News::None;
        }
        if self.candidate.as_ref() != Some(&token) {
            self.candidate = Some(token);
            return News::None;
        }
        (self.current, self.candidate) = (token.clone(), None);
        News::Renewed(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;

    fn reader(token: &str) -> Reader {
        let bytes_max = token.len() + limits::HTTP_TOKEN_GROWTH_BYTES;
        Reader { current: Secret::new(token), candidate: None, bytes_max, failures: 0 }
    }

    fn renewed(token: &str) -> News {
        News::Renewed(Secret::new(token))
    }

    #[test]
    fn a_token_is_news_once_it_was_seen_twice() {
        let mut reader = reader("one");
        let seen = |token: &str| Ok(Secret::new(token));
        for (token, news) in [
            ("one", News::None),
            ("tw", News::None),
            ("two", News::None),
            ("two", renewed("two")),
            ("two", News::None),
            ("three", News::None),
            ("two", News::None),
            ("three", News::None),
            ("three", renewed("three")),
            ("one", News::None),
            ("one", renewed("one")),
        ] {
            assert_eq!(reader.look(seen(token)), news, "{token}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_once_until_it_can_be() {
        let mut reader = reader("one");
        let gone = || Err(io::Error::from(ErrorKind::NotFound));
        let told = |news: &[News]| news.iter().filter(|news| matches!(news, News::Failed(_))).count();
        let news: Vec<_> = (0..9).map(|_| reader.look(gone())).collect();
        assert_eq!((told(&news), told(&news[..2])), (1, 0), "{news:?}");
        assert_eq!(reader.look(Ok(Secret::new("two"))), News::None);
        assert_eq!(reader.look(gone()), News::None, "and what was seen before counts no more");
        assert_eq!(reader.look(Ok(Secret::new("two"))), News::None);
        assert_eq!(reader.look(Ok(Secret::new("two"))), renewed("two"));
        let long = "x".repeat("one".len() + limits::HTTP_TOKEN_GROWTH_BYTES + 1);
        let news: Vec<_> = (0..5).map(|_| reader.look(Ok(Secret::new(long.clone())))).collect();
        assert_eq!(told(&news), 1, "{news:?}");
        assert_eq!(reader.look(Ok(Secret::new(&long[1..]))), News::None);
        assert_eq!(reader.look(Ok(Secret::new(&long[1..]))), renewed(&long[1..]), "so long it may be");
    }

    #[test]
    fn a_newer_token_takes_the_place_of_one_that_nobody_took() {
        let wanted = Arc::new(());
        let (slot, inbox) = slot(&wanted);
        assert_eq!(inbox.take(), None);
        ["one", "two", "three"].map(Secret::new).iter().for_each(|token| put(&slot, token));
        assert_eq!((inbox.take(), inbox.take()), (Some(Secret::new("three")), None));
        drop(inbox);
        put(&slot, &Secret::new("four"));
        assert_eq!(Arc::strong_count(&wanted), 1, "which the thread sees");
    }

    #[test]
    fn a_pipe_is_no_file_to_look_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let bearer = |path: &Path| BearerPlan { flag: "x", path: path.to_owned(), token: Secret::new("one") };
        assert_eq!(watch(&bearer(&path), 3, &[]).unwrap().len(), 3);
        assert_eq!(watch(&bearer(Path::new("/dev/null")), 3, &[]).unwrap().len(), 0);
        let mut watch = Watch::of(&bearer(&path), 3).unwrap();
        std::fs::write(&path, "two").unwrap();
        watch.looked = Instant::now();
        assert!(watch.look().is_none() && watch.reader.candidate.is_none(), "it is not time to look");
        for (looked, again) in [(None, LOOK_AGAIN_NS), (Some(Secret::new("two")), LOOK_EVERY_NS)] {
            watch.looked -= watch.pause();
            assert_eq!((watch.look(), watch.pause()), (looked, Duration::from_nanos(again)));
        }
        for (text, why) in [("a b", "printable"), (" \n", "printable"), ("", "one line"), ("a\nb", "one line")] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains(why), "{text:?}");
        }
        std::fs::write(&path, " next \n").unwrap();
        assert_eq!(read(&path).unwrap(), Secret::new("next"));
    }
}
