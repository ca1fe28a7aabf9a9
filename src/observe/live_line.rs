//! What live lines are made of: parts side by side, and how many columns there are for them.

use crate::sys::streams;

/// What a terminal has that does not say.
const COLUMNS_UNTOLD: usize = 80;
/// Left free behind the live line for the `^C` that a terminal echoes there: from the margin it would go to the next
/// line, and the live line above could no longer be cleared.
const ECHO_COLUMNS: usize = 4;
/// What `format_rate_steady` takes.
pub const RATE_ROOM: usize = "999.9 MB/s".len();

/// How wide a live line may be.
pub fn live_columns() -> usize {
    streams::stderr_columns().unwrap_or(COLUMNS_UNTOLD).saturating_sub(ECHO_COLUMNS).max(1)
}

/// A part of a live line; of several, those of least use come first.
pub trait LivePart: Copy + Ord {
    /// Columns that it takes at least, whatever its digits, so that none comes and goes with those of another. A part
    /// without text takes them, too, and does not show.
    fn room(self) -> usize {
        0
    }
}

/// As many parts as there is room for: they are left out whole, the lowest first, since half a number is a wrong one.
pub fn side_by_side<P: LivePart>(mut parts: Vec<(P, String)>, columns: usize) -> String {
    const BETWEEN: &str = "  ";
    let width = |(part, text): &(P, String)| text.chars().count().max(part.room()) + BETWEEN.len();
    // The last one has nothing behind it.
    while parts.iter().map(width).sum::<usize>() > columns.saturating_add(BETWEEN.len()) {
        let Some(least) = parts.iter().map(|(part, _)| *part).min() else { break };
        parts.retain(|(part, _)| *part != least);
    }
    let shown = parts.iter().map(|(_, text)| text.as_str()).filter(|text| !text.is_empty());
    shown.collect::<Vec<_>>().join(BETWEEN)
}

/// The nearest whole second: `42s`, `4m05s`, `2h05m`.
pub(super) fn clock(ns: u64) -> String {
    let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_echoed_behind_the_live_line_stays_on_it() {
        assert!(live_columns() + "^C^C".len() <= streams::stderr_columns().unwrap_or(COLUMNS_UNTOLD));
    }

    #[test]
    fn times_read_as_people_say_them() {
        let left: Vec<_> = [3_001, 1_999, 999, 1].map(|ms| clock(ms * 1_000_000)).into();
        assert_eq!(left, ["3s", "2s", "1s", "0s"]);
        for (ns, said) in [(0, "0s"), (41_600_000_000, "42s"), (245_000_000_000, "4m05s"), (7_500_000_000_000, "2h05m")]
        {
            assert_eq!(clock(ns), said);
        }
    }
}
