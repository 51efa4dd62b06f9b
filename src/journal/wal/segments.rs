//! Segments come and go: what the head of a new one says, and what becomes of one that fails.

use std::{io, sync::Arc};

use tracing::warn;

use super::{
    disk::DiskFile,
    engine::{Active, Engine, Io},
    entry::{self, Standing},
    format::{self, BatchHeader, Cut, Kind, SegmentHeader, SegmentId},
    index::{Index, Segment, count},
};
use crate::journal::Millis;

#[cfg(feature = "testing")]
use super::options::Mutant;

impl Engine {
    /// Opens a new segment: its header says where the one before ends, its first batch what every
    /// Ingestor has come to.
    pub(super) fn rotate(&self, io: &mut Io, now: Millis) -> io::Result<()> {
        let id = io.next_segment;
        io.next_segment = id.saturating_add(1);
        let previous = io.active.as_ref().map_or(io.previous, |active| {
            Some(Cut {
                segment: active.id,
                len: active.used,
            })
        });
        let (snapshot, entries, next_position) = self.snapshot();
        let header = SegmentHeader {
            log: self.log,
            salt: self.salt,
            id,
            previous,
            next_position,
        };
        let mut bytes = header.encode().to_vec();
        if entries > 0 {
            let batch = BatchHeader {
                len: u32::try_from(snapshot.len()).unwrap_or(u32::MAX),
                count: entries,
                snapshot: true,
                durable: count(bytes.len()),
                written_at: now.0,
            };
            bytes.extend_from_slice(&batch.encode(self.seed, id));
            bytes.extend_from_slice(&snapshot);
        }
        let name = format::file_name(id);
        let file = self
            .disk
            .create(&name, self.options.segment_bytes.max(count(bytes.len())))?;
        if let Err(error) = self.begin(file.as_ref(), &bytes) {
            self.take_back(io, &name, file.as_ref(), previous);
            return Err(error);
        }
        // The new file's sync of the directory was that of all removals before.
        io.removal_unsynced = false;
        let used = count(bytes.len());
        {
            let mut state = self.state();
            state.files.insert(id, Arc::clone(&file));
            state.snapshot_bytes = count(snapshot.len());
            state.index.segments.insert(
                id,
                Segment {
                    bytes: used.max(self.options.segment_bytes),
                    live: 0,
                },
            );
        }
        io.previous = None;
        io.active = Some(Active { id, file, used });
        Ok(())
    }

    fn begin(&self, file: &dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
        file.write_at(0, bytes)?;
        #[cfg(feature = "testing")]
        if !self.options.is(Mutant::NoDataSync) {
            file.sync()?;
        }
        #[cfg(not(feature = "testing"))]
        file.sync()?;
        #[cfg(feature = "testing")]
        if self.options.is(Mutant::NoDirectorySync) {
            return Ok(());
        }
        self.disk.sync_dir()
    }

    /// A segment could not be begun. Whatever was said, its header may be durable, and so its file may
    /// be there after a power cut, removed or not: all that came behind the cut it names would be gone.
    /// So it is emptied durably before anything more is written behind the cut, and where that fails
    /// nothing is: the segment before it is closed for good.
    fn take_back(&self, io: &mut Io, name: &str, file: &dyn DiskFile, previous: Option<Cut>) {
        #[cfg(feature = "testing")]
        let emptied = self.options.is(Mutant::KeepHeaderAfterFailedSync)
            || file.truncate(0).and_then(|()| file.sync()).is_ok();
        #[cfg(not(feature = "testing"))]
        let emptied = file.truncate(0).and_then(|()| file.sync()).is_ok();
        if !emptied && let (Some(active), Some(cut)) = (io.active.clone(), previous) {
            warn!(
                segment = active.id,
                "a segment could be neither begun nor taken back; the one before it is closed for good"
            );
            self.close_segment(io, &active, cut.len, cut.len);
            // What was read of it to be carried is not written now.
            io.trim = None;
        }
        if let Err(error) = self.disk.remove(name) {
            // It holds nothing; the next start removes it.
            warn!(%error, %name, "removing a segment that could not be begun failed");
        }
    }

    /// What every Ingestor has come to, and who holds which bucket: entries, and how many.
    fn snapshot(&self) -> (Vec<u8>, u32, u64) {
        let state = self.state();
        let index = &state.index;
        let (mut out, mut entries, mut payload) = (Vec::new(), 0, Vec::new());
        let mut push = |kind, payload: &mut Vec<u8>| {
            format::push_entry(
                &mut out,
                self.seed,
                kind,
                0,
                payload,
                crc32c::crc32c(payload),
            );
            payload.clear();
            entries += 1;
        };
        for ingestor in index
            .ingestors
            .iter()
            .filter(|ingestor| !Index::is_gone(ingestor))
        {
            let standing = Standing {
                ingestor: &ingestor.uid.0,
                tally: ingestor.tally,
                in_force: ingestor.in_force.and_then(|number| {
                    index
                        .specs
                        .get(usize::try_from(number).ok()?)?
                        .as_ref()
                        .map(|spec| spec.digest)
                }),
                forgotten: ingestor.forgotten,
            };
            entry::put_standing(&mut payload, &standing);
            push(Kind::Tally, &mut payload);
        }
        for ((epoch, holder), buckets) in index.holders() {
            entry::put_epochs(&mut payload, &holder, epoch, &buckets);
            push(Kind::Epochs, &mut payload);
        }
        (out, entries, state.next_position)
    }

    /// Removes a segment in which nothing is live; false: not yet.
    ///
    /// Never before the removal of the one before it is durable: so what a power cut leaves is one run
    /// of segments, and one that is not there in the middle of it was lost, not trimmed.
    pub(super) fn remove_segment(&self, io: &mut Io, id: SegmentId, now: Millis) -> bool {
        let name = format::file_name(id);
        let removed = self
            .settle_removals(io)
            .and_then(|()| match self.disk.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
        if let Err(error) = removed {
            warn!(%error, %name, "removing a trimmed segment failed; it is tried again");
            io.trim_failed = Some(now);
            return false;
        }
        io.removal_unsynced = true;
        let mut state = self.state();
        state.files.remove(&id);
        state.index.segments.remove(&id);
        state.cache.drop_segment(id);
        true
    }

    fn settle_removals(&self, io: &mut Io) -> io::Result<()> {
        #[cfg(feature = "testing")]
        if self.options.is(Mutant::UnorderedRemovals) {
            return Ok(());
        }
        if io.removal_unsynced {
            self.disk.sync_dir()?;
            io.removal_unsynced = false;
        }
        Ok(())
    }
}
