//! Jails, devices and their limits.

use std::fs;
use std::path::Path;

use worldline_sandbox::firecracker::api::{Balloon, RateLimiter, TokenBucket};
use worldline_sandbox::firecracker::{Firecracker, Hardware, JAILED, Network, Settings};
use worldline_sandbox::{Backend, CreateError};

use crate::faults::{monitors, traces};
use crate::{Needs, Promise, Talk, firecracker, folder, jailer, machine, small};

pub(crate) const PROMISES: &[Promise] = &[
    (
        "a_machine_with_every_device_runs_and_branches",
        Needs::Nothing,
        a_machine_with_every_device_runs_and_branches,
    ),
    (
        "a_jailed_machine_is_walled_in",
        Needs::Network,
        a_jailed_machine_is_walled_in,
    ),
    (
        "two_branches_with_one_address_do_not_meet",
        Needs::Network,
        two_branches_with_one_address_do_not_meet,
    ),
    (
        "what_firecracker_refuses_is_told_in_its_words",
        Needs::Nothing,
        what_firecracker_refuses_is_told_in_its_words,
    ),
];

fn limits() -> RateLimiter {
    let bucket = |size| TokenBucket {
        size,
        one_time_burst: Some(size),
        refill_time: 100,
    };
    RateLimiter {
        bandwidth: Some(bucket(1 << 20)),
        ops: Some(bucket(1000)),
    }
}

fn devices() -> Hardware {
    Hardware {
        disk_limits: Some(limits()),
        vsock: true,
        balloon: Some(Balloon {
            amount_mib: 0,
            deflate_on_oom: true,
            stats_polling_interval_s: 1,
        }),
        ..Hardware::default()
    }
}

fn network() -> Network {
    Network {
        address: Some("06:00:AC:10:00:02".into()),
        receive_limits: Some(limits()),
        send_limits: Some(limits()),
    }
}

fn jailed(data: &Path) -> Firecracker {
    let settings = Settings {
        jail: Some(jailer()),
        hardware: Hardware {
            network: Some(network()),
            ..devices()
        },
        ..Settings::new(data, firecracker())
    };
    Firecracker::open(settings).unwrap()
}

fn a_machine_with_every_device_runs_and_branches() {
    let folder = folder();
    let settings = Settings {
        hardware: devices(),
        ..Settings::new(folder.path(), firecracker())
    };
    let backend = Firecracker::open(settings).unwrap();
    let base = machine(&backend);
    base.say("poke 3 4");
    let snapshot = base.snapshot(None).unwrap();
    for branch in backend.branch(&snapshot.id, 2, &small()).unwrap() {
        assert_eq!(branch.say("peek 3"), "4");
    }
}

fn a_jailed_machine_is_walled_in() {
    let folder = folder();
    let backend = jailed(folder.path());
    let base = machine(&backend);
    base.say("poke 3 4");
    let all = monitors(folder.path());
    assert_eq!(all.len(), 1);
    let proc = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", all[0])).unwrap();
    let status = proc("status");
    let users = format!("Uid:\t{JAILED}\t{JAILED}\t{JAILED}\t{JAILED}");
    assert!(status.contains(&users), "{status}");
    assert!(
        status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(
        fs::read_link(format!("/proc/{}/ns/net", all[0])).unwrap(),
        own
    );
    let traces = traces(folder.path());
    if traces.iter().any(|trace| trace.starts_with("group ")) {
        let group = proc("cgroup");
        assert!(
            group.contains("/worldline/") && group.contains("-machine-"),
            "{traces:?}"
        );
    }
    let snapshot = base.snapshot(None).unwrap();
    assert_eq!(
        backend
            .restore(&snapshot.id, &small())
            .unwrap()
            .say("peek 3"),
        "4"
    );
}

fn two_branches_with_one_address_do_not_meet() {
    let folder = folder();
    let backend = jailed(folder.path());
    let base = machine(&backend);
    let snapshot = base.snapshot(None).unwrap();
    let branches = backend.branch(&snapshot.id, 2, &small()).unwrap();
    for branch in &branches {
        assert_eq!(branch.say("echo here"), "here");
    }
    let networks: std::collections::BTreeSet<_> = monitors(folder.path())
        .into_iter()
        .map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap())
        .collect();
    assert_eq!(networks.len(), 3, "each its own network");
    // Without a jail there is one network for all, so a card is refused.
    let other = crate::folder();
    let settings = Settings {
        hardware: Hardware {
            network: Some(network()),
            ..Hardware::default()
        },
        ..Settings::new(other.path(), firecracker())
    };
    let refused = Firecracker::open(settings)
        .unwrap()
        .create(&small())
        .map(drop);
    assert!(matches!(refused, Err(CreateError::Lacks(_))), "{refused:?}");
}

fn what_firecracker_refuses_is_told_in_its_words() {
    let folder = folder();
    let settings = Settings {
        hardware: Hardware {
            cpu_template: Some("Z80".into()),
            ..Hardware::default()
        },
        ..Settings::new(folder.path(), firecracker())
    };
    let backend = Firecracker::open(settings).unwrap();
    let refused = backend.create(&small()).map(drop).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("PUT /machine-config") && said.contains("Z80"),
        "{said}"
    );
    assert_eq!(
        fs::read_dir(folder.path().join("machines"))
            .unwrap()
            .count(),
        0
    );
}
