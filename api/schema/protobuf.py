#!/usr/bin/env python3
"""Writes protobuf.txt: the numbers that the fields of facts.txt have in protobuf bodies.

Usage: protobuf.py K8S_IO_API K8S_IO_APIMACHINERY < facts.txt > protobuf.txt

One line per definition and one, indented, per field: name and number. A struct that Go inlines is a message
of its own in protobuf, so its fields have the number of that message in front: ` hostPath 2.1`.
"""

import re
import sys

import generate


def numbers(packages, full, prefix=""):
    """(json name, number) of each field of a struct, those of inlined structs with their way in."""
    package, name = full.rsplit(".", 1)
    for _, kind, tag, _ in packages[package].structs.get(name, []):
        json_tag = re.search(r'json:"([^"]*)"', tag)
        number = re.search(r'protobuf:"\w+,(\d+),', tag)
        if not json_tag or json_tag[1] == "-":
            continue
        json_name = json_tag[1].split(",")[0]
        if json_name:
            if number:
                yield json_name, prefix + number[1]
            continue
        if kind.endswith("TypeMeta") and not number:
            continue
        inner, _ = generate.resolve(packages, package, kind.lstrip("*"))
        yield from numbers(packages, inner, f"{prefix}{number[1]}." if number else prefix)


def main():
    packages = generate.load(*sys.argv[1:3])
    for line in sys.stdin:
        if line.startswith((" ", "enum ")):
            continue
        full = line.split()[0]
        if full in generate.OPAQUE:
            continue
        print(full)
        for name, number in sorted(numbers(packages, full)):
            print(f" {name} {number}")


if __name__ == "__main__":
    main()
