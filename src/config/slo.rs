//! `--slo p99<5ms,errors==0,rate>=7.5GB/s`.

use crate::base::units;
use crate::plan::{Comparison, OrderedQuantile, Slo, SloMetric};

const EXAMPLE: &str = "an SLO looks like p99<5ms,errors==0,rate>=7.5GB/s";

/// All thresholds of one expression.
pub fn parse(text: &str) -> Result<Vec<Slo>, String> {
    text.split(',').map(|part| parse_one(part.trim())).collect()
}

/// As one of `count` processes is held to it: it makes its part of the fleet's rate, and no more.
pub fn part_of(slo: &Slo, count: u32) -> Slo {
    let parts = match slo.metric {
        SloMetric::Rate | SloMetric::RecordsPerSecond => f64::from(count.max(1)),
        SloMetric::ResponseQuantile(_) | SloMetric::Errors | SloMetric::NotSent => 1.0,
    };
    Slo { threshold: slo.threshold / parts, ..slo.clone() }
}

fn parse_one(text: &str) -> Result<Slo, String> {
    let operators = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("==", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let at = text.find(['<', '>', '=']).ok_or_else(|| format!("'{text}' compares nothing; {EXAMPLE}"))?;
    let (name, rest) = text.split_at(at);
    let (operator, comparison) = operators
        .iter()
        .find(|(sign, _)| rest.starts_with(sign))
        .ok_or_else(|| format!("'{text}' has an unknown comparison (one of < <= == >= >); {EXAMPLE}"))?;
    let metric = parse_metric(name.trim()).ok_or_else(|| {
        let known = "p50, p99, p99.9, max, rate, records_per_second, errors, not_sent";
        format!("'{}' is no figure of a run (one of {known}); {EXAMPLE}", name.trim())
    })?;
    let threshold = parse_threshold(metric, rest[operator.len()..].trim())?;
    let expression = text.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(Slo { expression, metric, comparison: *comparison, threshold })
}

fn parse_metric(name: &str) -> Option<SloMetric> {
    match name {
        "max" => Some(SloMetric::ResponseQuantile(OrderedQuantile(1_000_000))),
        "rate" => Some(SloMetric::Rate),
        "records_per_second" => Some(SloMetric::RecordsPerSecond),
        "errors" => Some(SloMetric::Errors),
        "not_sent" => Some(SloMetric::NotSent),
        _ => Some(SloMetric::ResponseQuantile(parse_quantile(name.strip_prefix('p')?)?)),
    }
}

/// `50`, `99.9`; without a point, digits after the second are decimals as in the report's `p999`.
fn parse_quantile(text: &str) -> Option<OrderedQuantile> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None if text.is_ascii() && (text.len() <= 2 || text.starts_with("99")) => text.split_at(text.len().min(2)),
        None => return None,
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 2 || fraction.len() > 4 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let parts_per_million: u32 = format!("{whole}{fraction:0<4}").parse().ok()?;
    (parts_per_million > 0).then_some(OrderedQuantile(parts_per_million))
}

fn parse_threshold(metric: SloMetric, text: &str) -> Result<f64, String> {
    let told = |why| format!("{why} (in --slo)");
    match metric {
        SloMetric::ResponseQuantile(_) => Ok(units::parse_duration_ns(text).map_err(told)? as f64 / 1e9),
        SloMetric::Rate => Ok(units::parse_rate(text).map_err(told)? as f64),
        SloMetric::RecordsPerSecond | SloMetric::Errors | SloMetric::NotSent => {
            let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
            number.ok_or_else(|| format!("'{text}' is no count; {EXAMPLE}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_contract_s_example() {
        let slo = parse("p99<5ms, errors == 0,rate>=7.5GB/s,p99.9<=1s,p999<1s,max<2s,records_per_second>1e6").unwrap();
        let quantile = |at: usize| match slo[at].metric {
            SloMetric::ResponseQuantile(OrderedQuantile(ppm)) => ppm,
            _ => 0,
        };
        assert_eq!((quantile(0), slo[0].threshold, slo[0].comparison), (990_000, 0.005, Comparison::Less));
        assert_eq!((slo[1].metric, slo[1].threshold), (SloMetric::Errors, 0.0));
        assert_eq!(slo[1].expression, "errors==0");
        assert_eq!((slo[2].metric, slo[2].threshold), (SloMetric::Rate, 7.5e9));
        assert_eq!((quantile(3), quantile(4), quantile(5)), (999_000, 999_000, 1_000_000));
    }

    #[test]
    fn a_part_of_the_fleet_is_held_to_its_part_of_the_rate() {
        let all = parse("rate>=8GB/s,records_per_second>1e6,errors<=4,not_sent<8,p99<5ms").unwrap();
        let of_four: Vec<_> = all.iter().map(|slo| part_of(slo, 4)).collect();
        let thresholds: Vec<_> = of_four.iter().map(|slo| slo.threshold).collect();
        assert_eq!(thresholds, [2e9, 250_000.0, 4.0, 8.0, 0.005]);
        assert_eq!(of_four[0].expression, "rate>=8GB/s");
        assert_eq!(part_of(&all[0], 1), all[0]);
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in
            ["", "p99", "p99<5", "p100<1s", "p0<1s", "q<1", "rate>fast", "errors=0", "p99!=1s", "errors<-1", "p9é<1s"]
        {
            assert!(
                parse(text).unwrap_err().contains("5ms") || parse(text).unwrap_err().contains("(in --slo)"),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}|p[0-9.é]{0,6}[<>=]{0,3}[0-9a-z]{0,4}") {
            let _ = parse(&text);
        }
    }
}
