//! What the kernel tells over netlink only: how a network card queues what it has to send
//! (`include/uapi/linux/rtnetlink.h`). Reads need no privilege.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

/// `nlmsghdr`, which each message begins with.
const HEAD_BYTES: usize = 16;
/// `tcmsg`, behind it.
const TCMSG_BYTES: usize = 20;
const QUESTION_BYTES: usize = HEAD_BYTES + TCMSG_BYTES;
/// `rtattr`, before the value of an attribute.
const ATTRIBUTE_HEAD_BYTES: usize = 4;
/// The kernel answers in pieces of 32 KiB at most.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// The kernel has its answer ready when it was asked; what only plays the kernel may have none.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(100);
/// The parent of a card's first discipline, and of one that looks at what comes in (`ingress`, `clsact`).
const ROOT: u32 = u32::MAX;
const INCOMING: u32 = 0xffff_fff1;

/// The kinds of a card's queueing disciplines, each once, the root's first. A card that is down has none.
pub fn qdiscs(card_index: u32) -> io::Result<Vec<String>> {
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
    socket.send(&question())?;
    let mut found = Vec::new();
    let mut piece = vec![0_u8; PIECE_BYTES_MAX];
    loop {
        let bytes = (&socket).read(&mut piece)?;
        if bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if read_piece(&piece[..bytes], card_index, &mut found)? {
            return Ok(found);
        }
    }
}

/// Asks for the disciplines of all cards: older kernels do not choose.
fn question() -> [u8; QUESTION_BYTES] {
    let mut message = [0; QUESTION_BYTES];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    message[..4].copy_from_slice(&(QUESTION_BYTES as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETQDISC.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether the answer ends here.
fn read_piece(mut piece: &[u8], card_index: u32, found: &mut Vec<String>) -> io::Result<bool> {
    while let (Some(bytes), Some(kind)) = (number(piece, 0), short(piece, 4)) {
        let bytes = bytes as usize;
        let message = piece.get(..bytes).filter(|message| message.len() >= HEAD_BYTES).ok_or(ErrorKind::InvalidData)?;
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                // The number of the error, below zero.
                let error = number(message, HEAD_BYTES).ok_or(ErrorKind::InvalidData)? as i32;
                return Err(io::Error::from_raw_os_error(error.wrapping_neg()));
            }
            _ if kind == libc::RTM_NEWQDISC => note(message, card_index, found),
            _ => {}
        }
        piece = piece.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn note(message: &[u8], card_index: u32, found: &mut Vec<String>) {
    let of_card = number(message, HEAD_BYTES + 4) == Some(card_index);
    let parent = number(message, HEAD_BYTES + 12).filter(|parent| of_card && *parent != INCOMING);
    let (Some(parent), Some(kind)) = (parent, kind_of(message)) else { return };
    if !found.contains(&kind) {
        found.insert(if parent == ROOT { 0 } else { found.len() }, kind);
    }
}

/// The name among the attributes.
fn kind_of(message: &[u8]) -> Option<String> {
    let mut rest = message.get(QUESTION_BYTES..)?;
    loop {
        let bytes = usize::from(short(rest, 0)?);
        let value = rest.get(ATTRIBUTE_HEAD_BYTES..bytes)?;
        if short(rest, 2)? == libc::TCA_KIND {
            let name = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(name).into_owned());
        }
        rest = rest.get(bytes.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLSACT_HANDLE: u32 = 0xffff_0000;
    /// In each network namespace.
    const LOOPBACK_INDEX: u32 = 1;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEAD_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0_u8; 10]);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    /// As the kernel tells of one discipline; the name is not the first attribute here.
    fn qdisc(card_index: u32, handle: u32, parent: u32, kind: &str) -> Vec<u8> {
        let mut body: Vec<u8> = [0, card_index, handle, parent, 2].iter().flat_map(|word| word.to_ne_bytes()).collect();
        body.extend([5_u8, 0, 3, 0, 7, 0, 0, 0]);
        body.extend(((ATTRIBUTE_HEAD_BYTES + kind.len() + 1) as u16).to_ne_bytes());
        body.extend(libc::TCA_KIND.to_ne_bytes());
        body.extend(kind.bytes().chain([0]));
        message(libc::RTM_NEWQDISC, &body)
    }

    fn answer() -> Vec<u8> {
        let all = [
            qdisc(1, 0, ROOT, "noqueue"),
            qdisc(2, 0x8001_0000, 0x8001_0001, "fq"),
            qdisc(2, 0, 0x8001_0002, "fq"),
            qdisc(2, 0x8001_0000, ROOT, "mq"),
            qdisc(2, CLSACT_HANDLE, INCOMING, "clsact"),
            message(libc::NLMSG_DONE as u16, &[0; 4]),
        ];
        all.concat()
    }

    #[test]
    fn a_cards_own_kinds_are_read_once_each_and_the_roots_first() {
        for (card_index, kinds) in [(1, &["noqueue"][..]), (2, &["mq", "fq"][..]), (3, &[][..])] {
            let mut found = Vec::new();
            assert!(read_piece(&answer(), card_index, &mut found).unwrap(), "it is the last piece");
            assert_eq!(found, kinds, "card {card_index}");
        }
        assert!(!read_piece(&qdisc(2, 0, ROOT, "fq"), 2, &mut Vec::new()).unwrap(), "more is to come");
    }

    #[test]
    fn a_refusal_and_damage_are_errors_and_no_panic() {
        let refused = message(libc::NLMSG_ERROR as u16, &(-95_i32).to_ne_bytes());
        assert_eq!(read_piece(&refused, 2, &mut Vec::new()).unwrap_err().raw_os_error(), Some(95));
        let answer = answer();
        for end in 0..answer.len() {
            let mut found = Vec::new();
            let last = read_piece(&answer[..end], 2, &mut found);
            assert!(!last.is_ok_and(|last| last), "{end} bytes have no end");
            assert!(found.iter().all(|kind| ["mq", "fq"].contains(&kind.as_str())), "{end} bytes: {found:?}");
        }
        let endless = message(libc::RTM_NEWQDISC, &[0; 24]);
        assert!(!read_piece(&endless, 0, &mut Vec::new()).unwrap(), "an attribute of no bytes");
    }

    #[test]
    fn this_kernel_answers() {
        // As under a filter of system calls, or where there are no disciplines: whoever asks knows no kinds then.
        const REFUSALS: [i32; 5] = [libc::EAFNOSUPPORT, libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EOPNOTSUPP];
        let kinds = |card_index| match qdiscs(card_index) {
            Err(error) if error.raw_os_error().is_some_and(|errno| REFUSALS.contains(&errno)) => None,
            told => Some(told.unwrap()),
        };
        assert!(kinds(u32::MAX).is_none_or(|kinds| kinds.is_empty()), "there is no such card");
        // /sys may be that of another network namespace; this address is there while this one's loopback is up.
        let is_up = std::net::UdpSocket::bind("127.0.0.1:0").is_ok();
        assert!(!is_up || kinds(LOOPBACK_INDEX).is_none_or(|kinds| !kinds.is_empty()), "loopback has one");
    }
}
