use super::*;
use proptest::prelude::*;

/// As fast as the machine of the table that a processor of no known vendor is given.
fn same() -> Probes {
    costs::table(None).reference
}

fn machine(text: &str) -> Machine {
    description::parse(text).unwrap()
}

fn demand(route: Route, gigabytes: f64) -> Demand {
    let rate = Some(gigabytes * GIGA);
    let (target, producers, site) = (None, None, None);
    Demand { route, target, rate_bytes_per_second: rate, record_bytes: 4096, producers, is_device: false, site }
}

fn on(text: &str, route: Route, gigabytes: f64) -> Projection {
    let machine = machine(text);
    project(&demand(route, gigabytes), &machine, Scale::of_described(&machine))
}

#[test]
fn goodput_is_header_arithmetic() {
    for (gbits, mtu, gigabytes) in [(100.0, 1500, 11.77), (100.0, 9000, 12.38), (25.0, 1500, 2.94)] {
        let found = tcp_goodput_bytes_per_second(gbits, mtu) / GIGA;
        assert!((found - gigabytes).abs() < 0.005, "{gbits} {mtu}: {found}");
    }
}

#[test]
fn every_route_has_a_row_with_costs_in_every_table() {
    for vendor in [None, Some(costs::Vendor::Amd), Some(costs::Vendor::Intel)] {
        for route in Route::ALL {
            let table = costs::table(vendor);
            let cost = table.cost(route);
            assert!(cost.record_ns >= 0.0 && cost.byte_ns >= 0.0 && cost.record_ns + cost.byte_ns > 0.0, "{cost:?}");
            assert!(cost.memory_crossings >= 0.0 && !cost.source.is_empty());
            assert!(
                [cost.record_probe, cost.byte_probe].iter().all(|p| table.reference.slowness(&same(), *p).is_some())
            );
        }
    }
}

#[test]
fn a_name_that_is_not_found_is_an_assumption() {
    let machine = Machine { unknown: vec!["broker-7".to_owned()], ..machine("cores: 2") };
    let plan = project(&demand(Route::Kafka, 1.0), &machine, Scale::of_described(&machine));
    assert!(plan.assumptions.iter().any(|told| told.contains("found for broker-7:")), "{:?}", plan.assumptions);
}

#[test]
fn how_fast_brokers_must_answer_is_an_assumption() {
    let told = |plan: &Projection| plan.assumptions.iter().find(|told| told.contains("an answer takes")).cloned();
    let plan = |route, producers, gigabytes, record_bytes| {
        let demand = Demand { producers: Some(producers), record_bytes, ..demand(route, gigabytes) };
        project(&demand, &machine("cores: 32"), Scale::Calibrated(same()))
    };
    for (producers, gigabytes, record_bytes, said) in [
        (2, 8.0, 4096, "2 partitions carry the rate while an answer takes less than 1.25 ms (5 batches of 1 MB"),
        (31, 8.0, 4096, "31 partitions carry the rate while an answer takes less than 19.36 ms (5 batches of 1 MB"),
        (1, 1.0, 4096, "1 partition carries the rate while an answer takes less than 5 ms (5 batches of 1 MB"),
        (1, 1.0, 4 << 20, "1 partition carries the rate while an answer takes less than 20.97 ms (5 batches of 4 MiB"),
        // Of two producers with two connections each.
        (2, 16.0, 600_000, "4 partitions carry the rate while an answer takes less than 750 us (5 batches of 1 MB"),
    ] {
        let plan = plan(Route::Kafka, producers, gigabytes, record_bytes);
        assert_eq!(told(&plan), Some(format!("{said} in flight each)")));
        assert!(plan.summary().contains(said));
    }
    assert_eq!(told(&plan(Route::Http, 2, 8.0, 4096)), None, "there the connections are chosen");
    let ceiling_only = Demand { rate_bytes_per_second: None, ..demand(Route::Kafka, 1.0) };
    assert_eq!(told(&project(&ceiling_only, &machine("cores: 32"), Scale::Calibrated(same()))), None);
}

#[test]
fn a_calibrated_core_is_the_table_times_its_slowness() {
    let slow = Probes { head_ns: same().head_ns.map(|ns| ns * 2.0), ..same() };
    let machine = machine("cores: 2");
    let plan = |route, probes| project(&demand(route, 1.0), &machine, Scale::Calibrated(probes)).core_bytes_per_second;
    let rate = |probes| plan(Route::Null, probes);
    let cost = costs::table(None).cost(Route::Null);
    let expected = 4096.0 * GIGA / (cost.record_ns + cost.byte_ns * 4096.0);
    assert!((rate(same()).likely / expected - 1.0).abs() < 1e-9);
    let expected = 4096.0 * GIGA / (cost.record_ns * 2.0 + cost.byte_ns * 4096.0);
    assert!((rate(slow).likely / expected - 1.0).abs() < 1e-9, "blocks and turns are not the heads'");
    let copying = Probes { tmpfs_byte_ns: same().tmpfs_byte_ns.map(|ns| ns * 2.0), ..same() };
    assert_eq!(rate(same()), rate(copying), "each path has its own probe");
    let cost = costs::table(None).cost(Route::Tmpfs);
    let expected = 4096.0 * GIGA / (cost.record_ns + cost.byte_ns * 4096.0 * 2.0);
    let copied = plan(Route::Tmpfs, copying).likely;
    assert!((copied / expected - 1.0).abs() < 1e-9, "the work for each record is not the copy's");
}

#[test]
fn a_busy_host_is_called_so_and_widens_the_range() {
    let plan = |reach| {
        let probes = Probes { reach: Some(reach), ..same() };
        project(&demand(Route::Tcp, 1.0), &machine("cores: 2"), Scale::Calibrated(probes))
    };
    let is_busy = |plan: &Projection| plan.assumptions.iter().any(|told| told.starts_with("the host is busy: "));
    let (quiet, busy) = (plan((0.9, 1.1)), plan((0.5, 1.1)));
    let (narrow, wide) = (quiet.core_bytes_per_second, busy.core_bytes_per_second);
    assert!(!is_busy(&quiet) && is_busy(&busy), "{:?} {:?}", quiet.assumptions, busy.assumptions);
    assert!((narrow.low / narrow.likely - 0.8).abs() < 1e-9 && (wide.low / wide.likely - 0.5).abs() < 1e-9);
    assert_eq!((narrow.likely, narrow.high), (wide.likely, wide.high));
}

#[test]
fn a_vendor_has_its_table_and_who_has_none_is_told() {
    let likely = |text: &str| on(text, Route::Tcp, 1.0).core_bytes_per_second.likely;
    assert_eq!(likely("cores: 2"), likely("cores: 2\nprocessor: intel"));
    assert_ne!(likely("cores: 2"), likely("cores: 2\nprocessor: amd"));
    let told = |text: &str| on(text, Route::Tcp, 1.0).assumptions.iter().any(|told| told.contains("was not said"));
    assert!(told("cores: 2") && !told("cores: 2\nprocessor: amd"));
}

#[test]
fn what_lacks_is_named() {
    let small = "cores: 2\nnic_gbits: 10\nmemory_gigabytes_per_second: 4\ndrives: [{write_gigabytes_per_second: 1}]";
    let network = on(small, Route::Kafka, 8.0);
    assert_eq!((network.verdict, network.basis), (Some(Verdict::DoesNotFit), "projection"));
    for word in ["network", "memory"] {
        assert!(network.lacks.iter().any(|lack| lack.starts_with(word)), "{word}: {:?}", network.lacks);
    }
    let file = on(small, Route::File, 8.0);
    assert!(file.lacks.iter().any(|lack| lack.starts_with("drives")), "{:?}", file.lacks);
    assert_eq!(file.limits_first, Some("drives"));
    let unknown = on("cores: 64", Route::File, 1.0);
    let drives = unknown.resources.iter().find(|r| r.name == "drives").unwrap();
    assert_eq!((drives.available, drives.verdict), (None, None), "what is unknown is not judged");
}

#[test]
fn between_likely_and_pessimistic_it_is_uncertain() {
    let drives = |count| format!("cores: 32\ndrives: [{{write_gigabytes_per_second: 1, count: {count}}}]");
    for (count, verdict) in [(8, Verdict::Fits), (6, Verdict::Uncertain), (4, Verdict::DoesNotFit)] {
        assert_eq!(on(&drives(count), Route::File, 4.0).verdict, Some(verdict), "{count}");
    }
}

#[test]
fn the_command_and_the_words_fit_the_plan() {
    let projection = on("cores: 32\nclock_ghz: 3\nnic_gbits: 100\nsockets: 2", Route::Http, 2.0);
    let text = projection.summary();
    for word in ["projection", "cores", "network", "limits first", "verdict", "engine --target http://", "MTU 1500"] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    assert!(projection.connections.unwrap() >= 8);
    let brokers = Demand { producers: Some(1), ..demand(Route::Kafka, 4.5) };
    let brokers = project(&brokers, &machine("cores: 32"), Scale::Calibrated(same()));
    let words = brokers.command.as_ref().unwrap();
    assert!(words.ends_with(" --parallel 1 --partitions 2 --ring-size 11Mi"), "{words}");
    let few = on("cores: 2", Route::Http, 8.0);
    let needed = few.resources.iter().find(|r| r.name == "cores").unwrap().needed.high as u32;
    assert!(needed > 2 && few.producers == Some(needed) && few.command.is_none(), "{few:?}");
    let json = serde_json::to_value(&projection).unwrap();
    assert!(json["core_bytes_per_second"]["likely"].as_f64().unwrap() > 0.0);
    let ceiling_only = Demand { rate_bytes_per_second: None, ..demand(Route::Tcp, 1.0) };
    let ceiling_only = project(&ceiling_only, &machine("cores: 2"), Scale::Calibrated(same()));
    assert!(ceiling_only.command.is_none() && ceiling_only.verdict.is_none());
    assert!(ceiling_only.summary().contains("at most"));
}

#[test]
fn cores_count_as_far_as_producers_fill_them() {
    let host = "cores: 32\nclock_ghz: 3\nnic_gbits: 100\nmtu: 9000\nmemory_gigabytes_per_second: 614";
    let plan = |producers, rate_bytes_per_second| {
        let demand = Demand { producers: Some(producers), rate_bytes_per_second, ..demand(Route::Http, 1.0) };
        project(&demand, &machine(host), Scale::of_described(&machine(host)))
    };
    let alone = plan(1, Some(8e9));
    assert_eq!((alone.verdict, alone.command), (Some(Verdict::DoesNotFit), None));
    assert_eq!(alone.lacks, ["cores: likely needs 12 cores, there is 1: --parallel 1 fills no more of 31"]);
    let ceiling = plan(1, None);
    assert_eq!(ceiling.limits_first, Some("cores"));
    assert_eq!(ceiling.ceiling_bytes_per_second, ceiling.core_bytes_per_second);
    // Of 40 on 31 cores, nine have two: with a twentieth of the rate each they are full first.
    let uneven = plan(40, Some(6e9));
    assert_eq!((uneven.resources[0].available, uneven.verdict), (Some(20.0), Some(Verdict::Fits)));
    assert!(uneven.command.unwrap().contains(" --cores 12-31 --parallel 40 "), "as many as have two of them each");
    let all = project(&demand(Route::Http, 7.0), &machine(host), Scale::of_described(&machine(host)));
    assert_eq!((all.resources[0].available, all.producers), (Some(31.0), Some(21)));
}

#[test]
fn what_takes_one_producer_fills_one_core() {
    let device = Some("file:///dev/nvme0n1".to_owned());
    let host = "cores: 32\ndrives: [{write_gigabytes_per_second: 6.6}]";
    for (route, target) in [(Route::Stdout, None), (Route::File, device)] {
        let plan = |rate: Option<f64>| {
            let demand = Demand { rate_bytes_per_second: rate, is_device: target.is_some(), ..demand(route, 1.0) };
            let demand = Demand { target: target.clone(), ..demand };
            project(&demand, &machine(host), Scale::of_described(&machine(host)))
        };
        let ceiling = plan(None);
        assert!(ceiling.ceiling_bytes_per_second.likely <= ceiling.core_bytes_per_second.likely, "{ceiling:?}");
        let too_much = plan(Some(100e9));
        assert!(too_much.lacks[0].ends_with("there is 1: the target takes one producer"), "{:?}", too_much.lacks);
        let command = plan(Some(1e9)).command.unwrap();
        assert!(command.ends_with(" --cores 31 --parallel 1"), "no files, and whole sectors: {command}");
    }
}

#[test]
fn files_are_as_those_that_were_measured() {
    let ends = |route, producers, record_bytes| {
        let demand = Demand { producers, record_bytes, ..demand(route, 0.1) };
        let command = project(&demand, &machine("cores: 8"), Scale::Calibrated(same())).command.unwrap();
        command.split_once(" --footprint ").unwrap().1.to_owned()
    };
    assert_eq!((ends(Route::File, None, 4096), ends(Route::Tmpfs, None, 4096)), ("16Gi".into(), "1Gi".into()));
    assert_eq!(ends(Route::File, None, 1000), "16Gi --direct on", "records of it are not whole sectors");
    assert_eq!(ends(Route::File, Some(2), 1000), "16Gi", "a block would wait for 20 ms");
    assert_eq!(ends(Route::Tmpfs, None, 1000), "1Gi");
    // Room for what is in flight, and for a few records, of each.
    assert_eq!(
        (ends(Route::File, Some(512), 4096), ends(Route::Tmpfs, Some(2), 256 << 20)),
        ("32Gi".into(), "2Gi".into())
    );
}

#[test]
fn files_take_no_more_than_there_is_room_for() {
    let plan = |route, producers, polite_mib: u64, room_mib: u64| {
        let site = Some(Site { room_bytes: room_mib << 20, polite_bytes: polite_mib << 20, no_direct: None });
        let demand = Demand { producers: Some(producers), site, ..demand(route, 0.1) };
        project(&demand, &machine("cores: 8"), Scale::Calibrated(same()))
    };
    for (route, producers, polite_mib, room_mib, said) in [
        (Route::File, 1, 1 << 20, 4 << 20, "16Gi"),
        (Route::File, 1, 5 * 1024 + 7, 20 * 1024, "5Gi"),
        (Route::File, 2, 300, 1200, "300Mi"),
        (Route::File, 2, 50, 128, "128Mi"),
        // A GiB would not be enough.
        (Route::File, 20, 1024, 4096, "1280Mi"),
        (Route::Tmpfs, 2, 16, 64, "32Mi"),
    ] {
        let plan = plan(route, producers, polite_mib, room_mib);
        let command = plan.command.as_ref().unwrap_or_else(|| panic!("{}", plan.summary()));
        assert!(command.ends_with(&format!(" --footprint {said}")), "{command}");
    }
    let crowded = plan(Route::File, 2, 30, 127);
    assert_eq!((crowded.verdict, crowded.command), (Some(Verdict::DoesNotFit), None));
    assert_eq!(crowded.lacks, ["space: the files need 128 MiB, and there is room for 127 MiB"]);
}

#[test]
fn a_target_is_one_word_of_the_command() {
    let target = Some("http://192.0.2.1:8080/in?tenant=a&x=b".to_owned());
    let plan = Demand { target, ..demand(Route::Http, 0.1) };
    let command = project(&plan, &machine("cores: 4"), Scale::Calibrated(same())).command.unwrap();
    assert!(command.contains(" --target 'http://192.0.2.1:8080/in?tenant=a&x=b' --rate "), "{command}");
}

#[test]
fn what_limits_first_is_the_same_for_every_rate() {
    for gigabytes in [0.001, 0.1, 1.0, 1.15, 8.0] {
        let first = on("cores: 8\nnic_gbits: 10", Route::Kafka, gigabytes).limits_first;
        assert_eq!(first, Some("network"), "{gigabytes} GB/s: one core is counted whole, however little it does");
    }
}

#[test]
fn without_a_rate_the_lowest_roof_limits_first() {
    let ceiling = |text: &str, route| {
        let demand = Demand { rate_bytes_per_second: None, ..demand(route, 1.0) };
        project(&demand, &machine(text), Scale::of_described(&machine(text)))
    };
    for (text, route, first) in [
        ("cores: 2\nnic_gbits: 400", Route::Http, "cores"),
        ("cores: 64\nnic_gbits: 1", Route::Tcp, "network"),
        ("cores: 64\ndrives: [{write_gigabytes_per_second: 1}]", Route::File, "drives"),
        ("cores: 64\nnic_gbits: 400\nmemory_gigabytes_per_second: 1", Route::Tcp, "memory"),
    ] {
        let plan = ceiling(text, route);
        assert_eq!(plan.limits_first, Some(first), "{text}");
        assert!(plan.summary().contains(&format!("\nlimits first  {first}\n")), "{}", plan.summary());
    }
    let unsaid = |text: &str| ceiling(text, Route::Tcp).assumptions.iter().any(|told| told.starts_with("network: how"));
    assert!(unsaid("cores: 2") && !unsaid("cores: 2\nnic_gbits: 1"));
}

#[test]
fn each_drive_is_a_target_with_as_many_producers() {
    let two = machine("cores: 8\ndrives: [{write_gigabytes_per_second: 6.6, count: 2}]");
    let plan = |demand: &Demand| project(demand, &two, Scale::of_described(&two));
    let kind = demand(Route::File, 8.0);
    let planned = plan(&kind);
    let command = planned.command.as_ref().unwrap();
    let producers = planned.producers.unwrap();
    assert!(command.contains(" --target file:/mnt/nvme0/ --target file:/mnt/nvme1/ --rate 8000000000"), "{command}");
    assert!(command.contains(&format!(" --parallel {producers} ")) && producers.is_multiple_of(2), "{command}");
    let asked = plan(&Demand { producers: Some(1), ..demand(Route::File, 3.0) }).command.unwrap();
    assert!(asked.contains(" --target file:/mnt/nvme0/ --rate") && asked.contains(" --parallel 1 "), "{asked}");
    let there = |producers| {
        let planned = plan(&Demand { producers: Some(producers), ..kind.clone() });
        planned.resources.iter().find(|resource| resource.name == "drives").unwrap().available.unwrap()
    };
    assert_eq!((there(1), there(2), there(4)), (6.6, 13.2, 13.2), "what the command does not name takes nothing");
    assert!((there(3) - 9.9).abs() < 1e-9, "one drive gets two thirds");
    let named = plan(&Demand { target: Some("file:/data/".to_owned()), ..kind });
    let command = named.command.as_ref().unwrap();
    assert!(command.contains(" --target file:/data/ --rate") && !command.contains("nvme"), "{command}");
    let told = |plan: &Projection| plan.assumptions.iter().any(|told| told.contains("2 drives are behind file:/data/"));
    assert!(told(&named) && !told(&planned), "{:?}", named.assumptions);
}

#[test]
fn unlike_drives_take_what_the_slowest_does() {
    let sheets = "[{write_gigabytes_per_second: 6.6}, {write_gigabytes_per_second: 1.0}]";
    let unlike = on(&format!("cores: 8\ndrives: {sheets}"), Route::File, 3.0);
    let drives = unlike.resources.iter().find(|resource| resource.name == "drives").unwrap();
    assert_eq!((drives.available, unlike.verdict), (Some(2.0), Some(Verdict::DoesNotFit)));
    let told = |plan: &Projection| plan.assumptions.iter().any(|told| told.starts_with("unlike drives"));
    let like = on("cores: 8\ndrives: [{write_gigabytes_per_second: 1.0, count: 2}]", Route::File, 1.0);
    assert!(told(&unlike) && !told(&like), "{:?}", unlike.assumptions);
}

/// Nothing of it is beyond all bounds, nor no number.
fn is_finite(plan: &Projection) -> bool {
    let summary = plan.summary();
    let mut words = summary.split(|c: char| !c.is_ascii_alphanumeric());
    !words.any(|word| word == "inf" || word == "NaN")
}

#[test]
fn the_extremes_of_a_description_can_be_calculated_with() {
    let least = "cores: 1\nclock_ghz: 0.1\nnic_gbits: 0.001\nmtu: 576\nmemory_gigabytes_per_second: 0.1\n\
                 drives: [{write_gigabytes_per_second: 0.001}]";
    let most = "cores: 65536\nsockets: 65536\nclock_ghz: 20\nnic_gbits: 100000\nmtu: 65535\n\
                memory_gigabytes_per_second: 100000\ndrives: [{write_gigabytes_per_second: 1000, count: 10000}]";
    for machine in [machine(least), machine(most)] {
        for route in Route::ALL {
            for (rate, record_bytes) in [(1.0, limits::RECORD_BYTES_MAX), (limits::RATE_MAX as f64, 16)] {
                let demand = Demand { rate_bytes_per_second: Some(rate), record_bytes, ..demand(route, 1.0) };
                let plan = project(&demand, &machine, Scale::of_described(&machine));
                assert!(is_finite(&plan), "{route:?} {rate} {machine:?}: {}", plan.summary());
            }
        }
    }
}

#[test]
fn cores_are_counted_whole() {
    let summary = on("cores: 2", Route::Tcp, 0.001).summary();
    assert!(summary.contains("\ncores         needs 1 of 1 core: ok\n"), "{summary}");
    let lacks = on("cores: 3", Route::Http, 80.0).lacks;
    assert!(lacks[0].ends_with(" cores, there are 2"), "{lacks:?}");
}

const DESCRIPTIONS: &str = "\\PC{0,80}|cores: [0-9]{1,3}\n(clock_ghz|nic_gbits|mtu|[a-z_]{1,9}): [0-9.e-]{1,6}";

fn routes() -> impl Strategy<Value = Route> {
    prop::sample::select(Route::ALL.to_vec())
}

proptest! {
    #[test]
    fn more_needs_more(route in routes(), rate in 0.001..50.0_f64, more in 1.0..10.0_f64, size in 64_u64..1 << 24) {
        let machine = machine("cores: 32\nnic_gbits: 100\ndrives: [{write_gigabytes_per_second: 6.6, count: 2}]");
        let plan = |gigabytes| {
            let demand = Demand { record_bytes: size, ..demand(route, gigabytes) };
            project(&demand, &machine, Scale::of_described(&machine))
        };
        let (less, more) = (plan(rate), plan(rate * more));
        for (a, b) in less.resources.iter().zip(&more.resources) {
            prop_assert!(a.needed.low <= b.needed.low && a.needed.high <= b.needed.high, "{:?} {:?}", a, b);
            prop_assert!(a.needed.low <= a.needed.likely && a.needed.likely <= a.needed.high, "{:?}", a);
        }
        prop_assert!(less.verdict.map(|v| v as u8) <= more.verdict.map(|v| v as u8));
        prop_assert_eq!(less.ceiling_bytes_per_second, more.ceiling_bytes_per_second);
    }

    #[test]
    fn larger_records_are_no_slower(route in routes(), size in 64_u64..1 << 20, times in 1_u64..64) {
        let (machine, table) = (machine("cores: 4"), costs::table(None));
        let core = |size| core_rate(table, table.cost(route), size, Scale::of_described(&machine)).likely;
        prop_assert!(core(size) <= core(size * times) * (1.0 + 1e-9));
    }

    #[test]
    fn goodput_grows_with_the_mtu(gbits in 0.1..800.0_f64, mtu in 576_u32..9000) {
        let goodput = |mtu| tcp_goodput_bytes_per_second(gbits, mtu);
        prop_assert!(goodput(mtu) < goodput(mtu + 1) && goodput(mtu) < gbits * GIGA / 8.0);
    }

    #[test]
    fn no_description_panics(text in DESCRIPTIONS) {
        if let Ok(machine) = description::parse(&text) {
            let demand = Demand { rate_bytes_per_second: None, ..demand(Route::Tcp, 1.0) };
            prop_assert!(is_finite(&project(&demand, &machine, Scale::of_described(&machine))), "{}", text);
        }
    }
}
