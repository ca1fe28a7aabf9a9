//! What ran, and how it went, in words.

use super::text::{self, Text};
use crate::base::fatal::Exit;
use crate::base::program::quoted;
use crate::observe::report::{Confirmation, LimitedBy, Report};
use crate::observe::summary::ended_by_signal;
use std::fmt::Write;

/// Targets that are named one by one.
const TARGETS_NAMED_MAX: usize = 4;

pub fn head(report: &Report) -> String {
    let mut out = String::from("<header>\n");
    let _ = writeln!(out, "<p class=\"kicker\">engine {}</p>", Text(&report.engine_version));
    let _ = writeln!(out, "<h1>Run {}</h1>", Text(&report.run_id));
    let command: Vec<_> = report.command.iter().map(|word| quoted(word)).collect();
    let _ = writeln!(out, "<pre class=\"command\"><code>{}</code></pre>", Text(&command.join(" ")));
    let _ = writeln!(out, "<p class=\"facts\">{}</p>", facts(report));
    out.push_str("<div class=\"verdict\">\n");
    let (tone, words) = exit(report.exit_code);
    let _ = writeln!(out, "<p><span class=\"chip {tone}\">{words}</span></p>");
    if let Some(why) = &report.ended_early {
        let (why, mend) = why.split_once('\n').unwrap_or((why, ""));
        let _ = writeln!(out, "<p><span class=\"chip bad\">Ended early: {}</span></p>", Text(why));
        if !mend.is_empty() {
            let _ = writeln!(out, "<p class=\"note\">{}</p>", Text(mend.trim()));
        }
    }
    if let Some(how) = ended_by_signal(report) {
        let _ = writeln!(out, "<p class=\"note\">Ended {}</p>", Text(&how));
    }
    let _ = writeln!(out, "<p class=\"limit\">Limited by {}</p>", limit(report.verdict.limited_by));
    let sentences = report.verdict.evidence.iter().chain(&report.verdict.notes);
    let sentences = sentences.map(|sentence| format!("<li>{}</li>", Text(sentence)));
    let _ = writeln!(out, "<ul>{}</ul>", sentences.collect::<String>());
    out.push_str("</div>\n</header>\n");
    out
}

fn facts(report: &Report) -> String {
    let targets = report.targets();
    let named: Vec<_> = targets.iter().take(TARGETS_NAMED_MAX).copied().collect();
    let more = targets.len().saturating_sub(TARGETS_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let elapsed = text::duration(report.elapsed_seconds);
    let confirmed = match report.confirmation {
        Confirmation::Target => "confirmed by the target",
        Confirmation::Kernel => "confirmed by the kernel only",
    };
    format!(
        "To <b>{}</b>{more} · started {} · measured for {elapsed} · {confirmed}",
        Text(&named.join(", ")),
        Text(&report.started_at)
    )
}

/// Tone and words of an exit code.
fn exit(code: u8) -> (&'static str, String) {
    let known = (Exit::from_code(code) as u8 == code).then_some(Exit::from_code(code));
    let (tone, words) = match known {
        Some(Exit::Done) => ("good", "done"),
        Some(Exit::Failed) => ("bad", "records failed or are uncertain, a limit ended the run, or shards are missing"),
        Some(Exit::SloMissed) => ("warn", "a threshold was missed"),
        Some(Exit::Usage) => ("bad", "wrong flags or configuration"),
        Some(Exit::Host) => ("bad", "the host could not run the plan"),
        Some(Exit::Unreachable) => ("bad", "the target could not be reached"),
        None => ("bad", "no exit code of this version"),
    };
    (tone, format!("Exit {code}: {words}"))
}

fn limit(by: LimitedBy) -> &'static str {
    match by {
        LimitedBy::Rate => "the rate that was asked for",
        LimitedBy::Target => "the target",
        LimitedBy::Generator => "the generator",
        LimitedBy::Host => "the host",
    }
}
