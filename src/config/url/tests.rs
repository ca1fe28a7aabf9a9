use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|fatal| panic!("{text}: {fatal}"))
}

#[test]
fn every_scheme_with_its_parts() {
    let tcp = parsed("tcp://[::1]:9000");
    assert_eq!((tcp.hosts[0].0.as_str(), tcp.hosts[0].1, tcp.label().as_str()), ("::1", 9000, "tcp://[::1]:9000"));
    let http = parsed("http://me:p%40ss@ingest.example/a/b?key=secret");
    assert_eq!((http.hosts[0].1, http.host_header().as_str()), (80, "ingest.example"));
    assert_eq!((http.request_target().as_str(), http.user_info.as_deref()), ("/a/b?key=secret", Some("me:p@ss")));
    assert_eq!(http.label(), "http://ingest.example:80/a/b");
    assert!(!format!("{http:?}").contains("secret"));
    let https = parsed("HTTPS://h:8443");
    assert_eq!((https.host_header().as_str(), https.request_target().as_str()), ("h:8443", "/"));
    let kafka = parsed("kafka://a:1,[fe80::1]:2,c/topic-1");
    assert_eq!(kafka.hosts, [("a".into(), 1), ("fe80::1".into(), 2), ("c".into(), 9092)]);
    assert_eq!((kafka.topic(), kafka.label().as_str()), ("topic-1", "kafka://a:1,[fe80::1]:2,c:9092/topic-1"));
}

#[test]
fn a_user_has_a_password_if_an_empty_one() {
    let user_info = |text: &str| parsed(&format!("http://{text}h/")).user_info;
    for (text, wanted) in [("key@", Some("key:")), ("a%20b:c%3Ad@", Some("a b:c:d")), ("@", None), ("", None)] {
        assert_eq!(user_info(text).as_deref(), wanted, "{text}");
    }
    let told = Url::parse("http://a%3Ab@h/").unwrap_err().to_string();
    assert!(told.contains("colon") && !told.contains("%3Ab"), "{told}");
}

#[test]
fn a_zone_leads_to_its_link_and_is_not_told_to_the_server() {
    for text in ["http://[fe80::1%25eth0.7]:8080/in", "http://[fe80::1%eth0.7]:8080/in"] {
        let url = parsed(text);
        assert_eq!(url.hosts, [("fe80::1%eth0.7".into(), 8080)], "as getaddrinfo takes it");
        assert_eq!((url.host_header().as_str(), url.is_local()), ("[fe80::1]:8080", false));
        assert_eq!(url.label(), "http://[fe80::1%25eth0.7]:8080/in");
    }
    // A number is a zone too, and 25 is one.
    for (text, host) in [("[::1%1]", "::1%1"), ("[::1%251]", "::1%1"), ("[::1%25]", "::1%25"), ("[::1%2525]", "::1%25")]
    {
        let url = parsed(&format!("tcp://{text}:1"));
        assert!(url.hosts == [(host.into(), 1)] && url.is_local(), "{text}: {url:?}");
        assert_eq!(parsed(&url.label()).hosts, url.hosts);
    }
    assert_eq!(hosts("[fe80::1%eth0],b:1").unwrap(), [("fe80::1%eth0".into(), 9092), ("b".into(), 1)]);
}

#[test]
fn what_is_shown_has_no_user_info_and_no_query() {
    for (url, wanted) in [
        ("http://me:pw@h/a?b=c@d?e", "http://h/a"),
        ("https://h?b", "https://h"),
        ("http://h/a@b", "http://h/a@b"),
        ("kafka://u@a:1,b/t", "kafka://a:1,b/t"),
        ("file:///a?b@c", "file:///a?b@c"),
        ("null", "null"),
    ] {
        assert_eq!(shown(url), wanted);
    }
}

#[test]
fn this_host_is_told_from_others() {
    for local in ["tcp://localhost:1", "tcp://127.9.9.9:1", "tcp://[::1]:1", "tcp://[::ffff:127.0.0.1]:1"] {
        assert!(parsed(local).is_local(), "{local}");
    }
    for other in ["tcp://10.0.0.1:1", "tcp://localhost.example:1", "kafka://localhost,other/t", "tcp://0.0.0.0:1"] {
        assert!(!parsed(other).is_local(), "{other}");
    }
}

#[test]
fn what_is_wrong_is_named_and_no_password_is_shown() {
    for (url, word) in [
        ("tcp://h", "port"),
        ("tcp://h:0", "'0'"),
        ("tcp://h:+1", "'+1'"),
        ("tcp://:1", "host"),
        ("tcp://h:1/x", "path"),
        ("tcp://::1:9", "brackets"),
        ("tcp://[::1:9", "]"),
        ("tcp://[x]:9", "IPv6"),
        ("tcp://[fe80::1%]:9", "link"),
        ("tcp://[fe80::1%25eth0%]:9", "link"),
        ("tcp://[x%25eth0]:9", "IPv6"),
        ("tcp://host%25eth0:9", "names no host"),
        ("tcp://a:1,b:2", "one host"),
        ("tcp://u@h:1", "user info"),
        ("http://u:pw@h:99999/", "99999"),
        ("http://h/a#b", "#"),
        ("http://h/\u{e4}", "percent"),
        ("kafka://h/t\u{e4}x", "'\u{e4}' is in no host and no topic name"),
        ("kafka://h/t%C3%A4x", "no topic name"),
        ("tcp://\u{e4}:1", "'\u{e4}' is in no host"),
        ("http://u%4@h/", "%"),
        ("kafka://h", "topic"),
        ("kafka://h/a/b", "a/b"),
        ("kafka://h/t?x=1", "query"),
    ] {
        let fatal = Url::parse(url).expect_err(url);
        assert!(fatal.what.contains(word) && !fatal.what.contains("pw") && fatal.mend.is_some(), "{url}: {fatal}");
    }
}

#[test]
fn a_url_that_cannot_be_read_keeps_its_secrets() {
    for (url, shown) in [
        ("http://svc:s3cret/more@host/in", "http://host/in"),
        ("http://svc:more/s3cret@host/in", "http://host/in"),
        ("http://svc:s3cret#x@host/in", "http://host/in"),
        ("http://svc:s3cret?x@host/in", "http://…"),
        ("http://h:99999/p?token=s3cret", "http://h:99999/p"),
        ("http://h:99999/p?token=x@s3cret", "http://…"),
        ("kafka://u:s3cret/x@h/t", "kafka://h/t"),
    ] {
        let fatal = Url::parse(url).expect_err(url);
        assert!(fatal.what.contains(&format!("'{shown}'")), "{url}: {fatal}");
        assert!(!fatal.to_string().contains("s3cret") && !fatal.what.contains("more"), "{url}: {fatal}");
    }
    assert_eq!(for_errors("file:///a@b?c"), "file:///a@b?c");
}

#[test]
fn an_at_sign_behind_the_host_hides_no_reason() {
    for (url, reason) in [
        ("http://h:99999/mail@x", "'…' is no port"),
        ("http://svc:123456/s3cret@h", "'…' is no port"),
        ("http://[::1]:99999/mail@x", "'…' is no port"),
        ("http://u:pw@h:99999/mail@x", "'…' is no port"),
        ("http://h/a@b#c", "fragment"),
        ("kafka://h/s3cret@x", "'…' is no topic name"),
        ("http://svc:s3cret/x@h", "ends the user info"),
        ("http://svc:/s3cret@h", "ends the user info"),
        ("http://svc:s3cret#x@h", "ends the user info"),
    ] {
        let fatal = Url::parse(url).expect_err(url);
        assert!(fatal.what.contains(reason), "{url}: {fatal}");
        let shows = |secret: &str| fatal.to_string().contains(secret);
        assert!(!shows("s3cret") && !shows("123456") && !shows("pw"), "{url}: {fatal}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_labels_can_be_read_again(text in "(tcp|https?|kafka)://[a-z0-9:@,./?%\\[\\]-]{0,40}|.{0,30}") {
        if let Ok(url) = Url::parse(&text) {
            let again = parsed(&url.label());
            prop_assert_eq!(again.label(), url.label());
            prop_assert_eq!(again.hosts, url.hosts);
        }
    }
}
