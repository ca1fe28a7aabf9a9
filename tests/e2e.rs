//! Black-box runs of the binary: what a user types, what comes out, what is left on the drive.
//!
//! Some need root (they mount small file systems) and the tools `promtool`, `prometheus` and `python3`; without
//! them they fail and say so. Nothing has a fixed port, and nothing waits by the clock for something to happen.

#[path = "e2e/api.rs"]
mod api;
#[path = "e2e/damage.rs"]
mod damage;
#[path = "e2e/denied.rs"]
mod denied;
#[path = "e2e/devices.rs"]
mod devices;
#[path = "e2e/endings.rs"]
mod endings;
#[path = "e2e/files.rs"]
mod files;
#[path = "e2e/fleet.rs"]
mod fleet;
#[path = "e2e/full.rs"]
mod full;
#[path = "e2e/governance.rs"]
mod governance;
#[path = "e2e/governance_token.rs"]
mod governance_token;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/http.rs"]
mod http;
#[path = "e2e/http_bodies.rs"]
mod http_bodies;
#[path = "e2e/http_faults.rs"]
mod http_faults;
#[path = "e2e/http_lent.rs"]
mod http_lent;
#[path = "e2e/http_token.rs"]
mod http_token;
#[path = "e2e/layouts.rs"]
mod layouts;
#[path = "e2e/metrics.rs"]
mod metrics;
#[path = "e2e/modes.rs"]
mod modes;
#[path = "e2e/no_http.rs"]
mod no_http;
#[path = "e2e/pages.rs"]
mod pages;
#[path = "e2e/pinning.rs"]
mod pinning;
#[path = "e2e/pipes.rs"]
mod pipes;
#[path = "e2e/receive.rs"]
mod receive;
#[path = "e2e/receive_kafka.rs"]
mod receive_kafka;
#[path = "e2e/receive_runs.rs"]
mod receive_runs;
#[path = "e2e/report.rs"]
mod report;
#[path = "e2e/saturate.rs"]
mod saturate;
#[path = "e2e/server.rs"]
mod server;
#[path = "e2e/settings.rs"]
mod settings;
#[path = "e2e/start.rs"]
mod start;
#[path = "e2e/tcp.rs"]
mod tcp;
#[path = "e2e/tcp_faults.rs"]
mod tcp_faults;
#[path = "e2e/templates.rs"]
mod templates;
#[path = "e2e/tls.rs"]
mod tls;
