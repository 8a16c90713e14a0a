//! Pods that speak HTTPS with a certificate nobody vouches for, behind the API server's proxy.

use std::time::Duration;

use serde_json::json;

use crate::lab::{wait, world::World};

const TIME_MAX: Duration = Duration::from_secs(30);

const SERVER: &str = r#"
import http.server, ssl
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"over TLS: " + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/secure/tls.crt", "/secure/tls.key")
server = http.server.ThreadingHTTPServer(("", 8443), Answer)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn what_speaks_https_is_reached_through_the_proxy() {
    let world = World::running(1);
    let key = rcgen::generate_simple_self_signed(["secure.example".to_owned()]).expect("a key");
    let core = "/api/v1/namespaces/default";
    let tls = json!({ "tls.crt": key.cert.pem(), "tls.key": key.signing_key.serialize_pem() });
    let named = |name: &str| json!({ "name": name, "labels": { "app": name } });
    let secret = json!({
        "metadata": named("secure"), "type": "kubernetes.io/tls", "stringData": tls,
    });
    world.post(&format!("{core}/secrets"), &secret);
    let pod = json!({
        "metadata": named("secure"),
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [{ "name": "tls", "secret": { "secretName": "secure" } }],
            "containers": [{
                "name": "server", "command": ["python3", "-c", SERVER],
                "volumeMounts": [{ "name": "tls", "mountPath": "/secure" }],
                "readinessProbe": { "tcpSocket": { "port": 8443 }, "periodSeconds": 1 },
            }],
        },
    });
    world.post(&format!("{core}/pods"), &pod);
    let service = json!({
        "metadata": named("secure"),
        "spec": {
            "selector": { "app": "secure" },
            "ports": [{ "name": "web", "port": 443, "targetPort": 8443 }],
        },
    });
    world.post(&format!("{core}/services"), &service);
    for target in [
        "pods/https:secure:8443",
        "services/https:secure:443",
        "services/https:secure:web",
    ] {
        let path = format!("{core}/{target}/proxy/a/b?c=d");
        wait::until(target, TIME_MAX, || {
            let answer = world.try_kubectl(&["get", "--raw", &path]);
            let said = String::from_utf8_lossy(&answer.stdout).into_owned();
            if said == "over TLS: /a/b?c=d" {
                Ok(())
            } else {
                Err((said, String::from_utf8_lossy(&answer.stderr).into_owned()))
            }
        });
    }
    let plain = format!("{core}/pods/secure:8443/proxy/");
    let refused = world.try_kubectl(&["get", "--raw", &plain]);
    assert!(!refused.status.success(), "plain HTTP is no HTTPS");
}
