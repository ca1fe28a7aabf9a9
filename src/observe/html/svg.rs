//! A chart as SVG: two scales, a grid with labels, lines. Colours are the style sheet's.

use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 82.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 46.0;

/// From values to a place between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear { from: f64, to: f64 },
    Log { from: f64, to: f64 },
}

impl Scale {
    /// From zero to a round value above `max`.
    pub fn from_zero(max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_step(max / 4.0);
        Scale::Linear { from: 0.0, to: (max / step).ceil() * step }
    }

    /// Round values around those given; `None` where there are none above zero.
    pub fn log_around(values: impl Iterator<Item = f64>) -> Option<Self> {
        let range = values.filter(|value| *value > 0.0 && value.is_finite()).fold(None, |range, value| match range {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        });
        let (low, high) = range?;
        let from = rounds_from(low * 1.000_001).next()?;
        let to = rounds_from(from).skip(1).find(|round| *round >= high * 0.999_999)?;
        Some(Scale::Log { from, to })
    }

    /// Outside values are put at the edge.
    fn at(self, value: f64) -> f64 {
        let place = match self {
            Scale::Linear { from, to } => (value - from) / (to - from),
            Scale::Log { from, to } => (value.max(from) / from).ln() / (to / from).ln(),
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Round values on it, no more than fit.
    pub fn ticks(self) -> Vec<f64> {
        match self {
            Scale::Linear { from, to } => {
                let step = round_step((to - from) / 5.0);
                let first = (from / step).ceil();
                let all = (0..=12).map(|at| (first + f64::from(at)) * step);
                all.take_while(|tick| *tick <= to + step * 1e-6).collect()
            }
            Scale::Log { from, to } => {
                let all: Vec<f64> = rounds_from(from).take_while(|round| *round <= to * 1.000_001).collect();
                let decade = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
                if all.len() <= 7 { all } else { all.into_iter().filter(decade).collect() }
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least the given.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|of| of * power).into_iter().find(|step| *step >= least * 0.999_999).unwrap_or(1.0)
}

/// 1, 2 and 5 times powers of ten, from the last at or below the given.
fn rounds_from(start: f64) -> impl Iterator<Item = f64> {
    let exponent = start.log10().floor() as i32;
    let all = (exponent..exponent + 40).flat_map(|at| [1.0, 2.0, 5.0].map(|of| of * 10f64.powi(at)));
    let skipped = [2.0, 5.0, 10.0].iter().filter(|next| **next * 10f64.powi(exponent) <= start * 1.000_001).count();
    all.skip(skipped)
}

/// A chart that is being drawn.
pub struct Chart {
    x: Scale,
    y: Scale,
    out: String,
}

impl Chart {
    /// `what` is for who cannot see it; labels and titles are ours, never from the report.
    pub fn new(what: &str, (x, x_title): (Scale, &str), (y, y_title): (Scale, &str)) -> Self {
        let mut out = String::new();
        let _ = writeln!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{what}\">");
        let bottom = HEIGHT - BOTTOM;
        let _ = writeln!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"14\">{y_title}</text>");
        let (middle, below) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 8.0);
        let _ = writeln!(out, "<text class=\"title mid\" x=\"{middle}\" y=\"{below}\">{x_title}</text>");
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{}\"/>", WIDTH - RIGHT);
        Self { x, y, out }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.at(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.at(value) * (HEIGHT - TOP - BOTTOM)
    }

    pub fn x_tick(&mut self, value: f64, label: &str) {
        let (x, bottom, below) = (self.x(value), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 17.0);
        let _ = writeln!(
            self.out,
            "<path class=\"axis\" d=\"M{x:.1} {bottom}v5\"/><text class=\"mid\" x=\"{x:.1}\" y=\"{below}\">{label}</text>"
        );
    }

    pub fn y_tick(&mut self, value: f64, label: &str) {
        let (y, right) = (self.y(value), WIDTH - RIGHT);
        let (text_x, text_y) = (LEFT - 8.0, y + 4.0);
        let _ = writeln!(
            self.out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
             <text class=\"end\" x=\"{text_x}\" y=\"{text_y:.1}\">{label}</text>"
        );
    }

    fn points(&self, line: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (at, (x, y)) in line.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, self.x(*x), self.y(*y));
        }
        path
    }

    pub fn lines(&mut self, class: &str, lines: &[Vec<(f64, f64)>]) {
        let path: String = lines.iter().map(|line| self.points(line)).collect();
        if !path.is_empty() {
            let _ = writeln!(self.out, "<path class=\"line {class}\" d=\"{path}\"/>");
        }
    }

    /// What lies below lines.
    pub fn areas(&mut self, class: &str, lines: &[Vec<(f64, f64)>]) {
        let bottom = HEIGHT - BOTTOM;
        for line in lines {
            let [(first, _), .., (last, _)] = line.as_slice() else { continue };
            let (first, last) = (self.x(*first), self.x(*last));
            let path = self.points(line);
            let _ = writeln!(
                self.out,
                "<path class=\"area {class}\" d=\"{path}L{last:.1} {bottom}L{first:.1} {bottom}Z\"/>"
            );
        }
    }

    /// A mark at the lower edge.
    pub fn mark(&mut self, class: &str, from: f64, to: f64) {
        let (x, y) = (self.x(from), HEIGHT - BOTTOM - 6.0);
        let width = (self.x(to) - x).max(2.0);
        let _ =
            writeln!(self.out, "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"6\"/>");
    }

    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_values() {
        assert_eq!(Scale::from_zero(97.0), Scale::Linear { from: 0.0, to: 100.0 });
        assert_eq!(Scale::from_zero(0.0), Scale::from_zero(1.0));
        let around = |values: &[f64]| match Scale::log_around(values.iter().copied()) {
            Some(Scale::Log { from, to }) => Some((from, to)),
            _ => None,
        };
        for (values, wanted) in
            [(&[0.003, 0.4][..], (0.002, 0.5)), (&[0.001, 0.001], (0.001, 0.002)), (&[3.0, f64::NAN, 0.0], (2.0, 5.0))]
        {
            let (from, to) = around(values).unwrap();
            assert!(
                (from / wanted.0 - 1.0).abs() < 1e-9 && (to / wanted.1 - 1.0).abs() < 1e-9,
                "{values:?}: {from} {to}"
            );
        }
        assert_eq!((around(&[]), around(&[0.0])), (None, None));
    }

    #[test]
    fn ticks_are_few_and_lie_on_the_scale() {
        for max in [0.1, 1.0, 3.7, 97.0, 1234.5, 8e9] {
            let scale = Scale::from_zero(max);
            let ticks = scale.ticks();
            assert!((3..=9).contains(&ticks.len()), "{max}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&scale.at(*tick))));
        }
        for (low, high) in [(1e-6, 1.5e-6), (1e-6, 1e-3), (1e-9, 3000.0)] {
            let ticks = Scale::log_around([low, high].into_iter()).unwrap().ticks();
            assert!((2..=14).contains(&ticks.len()), "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let mut chart =
            Chart::new("test", (Scale::Linear { from: 0.0, to: 0.0 }, "x"), (Scale::Log { from: 1.0, to: 10.0 }, "y"));
        chart.lines("a", &[vec![(-5.0, 0.0), (5.0, 1e9), (f64::NAN, f64::INFINITY)]]);
        let svg = chart.finish();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
