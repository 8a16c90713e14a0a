//! OpenAPI v2 in the protobuf messages of gnostic's `openapi.v2` package. Writes the types of a document, not its paths, which no
//! client is known to read in this form.

use serde_json::Value;

/// <https://protobuf.dev/programming-guides/encoding/#structure>
const LENGTH_DELIMITED: u8 = 2;
const VARINT: u8 = 0;

/// The fields of one message, as they are sent.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn tag(&mut self, field: usize, wire_type: u8) {
        self.varint(field << 3 | usize::from(wire_type));
    }

    fn bytes(mut self, field: usize, bytes: &[u8]) -> Self {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: usize, value: &Value) -> Self {
        self.bytes(field, value.as_str().unwrap_or_default().as_bytes())
    }

    fn message(self, field: usize, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    fn flag(mut self, field: usize, value: bool) -> Self {
        self.tag(field, VARINT);
        self.varint(usize::from(value));
        self
    }

    /// One field for each item of a list; a single value is a list of one.
    fn each(self, field: usize, list: &Value, of: impl Fn(&Value) -> Vec<u8>) -> Self {
        let items = list
            .as_array()
            .map_or(std::slice::from_ref(list), Vec::as_slice);
        let write = |message: Self, item| message.bytes(field, &of(item));
        items.iter().fold(self, write)
    }

    /// One pair of name and value for each member of an object.
    fn pairs(self, field: usize, object: &Value, of: impl Fn(&Value) -> Message) -> Self {
        let members = object.as_object().into_iter().flatten();
        members.fold(self, |message, (name, value)| {
            message.message(field, &pair(name, &of(value)))
        })
    }
}

pub(super) fn document(document: &Value) -> Vec<u8> {
    let info = Message::default()
        .text(1, &document["info"]["title"])
        .text(2, &document["info"]["version"]);
    let definitions = Message::default().pairs(1, &document["definitions"], schema);
    Message::default()
        .text(1, &document["swagger"])
        .message(2, &info)
        .message(8, &Message::default())
        .message(9, &definitions)
        .0
}

fn pair(name: &str, value: &Message) -> Message {
    let named = Message::default().bytes(1, name.as_bytes());
    named.message(2, value)
}

/// A value of any shape is kept as YAML, which JSON is, too.
fn any(value: &Value) -> Message {
    Message::default().bytes(2, value.to_string().as_bytes())
}

fn string(value: &Value) -> Vec<u8> {
    value.as_str().unwrap_or_default().as_bytes().to_vec()
}

fn schema(schema: &Value) -> Message {
    let members = schema.as_object().into_iter().flatten();
    members.fold(Message::default(), |message, (name, value)| {
        member(message, name, value)
    })
}

fn member(message: Message, name: &str, value: &Value) -> Message {
    let empty = Message::default;
    match name {
        "$ref" => message.text(1, value),
        "format" => message.text(2, value),
        "description" => message.text(4, value),
        "default" => message.message(5, &any(value)),
        "required" => message.each(19, value, string),
        "enum" => message.each(20, value, |value| any(value).0),
        "additionalProperties" => match value {
            Value::Bool(value) => message.message(21, &empty().flag(2, *value)),
            value => message.message(21, &empty().message(1, &schema(value))),
        },
        "type" => message.message(22, &empty().each(1, value, string)),
        "items" => message.message(23, &empty().message(1, &schema(value))),
        "properties" => message.message(25, &empty().pairs(1, value, schema)),
        extension => message.message(31, &pair(extension, &any(value))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_numbered_as_gnostic_does() {
        let written = document(&json!({
            "swagger": "2.0",
            "info": {"title": "T", "version": "V"},
            "definitions": {"A": {"type": "array", "items": {"$ref": "#/B"}, "x-y": [1]}},
        }));
        let items = b"\xba\x01\x07\x0a\x05\x0a\x03#/B";
        let kind = b"\xb2\x01\x07\x0a\x05array";
        let extension = b"\xfa\x01\x0c\x0a\x03x-y\x12\x05\x12\x03[1]";
        let definitions = [
            b"\x0a\x28\x0a\x01A\x12\x23".as_slice(),
            items,
            kind,
            extension,
        ]
        .concat();
        let head = b"\x0a\x032.0\x12\x06\x0a\x01T\x12\x01V\x42\x00\x4a\x2a";
        assert_eq!(written, [head.as_slice(), &definitions].concat());
    }

    /// What is no member here would be written as an extension.
    #[test]
    fn every_member_of_a_schema_has_a_field() {
        fn check(schema: &Value) {
            const NESTED: [&str; 2] = ["items", "additionalProperties"];
            for (name, value) in schema.as_object().into_iter().flatten() {
                let known = [
                    "$ref",
                    "format",
                    "description",
                    "default",
                    "required",
                    "enum",
                ];
                let known = known.contains(&name.as_str())
                    || ["type", "properties"].contains(&name.as_str());
                assert!(
                    known || NESTED.contains(&name.as_str()) || name.starts_with("x-"),
                    "{name}"
                );
                if NESTED.contains(&name.as_str()) {
                    check(value);
                }
            }
            for (_, property) in schema["properties"].as_object().into_iter().flatten() {
                check(property);
            }
        }
        let document = crate::openapi::v2_document();
        for (_, definition) in document["definitions"].as_object().expect("definitions") {
            check(definition);
        }
    }
}
