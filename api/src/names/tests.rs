use super::*;

fn check(found: Vec<String>, expected: &[&str]) {
    assert_eq!(found, expected);
}

const SUBDOMAIN_RULE: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn subdomains_are_labels_between_dots() {
    for fine in ["a", "a.b", "1.2-3.x", &"a".repeat(253)] {
        check(dns1123_subdomain(fine), &[]);
    }
    for bad in ["", ".", "a..b", "-a", "a-", "A", "a_b", "a.b.", "ä"] {
        check(dns1123_subdomain(bad), &[SUBDOMAIN_RULE]);
    }
    check(
        dns1123_subdomain(&"a".repeat(254)),
        &["must be no more than 253 characters"],
    );
}

#[test]
fn labels_may_start_with_a_digit_but_hold_no_dots() {
    check(dns1123_label("1st"), &[]);
    check(dns1123_label("a.b"), &["must not contain dots"]);
    check(dns1123_label("a_b"), &[LABEL_RULE]);
    check(
        dns1123_label(&"a".repeat(64)),
        &["must be no more than 63 characters"],
    );
    check(
        dns1123_label(&"A".repeat(64)),
        &["must be no more than 63 characters", LABEL_RULE],
    );
    assert_eq!(dns1035_label("1st").len(), 1);
    check(dns1035_label("first"), &[]);
}

#[test]
fn qualified_names_have_a_name_and_perhaps_a_domain() {
    for fine in ["a", "A.b_c-d", "example.com/x", "a/b"] {
        check(qualified_name(fine), &[]);
    }
    check(qualified_name("a b"), &[NAME_PART]);
    check(
        qualified_name(""),
        &["name part must be non-empty", NAME_PART],
    );
    check(qualified_name("/x"), &["prefix part must be non-empty"]);
    check(
        qualified_name("UP.com/x"),
        &[&format!("prefix part {SUBDOMAIN_RULE}")],
    );
    check(
        qualified_name(&"a".repeat(64)),
        &["name part must be no more than 63 bytes"],
    );
    assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
    assert!(qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
}

#[test]
fn label_values_may_be_empty() {
    check(label_value(""), &[]);
    check(label_value("A_b.c-1"), &[]);
    check(
        label_value("-x"),
        &[
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    check(
        label_value(&"a".repeat(64)),
        &["must be no more than 63 bytes"],
    );
}

#[test]
fn port_names_are_short_and_have_a_letter() {
    check(port_name("http-2"), &[]);
    check(
        port_name("a-very-long-port-name"),
        &["must be no more than 15 characters"],
    );
    check(port_name("80"), &["must contain at least one letter (a-z)"]);
    check(
        port_name("Web"),
        &["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"],
    );
    check(port_name("a--b"), &["must not contain consecutive hyphens"]);
    check(port_name("-a"), &["must not begin or end with a hyphen"]);
    check(port_number(0), &["must be between 1 and 65535, inclusive"]);
    check(port_number(65535), &[]);
}

#[test]
fn config_keys_are_file_names_that_stay_in_their_folder() {
    for fine in ["a", "A_b.c-1", ".hidden", "a..b"] {
        check(config_map_key(fine), &[]);
    }
    check(config_map_key("."), &["must not be '.'"]);
    check(config_map_key(".."), &["must not be '..'"]);
    check(config_map_key("..data"), &["must not start with '..'"]);
    check(
        config_map_key("a b"),
        &[
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
}

#[test]
fn other_small_texts_are_judged() {
    check(path_segment("a:b@c"), &[]);
    check(path_segment(".."), &["may not be '..'"]);
    check(
        path_segment("a/b%c"),
        &["may not contain '/'", "may not contain '%'"],
    );
    check(env_var_name("any thing!"), &[]);
    assert_eq!(env_var_name("a=b").len(), 1);
    assert_eq!(env_var_name("").len(), 1);
    check(c_identifier("_a1"), &[]);
    assert_eq!(c_identifier("1a").len(), 1);
    check(percent("25%"), &[]);
    assert_eq!(percent("%").len(), 1);
    assert_eq!(percent("25").len(), 1);
    check(http_header_name("X-A"), &[]);
    assert_eq!(http_header_name("").len(), 1);
    check(dns1123_subdomain_with_underscore("_tcp.a"), &[]);
    assert_eq!(dns1123_subdomain_with_underscore("__a").len(), 1);
}

#[test]
fn domains_have_two_segments() {
    let domain = |text: &str| -> Vec<String> {
        let errors = validate_domain(&Path::new("d"), text);
        errors.iter().map(ToString::to_string).collect()
    };
    check(domain("www.example.com"), &[]);
    check(domain("example.com."), &[]);
    check(domain(""), &["d: Required value"]);
    check(
        domain("host"),
        &[
            "d: Invalid value: \"host\": should be a domain with at least two segments separated by dots",
        ],
    );
    assert_eq!(domain("UP.example").len(), 1);
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(|error| error.message.clone()).collect()
}

#[test]
fn old_address_fields_take_any_form_but_not_ambiguous_ones() {
    let legacy = |text| {
        texts(&address::validate_legacy(
            &Path::new("ip"),
            text,
            &["010.0.0.1"],
        ))
    };
    for fine in ["10.9.8.7", "2001:DB8::0:1", "::1", "010.0.0.1"] {
        check(legacy(fine), &[]);
    }
    for (text, detail) in [
        ("10.0.0.01", "must not have leading 0s"),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
        (
            "x",
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            "1.2.3",
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            "1.2.3.256",
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            "fe80::1%eth0",
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ] {
        check(
            legacy(text),
            &[&format!("Invalid value: \"{text}\": {detail}")],
        );
    }
}

#[test]
fn strict_address_fields_take_only_the_usual_form() {
    let strict = |text| texts(&address::validate(&Path::new("ip"), text));
    check(strict("2001:db8::1"), &[]);
    check(
        strict("2001:DB8::1"),
        &["Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")"],
    );
}

#[test]
fn ranges_are_networks() {
    let legacy = |text| texts(&address::validate_cidr_legacy(&Path::new("c"), text, &[]));
    check(legacy("10.0.0.0/8"), &[]);
    check(legacy("fd00:0::/64"), &[]);
    for (text, detail) in [
        (
            "10.0.0.1/8",
            "must not have bits set beyond the prefix length",
        ),
        (
            "10.0.0.0/08",
            "must not have leading 0s in IP or prefix length",
        ),
        (
            "010.0.0.0/8",
            "must not have leading 0s in IP or prefix length",
        ),
        (
            "::ffff:10.0.0.0/104",
            "must not have an IPv4-mapped IPv6 address",
        ),
        (
            "10.0.0.0",
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            "10.0.0.0/33",
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
    ] {
        check(
            legacy(text),
            &[&format!("Invalid value: \"{text}\": {detail}")],
        );
    }
    let strict = |text| texts(&address::validate_cidr(&Path::new("c"), text));
    check(
        strict("FD00::/64"),
        &["Invalid value: \"FD00::/64\": must be in canonical form (\"fd00::/64\")"],
    );
}

#[test]
fn unusual_forms_are_warned_about() {
    let warning = |text| address::warnings(&Path::new("ip"), text);
    assert_eq!(warning("10.0.0.1"), None);
    assert_eq!(warning("not an address"), None);
    assert_eq!(
        warning("FD00::1").as_deref(),
        Some("ip: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")")
    );
    assert_eq!(
        warning("10.0.0.01").as_deref(),
        Some("ip: non-standard IP address \"10.0.0.01\" is invalid: use \"10.0.0.1\"")
    );
    check(
        address::cidr_warnings(&Path::new("c"), "10.0.0.1/8"),
        &[
            "c: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
        ],
    );
    check(
        address::cidr_warnings(&Path::new("c"), "FD00::/8"),
        &["c: IPv6 CIDR value \"FD00::/8\" should be in RFC 5952 canonical format (\"fd00::/8\")"],
    );
}

#[test]
fn endpoints_have_addresses_of_their_own() {
    let endpoint = |text| texts(&address::validate_endpoint(&Path::new("ip"), text));
    check(endpoint("192.0.2.1"), &[]);
    for (text, detail) in [
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        (
            "::1",
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            "fe80::9",
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            "ff02::1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
        ("x", "must be a valid IP address"),
    ] {
        check(
            endpoint(text),
            &[&format!("Invalid value: \"{text}\": {detail}")],
        );
    }
}
