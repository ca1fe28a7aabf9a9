//! `--fault status=503:1%,reset:0.1%,delay=50ms:1%,retry_after=1s`.

use crate::base::units;
use crate::plan::receive::{FAULT_GROUPS, FaultItem, FaultKind, FaultPlan, PPB, Protocol};
use crate::wire::kafka::errors::broker_error;

/// Digits of a percentage after its point, so that a share is whole in parts of a thousand million.
const PERCENT_DIGITS_MAX: usize = 7;

/// What the protocol could be asked for.
pub fn example(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "--fault=reset:0.1%,delay=50ms:1%",
        Protocol::Http => "--fault=status=503:1%,delay=50ms:1%",
        Protocol::Kafka => "--fault=error=6:1%,lose_answer:1%",
    }
}

/// Reads the whole list; the seed is left at 0.
pub fn parse(text: &str, protocol: Protocol) -> Result<FaultPlan, String> {
    let mut plan = FaultPlan::default();
    for part in text.split(',').map(str::trim) {
        if part.is_empty() {
            return Err("a fault is empty; each has a name and a share, such as reset:1%".to_owned());
        }
        if let Some(duration) = part.strip_prefix("retry_after=") {
            plan.retry_after_seconds = Some(units::parse_duration_ns(duration)?.div_ceil(1_000_000_000));
            continue;
        }
        let (what, share) = part.split_once(':').ok_or_else(|| format!("'{part}' has no share, such as {part}:1%"))?;
        let kind = kind(what)?;
        fits(kind, protocol).map_err(|why| format!("'{what}' is {why}"))?;
        if plan.items.iter().any(|item| item.kind == kind) {
            return Err(format!("'{what}' is there twice"));
        }
        plan.items.push(FaultItem { kind, share_ppb: share_ppb(share)? });
    }
    for group in 0..FAULT_GROUPS {
        let sum: u64 = plan.items.iter().filter(|item| item.kind.group() == group).map(|item| item.share_ppb).sum();
        if sum > PPB {
            return Err("shares of faults that exclude each other are more than 100% together".to_owned());
        }
    }
    let busy = |item: &FaultItem| matches!(item.kind, FaultKind::Status(429 | 503));
    if plan.retry_after_seconds.is_some() && !plan.items.iter().any(busy) {
        return Err("retry_after needs status=429 or status=503".to_owned());
    }
    Ok(plan)
}

/// Whether the protocol has that fault.
fn fits(kind: FaultKind, protocol: Protocol) -> Result<(), &'static str> {
    let common = matches!(kind, FaultKind::Reset | FaultKind::Delay { .. });
    let kafka = matches!(kind, FaultKind::Error(_) | FaultKind::LoseAnswer);
    match protocol {
        _ if common => Ok(()),
        Protocol::Tcp => Err("not for tcp://, which has reset and delay"),
        Protocol::Http if kafka => {
            Err("for kafka://; http:// has status, reset, abort, truncate, close, delay and slow")
        }
        Protocol::Kafka if !kafka => Err("for http://; kafka:// has error, lose_answer, reset and delay"),
        Protocol::Http | Protocol::Kafka => Ok(()),
    }
}

fn kind(text: &str) -> Result<FaultKind, String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let duration = || match value.map(units::parse_duration_ns) {
        Some(Ok(0)) => Err(format!("'{text}' is no time at all")),
        Some(parsed) => parsed,
        None => Err(format!("'{name}' needs a time: {name}=50ms")),
    };
    match (name, value) {
        ("status", Some(value)) => {
            let status = value.parse().ok().filter(|status| (400..=599).contains(status) && value.len() == 3);
            status.map(FaultKind::Status).ok_or_else(|| format!("'{value}' is no status from 400 to 599"))
        }
        ("status", None) => Err("status needs a number: status=503".to_owned()),
        ("error", Some(value)) => {
            let known = |code: &i16| *code != 0 && broker_error(*code).name != "UNKNOWN";
            let code = value.parse().ok().filter(known);
            code.map(FaultKind::Error)
                .ok_or_else(|| format!("'{value}' is no error code of Kafka's, such as 6, 7 or 19"))
        }
        ("error", None) => Err("error needs a code of Kafka's: error=6".to_owned()),
        ("lose_answer", None) => Ok(FaultKind::LoseAnswer),
        ("reset", None) => Ok(FaultKind::Reset),
        ("abort", None) => Ok(FaultKind::Abort),
        ("truncate", None) => Ok(FaultKind::Truncate),
        ("close", None) => Ok(FaultKind::Close),
        ("delay", _) => Ok(FaultKind::Delay { ns: duration()? }),
        ("slow", _) => Ok(FaultKind::Slow { ns: duration()? }),
        _ => {
            let all = "status=N, error=N, reset, abort, truncate, close, lose_answer, delay=D, slow=D, retry_after=D";
            Err(format!("'{text}' is none of {all}"))
        }
    }
}

fn share_ppb(text: &str) -> Result<u64, String> {
    let refused = || format!("'{text}' is no share from 0% to 100%, such as 1% or 0.1%");
    let number = text.trim().strip_suffix('%').ok_or_else(refused)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || fraction.len() > PERCENT_DIGITS_MAX || !digits(whole) || !digits(fraction)
    {
        return Err(refused());
    }
    let value: u64 = format!("{whole}{fraction:0<PERCENT_DIGITS_MAX$}").parse().map_err(|_| refused())?;
    if value > PPB { Err(refused()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_whole() {
        let plan = parse(
            "status=503:1%,status=429:0.5%,reset:0.1%,delay=50ms:1%, slow=1ms:100%,truncate:0.0000001%,abort:0%,close:2%,retry_after=1500ms",
            Protocol::Http,
        )
        .unwrap();
        let shares: Vec<_> = plan.items.iter().map(|item| item.share_ppb).collect();
        assert_eq!(shares, [10_000_000, 5_000_000, 1_000_000, 10_000_000, PPB, 1, 0, 20_000_000]);
        assert_eq!(plan.items[3].kind, FaultKind::Delay { ns: 50_000_000 });
        assert_eq!(plan.retry_after_seconds, Some(2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("", "a fault is empty; each has a name and a share, such as reset:1%"),
            ("reset:1%,", "is empty"),
            ("reset", "'reset' has no share"),
            ("reset", "reset:1%"),
            ("reset:1", "'1' is no share"),
            ("reset:101%", "100%"),
            ("reset:1.00000000%", "share"),
            ("reset:-1%", "share"),
            ("status=200:1%", "400 to 599"),
            ("status:1%", "status=503"),
            ("delay:1%", "delay=50ms"),
            ("delay=0s:1%", "no time"),
            ("delay=50:1%", "unit"),
            ("explode:1%", "'explode' is none of"),
            ("reset:60%,status=500:60%", "100% together"),
            ("reset:60%,close:60%", "100% together"),
            ("close=1s:1%", "'close=1s' is none of"),
            ("reset:1%,reset:2%", "twice"),
            ("reset:1%,retry_after=1s", "429"),
        ] {
            let why = parse(text, Protocol::Http).unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
        assert!(parse("truncate:1%", Protocol::Tcp).unwrap_err().contains("tcp"));
        assert!(parse("close:1%", Protocol::Kafka).unwrap_err().contains("for http://"));
        assert!(parse("reset:60%,delay=1s:60%", Protocol::Tcp).is_ok());
        assert!(parse("error=6:1%", Protocol::Http).unwrap_err().contains("kafka://"));
        assert!(parse("slow=1s:1%", Protocol::Kafka).unwrap_err().contains("lose_answer"));
        for text in ["error=0:1%", "error=999:1%", "error:1%", "error=x:1%"] {
            assert!(parse(text, Protocol::Kafka).unwrap_err().contains("code of Kafka's"), "{text}");
        }
        let plan = parse("error=6:1%,error=-1:1%,lose_answer:2%,reset:1%,delay=1ms:1%", Protocol::Kafka).unwrap();
        assert_eq!((plan.items[0].kind, plan.items[2].kind), (FaultKind::Error(6), FaultKind::LoseAnswer));
    }

    #[test]
    fn examples_are_what_the_protocol_has() {
        for protocol in [Protocol::Tcp, Protocol::Http, Protocol::Kafka] {
            let text = example(protocol).strip_prefix("--fault=").unwrap();
            assert_eq!(parse(text, protocol).unwrap().items.len(), 2, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z]{0,8}(=[0-9a-z]{0,5})?(:[0-9.]{0,9}%?)?,?){0,4}|\\PC{0,30}") {
            let _ = parse(&text, Protocol::Http);
        }
    }
}
