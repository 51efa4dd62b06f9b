//! Which fleet a process belongs to, and its place in it.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// Where the cores of `dev` have their data directories, below its own.
pub const CORES_DIR: &str = "cores";

/// Which fleet this process belongs to, and its place in it.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The fleet's name: its `ShardMap` has it, its Leases begin with it, its certificates name it.
    pub name: String,
    /// Where its `ShardMap` and Leases are.
    pub namespace: String,
    /// The region in which this process runs.
    pub region: String,
    /// The zone in which this replica runs.
    pub zone: String,
    /// This replica's share of the work relative to others.
    pub weight: u32,
    /// This replica's name: its Pod's.
    pub pod_name: Option<String>,
    /// UID of this replica's Pod.
    pub pod_uid: Option<String>,
    /// Address on which other replicas reach this one.
    pub peer_bind: IpAddr,
    /// Port on which other replicas reach this one; 0 picks a free one.
    pub peer_port: u16,
    /// What other replicas are told; absent: `peer_bind` and the port.
    pub peer_address: Option<String>,
    /// The gateways' journals: `host:port`, separated by commas.
    pub gateways: Option<String>,
    /// Address on which cores read this gateway's journal.
    pub journal_bind: IpAddr,
    /// Port on which cores read this gateway's journal; 0 picks a free one.
    pub journal_port: u16,
    /// PEM file with the CA of the fleet's certificates; read again when it changes.
    pub peer_ca: Option<PathBuf>,
    /// PEM file with this process's certificate chain; read again when it changes.
    pub peer_cert: Option<PathBuf>,
    /// PEM file with this process's private key; read again when it changes.
    pub peer_key: Option<PathBuf>,
    /// Cores that `dev` starts; 1: one within its own process.
    pub replicas: u16,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            name: "zen-fabric".to_owned(),
            namespace: "zen-system".to_owned(),
            region: "local".to_owned(),
            zone: "local".to_owned(),
            weight: 100,
            pod_name: None,
            pod_uid: None,
            peer_bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            peer_port: 8083,
            peer_address: None,
            gateways: None,
            journal_bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            journal_port: 8084,
            peer_ca: None,
            peer_cert: None,
            peer_key: None,
            replicas: 3,
        }
    }
}
