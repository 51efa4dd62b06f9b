//! What the kernel tells about this process, read when it is asked for.

use std::fs;

use prometheus::{
    Gauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Resident memory, open files and CPU time; absent where there is no `/proc`.
#[derive(Debug)]
pub(super) struct Process {
    resident: Gauge,
    files: Gauge,
    cpu: Gauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            resident: Gauge::new("process_resident_memory_bytes", "Resident memory")?,
            files: Gauge::new("process_open_fds", "Open file descriptors")?,
            cpu: Gauge::new(
                "process_cpu_seconds",
                "User and system CPU time since the start",
            )?,
        })
    }

    fn gauges(&self) -> [&Gauge; 3] {
        [&self.resident, &self.files, &self.cpu]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(pages) = fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse::<u32>().ok())
        {
            let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
            self.resident.set(f64::from(pages) * f64::from(page));
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.files.set(f64::from(
                u32::try_from(entries.count()).unwrap_or(u32::MAX),
            ));
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| cpu_seconds(&text))
        {
            self.cpu.set(seconds);
        }
        self.gauges()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

/// The sum of `utime` and `stime`, fields 14 and 15 of `/proc/self/stat`, in ticks of 10 ms (proc(5)).
///
/// The second field is the command in parentheses and may hold spaces and parentheses itself.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user = fields.next()?.parse::<u32>().ok()?;
    let system = fields.next()?.parse::<u32>().ok()?;
    Some((f64::from(user) + f64::from(system)) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_command_with_spaces_and_parentheses() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
