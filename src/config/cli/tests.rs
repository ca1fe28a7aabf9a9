use super::*;
use crate::base::fatal::Exit;
use crate::plan::{RunPlan, SinkKind};
use proptest::prelude::*;

fn deps() -> Deps {
    Deps::new(|| Ok(()))
}

fn try_parse(args: &[&str], env: &[(&str, &str)]) -> Result<Command, Vec<Fatal>> {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(args.iter().map(OsString::from), env, &deps())
}

fn plan(args: &[&str]) -> Box<RunPlan> {
    match try_parse(args, &[]) {
        Ok(Command::Run(plan) | Command::DryRun(plan)) => plan,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn errors(args: &[&str]) -> Vec<String> {
    let errors = try_parse(args, &[]).expect_err("these arguments are wrong");
    assert!(errors.iter().all(|error| error.exit == Exit::Usage), "{errors:?}");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn both_spellings_and_the_left_out_command() {
    for args in [
        &["--target=null", "--seed=7"][..],
        &["--target", "null", "--seed", "7"],
        &["run", "--sink", "null", "--seed=7"],
    ] {
        let plan = plan(args);
        assert_eq!((plan.sink.kind, plan.payload.seed), (SinkKind::Null, 7), "{args:?}");
        assert_eq!(plan.command.len(), args.len() + 1);
    }
    assert_eq!(plan(&["--target=null", "--bs", "1Mi", "--iodepth=4"]).sink.queue_depth, 4);
}

#[test]
fn only_run_and_saturate_read_variables() {
    let env = [("ENGINE_PAYLOAD_SIZE", "512"), ("ENGINE_NO_SUCH", "1")];
    match try_parse(&["plan", "--target", "kafka", "--rate", "1GB/s"], &env) {
        Ok(Command::Plan(args)) => assert_eq!(args.demand.record_bytes, 4096),
        other => panic!("{other:?}"),
    }
    for command in [&["doctor"][..], &["receive", "--listen", "tcp://:0"], &["verify", "-"]] {
        assert!(try_parse(command, &env).is_ok(), "{command:?}");
    }
    for command in ["run", "saturate"] {
        let refused = try_parse(&[command, "--target", "null"], &env).unwrap_err();
        assert!(refused.iter().any(|error| error.what.contains("ENGINE_NO_SUCH")), "{refused:?}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let all =
        errors(&["--target=null", "--rote=5", "--rate", "-5", "--duration=10", "--seed=1", "--seed=2", "--bogus", "x"]);
    for words in [
        &["--rote", "--rate?"][..],
        &["--rate", "-5", "7.5GB/s"],
        &["--duration", "'10' has no unit"],
        &["--seed", "twice"],
        &["--bogus"],
    ] {
        let found = all.iter().any(|error| words.iter().all(|word| error.contains(word)));
        assert!(found, "{words:?} in {all:#?}");
    }
    assert_eq!(all.len(), 5, "{all:#?}");
}

#[test]
fn a_flag_without_value_and_a_stray_word() {
    assert!(errors(&["--target=null", "--rate"])[0].contains("--rate has no value"));
    assert!(errors(&["--rate", "--target=null"])[0].contains("--rate has no value"));
    assert!(errors(&["--target=null", "stray"])[0].contains("stray"));
    // As a shell takes it.
    assert!(errors(&["--target=null", "--slo=fast"])[0].contains("mend: --slo='p99<"));
    let header = errors(&["--target=http://localhost/", "--http-header=X"]);
    assert!(header[0].contains("mend: --http-header='X-"), "{header:?}");
    assert!(errors(&["saturation"])[0].contains("saturation"));
    assert!(errors(&["--target=kafka://localhost:9092"])[0].contains("topic"));
}

#[test]
fn no_plan_shows_what_may_be_a_credential() {
    let flags = ["--target=http://localhost/?key=s3cret", "--http-header=X-A: s3cret", "--http-header", "X-B:s3cret"];
    let shown = plan(&[&flags[..], &["--metrics-addr=:0"]].concat());
    let json = crate::config::plan_to_json(&shown);
    for text in [json.to_string(), format!("{:?}", shown.producers)] {
        assert!(text.contains("X-B") || text.contains("localhost"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert_eq!(shown.command[1], "--target=http://localhost/");
    assert_eq!(shown.command[2..], ["--http-header=X-A:***", "--http-header", "X-B:***", "--metrics-addr=:0"]);
    assert_eq!(shown.sink.targets, ["http://localhost:80/"]);
}

#[test]
fn the_other_commands() {
    assert!(matches!(try_parse(&["--version"], &[]), Ok(Command::Version)));
    assert!(matches!(try_parse(&["--help"], &[]), Ok(Command::Help(text)) if text.contains("--payload-size")));
    assert!(matches!(try_parse(&["verify", "-h"], &[]), Ok(Command::Help(text)) if text.contains("--expect")));
    assert!(matches!(try_parse(&["schema", "config"], &[]), Ok(Command::Schema(SchemaKind::Config))));
    assert!(errors(&["schema"])[0].contains("schema"));
    let args =
        ["verify", "a", "-", "--json", "--expect", "r1.json", "--expect=r2.json", "--threads", "3", "--ids", "-"];
    let Ok(Command::Verify(found)) = try_parse(&args, &[]) else { panic!("{args:?}") };
    assert_eq!((found.sources.len(), found.expect.len(), found.threads, found.json), (2, 2, 3, true));
    assert_eq!(found.ids.as_deref(), Some("-"));
    assert!(errors(&["verify"])[0].contains("nothing to read"));
    assert_eq!(errors(&["verify", "x", "--threads=a", "--sign-key=/no/such"]).len(), 2);
    // A key made now has signed nothing that could be verified.
    assert!(!errors(&["verify", "x", "--sign-key=/no/such"])[0].contains("urandom"));
    let key = concat!("--sign-key=", env!("CARGO_MANIFEST_DIR"), "/README.md");
    let of_ids = errors(&["verify", "--ids=list.csv", key]);
    assert!(of_ids.len() == 1 && of_ids[0].contains("--sign-key has no effect on a list of ids"), "{of_ids:?}");
}

#[test]
fn doubles_of_every_command_are_called_so() {
    for (args, said) in [
        (&["merge", "--report", "a", "--report=b", "x.json"][..], "--report is given twice"),
        (&["verify", "--json", "--json", "x.json"], "--json is given twice"),
        (&["verify", "--threads=1", "--threads", "2", "--threads=3", "x.json"], "--threads is given twice"),
        (&["receive", "--listen", "tcp://:1", "--listen", "tcp://:2"], "--listen is given twice"),
        (&["compare", "--json=on", "a.json", "b.json"], "--json takes no value"),
        (&["saturate", "--target=null", "--max-rate=1GB/s", "--max-rate", "2GB/s"], "--max-rate is given twice"),
        (&["saturate", "--target=null", "--max-rte", "1GB/s"], "'--max-rte' (did you mean --max-rate?)"),
        (&["saturate", "--target=null", "--sed=1"], "'--sed' (did you mean --seed?)"),
    ] {
        let all = errors(args);
        assert!(all.len() == 1 && all[0].contains(said), "{args:?}: {all:?}");
    }
}

#[test]
fn switches_take_a_value_or_none() {
    assert!(matches!(try_parse(&["--target=null", "--dry-run"], &[]), Ok(Command::DryRun(_))));
    assert!(matches!(try_parse(&["--target=null", "--dry-run=off"], &[]), Ok(Command::Run(_))));
    let from_env = try_parse(&[], &[("ENGINE_TARGET", "null"), ("ENGINE_DRY_RUN", "1"), ("HOME", "/")]);
    assert!(matches!(from_env, Ok(Command::DryRun(_))), "{from_env:?}");
    let wrong = try_parse(&["--target=null"], &[("ENGINE_SEEDS", "1"), ("ENGINE_RATE", "1Mb/s")]).unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

proptest! {
    #[test]
    fn no_command_line_panics(args in proptest::collection::vec("(--)?[a-z-]{0,12}(=.{0,8})?|.{0,8}", 0..5)) {
        // A known target in front: nothing on this host is looked at for longer than a stat.
        let args = std::iter::once("--target=null".to_owned()).chain(args).map(OsString::from);
        let _ = parse(args, std::iter::empty(), &deps());
    }
}
