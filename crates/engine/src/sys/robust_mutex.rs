//! The liveness word: how other processes notice at once that a process died.
//!
//! A process holds a robust, process-shared mutex of the C library for as long as it lives and never unlocks it. When
//! the holding thread ends, or its process is killed, exits **or calls exec**, the kernel itself sets [`DIED`] in the
//! mutex's word and wakes a sleeper on it. We use a mutex of the C library and not a robust list of our own, because a
//! thread can have only one such list.
//!
//! Only two threads can hold it: the first one of the process, and one of the engine's own. Any other thread may end
//! before its process does. And if it calls exec itself, it continues under the first thread's number, so that the
//! kernel does not recognise the word as its own any more.
//!
//! The C library registers a thread's list with the kernel when the thread starts, and does not check whether that was
//! refused (by a sandbox or an emulator). Then no death would ever be marked. So we ask the kernel whether it knows the
//! list.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Set by the kernel when the holder is gone.
const DIED: u32 = 0x4000_0000;
/// Set by a process that sleeps on the word, so that the kernel wakes it.
const WAITERS: u32 = 0x8000_0000;
const TID: u32 = 0x3fff_ffff;

/// Where the C library keeps the futex word within its mutex.
const WORD_OFFSET: usize = if cfg!(target_env = "musl") { 4 } else { 0 };

/// A robust mutex in shared memory, zeroed before its first use.
#[repr(C)]
pub(crate) struct LivenessWord(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: the mutex is made for use by many threads and processes; apart from the C library's own access, the only
// access is through the atomic word.
unsafe impl Sync for LivenessWord {}

impl LivenessWord {
    pub(crate) fn word(&self) -> &AtomicU32 {
        // SAFETY: the futex word lies at this offset in both C libraries, is four-aligned, and lives
        // as long as the mutex; all access to it, the kernel's too, is atomic.
        unsafe { AtomicU32::from_ptr(self.0.get().byte_add(WORD_OFFSET).cast()) }
    }

    /// Makes the calling thread the holder. False when the thread's end would not be marked: the C library has no
    /// robust mutexes, or the kernel does not know the thread's list.
    ///
    /// The caller owns the process entry that the word belongs to, so nobody else initialises or locks the mutex.
    pub(crate) fn hold(&self) -> bool {
        self.init() && (cfg!(miri) || is_list_known()) && self.lock()
    }

    /// Initialises it as a lock for the threads of the process that owns the entry.
    ///
    /// As with [`LivenessWord::hold`], nobody else has it.
    pub(crate) fn init(&self) -> bool {
        if cfg!(miri) {
            // Miri knows neither robust mutexes nor deaths.
            self.word().store(0, Ordering::Release);
            return true;
        }
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: plain C calls on a mutex that only the owner of the entry initialises and locks; its memory is never
        // unmapped, so the thread's robust list stays valid until the thread ends.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            );
            let robust = libc::pthread_mutexattr_setrobust(
                attributes.as_mut_ptr(),
                libc::PTHREAD_MUTEX_ROBUST,
            );
            self.0.get().write(std::mem::zeroed());
            let made = libc::pthread_mutex_init(self.0.get(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
            robust == 0 && made == 0
        }
    }

    /// Waits until the calling thread holds the lock.
    pub(crate) fn lock(&self) -> bool {
        if cfg!(miri) {
            self.word().store(1, Ordering::Release);
            return true;
        }
        // SAFETY: a mutex that was made by this process, in memory that is never unmapped.
        let locked = unsafe { libc::pthread_mutex_lock(self.0.get()) };
        if locked == libc::EOWNERDEAD {
            // The holder was a thread that ended without unlocking: what the lock protects is the kernel's business.
            // SAFETY: as above, and held by this thread.
            return unsafe { libc::pthread_mutex_consistent(self.0.get()) == 0 };
        }
        locked == 0
    }

    /// Unlocks; false when another thread holds the lock.
    pub(crate) fn unlock(&self) -> bool {
        if cfg!(miri) {
            return self.word().swap(0, Ordering::Release) != 0;
        }
        // SAFETY: an initialised mutex; unlocking one that another thread holds is refused with EPERM.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) == 0 }
    }

    pub(crate) fn holder_died(&self) -> bool {
        self.word().load(Ordering::Acquire) & DIED != 0
    }

    pub(crate) fn is_held(&self) -> bool {
        is_held(self.word().load(Ordering::Acquire))
    }

    /// Prepares a sleep on the word: the value to expect, or `None` when the holder is already gone.
    pub(crate) fn watch(&self) -> Option<u32> {
        let word = self.word();
        // SeqCst: in one total order with the record of the sleep, as are the writers of this word
        // (`process_table/death_watch.rs`).
        let mut seen = word.load(Ordering::SeqCst);
        loop {
            if seen & DIED != 0 {
                return None;
            }
            // Without a holder the bit must stay clear, or the next `hold` would wait for ever.
            if seen & WAITERS != 0 || seen & TID == 0 {
                return Some(seen);
            }
            match word.compare_exchange(seen, seen | WAITERS, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(seen | WAITERS),
                Err(now) => seen = now,
            }
        }
    }
}

/// Whether the kernel knows the calling thread's list of robust mutexes. When in doubt, false: then deaths are noticed
/// by process numbers, which is slower and no less reliable.
fn is_list_known() -> bool {
    if cfg!(miri) {
        return true;
    }
    let mut head = std::ptr::null_mut::<libc::c_void>();
    let mut length = 0usize;
    // SAFETY: the call writes a pointer and a length to the places it is given; nobody dereferences the pointer.
    let asked = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut head, &mut length) };
    asked == 0 && !head.is_null()
}

/// The kernel's record of a thread's robust mutexes (`struct robust_list_head`).
#[repr(C)]
struct RobustList {
    first: *mut libc::c_void,
    /// The offset from an entry of the list to its futex word.
    to_word: libc::c_long,
    /// The entry that the thread is locking or unlocking.
    pending: AtomicPtr<libc::c_void>,
}

/// See [`wake_on_death`].
pub(crate) struct PendingEntry(&'static RobustList, PhantomData<*const ()>);

impl Drop for PendingEntry {
    fn drop(&mut self) {
        self.0.pending.store(ptr::null_mut(), Ordering::SeqCst);
    }
}

/// Until the guard is dropped, the kernel wakes one sleeper on `word`, which must be zero, when this thread is killed.
///
/// The kernel does this for a thread that is killed between unlocking a robust mutex and waking the next thread, or
/// between being woken and taking it. The C library announces that it may be there through the same `pending` field
/// (since Linux 5.5; this function is used where several words can be waited for, which needs 5.16). `None` if the
/// thread has no list, or the C library is using it just now.
pub(crate) fn wake_on_death(word: &'static AtomicU32) -> Option<PendingEntry> {
    let mut head = ptr::null_mut::<RobustList>();
    let mut length = 0usize;
    // SAFETY: the call writes a pointer and a length to the places it is given.
    let asked = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut head, &mut length) };
    if cfg!(miri) || asked != 0 || head.is_null() || length != size_of::<RobustList>() {
        return None;
    }
    // SAFETY: this thread's own record, which the C library registered and keeps for as long as the thread lives, of
    // the size that the kernel defines. Only the C library on this thread writes to it, within its functions for robust
    // mutexes, none of which runs before the guard is dropped.
    let list = unsafe { &*head };
    let entry = word.as_ptr().addr().wrapping_sub(list.to_word as usize);
    let entry = ptr::without_provenance_mut(entry);
    list.pending
        .compare_exchange(ptr::null_mut(), entry, Ordering::SeqCst, Ordering::SeqCst)
        .ok()?;
    Some(PendingEntry(list, PhantomData))
}

/// Whether a word has the value that the kernel writes into a liveness word; other words hardly ever have it.
pub(crate) fn tells_of_death(word: u32) -> bool {
    word & !WAITERS == DIED
}

/// Whether a liveness word of this value has a living holder.
pub(crate) fn is_held(word: u32) -> bool {
    word & DIED == 0 && word & TID != 0
}
