//! `--slo p99<5ms,errors==0,rate>=7.5GB/s`; for `engine compare` of ratios: `--slo rate>=0.95,p99<=1.1`.

use crate::base::{program, units};
use crate::plan::{Comparison, OrderedQuantile, RatioMetric, RatioSlo, Slo, SloMetric};

const EXAMPLE: &str = "an SLO looks like p99<5ms,errors==0,rate>=7.5GB/s";
const RATIO_EXAMPLE: &str = "an SLO on ratios looks like rate>=0.95,p99<=1.1";
/// Thresholds that `compare` takes.
pub const RATIOS: &str = "rate>=0.95,p99<=1.1";

/// All thresholds of one expression.
pub fn parse(text: &str) -> Result<Vec<Slo>, String> {
    text.split(',').map(|part| parse_one(part.trim())).collect()
}

/// What one threshold is on; `None`: nothing that is known.
pub fn metric(text: &str) -> Option<SloMetric> {
    let (name, _) = text.split_at(text.find(['<', '>', '='])?);
    parse_metric(name.trim())
}

/// All thresholds of one expression on ratios.
pub fn parse_ratios(text: &str) -> Result<Vec<RatioSlo>, String> {
    text.split(',').map(|part| parse_ratio(part.trim())).collect()
}

/// As one of `count` processes is held to it: it makes its part of the fleet's rate, and no more.
pub fn part_of(slo: &Slo, count: u32) -> Slo {
    let parts = match slo.metric {
        SloMetric::Rate | SloMetric::RecordsPerSecond => f64::from(count.max(1)),
        SloMetric::ResponseQuantile(_) | SloMetric::Errors | SloMetric::NotSent => 1.0,
    };
    Slo { threshold: slo.threshold / parts, ..slo.clone() }
}

/// A threshold, taken apart.
struct Parts<'a> {
    /// Without blanks.
    expression: String,
    name: &'a str,
    comparison: Comparison,
    threshold: &'a str,
}

fn parts<'a>(text: &'a str, example: &str) -> Result<Parts<'a>, String> {
    let operators = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("==", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let at = text.find(['<', '>', '=']).ok_or_else(|| format!("'{text}' compares nothing; {example}"))?;
    let (name, rest) = text.split_at(at);
    let (operator, comparison) = operators
        .iter()
        .find(|(sign, _)| rest.starts_with(sign))
        .ok_or_else(|| format!("'{text}' has an unknown comparison (one of < <= == >= >); {example}"))?;
    let expression = text.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(Parts { expression, name: name.trim(), comparison: *comparison, threshold: rest[operator.len()..].trim() })
}

fn parse_one(text: &str) -> Result<Slo, String> {
    let Parts { expression, name, comparison, threshold } = parts(text, EXAMPLE)?;
    let metric = parse_metric(name).ok_or_else(|| {
        let known = "p50, p99, p99.9, max, rate, records_per_second, errors, not_sent";
        format!("'{name}' is no figure of a run (one of {known}); {EXAMPLE}")
    })?;
    let threshold = parse_threshold(metric, threshold)?;
    Ok(Slo { expression, metric, comparison, threshold })
}

fn parse_ratio(text: &str) -> Result<RatioSlo, String> {
    let Parts { expression, name, comparison, threshold } = parts(text, RATIO_EXAMPLE)?;
    if matches!(name, "errors" | "not_sent") {
        let instead = program::command(&format!("run --slo {name}==0"));
        return Err(format!(
            "'{expression}' is no ratio: a first run that has none leaves nothing to divide by; hold each run to it \
             instead: {instead}"
        ));
    }
    let metric = ratio_metric(name).ok_or_else(|| {
        let known = "p50, p99, p99.9, max, service_p99, service_max, rate, records_per_second, cpu";
        format!("'{name}' is no figure that is compared (one of {known}); {RATIO_EXAMPLE}")
    })?;
    let ratio = threshold.parse::<f64>().ok().filter(|ratio| ratio.is_finite() && *ratio >= 0.0);
    let threshold = ratio.ok_or_else(|| format!("'{threshold}' is no ratio; {RATIO_EXAMPLE}"))?;
    Ok(RatioSlo { expression, metric, comparison, threshold })
}

/// The names of a run's figures; those of the response have their twins of the service.
fn ratio_metric(name: &str) -> Option<RatioMetric> {
    if name == "cpu" {
        return Some(RatioMetric::Cpu);
    }
    let of_service = name.strip_prefix("service_");
    match (parse_metric(of_service.unwrap_or(name))?, of_service) {
        (SloMetric::ResponseQuantile(quantile), None) => Some(RatioMetric::ResponseQuantile(quantile)),
        (SloMetric::ResponseQuantile(quantile), Some(_)) => Some(RatioMetric::ServiceQuantile(quantile)),
        (SloMetric::Rate, None) => Some(RatioMetric::Rate),
        (SloMetric::RecordsPerSecond, None) => Some(RatioMetric::RecordsPerSecond),
        _ => None,
    }
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

    #[test]
    fn ratios_have_the_names_of_a_run_and_plain_thresholds() {
        let quantile = |at| RatioMetric::ResponseQuantile(OrderedQuantile(at));
        let of_service = |at| RatioMetric::ServiceQuantile(OrderedQuantile(at));
        for (text, metric, comparison, threshold) in [
            ("rate >= 0.95", RatioMetric::Rate, Comparison::GreaterOrEqual, 0.95),
            ("records_per_second==1", RatioMetric::RecordsPerSecond, Comparison::Equal, 1.0),
            ("p99<=1.1", quantile(990_000), Comparison::LessOrEqual, 1.1),
            ("p99.95<2", quantile(999_500), Comparison::Less, 2.0),
            ("max<2", quantile(1_000_000), Comparison::Less, 2.0),
            ("service_p999<1.5", of_service(999_000), Comparison::Less, 1.5),
            ("service_max<1.5", of_service(1_000_000), Comparison::Less, 1.5),
            ("cpu>0", RatioMetric::Cpu, Comparison::Greater, 0.0),
        ] {
            let expression = text.replace(' ', "");
            assert_eq!(parse_ratios(text), Ok(vec![RatioSlo { expression, metric, comparison, threshold }]));
        }
        assert_eq!(parse_ratios("rate>=0.95, p99<=1.1").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_ratio_is_refused_with_what_to_use_instead() {
        for text in ["", "p99", "p99<5ms", "rate>=1GB/s", "service_rate>1", "service_cpu<1", "q<1", "p99<-1", "p99<inf"]
        {
            assert!(parse_ratios(text).unwrap_err().contains("rate>=0.95"), "{text}");
        }
        for (text, instead) in [("errors<=1", "run --slo errors==0"), ("rate>=1,not_sent==1", "run --slo not_sent==0")]
        {
            let why = parse_ratios(text).unwrap_err();
            assert!(why.contains("nothing to divide by") && why.ends_with(instead), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}|p[0-9.é]{0,6}[<>=]{0,3}[0-9a-z]{0,4}") {
            let _ = (parse(&text), parse_ratios(&text));
        }
    }
}
