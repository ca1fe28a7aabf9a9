//! Values over time, and fewer of them where there are more than a chart has columns.

use crate::observe::report::Interval;

/// Columns of a chart; more seconds than these share one.
pub const COLUMNS_MAX: usize = 400;

/// A stretch of time with the least and the greatest value in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    pub start: f64,
    pub end: f64,
    /// `None`: no second of it has a value.
    pub range: Option<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub low: f64,
    pub high: f64,
    /// Which of the two came first.
    pub rising: bool,
}

/// Seconds that share a column.
pub fn seconds_per_column(intervals: &[Interval]) -> usize {
    intervals.len().div_ceil(COLUMNS_MAX).max(1)
}

/// What `of` says of the intervals: nothing is averaged, extremes stay.
pub fn columns(intervals: &[Interval], of: impl Fn(&Interval) -> Option<f64>) -> Vec<Column> {
    let column = |part: &[Interval]| {
        let mut range: Option<Range> = None;
        for value in part.iter().filter_map(&of).filter(|value| value.is_finite()) {
            range = Some(match range {
                None => Range { low: value, high: value, rising: true },
                Some(Range { low, high, .. }) if value > high => Range { low, high: value, rising: true },
                Some(Range { low, high, .. }) if value < low => Range { low: value, high, rising: false },
                Some(same) => same,
            });
        }
        let (first, last) = (&part[0], &part[part.len() - 1]);
        Column { start: first.start_seconds, end: last.start_seconds + last.seconds, range }
    };
    intervals.chunks(seconds_per_column(intervals)).map(column).collect()
}

/// The lines through columns, broken where there is no value: steps where each column is one second, else from one
/// extreme to the other.
pub fn lines(columns: &[Column], steps: bool) -> Vec<Vec<(f64, f64)>> {
    let mut lines = vec![Vec::new()];
    for column in columns {
        let Some(Range { low, high, rising }) = column.range else {
            lines.push(Vec::new());
            continue;
        };
        let line = lines.last_mut().expect("there is always a last line");
        let quarter = (column.end - column.start) / 4.0;
        let (first, last) = if rising { (low, high) } else { (high, low) };
        if steps {
            line.extend([(column.start, first), (column.end, last)]);
        } else {
            line.extend([(column.start + quarter, first), (column.end - quarter, last)]);
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(count: usize) -> Vec<Interval> {
        let at = |second| Interval { start_seconds: second as f64, seconds: 1.0, ..Interval::default() };
        (0..count).map(at).collect()
    }

    #[test]
    fn few_seconds_are_steps_as_they_are() {
        let all = columns(&intervals(3), |interval| Some(interval.start_seconds).filter(|value| *value != 1.0));
        assert_eq!(all.len(), 3);
        assert_eq!(lines(&all, true), [vec![(0.0, 0.0), (1.0, 0.0)], vec![(2.0, 2.0), (3.0, 2.0)]]);
        assert!(columns(&[], |_| Some(1.0)).is_empty() && lines(&[], true).is_empty());
    }

    #[test]
    fn many_seconds_keep_their_extremes() {
        let intervals = intervals(10_000);
        // One second each in which something happened.
        let of = |interval: &Interval| match interval.start_seconds as u64 {
            1234 => Some(99.0),
            5678 => Some(0.5),
            second => Some(10.0 + (second % 7) as f64),
        };
        let all = columns(&intervals, of);
        assert!(all.len() <= COLUMNS_MAX && all.len() > COLUMNS_MAX / 2, "{}", all.len());
        assert_eq!((all[0].start, all[all.len() - 1].end), (0.0, 10_000.0));
        assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start), "no second is left out");
        let with = |value: f64| {
            let found = |range: Range| range.low == value || range.high == value;
            all.iter().filter(|column| column.range.is_some_and(found)).count()
        };
        assert_eq!((with(99.0), with(0.5)), (1, 1));
        let column = all.iter().find(|column| column.range.unwrap().low == 0.5).unwrap();
        assert!((column.start..column.end).contains(&5678.0), "it stays where it was: {column:?}");
        let drawn = lines(&all, false);
        assert_eq!((drawn.len(), drawn[0].len()), (1, 2 * all.len()));
    }

    #[test]
    fn the_order_of_extremes_stays() {
        let mut many = intervals(COLUMNS_MAX * 2);
        many[0].records_produced = 5;
        many[3].records_produced = 5;
        let all = columns(&many, |interval| Some(interval.records_produced as f64));
        assert_eq!(all[0].range, Some(Range { low: 0.0, high: 5.0, rising: false }));
        assert_eq!(all[1].range, Some(Range { low: 0.0, high: 5.0, rising: true }));
    }
}
