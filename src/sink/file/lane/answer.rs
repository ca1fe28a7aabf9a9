//! What completions mean: short writes go on, failed ones leave damage, and blocks come to their end.

use super::{Damage, FileLane, STAGED_BIT, SYNC_BIT};
use crate::base::limits;
use crate::plan::Fsync;
use crate::sink::{Done, Fate, write_error};
use crate::sys::ring::{Completion, Ring};

impl FileLane {
    /// Takes one completion; words for the user where the target is broken.
    pub fn complete<R: Ring>(
        &mut self,
        ring: &mut R,
        at: usize,
        completion: Completion,
        done: &mut Vec<Done>,
    ) -> Option<String> {
        let (staged, synced) = (completion.token & STAGED_BIT != 0, completion.token & SYNC_BIT != 0);
        let index = (completion.token & 0xffff_ffff) as usize;
        let operation = &mut self.operations[index];
        let file = operation.file;
        let slot = self.files.slots[file];
        let again =
            matches!(-completion.result, libc::EAGAIN | libc::EINTR) && operation.retries < limits::WRITE_RETRIES_MAX;
        if completion.result < 0 && !again || completion.result == 0 && !synced {
            return Some(self.fail(at, completion, done));
        }
        if synced {
            operation.retries += u32::from(again);
        } else {
            // A direct write that came out short goes on at the sector that it did not finish.
            let wrote = completion.result.max(0) as usize;
            let wrote = if wrote == operation.range.len() { wrote } else { wrote - wrote % self.plan.align as usize };
            operation.range.start += wrote;
            operation.offset += wrote as u64;
            // Only a write that gets nowhere is counted out.
            operation.retries = if wrote > 0 { 0 } else { operation.retries + 1 };
        }
        let queued = if !operation.range.is_empty() {
            self.wire.retries += 1;
            ring.write(slot, operation.range.clone(), operation.offset, completion.token)
        } else if self.plan.fsync == Fsync::Each && (!synced || again) {
            ring.sync(slot, completion.token | SYNC_BIT)
        } else {
            self.finish(index, staged, at, done);
            return None;
        };
        assert!(queued, "a completed operation left its place free");
        None
    }

    /// A write is wholly on the target.
    fn finish(&mut self, index: usize, staged: bool, at: usize, done: &mut Vec<Done>) {
        let operation = &self.operations[index];
        self.files.in_flight[operation.file] -= 1;
        if staged {
            self.finish_staged(index, at, done);
        } else {
            done.push(Done::rest(at, operation.slot, Fate::Produced));
        }
    }

    /// A staged write came to its end: so did the blocks that no write is outstanding for.
    fn finish_staged(&mut self, index: usize, at: usize, done: &mut Vec<Done>) {
        let Some(staging) = &mut self.staging else { return };
        staging.finish(index, self.operations[index].is_tail);
        while let Some(block) = self.waiting.front().filter(|block| block.ends_at <= staging.covered) {
            let start = block.ends_at - block.bytes;
            let hit = self.damage.filter(|damage| start < damage.to && damage.from < block.ends_at);
            match hit {
                None => done.push(Done::rest(at, block.slot, Fate::Produced)),
                Some(damage) => {
                    let bytes = damage.from.saturating_sub(start);
                    done.extend(Done::produced_but(at, block.slot, bytes, damage.rest));
                }
            }
            self.waiting.pop_front();
        }
    }

    /// A write or its sync failed for good. What it wrote before counts, unless each write is to be synced.
    fn fail(&mut self, at: usize, completion: Completion, done: &mut Vec<Done>) -> String {
        let (staged, synced) = (completion.token & STAGED_BIT != 0, completion.token & SYNC_BIT != 0);
        let index = (completion.token & 0xffff_ffff) as usize;
        let errno = if completion.result == 0 { libc::ENOSPC } else { -completion.result };
        let kind = write_error(errno);
        let operation = &self.operations[index];
        let wrote = operation.offset - operation.began;
        let (bytes, rest) = match self.plan.fsync {
            Fsync::Each if wrote > 0 => (0, Fate::Uncertain(kind)),
            _ => (wrote, Fate::Failed(kind)),
        };
        let (what, position) = (if synced { "fdatasync behind" } else { "write at" }, operation.offset);
        self.files.in_flight[operation.file] -= 1;
        if staged {
            let (from, to) = (operation.began + bytes, operation.offset + operation.range.len() as u64);
            let mine = Damage { from, to, rest };
            let worse = |old: Damage| Damage { from: old.from.min(from), to: old.to.max(to), rest: old.rest };
            self.damage = Some(self.damage.map_or(mine, worse));
            self.finish_staged(index, at, done);
        } else {
            done.extend(Done::produced_but(at, operation.slot, bytes, rest));
        }
        let error = std::io::Error::from_raw_os_error(errno);
        format!("{}: {what} {position} failed: {error}", self.plan.data.display())
    }
}
