//! Standard output and standard error, whose readers may leave, or stop reading.

use super::pipe;
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What a pipe that is ready takes without blocking.
const PIECE_BYTES: usize = 4096;

/// How long standard error is waited for.
pub const PATIENCE: Duration = Duration::from_nanos(limits::LOG_WRITE_NS_MAX);

/// Before `main`, and before the standard library opens /dev/null in place of standard streams that are closed, so that
/// nobody can tell them from those that the user sent there.
// SAFETY: what is placed in this section is called once, by the loader, which hands over no more than a function of no
// arguments may ignore; the function needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = open_closed_streams;

/// Standard input and output that are closed get /dev/null the wrong way round, as the C library does it for programs
/// with privileges: no other file takes their number, and their use fails.
extern "C" fn open_closed_streams() {
    for (fd, mode) in [(0, libc::O_WRONLY), (1, libc::O_RDONLY)] {
        // SAFETY: integers, and a path that lives as long as the program. No other thread is there yet, and the lowest
        // number that is free is the one that gets opened.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) < 0 {
                libc::open(c"/dev/null".as_ptr(), mode);
            }
        }
    }
}

/// Whether standard input is open, and for reading.
pub fn stdin_is_readable() -> bool {
    is_open_but_for(io::stdin().as_fd(), libc::O_WRONLY)
}

/// Whether standard output is open, and for writing.
pub fn stdout_is_writable() -> bool {
    is_open_but_for(io::stdout().as_fd(), libc::O_RDONLY)
}

fn is_open_but_for(stream: BorrowedFd<'_>, mode: libc::c_int) -> bool {
    // SAFETY: integers in, integer out.
    let flags = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE != mode
}

/// Text to standard output. A reader that closes early (`engine --help | head`) is no error.
///
/// # Errors
/// It is closed, or takes no bytes for another reason, a full drive say.
pub fn print(text: &str) -> Result<(), Fatal> {
    match write_stdout(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let what = format!("standard output cannot be written: {error}");
            Err(Fatal::new(Exit::Failed, what).mend("send it elsewhere, or free space where it goes (df -h)"))
        }
        _ => Ok(()),
    }
}

/// All of it to standard output.
///
/// # Errors
/// Those of its file, and that it is closed: the standard library takes a write that EBADF refuses for a success.
pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    if !stdout_is_writable() {
        return Err(io::Error::other("it is closed, or not open for writing"));
    }
    write_waiting(&mut io::stdout().lock(), bytes)
}

/// Also to a pipe or terminal that somebody set not to block, which is true of all who share it.
fn write_waiting(out: &mut (impl Write + AsFd), mut bytes: &[u8]) -> io::Result<()> {
    loop {
        let outcome = if bytes.is_empty() { out.flush().map(|()| 0) } else { out.write(bytes) };
        match outcome {
            Ok(0) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                pipe::wait_writable(out.as_fd(), limits::LOG_WRITE_NS_MAX);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether standard error takes bytes, now or within this time.
pub fn takes_bytes_within(patience: Duration) -> bool {
    wait_within(io::stderr().as_fd(), Instant::now() + patience)
}

/// How wide the terminal at standard error is; `None`: it is no terminal, or does not say.
pub fn stderr_columns() -> Option<usize> {
    columns(io::stderr().as_fd())
}

/// The same of standard output.
pub fn stdout_columns() -> Option<usize> {
    columns(io::stdout().as_fd())
}

fn columns(out: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one `winsize`, which lives until the call returns.
    let outcome = unsafe { libc::ioctl(out.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (outcome == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// A line to standard error, for whoever still reads it.
pub fn write_stderr_line(line: &str) {
    write_stderr(format!("{}\n", printable(line)).as_bytes(), PATIENCE);
}

/// Text that others may have had a hand in, a server's answer say, so that it cannot steer a terminal.
pub fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// How much of what was written got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    All,
    /// It ends in the middle: nobody read on.
    Part,
    Nothing,
}

/// Bytes to standard error, for as long as somebody reads within this time. One that is gone takes all.
pub fn write_stderr(bytes: &[u8], patience: Duration) -> Taken {
    write_within(&mut io::stderr().lock(), bytes, patience)
}

fn write_within(out: &mut (impl Write + AsFd), bytes: &[u8], patience: Duration) -> Taken {
    let deadline = Instant::now() + patience;
    for (at, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        if !wait_within(out.as_fd(), deadline) {
            return if at == 0 { Taken::Nothing } else { Taken::Part };
        }
        if out.write_all(piece).is_err() {
            return Taken::All;
        }
    }
    Taken::All
}

fn wait_within(out: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if pipe::wait_writable(out, left.as_nanos() as u64) {
            return true;
        }
        // A signal ends a wait early.
        if left.is_zero() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_would_steer_a_terminal_is_replaced() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}1A\r\n\u{e4}"), "a\u{fffd}[2J\u{fffd}1A\u{fffd}\n\u{e4}");
    }

    #[test]
    fn a_stream_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        // SAFETY: integers in, integer out.
        let outcome = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_WRONLY | libc::O_NONBLOCK) };
        assert_eq!(outcome, 0);
        let sent: Vec<u8> = (0..1 << 20).map(|i: u32| if i % 100 == 99 { b'\n' } else { i as u8 | 0x20 }).collect();
        let from = sent.clone();
        let thread = std::thread::spawn(move || {
            let mut out = Lines(io::LineWriter::new(writer));
            write_waiting(&mut out, &from).map_err(|error| error.kind())
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert!(read == sent, "{} of {} bytes", read.len(), sent.len());
    }

    /// As the standard library keeps standard output.
    struct Lines(io::LineWriter<io::PipeWriter>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl AsFd for Lines {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.get_ref().as_fd()
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert_eq!(columns(writer.as_fd()), None, "it is no terminal");
        assert_eq!(write_within(&mut writer, b"first\n", Duration::ZERO), Taken::All);
        let more = vec![b'x'; 4 << 20];
        assert_eq!(write_within(&mut writer, &more, Duration::from_millis(10)), Taken::Part, "it cannot take so much");
        assert_eq!(write_within(&mut writer, b"last\n", Duration::ZERO), Taken::Nothing);
        let mut bytes = vec![0; 1 << 20];
        let read = reader.read(&mut bytes).unwrap();
        assert!(bytes[..read].starts_with(b"first\n"));
        assert_eq!(write_within(&mut writer, b"again\n", Duration::ZERO), Taken::All, "it is read again");
        drop(reader);
        assert_eq!(write_within(&mut writer, &more, Duration::from_secs(60)), Taken::All, "who is gone misses nothing");
    }
}
