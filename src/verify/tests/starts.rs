//! Where topics and lists start.

use super::topics::{messages, read};
use super::*;
use crate::connect::kafka::testing::Log;

#[test]
fn a_topic_and_a_list_say_where_they_start() {
    let of_topic = |from: u64| {
        let mut log = Log { fetch_bytes: 2500, ..Log::default() };
        log.put(0, &messages(from..120), 1);
        read(log)
    };
    let of_list = |from: u64| {
        let list = tempfile::NamedTempFile::new().unwrap();
        let lines: String = (from..120).map(|at| format!("run,0,{at}\n")).collect();
        std::fs::write(list.path(), lines).unwrap();
        verify(&VerifyArgs { ids: Some(text(list.path())), ..VerifyArgs::default() }).unwrap()
    };
    for of in [&of_topic as &dyn Fn(u64) -> Findings, &of_list] {
        let findings = of(100);
        assert_clean(&findings, 20);
        let [line] = &findings.explained[..] else { panic!("{:?}", findings.explained) };
        assert!(line.ends_with("of 1 producer starts at sequence 100; only --expect can prove that this is all of it"));
        let findings = of(0);
        assert_clean(&findings, 120);
        assert!(findings.explained.is_empty(), "{:?}", findings.explained);
    }
}
