use super::*;
use crate::counters::{Counts, Field};
use crate::governance::testing::{governance, plan};
use crate::plan::{BearerPlan, PayloadPlan, Secret};
use proptest::prelude::*;
use serde_json::json;

fn wrong(text: &str) -> Vec<String> {
    wrong_for(text, &plan())
}

fn wrong_for(text: &str, plan: &RunPlan) -> Vec<String> {
    Contract::read(text, plan, &governance(Some(text))).err().unwrap_or_default()
}

fn contract(governance: &GovernancePlan) -> Result<Contract, Fatal> {
    Contract::of(&plan(), governance)
}

/// The built-in contract after a change of its text, which must have been there.
fn changed(from: &str, to: &str) -> String {
    assert!(BUILT_IN.contains(from), "{from}");
    BUILT_IN.replace(from, to)
}

fn built_in() -> Contract {
    contract(&governance(None)).unwrap()
}

#[test]
fn the_built_in_contract_fits_every_body_and_catches_every_slip() {
    let (contract, plan) = (built_in(), plan());
    assert_eq!(contract.path(Call::CloseRun, "nightly-7"), "/v1/runs/nightly-7/close");
    assert!(Call::ALL.into_iter().all(|call| contract.has(call)));
    let bodies = Bodies::new(&plan, 1000);
    let event = bodies.event(&bodies.extremes(&plan)[0]);
    assert_eq!(contract.check(Call::PostEvent, &event), Ok(()));
    for (key, value) in [
        ("sequence", json!(7)),
        ("sequence", json!("007")),
        ("sequence", json!("-1")),
        ("timestamp", json!("2026-11-23T14:16:57.1Z")),
        ("timestamp", json!("2026-13-23T14:16:57.123456789Z")),
        ("producer_id", json!(1u64 << 32)),
        ("size_bytes", json!(0)),
        ("weight", json!("1")),
        ("checksum", json!("crc32c:E3069283")),
        ("target", json!("kafka://me:secret@host/topic")),
        ("run_id", json!("a b")),
        ("more", json!(1)),
    ] {
        let mut body = event.clone();
        body[key] = value;
        let why = contract.check(Call::PostEvent, &body).unwrap_err();
        assert!(why.starts_with("POST /v1/events: ") && why.contains(key), "{key}: {why}");
    }
    let mut body = event.clone();
    body.as_object_mut().unwrap().remove("checksum");
    assert!(contract.check(Call::PostEvent, &body).unwrap_err().contains("\"checksum\" is required"));
    let why = contract.check(Call::PostEvents, &json!({ "events": [event, {"run_id": "x"}] })).unwrap_err();
    assert!(why.contains("events.*"), "{why}");
    assert!(contract.check(Call::PostEvents, &json!({ "events": [] })).is_err());
}

proptest! {
    #[test]
    fn whatever_a_record_is_its_event_follows_the_contract(
        producer_id: u32, sequence: u64, timestamp_unix_ns in 0..4_102_444_800_000_000_000u64,
        bytes in 1..=limits::RECORD_BYTES_MAX, weight in 1..=limits::WEIGHT_MAX, crc32c: u32, target in 0u32..2,
    ) {
        let (contract, bodies) = (built_in(), Bodies::new(&plan(), 1));
        let facts = EventFacts { producer_id, sequence, timestamp_unix_ns, bytes, weight, crc32c, target };
        prop_assert_eq!(contract.check(Call::PostEvent, &bodies.event(&facts)), Ok(()));
        let batch = bodies.batch(&[facts; limits::GOVERNANCE_BATCH_EVENTS]);
        prop_assert_eq!(contract.check(Call::PostEvents, &batch), Ok(()));
    }
}

#[test]
fn start_and_end_follow_the_contract_at_their_extremes() {
    let (contract, bodies) = (built_in(), Bodies::new(&plan(), u64::MAX));
    let mut counts = Counts::default();
    Field::ALL.iter().for_each(|field| counts.set(*field, u64::MAX));
    let end = RunEnd { ended_unix_ns: 1, ended_early: true, counts, events_offered: u64::MAX, events_posted: 0 };
    let body = bodies.run_end(&end);
    assert_eq!((&body["records_offered"], &body["outcome"]), (&json!("18446744073709551615"), &json!("ended_early")));
    assert_eq!(contract.check(Call::CloseRun, &body), Ok(()));
    assert_eq!(contract.check(Call::StartRun, &bodies.run_start(1)), Ok(()));
    let producers: Vec<_> = bodies.producers().collect();
    assert_eq!(
        (producers.len(), &producers[0]["target"], &producers[1]["producer_id"]),
        (2, &json!("null"), &json!(5))
    );
    producers.iter().for_each(|body| assert_eq!(contract.check(Call::RegisterProducer, body), Ok(())));
}

#[test]
fn every_misfit_of_another_contract_is_named_once() {
    let text = changed("/v1/producers:", "/v1/streams:")
        .replace("required: [run_id, producer_id, sequence, ", "required: [tenant, run_id, producer_id, sequence, ")
        .replace(
            "        weight:\n          type: integer\n          description: Records",
            "        mass:\n          type: integer\n          description: Records",
        )
        .replace("run_id, started_at", "run_id")
        .replace("maximum: 268435456", "maximum: 1048576");
    let wrong = wrong(&text);
    for wanted in [
        "POST /v1/producers: there is no such path",
        "POST /v1/events: \"tenant\" is required and not known here",
        "POST /v1/events: \"weight\" is not allowed",
        "POST /v1/events/batch: events.*: \"tenant\" is required and not known here",
    ] {
        assert_eq!(wrong.iter().filter(|why| *why == wanted).count(), 1, "{wanted}: {wrong:#?}");
    }
    assert!(wrong.iter().any(|why| why.starts_with("POST /v1/events: size_bytes: ")), "{wrong:#?}");
    let fatal = contract(&governance(Some(&text))).err().unwrap();
    assert_eq!(fatal.exit, crate::base::fatal::Exit::Usage);
    assert!(fatal.what.contains("other.yaml") && fatal.what.contains("tenant") && fatal.mend.is_some(), "{fatal}");
}

#[test]
fn batches_may_be_missing_or_single_events_but_not_both() {
    let no_batch = changed("  /v1/events/batch:", "  /v1/other:");
    assert_eq!(wrong(&no_batch), [""; 0]);
    let no_single = changed("  /v1/events:", "  /v1/event:");
    assert_eq!(wrong(&no_single), [""; 0]);
    let neither = wrong(&no_batch.replace("  /v1/events:", "  /v1/event:"));
    assert_eq!(neither.len(), 2, "{neither:?}");
}

#[test]
fn parameters_bodies_and_identities_that_we_cannot_give_are_named() {
    let header = "    post:\n      parameters: [{name: X-Tenant, in: header, required: true, schema: {type: string}}]\n      operationId: postEvent\n";
    let text = changed("    post:\n      operationId: postEvent\n", header);
    assert_eq!(wrong(&text), ["POST /v1/events: the \"header\" parameter \"X-Tenant\" is required and not known here"]);
    assert!(wrong(&changed("application/json:", "application/xml:"))[0].contains("no body of application/json"));
    let strict = changed("  - {}\n  - bearer: []", "  - bearer: []");
    assert!(wrong(&strict).iter().all(|why| why.contains("--governance-token-file")) && wrong(&strict).len() == 5);
    let mut with_token = governance(Some(&strict));
    with_token.bearer = Some(BearerPlan { flag: "t", path: "t".into(), token: Secret::new("t") });
    assert!(contract(&with_token).is_ok());
    let foreign = strict.replace("type: http\n      scheme: bearer", "type: apiKey\n      in: header\n      name: key");
    assert!(wrong(&foreign)[0].contains("another proof of identity"));
}

#[test]
fn parameters_mean_what_openapi_says() {
    let with = |path: &str, operation: &str| {
        let lists = format!("  /v1/events:\n    parameters: [{path}]\n    post:\n      parameters: [{operation}]\n");
        wrong(&changed("  /v1/events:\n    post:\n", &lists))
    };
    let header =
        |name, required| format!("{{name: {name}, in: header, required: {required}, schema: {{type: string}}}}");
    for name in ["Authorization", "content-type", "Accept"] {
        assert_eq!(with(&header(name, true), &header(name, true)), [""; 0], "{name}");
    }
    let unknown = ["POST /v1/events: the \"header\" parameter \"X-Tenant\" is required and not known here"];
    let (needed, optional) = (header("X-Tenant", true), header("X-Tenant", false));
    assert_eq!(with(&needed, ""), unknown);
    assert_eq!(with(&needed, &needed), unknown, "once");
    assert_eq!(with(&optional, &needed), unknown);
    assert_eq!(with(&needed, &optional), [""; 0], "the operation's stands in its place");
    assert_eq!(with(&needed, &optional.replace("in: header", "in: query")), unknown, "that is another one");
}

#[test]
fn what_is_no_contract_says_so() {
    for (text, said) in [
        ("a: [", "neither YAML nor JSON"),
        ("swagger: '2.0'\npaths: {}\n", "none of 3.0 and 3.1"),
        ("openapi: 3.0.3\n", "no 'paths'"),
    ] {
        let wrong = wrong(text);
        assert!(wrong.len() == 1 && wrong[0].contains(said), "{text}: {wrong:?}");
    }
    let away = changed("$ref: '#/components/schemas/Producer'", "$ref: 'other.yaml#/Producer'");
    assert!(wrong(&away)[0].starts_with("POST /v1/producers: its schema cannot be used"), "{:?}", wrong(&away));
    let circle = "openapi: 3.0.3\npaths:\n  /v1/runs: {$ref: '#/paths/~1v1~1runs'}\n";
    assert!(wrong(circle)[0].contains("references lead to one another"), "{:?}", wrong(circle));
}

#[test]
fn words_of_openapi_mean_what_they_mean_there() {
    let numbers = changed(
        "        weight:\n          type: integer\n",
        "        weight:\n          type: integer\n          nullable: true\n",
    );
    assert_eq!(wrong(&numbers), [""; 0]);
    let read_only = changed(
        "required: [run_id, producer_id, target]\n      properties:\n",
        "required: [id, run_id, producer_id, target]\n      properties:\n        id: {type: string, readOnly: true}\n",
    );
    assert_eq!(wrong(&read_only), [""; 0], "what only answers have is not asked of requests");
    let referred = changed(
        "required: [run_id, producer_id, target]\n      properties:\n",
        "required: [id, run_id, producer_id, target]\n      properties:\n        id: {$ref: '#/components/schemas/Id'}\n",
    );
    let made =
        "  schemas:\n    Id: {$ref: '#/components/schemas/MadeId'}\n    MadeId: {type: string, readOnly: true}\n";
    let referred = referred.replace("  schemas:\n", made);
    assert_eq!(wrong(&referred), [""; 0], "nor what refers to such a property");
    assert!(wrong(&referred.replace("readOnly: true", "readOnly: false"))[0].contains("\"id\" is required"));
    let exclusive = changed(
        "          minimum: 1\n          maximum: 1000000\n",
        "          minimum: 1\n          exclusiveMinimum: true\n          maximum: 1000000\n",
    );
    assert!(wrong(&exclusive).iter().any(|why| why.contains("weight")), "3.0 has it as a switch");
    let newer = BUILT_IN.replace("openapi: 3.0.3", "openapi: 3.1.0");
    assert_eq!(wrong(&newer), [""; 0]);
    let unquoted = BUILT_IN.replace("'201':", "201:").replace("{run_id}", "{id}").replace("name: run_id", "name: id");
    assert_eq!(wrong(&unquoted), [""; 0]);
    let json: Value = serde_saphyr::from_str(BUILT_IN).unwrap();
    assert_eq!(wrong(&json.to_string()), [""; 0]);
}

#[test]
fn what_events_and_the_end_may_come_to_is_checked_before_the_start() {
    let short = changed("maximum: 268435456", "maximum: 163");
    let payload = PayloadPlan { record_bytes_max: 164, ..plan().payload };
    let plan = RunPlan { payload, ..plan() };
    let found = wrong_for(&short, &plan);
    assert!(found.iter().any(|why| why.starts_with("POST /v1/events: size_bytes: ")), "{found:#?}");
    assert_eq!(wrong_for(&short.replace("maximum: 163", "maximum: 164"), &plan), [""; 0]);
    let few = changed(
        "        bytes_produced:\n          $ref: '#/components/schemas/Count'\n",
        "        bytes_produced:\n          type: string\n          maxLength: 18\n",
    );
    let found = wrong(&few);
    assert!(found.iter().any(|why| why.starts_with("POST /v1/runs/{run_id}/close: bytes_produced: ")), "{found:#?}");
}
