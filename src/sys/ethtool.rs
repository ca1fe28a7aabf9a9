//! The driver of a network card, asked by the SIOCETHTOOL ioctl (`include/uapi/linux/ethtool.h`). Reads need no
//! privilege.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const SIOCETHTOOL: u32 = 0x8946;
/// Larger than any structure that is asked for; the largest, `ethtool_coalesce`, has 23 numbers.
const ANSWER_NUMBERS: usize = 32;

/// (command, [(place in the answer, name)])
type Question = (u32, &'static [(usize, &'static str)]);

const QUESTIONS: &[Question] = &[
    // GRINGPARAM
    (0x10, &[(1, "ring.rx_max"), (4, "ring.tx_max"), (5, "ring.rx"), (8, "ring.tx")]),
    // GCOALESCE
    (
        0x0e,
        &[
            (1, "coalesce.rx_usecs"),
            (5, "coalesce.tx_usecs"),
            (10, "coalesce.adaptive_rx"),
            (11, "coalesce.adaptive_tx"),
        ],
    ),
    // GCHANNELS
    (0x3c, &[(2, "channels.tx_max"), (4, "channels.combined_max"), (6, "channels.tx"), (8, "channels.combined")]),
    // GTSO, GGSO, GSG, GTXCSUM, GGRO
    (0x1e, &[(1, "offload.tso")]),
    (0x23, &[(1, "offload.gso")]),
    (0x18, &[(1, "offload.sg")]),
    (0x16, &[(1, "offload.tx_checksum")]),
    (0x2b, &[(1, "offload.gro")]),
];

/// Every number that the driver tells, by name.
pub fn facts(nic: &str) -> Vec<(&'static str, u64)> {
    // Any socket carries the question.
    let Ok(socket) = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) else { return Vec::new() };
    let mut found = Vec::new();
    for (command, names) in QUESTIONS {
        let Some(answer) = ask(&socket, nic, *command) else { continue };
        found.extend(names.iter().map(|(at, name)| (*name, u64::from(answer[*at]))));
    }
    found
}

fn ask(socket: &UdpSocket, nic: &str, command: u32) -> Option<[u32; ANSWER_NUMBERS]> {
    let mut answer = [0; ANSWER_NUMBERS];
    answer[0] = command;
    // SAFETY: all zeros is a valid `ifreq`: an empty name and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte of the name stays zero.
    if nic.is_empty() || nic.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(nic.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = answer.as_mut_ptr().cast();
    // SAFETY: the kernel reads the request and writes the structure that belongs to the command, none of them longer
    // than `answer`, which like `request` lives until the call returns.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    (outcome == 0).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_offloads_and_a_missing_card_has_nothing() {
        let found = facts("lo");
        assert!(found.contains(&("offload.tso", 1)), "{found:?}");
        assert!(facts("no-such-card").is_empty() && facts("").is_empty() && facts(&"x".repeat(99)).is_empty());
    }
}
