//! Tests of canonical bytes and of the types that have them.

use proptest::prelude::*;

use super::*;

fn bytes(form: Form, text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(form, text.as_bytes(), &mut out).map(|()| out)
}

fn of(id: u32, modifier: i32) -> Result<Form, String> {
    form_of(&Type {
        id,
        modifier,
        is_enum: false,
        deterministic: true,
        name: "t",
    })
}

#[test]
fn every_form_has_the_bytes_of_the_protocol() {
    for (form, text, canonical) in [
        (Form::Integer, "42", "42"),
        (Form::Integer, "0", "0"),
        (
            Form::Integer,
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        (Form::Text, "grüße ", "grüße "),
        (Form::Text, "", ""),
        (
            Form::Uuid,
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
        ),
        (Form::Bool, "t", "true"),
        (Form::Bool, "f", "false"),
        (Form::Bytes, "\\x616243", "abC"),
        (Form::Bytes, "\\x", ""),
        (Form::Address, "192.0.2.1", "192.0.2.1"),
        (Form::Address, "2001:db8::1", "2001:db8::1"),
        (Form::Address, "2001:DB8:0::1", "2001:db8::1"),
        (Form::Address, "::ffff:192.0.2.1", "::ffff:192.0.2.1"),
    ] {
        let written = bytes(form, text);
        assert_eq!(
            written.as_deref(),
            Some(canonical.as_bytes()),
            "{form:?} {text}"
        );
    }
}

#[test]
fn text_that_no_type_writes_has_no_bytes() {
    for (form, texts) in [
        (
            Form::Integer,
            &["", "-", "01", "-0", "+1", "1.0", "NaN", " 1", "1e3"][..],
        ),
        (
            Form::Uuid,
            &[
                "",
                "67E55044-10b1-426f-9247-bb680e5fe0c8",
                "67e5504410b1426f9247bb680e5fe0c8",
            ],
        ),
        (Form::Bool, &["true", "false", "", "1"]),
        (Form::Bytes, &["616243", "\\x6", "\\x6g", "\\141bC", ""]),
        (
            Form::Address,
            &["192.0.2.0/24", "2001:db8::/32", "", "host", "192.0.2.1 "],
        ),
    ] {
        for text in texts {
            assert_eq!(bytes(form, text), None, "{form:?} {text}");
        }
    }
    assert_eq!(write(Form::Text, b"\xff", &mut Vec::new()), None);
}

#[test]
fn types_with_several_texts_for_one_value_are_refused_with_a_reason() {
    for (id, reason) in [
        (700, "a fraction"),
        (701, "a fraction"),
        (1042, "padded"),
        (650, "a network"),
        (114, "not that of a key's part"),
        (3802, "not that of a key's part"),
        (1114, "not that of a key's part"),
    ] {
        let why = of(id, -1).unwrap_err();
        assert!(why.contains(reason), "{id}: {why}");
    }
}

#[test]
fn a_numeric_is_a_key_where_it_is_whole() {
    let modifier = |precision: i32, scale: i32| (precision << 16 | scale) + 4;
    assert_eq!(of(1700, modifier(20, 0)), Ok(Form::Integer));
    assert!(of(1700, modifier(20, 2)).is_err());
    assert!(of(1700, -1).is_err());
    // PostgreSQL 15: numeric(20, -2).
    assert!(of(1700, modifier(20, 0x7fe)).is_err());
}

#[test]
fn a_collation_that_takes_different_texts_for_equal_is_refused() {
    let text = Type {
        id: 25,
        modifier: -1,
        is_enum: false,
        deterministic: false,
        name: "text",
    };
    assert!(form_of(&text).unwrap_err().contains("collation"));
    let label = Type {
        is_enum: true,
        ..text
    };
    assert_eq!(form_of(&label), Ok(Form::Text));
}

proptest! {
    #[test]
    fn integers_bytes_and_addresses_are_those_of_rust(
        n: i64, data: Vec<u8>, address: std::net::Ipv6Addr
    ) {
        prop_assert_eq!(bytes(Form::Integer, &n.to_string()), Some(n.to_string().into_bytes()));
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(bytes(Form::Bytes, &format!("\\x{hex}")), Some(data));
        let address = address.to_string();
        prop_assert_eq!(bytes(Form::Address, &address), Some(address.into_bytes()));
    }

    #[test]
    fn arbitrary_text_causes_no_panic(text: Vec<u8>) {
        for form in [
            Form::Integer, Form::Text, Form::Uuid, Form::Bool, Form::Bytes, Form::Address,
        ] {
            let _ = write(form, &text, &mut Vec::new());
        }
    }
}
