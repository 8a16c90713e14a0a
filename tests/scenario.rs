//! Reads `tests/scenarios/*.md`: objects, pods, and who answers whom. Runs nothing.
//!
//! `$(NAME)` in YAML or in the `to` column stands for the address of that pod, node or `client`.
//! Addresses are written in IPv4; in IPv6 each stands for the same number in `fd64::/96`.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::lab::family::{Family, Stack};

/// One file.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The first heading.
    pub(crate) title: String,
    /// YAML documents, before `$(NAME)` is replaced.
    yaml: String,
    pub(crate) pods: Vec<Pod>,
    pub(crate) rows: Vec<Row>,
}

/// A pod that runs `knarr echo`, listening on TCP and UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) node: String,
    /// Ports by name; a port without a name has an empty one.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) state: PodState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodState {
    Ready,
    Unready,
    /// Deleted, and still answering until its grace period ends.
    Leaving,
}

/// One line of the packet table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// A pod, a node or `client`.
    pub(crate) from: String,
    /// `ADDRESS:PORT`, or `ADDRESS` for a ping, before `$(NAME)` is replaced.
    pub(crate) to: String,
    pub(crate) protocol: Protocol,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
    /// An echo request, to an address without a port.
    Icmp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By each of these over many tries and by nobody else, who see that source.
    Answered { by: Vec<String>, seen_as: String },
    /// By one of these, and by the same one in every such row of the same client.
    Kept {
        by_one_of: Vec<String>,
        seen_as: String,
    },
    /// Refused at once by the node that the packet meets first.
    Rejected,
    /// Nothing comes back.
    Dropped,
    /// No rule takes it: the machine that has the address answers as it always does.
    Untouched,
}

impl Scenario {
    /// Every scenario of a folder, in order of name.
    pub(crate) fn all(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).expect("the folder of scenarios is readable");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a scenario is text");
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let title = text.lines().find_map(|line| line.strip_prefix("# "));
        let title = title.ok_or("no heading")?.to_owned();
        let mut yaml = String::new();
        let mut prose = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            match (inside, line.trim_end()) {
                (false, "```yaml") => {
                    inside = true;
                    yaml.push_str("---\n");
                }
                (true, "```") => inside = false,
                (true, line) => {
                    yaml.push_str(line);
                    yaml.push('\n');
                }
                (false, line) => prose.push(line),
            }
        }
        let mut pods = pods_in_line(&prose)?;
        let mut rows = Vec::new();
        for table in tables(&prose) {
            for cells in table {
                if cells.contains_key("from") {
                    rows.push(Row::read(&cells)?);
                } else if cells.contains_key("pod") {
                    pods.push(Pod::read(&cells)?);
                }
            }
        }
        if rows.is_empty() {
            return Err("no packet table".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            title,
            yaml,
            pods,
            rows,
        })
    }

    /// The objects, with the addresses of pods and machines filled in.
    pub(crate) fn objects(
        &self,
        stack: Stack,
        address: impl Fn(&str, Family) -> Option<String>,
    ) -> Vec<Value> {
        let [first, rest @ ..] = stack.families() else {
            return Vec::new();
        };
        let mut objects = self.objects_in(*first, &address);
        for family in rest {
            for object in self.objects_in(*family, &address) {
                let is_service = object["kind"] == "Service";
                let same = |other: &&mut Value| {
                    other["kind"] == "Service"
                        && other["metadata"]["name"] == object["metadata"]["name"]
                };
                match objects.iter_mut().find(same).filter(|_| is_service) {
                    Some(service) => add_family(service, &object),
                    None if object["kind"] == "EndpointSlice" => {
                        objects.push(renamed(object, *family));
                    }
                    None => {}
                }
            }
        }
        objects
    }

    fn objects_in(
        &self,
        family: Family,
        address: impl Fn(&str, Family) -> Option<String>,
    ) -> Vec<Value> {
        let yaml = fill_in(&self.yaml, |name| address(name, family));
        let documents = yaml
            .split("---\n")
            .filter(|document| !document.trim().is_empty());
        documents
            .map(|document| {
                let mut object: Value = serde_saphyr::from_str(document)
                    .unwrap_or_else(|error| panic!("{}: {error}\n{document}", self.name));
                translate(&mut object, family);
                object
            })
            .collect()
    }
}

/// Puts every address, range and name of a family within an object into another family.
fn translate(value: &mut Value, family: Family) {
    match value {
        Value::String(text) => {
            if let Ok(address) = text.parse() {
                *text = family.address(address).to_string();
            } else if let Ok(net) = text.parse() {
                *text = family.net(net).to_string();
            } else if text == Family::V4.name() {
                *text = family.name().to_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| translate(item, family)),
        Value::Object(fields) => fields.values_mut().for_each(|item| translate(item, family)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Gives a Service the addresses that it has in another family too.
fn add_family(service: &mut Value, other: &Value) {
    let spec = &mut service["spec"];
    let both = |one: &Value, other: &Value| json!([one, other]);
    let (own, more) = (spec["clusterIP"].clone(), &other["spec"]["clusterIP"]);
    if own.is_string() && own != "None" {
        spec["clusterIPs"] = both(&own, more);
    }
    spec["ipFamilyPolicy"] = "RequireDualStack".into();
    spec["ipFamilies"] = json!([Family::V4.name(), Family::V6.name()]);
    for list in [
        "/spec/externalIPs",
        "/spec/loadBalancerSourceRanges",
        "/status/loadBalancer/ingress",
    ] {
        let own = service.pointer_mut(list).and_then(Value::as_array_mut);
        let more = other.pointer(list).and_then(Value::as_array);
        if let (Some(own), Some(more)) = (own, more) {
            own.extend(more.iter().cloned());
        }
    }
}

fn renamed(mut object: Value, family: Family) -> Value {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let name = format!("{name}-{}", family.name().to_lowercase());
    object["metadata"]["name"] = name.into();
    object
}

impl Row {
    fn read(cells: &BTreeMap<String, String>) -> Result<Self, String> {
        let cell = |name: &str| cells.get(name).cloned().unwrap_or_default();
        let names = |list: &str| {
            let mut names: Vec<String> = list.split(',').map(|n| n.trim().to_owned()).collect();
            names.sort();
            names
        };
        let answered_by = cell("answered by");
        let outcome = match answered_by.as_str() {
            "rejected" => Outcome::Rejected,
            "dropped" => Outcome::Dropped,
            "untouched" => Outcome::Untouched,
            "" => return Err(format!("nothing in `answered by`: {cells:?}")),
            by => match by.strip_prefix("always one of ") {
                Some(list) => Outcome::Kept {
                    by_one_of: names(list),
                    seen_as: cell("seen as"),
                },
                None => Outcome::Answered {
                    by: names(by),
                    seen_as: cell("seen as"),
                },
            },
        };
        let protocol = match cell("protocol").to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            "icmp" => Protocol::Icmp,
            other => return Err(format!("protocol {other:?}")),
        };
        Ok(Self {
            from: cell("from"),
            to: cell("to"),
            protocol,
            outcome,
        })
    }

    /// Where the packet goes in a family, with the addresses of pods and machines filled in.
    pub(crate) fn to(
        &self,
        family: Family,
        address: impl Fn(&str, Family) -> Option<String>,
    ) -> SocketAddr {
        let (host, port) = match self.protocol {
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp => {
                self.to.rsplit_once(':').unwrap_or((&self.to, ""))
            }
            Protocol::Icmp => (self.to.as_str(), "0"),
        };
        let host = fill_in(host, |name| address(name, family));
        match (host.parse(), port.parse()) {
            (Ok(host), Ok(port)) => SocketAddr::new(family.address(host), port),
            _ => panic!("{}: neither ADDRESS:PORT nor ADDRESS", self.to),
        }
    }
}

impl Pod {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            node: String::new(),
            ports: vec![(String::new(), 8080)],
            state: PodState::Ready,
        }
    }

    fn read(cells: &BTreeMap<String, String>) -> Result<Self, String> {
        let cell = |name: &str| cells.get(name).map(String::as_str).unwrap_or_default();
        let mut pod = Self::new(cell("pod"));
        pod.labels = labels(cell("labels"));
        pod.node = cell("node").to_owned();
        pod.state = match cell("state") {
            "" | "ready" => PodState::Ready,
            "unready" => PodState::Unready,
            "leaving" => PodState::Leaving,
            other => return Err(format!("state {other:?}")),
        };
        let ports = cell("ports")
            .split(',')
            .map(str::trim)
            .filter(|port| !port.is_empty());
        let ports: Vec<(String, u16)> = ports
            .map(|port| {
                let (name, number) = port.split_once('=').unwrap_or(("", port));
                let number = number
                    .parse()
                    .map_err(|error| format!("port {port:?}: {error}"))?;
                Ok((name.to_owned(), number))
            })
            .collect::<Result<_, String>>()?;
        if !ports.is_empty() {
            pod.ports = ports;
        }
        Ok(pod)
    }
}

/// ``Pods: `web-1` (app=web) and `shop-1` (app=shop), both on `node-1`; …``
fn pods_in_line(prose: &[&str]) -> Result<Vec<Pod>, String> {
    let start = prose.iter().position(|line| line.starts_with("Pods:"));
    let Some(start) = start else {
        return Ok(Vec::new());
    };
    let paragraph: Vec<&str> = prose[start..]
        .iter()
        .copied()
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    let mut pods: Vec<Pod> = Vec::new();
    let mut before = "";
    for (index, part) in paragraph.split('`').enumerate() {
        let quoted = index % 2 == 1;
        if quoted && before.ends_with(" on ") {
            for pod in pods.iter_mut().filter(|pod| pod.node.is_empty()) {
                pod.node = part.to_owned();
            }
        } else if quoted {
            pods.push(Pod::new(part));
        } else if let (Some(text), Some(pod)) =
            (part.trim_start().strip_prefix('('), pods.last_mut())
        {
            pod.labels = labels(text.split(')').next().unwrap_or_default());
        }
        before = part;
    }
    match pods.iter().find(|pod| pod.node.is_empty()) {
        Some(pod) => Err(format!("{} is on no node", pod.name)),
        None => Ok(pods),
    }
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// Every table, as rows of cells by their column's heading.
fn tables(prose: &[&str]) -> Vec<Vec<BTreeMap<String, String>>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect()
    };
    let is_row = |line: &&str| line.trim_start().starts_with('|');
    prose
        .split(|line| !is_row(line))
        .filter(|lines| lines.len() > 2)
        .map(|lines| {
            let headings = cells(lines[0]);
            let rows = lines[2..].iter();
            rows.map(|line| headings.iter().cloned().zip(cells(line)).collect())
                .collect()
        })
        .collect()
}

fn fill_in(text: &str, address: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    for (index, part) in text.split("$(").enumerate() {
        match part.split_once(')') {
            Some((name, rest)) if index > 0 => {
                let address = address(name).unwrap_or_else(|| panic!("nobody is called {name:?}"));
                filled.push_str(&address);
                filled.push_str(rest);
            }
            _ => filled.push_str(part),
        }
    }
    filled
}

#[test]
fn every_scenario_names_only_machines_and_pods_it_has() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
    for scenario in Scenario::all(folder) {
        let machine = |name: &str| name == "client" || name.starts_with("node-");
        let pod = |name: &str| scenario.pods.iter().any(|pod| pod.name == name);
        let known = |name: &str| machine(name) || pod(name);
        for row in &scenario.rows {
            assert!(known(&row.from), "{}: {:?}", scenario.name, row.from);
            if let Outcome::Answered { by, seen_as }
            | Outcome::Kept {
                by_one_of: by,
                seen_as,
            } = &row.outcome
            {
                assert!(
                    by.iter().all(|name| known(name)),
                    "{}: {by:?}",
                    scenario.name
                );
                assert!(known(seen_as), "{}: {seen_as:?}", scenario.name);
            }
            for family in Stack::Dual.families() {
                row.to(*family, |name, _| {
                    known(name).then(|| "10.42.0.9".to_owned())
                });
            }
        }
        assert!(
            scenario
                .pods
                .iter()
                .all(|pod| pod.node.starts_with("node-"))
        );
        for stack in Stack::ALL {
            let objects = scenario.objects(stack, |_, _| Some("10.42.0.9".to_owned()));
            assert!(
                objects.iter().all(|object| object["kind"].is_string()),
                "{}",
                scenario.name
            );
        }
    }
}

#[test]
fn a_scenario_means_the_same_in_each_family() {
    let text = "# Title\n```yaml\nkind: Service\nmetadata: { name: web }\n\
        spec: { clusterIP: 10.0.128.41, loadBalancerSourceRanges: [10.78.0.0/24] }\n```\n\
        ```yaml\nkind: EndpointSlice\nmetadata: { name: web-1 }\naddressType: IPv4\n\
        endpoints: [{ addresses: [$(db-1)] }]\n```\n\
        | from | to | answered by | seen as |\n|-|-|-|-|\n| client | 10.0.128.41:80 | db-1 | client |\n";
    let scenario = Scenario::parse("title", text).expect("a scenario");
    let address = |_: &str, family: Family| {
        let address = [10, 42, 0, 9].into();
        Some(family.address(address).to_string())
    };
    assert_eq!(
        scenario.objects(Stack::V6, address),
        [
            json!({ "kind": "Service", "metadata": { "name": "web" }, "spec": {
                "clusterIP": "fd64::a00:8029", "loadBalancerSourceRanges": ["fd64::a4e:0/120"] } }),
            json!({ "kind": "EndpointSlice", "metadata": { "name": "web-1" },
                "addressType": "IPv6", "endpoints": [{ "addresses": ["fd64::a2a:9"] }] }),
        ]
    );
    assert_eq!(
        scenario.objects(Stack::Dual, address),
        [
            json!({ "kind": "Service", "metadata": { "name": "web" }, "spec": {
                "clusterIP": "10.0.128.41", "clusterIPs": ["10.0.128.41", "fd64::a00:8029"],
                "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
                "loadBalancerSourceRanges": ["10.78.0.0/24", "fd64::a4e:0/120"] } }),
            json!({ "kind": "EndpointSlice", "metadata": { "name": "web-1" },
                "addressType": "IPv4", "endpoints": [{ "addresses": ["10.42.0.9"] }] }),
            json!({ "kind": "EndpointSlice", "metadata": { "name": "web-1-ipv6" },
                "addressType": "IPv6", "endpoints": [{ "addresses": ["fd64::a2a:9"] }] }),
        ]
    );
    assert_eq!(
        scenario.rows[0].to(Family::V6, address).to_string(),
        "[fd64::a00:8029]:80"
    );
}
