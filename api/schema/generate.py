#!/usr/bin/env python3
"""Writes facts.txt: what the API server must know of every type of the kinds it serves.

Usage: generate.py DEFINITIONS_JSON K8S_IO_API K8S_IO_APIMACHINERY > facts.txt

DEFINITIONS_JSON holds the published OpenAPI definitions of one Kubernetes release (an object of
definitions, possibly under "$defs"); the other two are source trees of the Go modules of the same release.
OpenAPI tells list kinds, merge keys and required fields; the Go structs tell what OpenAPI loses:
the names of scalar types, pointers, omitempty, defaults and enumerations.

The output has one line per definition and one, indented, per field:

    core.v1.ServicePort                                    PACKAGE.VERSION.TYPE [atomic] [gvk=GROUP/VERSION/KIND]
     protocol core.v1.Protocol=string e d="TCP"            NAME TYPE FLAGS...
    enum core.v1.Protocol SCTP TCP UDP

Types: a basic Go type, `bytes`, `*T`, `[]T`, `map[K]T`, NAME=UNDERLYING for a named type that is no struct,
or a definition. Flags: e omitempty, z omitzero, r required, a atomic map, i=TYPE field of an embedded struct,
l=KIND[:KEY,KEY] list kind, s=STRATEGY and m=KEY patch strategy and merge key, d=JSON default.
"""

import json
import pathlib
import re
import sys

ROOTS = """
core.v1: Namespace Node Pod PodTemplate Service Endpoints Event ConfigMap Secret ServiceAccount Binding
apps.v1: ReplicaSet Deployment DaemonSet StatefulSet ControllerRevision
batch.v1: Job CronJob
discovery.v1: EndpointSlice
events.v1: Event
coordination.v1: Lease
networking.v1: IPAddress ServiceCIDR
policy.v1: Eviction
autoscaling.v1: Scale
rbac.v1: Role ClusterRole RoleBinding ClusterRoleBinding
authentication.v1: TokenReview TokenRequest SelfSubjectReview
authorization.v1: SubjectAccessReview SelfSubjectAccessReview LocalSubjectAccessReview SelfSubjectRulesReview
meta.v1: DeleteOptions Status LabelSelector ListMeta
"""

BASIC = {"string", "bool", "int", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64"}
OPAQUE = {"resource.Quantity", "intstr.IntOrString", "runtime.RawExtension", "meta.v1.Time", "meta.v1.MicroTime",
          "meta.v1.Duration", "meta.v1.FieldsV1"}
IMPORTS = {"metav1": "meta.v1", "v1": "core.v1", "corev1": "core.v1", "resource": "resource", "intstr": "intstr",
           "runtime": "runtime", "types": "types", "apiv1": "core.v1", "k8s.io": "k8s.io"}
LONG = {"meta.v1": "io.k8s.apimachinery.pkg.apis.meta.v1", "resource": "io.k8s.apimachinery.pkg.api.resource",
        "intstr": "io.k8s.apimachinery.pkg.util.intstr", "runtime": "io.k8s.apimachinery.pkg.runtime"}

FIELD = re.compile(r"^\t(?:(\w+)\s+)?(\**[\w\[\].*]+)\s+`(.*)`")
NAMED = re.compile(r"^(?:type |\t)(\w+) ((?:\[\]|map\[|\*)?[\w\].\[*]+)\s*$")
CONST = re.compile(r"^\s*\w+\s+(\w+)\s*=\s*\"(.*)\"\s*(?://.*)?$")


class Package:
    """The structs, named types and enumerations of one Go package."""

    def __init__(self, name, directory):
        self.name = name
        self.structs, self.named, self.enums = {}, {}, {}
        self.enum_types = set()
        for path in sorted(pathlib.Path(directory).glob("*.go")):
            if not path.name.endswith("_test.go") and not path.name.startswith("zz_"):
                self.read(path.read_text().splitlines())

    def read(self, lines):
        struct, comment = None, []
        for line in lines:
            text = line.strip()
            if text.startswith("//"):
                comment.append(text[2:].strip())
                continue
            opened = re.match(r"^type (\w+) struct \{\s*(\})?$", line)
            if opened:
                self.structs.setdefault(opened[1], [])
                struct = None if opened[2] else opened[1]
            elif line.startswith("}"):
                struct = None
            elif struct and (field := FIELD.match(line)):
                self.structs[struct].append((field[1], field[2], field[3], comment))
            elif not struct and (named := NAMED.match(line)) and named[2] not in ("struct", "interface"):
                if line.startswith("type "):
                    self.named[named[1]] = named[2]
                    if "+enum" in comment:
                        self.enum_types.add(named[1])
            elif not struct and (const := CONST.match(line)):
                self.enums.setdefault(const[1], []).append(const[2])
            comment = []


def load(api, apimachinery):
    packages = {}
    for directory in pathlib.Path(api).glob("*/v1*"):
        name = f"{directory.parent.name}.{directory.name}"
        packages[name] = Package(name, directory)
    base = pathlib.Path(apimachinery) / "pkg"
    packages["meta.v1"] = Package("meta.v1", base / "apis/meta/v1")
    packages["runtime"] = Package("runtime", base / "runtime")
    packages["types"] = Package("types", base / "types")
    for opaque in ("resource", "intstr"):
        packages[opaque] = Package(opaque, base / "nowhere")
    return packages


def resolve(packages, package, text):
    """A Go type expression in the notation of the output, and the definitions it needs."""
    if text.startswith("*"):
        inner, needs = resolve(packages, package, text[1:])
        return "*" + inner, needs
    if text == "[]byte":
        return "bytes", set()
    if text.startswith("[]"):
        inner, needs = resolve(packages, package, text[2:])
        return "[]" + inner, needs
    if text.startswith("map["):
        key, value = text[4:].split("]", 1)
        inner, needs = resolve(packages, package, value)
        key_text = resolve(packages, package, key)[0].split("=")[0]
        return f"map[{key_text}]{inner}", needs
    if text in BASIC:
        return text, set()
    if "." in text:
        alias, name = text.rsplit(".", 1)
        package = IMPORTS.get(alias) or re.sub(r"(v\d\w*)$", r".\1", alias)
    else:
        name = text
    full = f"{package}.{name}"
    if full in OPAQUE:
        return full, {full}
    if name in packages[package].structs:
        return full, {full}
    underlying = packages[package].named[name]
    inner, needs = resolve(packages, package, underlying)
    return f"{full}={inner}", needs


def fields_of(packages, full):
    """(json name, package, type expression, tag options, default, embedded struct) of a struct, embedded ones flattened."""
    package, name = full.rsplit(".", 1)
    for field, kind, tag, comment in packages[package].structs[name]:
        json_tag = re.search(r'json:"([^"]*)"', tag)
        if not json_tag or json_tag[1] == "-":
            continue
        json_name, *options = json_tag[1].split(",")
        if not json_name:
            if kind.endswith("TypeMeta"):
                yield "apiVersion", "meta.v1", "string", {"omitempty"}, None, "TypeMeta"
                yield "kind", "meta.v1", "string", {"omitempty"}, None, "TypeMeta"
                continue
            inner, _ = resolve(packages, package, kind.lstrip("*"))
            for *rest, _ in fields_of(packages, inner):
                yield *rest, inner.rsplit(".", 1)[1]
            continue
        default = next((c[len("+default="):] for c in comment if c.startswith("+default=")), None)
        if default and default.startswith("ref("):
            default = None
        yield json_name, package, kind, set(options), default, None


def long_name(full):
    package, name = full.rsplit(".", 1)
    return f"{LONG.get(package, 'io.k8s.api.' + package)}.{name}"


def published_type(spec):
    """The pointer type of a field that only OpenAPI knows."""
    kinds = spec["type"] if isinstance(spec["type"], list) else [spec["type"]]
    return "*" + {"boolean": "bool", "string": "string", "integer": spec.get("format", "int64")}[kinds[0]]


def flags(options, default, required, spec, embedded=None):
    out = []
    if "omitempty" in options:
        out.append("e")
    if "omitzero" in options:
        out.append("z")
    if required:
        out.append("r")
    if spec.get("x-kubernetes-map-type") == "atomic":
        out.append("a")
    if embedded:
        out.append(f"i={embedded}")
    if "x-kubernetes-list-type" in spec:
        keys = ",".join(spec.get("x-kubernetes-list-map-keys", []))
        out.append(f"l={spec['x-kubernetes-list-type']}" + (f":{keys}" if keys else ""))
    if "x-kubernetes-patch-strategy" in spec:
        out.append(f"s={spec['x-kubernetes-patch-strategy']}")
    if "x-kubernetes-patch-merge-key" in spec:
        out.append(f"m={spec['x-kubernetes-patch-merge-key']}")
    if default is not None:
        out.append(f"d={default}")
    return out


def emit(packages, definitions):
    pending = {f"{line.split(':')[0]}.{name}" for line in ROOTS.split("\n") if line for name in line.split(":")[1].split()}
    done, enums, lines = set(), set(), []
    while pending - done:
        full = sorted(pending - done)[0]
        done.add(full)
        spec = definitions.get(long_name(full), {})
        head = [full]
        if spec.get("x-kubernetes-map-type") == "atomic":
            head.append("atomic")
        gvks = spec.get("x-kubernetes-group-version-kind", [])
        if len(gvks) == 1:
            head.append("gvk={group}/{version}/{kind}".format(**gvks[0]))
        block = [" ".join(head)]
        rows = {} if full in OPAQUE else {f[0]: f for f in fields_of(packages, full)}
        published = spec.get("properties", {})
        for name in sorted(rows):
            _, package, kind, options, default, embedded = rows[name]
            text, needs = resolve(packages, package, kind)
            pending |= needs
            for named in re.findall(r"([\w.]+)=string", text):
                enums.add(named)
            required = name in spec.get("required", [])
            block.append(" " + " ".join([name, text] + flags(options, default, required, published.get(name, {}), embedded)))
        for name in sorted(set(published) - set(rows) if full not in OPAQUE else ()):
            text = published_type(published[name])
            print(f"{full}.{name}: published, but not in the sources, taken as {text}", file=sys.stderr)
            block.append(" " + " ".join([name, text] + flags({"omitempty"}, None, False, published[name])))
        block[1:] = sorted(block[1:])
        lines.append((full, block))
    for _, block in sorted(lines):
        print("\n".join(block))
    for named in sorted(enums):
        package, name = named.rsplit(".", 1)
        if name in packages[package].enum_types:
            print("enum", named, *sorted(set(packages[package].enums.get(name, []))))


def main():
    definitions_path, api, apimachinery = sys.argv[1:4]
    definitions = json.loads(pathlib.Path(definitions_path).read_text())
    emit(load(api, apimachinery), definitions.get("$defs", definitions))


if __name__ == "__main__":
    main()
